"""Drivers that take the process along, and drivers that do not start: stubs, and the real TensorFlow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tape_magic.engine.devices.machine import Machine
from tape_magic.engine.devices.notes import has_driver
from tape_magic.engine.doctor import driver as room
from tape_magic.engine.doctor import isolated, links
from tape_magic.engine.doctor.cuda_libraries import wanted_libraries
from tape_magic.engine.doctor.driver import Driver, ask_driver, ask_if_there
from tape_magic.engine.doctor.isolated import IsolatedRun, run_isolated
from tape_magic.engine.internals import device_config
from tape_magic.results.doctor import LinkState
from tests.support import stub_gpu
from tests.support.covering import covering
from tests.support.forks import Forks

LIBRARIES = ("libcuda.so.1", "libnvidia-ml.so.1", *wanted_libraries("12.5.1", "9"))

CODES = (
    *range(1, 9), 34, 36, 46, *range(100, 103), *range(200, 203), *range(205, 228), *range(300, 305),
    *range(400, 403), 500, 600, *range(700, 724), *range(800, 811), *range(900, 915), 998, 999,
)  # fmt: skip
"""The errors of CUresult in cuda.h, and some numbers between that have no name."""

no_driver_here = pytest.mark.skipif(has_driver(), reason="this machine has a driver of its own")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stub under the name of each library that TensorFlow loads."""
    if stub_gpu.compiler() is None:
        if os.environ.get("CI"):
            pytest.fail("the stub needs a C compiler, and CI must not skip its tests")
        pytest.skip("the stub needs a C compiler")
    folder = tmp_path_factory.mktemp("libraries")
    built = stub_gpu.build_cuda(folder / "built.so")
    for name in LIBRARIES:
        shutil.copyfile(built, folder / name)  # the system's loader knows one file under one name only
    return folder


@pytest.fixture(scope="module")
def stub_driver(libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """TensorFlow over the stub of the driver."""
    folder = tmp_path_factory.mktemp("stub_driver")
    forks = Forks("tests.engine.doctor.driver_cases", {"LD_LIBRARY_PATH": str(libraries)}, folder)
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """TensorFlow without a driver."""
    forks = Forks("tests.engine.doctor.driver_cases", {}, tmp_path_factory.mktemp("nothing"))
    yield forks
    forks.close()


WAYS = ("function", "magic")

BREAKS = [
    *(("cuInit", how) for how in ("abort", "segv", "exit", "hang")),
    *(("libcuda.so.1", how) for how in ("abort", "hang")),
    *((where, "abort") for where in ("libnvidia-ml.so.1", "cuDriverGetVersion", "cuDeviceGetCount")),
    *((where, "hang") for where in ("nvmlInit", "cuDeviceTotalMem")),
]


@pytest.mark.parametrize(("broken", "way"), covering(BREAKS, WAYS))
def test_a_driver_that_does_not_come_back(
    broken: tuple[str, str], way: str, stub_driver: Forks, tmp_path: Path
) -> None:
    stub_driver.run("it_does_not_come_back", way, *broken, str(tmp_path))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "case",
    [
        "it_is_asked_once",
        "tensorflow_has_listed_its_devices",
        "a_hiding_variable_needs_no_second_question",
        "a_limit_above_the_memory",
    ],
)
def test_a_driver_that_is_well(case: str, way: str, stub_driver: Forks) -> None:
    stub_driver.run(case, way)


@pytest.mark.parametrize(
    ("way", "code", "said"),
    [
        ("function", 100, "NVIDIA's driver finds no GPU: cuInit returns 100, CUDA_ERROR_NO_DEVICE"),
        ("magic", 999, "NVIDIA's driver does not start: cuInit returns 999, CUDA_ERROR_UNKNOWN"),
        ("function", 804, "NVIDIA's driver does not start: cuInit returns 804"),
        ("magic", 3, "NVIDIA's driver does not start: cuInit returns 3"),
    ],
)
def test_a_driver_that_returns_an_error(way: str, code: int, said: str, stub_driver: Forks) -> None:
    stub_driver.run("a_status", way, code, said)


@no_driver_here
def test_without_a_driver_no_process_is_started(nothing: Forks) -> None:
    for way in WAYS:
        nothing.run("there_is_no_driver", way)


def test_a_wheel_without_cuda(stub_driver: Forks, tmp_path: Path) -> None:
    stub_driver.run("a_wheel_without_cuda_does_not_ask_it", "function", str(tmp_path))


def test_a_driver_that_hung_is_asked_again_by_the_doctor(stub_driver: Forks, tmp_path: Path) -> None:
    for way in WAYS:
        (tmp_path / way).mkdir()
        stub_driver.run("the_doctor_asks_a_driver_that_hung_again", way, str(tmp_path / way))


def test_the_doctor_believes_tensorflow(stub_driver: Forks, tmp_path: Path) -> None:
    stub_driver.run("the_doctor_believes_tensorflow", str(tmp_path))


# -- each of CUDA's errors, as the doctor tells it ----------------------------------------------------------

BUILD = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9"}


def equip(root: Path, *files: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


FILES = ("dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm")


@pytest.mark.parametrize("codes", [CODES[start::4] for start in range(4)], ids="abcd")
def test_each_error_is_told_with_its_number(codes: tuple[int, ...], libraries: Path, tmp_path: Path) -> None:
    equip(tmp_path, *FILES)
    for code in codes:
        environ = {"LD_LIBRARY_PATH": str(libraries), "STUB_CUDA_INIT": str(code)}
        machine = Machine(tmp_path, environ)
        asked = ask_driver(environ)
        assert (asked.init, asked.failure) == (code, None)
        examined, remedy = links.examine_driver(BUILD, machine, asked)
        assert examined.finding is LinkState.FAILS, code
        assert asked.outcome in examined.evidence
        assert remedy is not None
        assert remedy.command == ("unset LD_LIBRARY_PATH" if code == 34 else "sudo reboot")


def test_an_error_for_want_of_files_is_told_by_the_files(libraries: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path, {"LD_LIBRARY_PATH": str(libraries), "STUB_CUDA_INIT": "999"})
    asked = ask_driver(machine.environ)
    examined, remedy = links.examine_driver(BUILD, machine, asked)
    assert (examined.finding, remedy) == (LinkState.OK, None)
    assert examined.evidence[-1] == "cuInit returns 999, CUDA_ERROR_UNKNOWN"
    assert links.examine_files(machine)[1] is not None


def test_a_missing_library_of_nvml_is_named(libraries: Path, tmp_path: Path) -> None:
    """It is no reason for a missing GPU, but for what is not told of it."""
    equip(tmp_path, *FILES)
    without = tmp_path / "without"
    without.mkdir()
    shutil.copyfile(libraries / "libcuda.so.1", without / "libcuda.so.1")
    for folder, named in ((libraries, False), (without, True)):
        machine = Machine(tmp_path, {"LD_LIBRARY_PATH": str(folder)})
        examined, remedy = links.examine_driver(BUILD, machine, ask_driver(machine.environ))
        assert (examined.finding, remedy) == (LinkState.OK, None)
        assert any("libnvidia-ml.so.1 does not load" in one for one in examined.evidence) == named


@pytest.mark.parametrize("hiding", ["-1", "7", "", "GPU-none"])
def test_a_variable_that_hides_every_gpu_is_no_error_of_the_driver(
    hiding: str, libraries: Path, tmp_path: Path
) -> None:
    equip(tmp_path, *FILES)
    machine = Machine(tmp_path, {"LD_LIBRARY_PATH": str(libraries), "CUDA_VISIBLE_DEVICES": hiding})
    asked = ask_driver(machine.environ)
    assert asked.init == 100
    assert links.examine_driver(BUILD, machine, asked)[1] is None
    # a driver without devices has none without the variable either
    machine = Machine(tmp_path, {**machine.environ, "STUB_CUDA_INIT": "100"})
    remedy = links.examine_driver(BUILD, machine, ask_driver(machine.environ))[1]
    assert remedy is not None
    assert remedy.cause.startswith("the driver finds no GPU")


@pytest.mark.parametrize(
    ("file", "environ", "command"),
    [
        (".dockerenv", {}, "docker restart …"),
        ("dev/dxg", {}, "wsl --shutdown"),
        ("dev/null", {"COLAB_RELEASE_TAG": "1"}, "Restart the session"),
        ("dev/null", {}, "sudo reboot"),
    ],
)
def test_how_a_driver_is_started_anew(
    file: str, environ: dict[str, str], command: str, tmp_path: Path
) -> None:
    equip(tmp_path, file)
    remedy = links.examine_driver(BUILD, Machine(tmp_path, environ), Driver(failure="cuInit crashed"))[1]
    assert remedy is not None
    assert remedy.command == command


# -- what it is made of -------------------------------------------------------------------------------------


def test_a_python_that_fails_tells_nothing_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for run in (
        IsolatedRun((), (), "could not be run: no"),
        IsolatedRun((), ("ModuleNotFoundError: ctypes",), "ended with 1"),
        IsolatedRun(
            ({"step": "cuInit"}, {"name": "libcuda.so.1", "path": "x", "error": None}), (), "ended with 1"
        ),
    ):
        monkeypatch.setattr(room, "run_isolated", lambda *args, run=run: run)
        assert ask_driver({}).failure is None


def test_only_linux_has_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert ask_if_there() is None


def test_where_a_library_may_be(libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "libcuda.so.7"
    places = {"own": {"LD_LIBRARY_PATH": f":/nowhere:{tmp_path / 'own'}"}, "nvidia/cuda/lib": {}}
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for folder, environ in places.items():
        assert not room._may_load(name, environ)
        equip(tmp_path, f"{folder}/{name}")
        assert room._may_load(name, environ)
        (tmp_path / folder / name).unlink()
    assert room._may_load("libc.so.6", {})


def test_a_tensorflow_that_does_not_tell_is_taken_to_have_listed_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tensorflow as tf

    tf.config.list_physical_devices()
    assert device_config.has_listed_devices()
    monkeypatch.setitem(sys.modules, "tensorflow.python.eager.context", None)
    assert not device_config.has_listed_devices()


def test_a_process_that_cannot_be_killed_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that waits in the system's kernel for a driver."""
    program = tmp_path / "program.py"
    program.write_text("import time\ntime.sleep(3600)\n")
    left: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(subprocess.Popen, "kill", lambda self: left.append(self))
    monkeypatch.setattr(isolated, "_KILLED", 0.0)
    assert run_isolated(program, (), os.environ, 0.0).failure == "did not end within 0 s"
    (process,) = left
    assert process.poll() is None
    monkeypatch.undo()
    process.kill()
    process.wait()


def test_an_interrupt_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    program.write_text("import time\ntime.sleep(3600)\n")
    started: list[Any] = []

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        started.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_isolated(program, (), os.environ, 60.0)
    assert started[0].poll() is not None
