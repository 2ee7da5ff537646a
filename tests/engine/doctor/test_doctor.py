"""The doctor on machines that a test makes: a folder for the root, and stubs of NVIDIA's libraries."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tape_magic.engine.devices.machine import Machine
from tape_magic.engine.devices.notes import has_driver
from tape_magic.engine.doctor import links, probe_program
from tape_magic.engine.doctor.cuda_libraries import install_line, wanted_libraries, wheel_line
from tape_magic.engine.doctor.examine import examine as examine_machine
from tape_magic.engine.doctor.isolated import run_isolated
from tape_magic.results.doctor import DoctorReport, Link, LinkState
from tests.support import stub_gpu

BUILD = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}
NAMES = wanted_libraries("12.5.1", "9")
OTHER, NVIDIA = "0x8086", "0x10de"

without_driver = pytest.mark.skipif(has_driver(), reason="this machine has a driver of its own")


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What TensorFlow says that it was built with."""
    import tensorflow as tf

    told = dict(BUILD)
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: told)
    return told


@pytest.fixture
def root(tmp_path: Path, build: dict[str, Any]) -> Path:
    """A file system with one PCI device, and none of NVIDIA's."""
    put_on_bus(tmp_path, "0000:00:01.0", OTHER)
    (tmp_path / "dev").mkdir()
    return tmp_path


def put_on_bus(root: Path, place: str, vendor: str, kind: str = "0x030000") -> None:
    folder = root / "sys/bus/pci/devices" / place
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(vendor + "\n")
    (folder / "class").write_text(kind + "\n")


def put(root: Path, *names: str, text: str = "") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def examine(root: Path, **environ: str) -> DoctorReport:
    """What the doctor finds with this root, and the libraries of its folder `lib`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("TF_", "CUDA_"))}
    return examine_machine(Machine(root, {**inherited, "LD_LIBRARY_PATH": str(root / "lib"), **environ}))


def found(report: DoctorReport) -> dict[Link, LinkState]:
    return {one.link: one.finding for one in report.links}


# -- no driver ----------------------------------------------------------------------------------------------


@without_driver
def test_a_machine_without_a_card(root: Path) -> None:
    report = examine(root)
    assert report.headline == "No GPU: this machine shows no NVIDIA card"
    assert report.command == "%tfgpu --cpu"
    assert report.harmless
    assert report.advice.startswith("Nothing is broken")
    assert list(found(report).values()) == [LinkState.OK, LinkState.MISSING, *[LinkState.UNTRIED] * 5]
    assert "no NVIDIA card among the 1 PCI devices" in report.links[1].evidence
    assert any("libcuda.so.1" in one for one in report.links[1].evidence)


@without_driver
def test_a_container_without_a_card(root: Path) -> None:
    put(root, ".dockerenv")
    report = examine(root)
    assert report.cause == "this container is shown no NVIDIA card and no driver"
    assert report.command == "%tfgpu --cpu"


INSTALLS: list[tuple[str, Callable[[Path], None], dict[str, str], str]] = [
    ("ubuntu", lambda root: put(root, "etc/os-release", text="ID=ubuntu\n"), {}, "ubuntu-drivers install"),
    (
        "mint",
        lambda root: put(root, "etc/os-release", text='ID=linuxmint\nID_LIKE="ubuntu debian"\n'),
        {},
        "ubuntu-drivers install",
    ),
    ("unknown", lambda root: None, {}, "https://www.nvidia.com/drivers"),
    ("container", lambda root: put(root, "run/.containerenv"), {}, "docker run --gpus all …"),
    ("wsl", lambda root: put(root, "dev/dxg"), {}, "wsl --update"),
    ("colab", lambda root: None, {"COLAB_RELEASE_TAG": "1"}, "Runtime → Change runtime type → T4 GPU"),
    ("kaggle", lambda root: None, {"KAGGLE_KERNEL_RUN_TYPE": "1"}, "Settings → Accelerator → GPU T4 x2"),
]


@without_driver
@pytest.mark.parametrize(("prepare", "environ", "command"), [one[1:] for one in INSTALLS])
def test_how_to_get_a_driver(
    root: Path, prepare: Callable[[Path], None], environ: dict[str, str], command: str
) -> None:
    put_on_bus(root, "0000:00:02.0", NVIDIA)
    put_on_bus(root, "0000:00:02.1", NVIDIA, "0x040300")  # the card's sound is no second card
    prepare(root)
    report = examine(root, **environ)
    assert report.cause == "NVIDIA's driver is missing"
    assert command in report.command
    assert "one NVIDIA card among the 3 PCI devices" in report.links[1].evidence


# -- the wheel ----------------------------------------------------------------------------------------------


def test_a_wheel_without_cuda(root: Path, build: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    build.clear()
    build["is_cuda_build"] = False
    monkeypatch.setattr(links, "_distribution", lambda: "tensorflow-cpu")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    report = examine(root)
    assert report.headline.startswith(
        "No GPU: this TensorFlow is built without CUDA, and this machine shows no"
    )
    assert report.command == "%tfgpu --cpu"
    put_on_bus(root, "0000:00:02.0", NVIDIA)
    report = examine(root)
    assert report.cause == "this TensorFlow is built without CUDA"
    assert found(report)[Link.WHEEL] is LinkState.MISSING
    whole = f'"tensorflow[and-cuda]=={report.tensorflow}"'
    assert report.command.startswith(f"!pip wheel -w tensorflow-wheels {whole} && pip uninstall")
    assert report.command.endswith(f"&& pip install --no-index -f tensorflow-wheels {whole}")
    assert report.advice == "Run, then restart the kernel and delete the folder tensorflow-wheels"
    monkeypatch.setattr(links, "_distribution", lambda: "tensorflow")
    report = examine(root)
    assert report.command == f"%pip install --force-reinstall {whole}"
    assert report.advice == "Run, then restart the kernel"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    report = examine(root)
    assert report.headline == "No GPU: TensorFlow's wheels for Linux on aarch64 have no CUDA"
    assert report.command == "%tfgpu --cpu"


@pytest.mark.parametrize("fails", ["", "wheel"])
def test_a_wheel_goes_only_when_the_other_is_there(tmp_path: Path, fails: str) -> None:
    pip, log = tmp_path / "pip", tmp_path / "log"
    pip.write_text(f'#!/bin/sh\necho "$@" >> {log}\ntest "$1" != "{fails}"\n')
    pip.chmod(0o755)
    line = wheel_line("tf-nightly-cpu", "2.22.0-dev20260101").removeprefix("!")
    done = subprocess.run(line, shell=True, env={"PATH": str(tmp_path)})
    assert (done.returncode != 0) is bool(fails)
    steps = [
        "wheel -w tensorflow-wheels tf-nightly[and-cuda]",
        "uninstall -y tf-nightly-cpu",
        "install --no-index -f tensorflow-wheels tf-nightly[and-cuda]",
    ]
    assert log.read_text().splitlines() == (steps[:1] if fails else steps)


def test_a_nightly_build_of_ones_own() -> None:
    assert wheel_line("tf-nightly", "2.22.0-dev1") == '%pip install --force-reinstall "tf-nightly[and-cuda]"'


@pytest.mark.parametrize(("system", "command"), [("darwin", "%tfgpu --cpu"), ("win32", "wsl --install")])
def test_systems_without_a_build(
    root: Path, build: dict[str, Any], monkeypatch: pytest.MonkeyPatch, system: str, command: str
) -> None:
    build["is_cuda_build"] = False
    monkeypatch.setattr("sys.platform", system)
    report = examine(root)
    assert "no build with CUDA for" in report.headline
    assert report.command == command


# -- stubs of NVIDIA's libraries, which the doctor loads in a process of its own ----------------------------


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver and a library that load, and some that do not do well."""
    if stub_gpu.compiler() is None:
        if os.environ.get("CI"):
            pytest.fail("the stubs need a C compiler, and CI must not skip these tests")
        pytest.skip("the stubs need a C compiler")
    folder = tmp_path_factory.mktemp("stubs")
    for name, *definitions in [("good",), ("old", "CUDA=11040"), ("split", "INIT=803"), ("crash", "CRASH")]:
        stub_gpu.build_cuda(folder / name, *definitions)
    return folder


@pytest.fixture
def equipped(root: Path, stubs: Path) -> Path:
    """A machine with all that TensorFlow needs, as far as libraries and files go."""
    (root / "lib").mkdir()
    for name in ("libcuda.so.1", *NAMES):
        (root / "lib" / name).symlink_to(stubs / "good")
    put(root, "dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm")
    put(
        root,
        "proc/driver/nvidia/version",
        text="NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.03  Tue\n",
    )
    return root


def replace(root: Path, name: str, stub: Path | None) -> None:
    (root / "lib" / name).unlink()
    if stub is not None:
        (root / "lib" / name).symlink_to(stub)


def test_a_driver_but_no_cudnn_with_stub_libraries(equipped: Path) -> None:
    replace(equipped, "libcudnn.so.9", None)
    report = examine(equipped)
    assert report.headline == "No GPU: libcudnn.so.9 is missing"
    assert not report.harmless
    assert report.advice == "Run, then restart the kernel"
    assert report.command.startswith('%pip install "nvidia-cudnn-cu12<')
    driver, libraries = report.links[1], report.links[3]
    assert "version 580.159.03" in driver.evidence
    assert "for CUDA up to 12.8" in driver.evidence
    assert libraries.evidence == ("6 of 7 found",)
    assert [name for name, finding, _ in libraries.parts if finding is LinkState.OK] == list(NAMES[:-1])
    assert "cannot open shared object file" in libraries.parts[-1][2]


def test_a_library_that_crashes_with_stub_libraries(equipped: Path, stubs: Path) -> None:
    replace(equipped, "libcufft.so.11", stubs / "crash")
    report = examine(equipped)
    parts = {name: (finding, text) for name, finding, text in report.links[3].parts}
    assert parts["libcublasLt.so.12"][0] is LinkState.OK
    assert parts["libcufft.so.11"] == (LinkState.MISSING, "crashed with SIGABRT")
    assert report.cause == "libcufft.so.11 and 3 more are missing"
    assert report.command == f'%pip install "tensorflow[and-cuda]=={report.tensorflow}"'


def test_drivers_that_do_not_do_with_stub_libraries(equipped: Path, stubs: Path) -> None:
    replace(equipped, "libcuda.so.1", stubs / "old")
    report = examine(equipped)
    assert report.cause == "the driver knows CUDA up to 11, and this TensorFlow needs 12"
    assert report.advice == "Run in a terminal, then start the machine anew"
    replace(equipped, "libcuda.so.1", stubs / "split")
    report = examine(equipped)
    assert "of different versions" in report.headline
    assert report.command == "sudo reboot"
    replace(equipped, "libcuda.so.1", stubs / "crash")
    report = examine(equipped)
    assert report.links[1].evidence == ("loading libcuda.so.1 crashed with SIGABRT",)
    assert report.cause == "NVIDIA's driver does not come back, and TensorFlow would take this kernel along"
    assert report.command == "sudo reboot"


@pytest.mark.parametrize(
    ("file", "environ", "advice", "command"),
    [
        (".dockerenv", {}, "The driver is that of the container's host: ", "https://www.nvidia.com/drivers"),
        ("dev/dxg", {}, "Install a newer driver in Windows, from", "https://www.nvidia.com/drivers"),
        ("dev/null", {"COLAB_RELEASE_TAG": "1"}, "The driver is Colab's own: ", "Restart the session"),
    ],
)
def test_an_old_driver_of_somewhere_else_with_stub_libraries(
    equipped: Path, stubs: Path, file: str, environ: dict[str, str], advice: str, command: str
) -> None:
    put(equipped, file)
    replace(equipped, "libcuda.so.1", stubs / "old")
    report = examine(equipped, **environ)
    assert report.cause == "the driver knows CUDA up to 11, and this TensorFlow needs 12"
    assert report.advice.startswith(advice)
    assert report.command == command


def test_a_driver_that_was_renewed_under_a_container_with_stub_libraries(equipped: Path, stubs: Path) -> None:
    put(equipped, ".dockerenv")
    replace(equipped, "libcuda.so.1", stubs / "split")
    assert examine(equipped).command == "docker restart …"


def test_each_library_is_where_it_is_with_stub_libraries(stubs: Path, tmp_path: Path) -> None:
    """It is looked up among those that are loaded, where the names of some begin as others'."""
    names = ["libcublas.so.12", "libcublasLt.so.12"]
    for name in names:
        shutil.copyfile(stubs / "good", tmp_path / name)
        ctypes.CDLL(str(tmp_path / name))
    assert [probe_program._mapped(name) for name in names] == [str(tmp_path / name) for name in names]


def test_device_files_with_stub_libraries(equipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (equipped / "dev/nvidia-uvm").unlink()
    report = examine(equipped)
    assert report.links[2].evidence == ("/dev/nvidia-uvm not there",)
    assert report.command == "sudo nvidia-modprobe -c 0 -u"
    put(equipped, ".dockerenv")
    assert examine(equipped).command == "docker run --gpus all …"
    put(equipped, "dev/nvidia-uvm")
    monkeypatch.setattr(links.os, "access", lambda *args: False)
    report = examine(equipped)
    assert report.cause == "this user may not open /dev/nvidiactl"
    assert report.command.startswith("sudo usermod -aG ")


def test_the_environment_hides_every_gpu_with_stub_libraries(equipped: Path) -> None:
    report = examine(equipped, CUDA_VISIBLE_DEVICES="-1")
    assert report.cause == "CUDA_VISIBLE_DEVICES=-1 hides every GPU"
    assert report.advice == "Restart the kernel, and run first"
    assert list(found(report).values())[:5] == [*[LinkState.OK] * 4, LinkState.MISSING]


# -- what it is made of -------------------------------------------------------------------------------------


def test_a_program_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three seconds are over when it has said something, however long it takes to begin."""
    program, said = tmp_path / "program.py", tmp_path / "said"
    begins = f'import pathlib, time\nprint("{{}}", flush=True)\npathlib.Path({str(said)!r}).touch()\n'
    program.write_text(f"{begins}time.sleep(3600)\n")
    looked: list[int] = []

    def clock() -> float:
        """Three looks before it is over are enough to read what was said."""
        looked.extend([1] if said.exists() else [])
        return 10.0 if len(looked) > 3 else 0.0

    monkeypatch.setattr(subprocess, "_time", clock)
    ran = run_isolated(program, (), os.environ, 3)
    assert ran.failure == "did not end within 3 s"
    assert ran.messages == ({},)


def test_lines_that_are_no_answers_are_skipped(tmp_path: Path) -> None:
    lines = [
        '{"name": "libcu',
        "{'a': 1}",
        '{"a": 1}',
        "[1]",
        "7",
        '"text"',
        "null",
        "Hello",
        "",
        '{"a": 2}',
        "{",
    ]
    program = tmp_path / "program.py"
    program.write_text(f"print({chr(10).join(lines)!r})")
    ran = run_isolated(program, (), os.environ, 60)
    assert ran.messages == ({"a": 1}, {"a": 2})
    assert ran.failure is None


def test_wheels_are_named_as_tensorflow_asks_for_them() -> None:
    asked = ['nvidia-cublas-cu12<13.0,>=12.5; extra == "and-cuda"', "numpy>=1"]
    both = ["libcublas.so.12", "libcublasLt.so.12"]
    assert install_line(both, "2.21.0", asked) == '%pip install "nvidia-cublas-cu12<13.0,>=12.5"'
    assert install_line(["libcufft.so.11"], "2.21.0", asked) == '%pip install "tensorflow[and-cuda]==2.21.0"'
    assert install_line(NAMES, "2.21.0", asked) == '%pip install "tensorflow[and-cuda]==2.21.0"'


def test_libraries_of_other_versions() -> None:
    assert wanted_libraries("11.8", "8")[0] == "libcudart.so.11.0"
    assert wanted_libraries(None, None) == NAMES
