"""The cases of `test_driver.py`, each for a process that has imported TensorFlow and started nothing.

NVIDIA's libraries are the stub's (`tests/support/stub_gpu/stub_cuda.c`), which the environment has break. The
TensorFlow over them is the real one, and it dies or hangs with them in the process that asks it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from tests.engine.devices.device_cases import Door, limits, start_tensorflow, started
from tests.support.stub_nvml import StubCard, install

GIB = 2**30

HOW = {
    "abort": "crashed with SIGABRT",
    "segv": "crashed with SIGSEGV",
    "exit": "ended with 3",
    "hang": "did not end within 0 s",
}


@contextlib.contextmanager
def broken(where: str, how: str, folder: str) -> Iterator[None]:
    """Within this, the driver breaks, and the time is over once it hangs.

    The limit is the time between two looks at the clock, which stands until then.
    """
    from tape_magic.engine.doctor import driver

    hung = Path(folder, f"hung-{os.getpid()}")
    chosen = {"STUB_CUDA_BREAKS": where, "STUB_CUDA_HOW": how, "STUB_CUDA_HUNG": str(hung)}
    looked, passed = [0], [0.0]

    def clock() -> float:
        """Three looks before the time is over are enough to read what was said."""
        looked[0] += hung.exists()
        if looked[0] > 3:
            hung.unlink()
            looked[0] = 0
            passed[0] += 1000.0
        return passed[0]

    module, room = cast(Any, subprocess), cast(Any, driver)
    real, module._time = module._time, clock
    limit, room.SECONDS = room.SECONDS, 0.05
    os.environ.update(chosen)
    try:
        yield
    finally:
        module._time, room.SECONDS = real, limit
        for name in chosen:
            del os.environ[name]


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """Within this, the programs that are started are listed."""
    from tape_magic.engine.doctor import driver

    module: Any = driver
    real, programs = module.run_isolated, []

    def counting(program: Path, *args: Any) -> Any:
        programs.append(program.name)
        return real(program, *args)

    module.run_isolated = counting
    try:
        yield programs
    finally:
        module.run_isolated = real


def it_does_not_come_back(way: str, where: str, how: str, folder: str) -> None:
    """Each line is refused, the doctor names the driver, and once the driver is mended all is well."""
    from tape_magic.engine.api.devices import diagnose, open_sampler
    from tape_magic.results.doctor import Link, LinkState

    door = Door(way)
    words = f"{f'loading {where}' if where.startswith('lib') else where} {HOW[how]}"
    doctor = "asks it again, and says what to do" if how == "hang" else "says what to do"
    with broken(where, how, folder), counted() as programs:
        for line, asked in {
            "": {},
            "0 --growth": {"indices": 0, "growth": True},
            "--cpu": {"cpu": True},
        }.items():
            assert door.refused(line, **asked) == (
                "NVIDIA's driver does not come back, and would take this kernel along: in another process,"
                f" {words}. TensorFlow was not asked for its devices; %tfgpu --doctor {doctor}."
            )
        assert len(programs) == (1 if how == "hang" else 3)  # who waited once does not wait again
        report = diagnose()
        assert report.broken is not None
        assert (report.broken.link, report.broken.finding) == (Link.DRIVER, LinkState.FAILS)
        assert report.broken.evidence == (words,)
        assert [one.finding for one in report.links[2:]] == [LinkState.UNTRIED] * 5
        assert report.command
        module = install(StubCard())
        module.nvmlInit = None  # which is not called
        sampler = open_sampler()
        assert sampler.missing is not None
        assert sampler.sample().readings
        assert len(programs) == (2 if how == "hang" else 5)  # the doctor asked anew
    assert not started()
    install(broken="Driver Not Loaded")
    assert [gpu.product for gpu in door.ask("").gpus] == ["STUB of 4 GiB, 0"]


def the_doctor_asks_a_driver_that_hung_again(way: str, folder: str) -> None:
    """Mended behind the kernel's back, it stays away from lines until the doctor has seen it come back."""
    from tape_magic.engine.api.devices import diagnose

    door, mended = Door(way), Path(folder, "mended")
    with broken("cuInit", "hang", folder):
        for _ in range(2):
            assert "cuInit did not end" in door.refused("")
        os.environ["STUB_CUDA_MENDED"] = str(mended)  # in another environment it is asked again
        assert "cuInit did not end" in door.refused("")
        mended.touch()
        assert "cuInit did not end" in door.refused("")
        report = diagnose()
        assert report.broken is None or report.broken.evidence != ("cuInit did not end within 0 s",)
        assert [gpu.product for gpu in door.ask("").gpus] == ["STUB of 4 GiB, 0"]


def a_wheel_without_cuda_does_not_ask_it(way: str, folder: str) -> None:
    """Such a TensorFlow never starts the driver, and NVML is not asked in its place."""
    import tensorflow as tf

    from tape_magic.engine.doctor import driver

    os.environ["STUB_CUDA_INIT"] = "100"
    assert tf.config.list_physical_devices("GPU") == []
    room: Any = driver
    room.has_listed_devices = lambda: False  # as if a TensorFlow without CUDA were to be asked
    tf.test.is_built_with_cuda = lambda: False
    install(StubCard()).nvmlInit = None  # which is not called
    with broken("cuInit", "abort", folder), counted() as programs:
        report = Door(way).ask("")
    assert programs == ["probe_program.py"]
    assert report.why_no_gpu == "this TensorFlow is built without CUDA"


def a_status(way: str, code: int, said: str) -> None:
    """A driver that does not start has come back: its own words are the reason, at each call."""
    door = Door(way)
    os.environ["STUB_CUDA_INIT"] = str(code)
    for _ in range(2):
        assert door.ask("").why_no_gpu == said
    assert door.ask("0 --growth", indices=0, growth=True).headline == (
        f"No GPU: TensorFlow continues on the CPU ({said})."
    )
    required = door.refused("--require", require=True)
    assert required == f"There is no GPU, and require asks for one: {said}."


def it_is_asked_once(way: str) -> None:
    door = Door(way)
    with counted() as programs:
        for _ in range(2):
            report = door.ask("")
            assert [gpu.product for gpu in report.gpus] == ["STUB of 4 GiB, 0"]
        door.ask("0 --growth", indices=0, growth=True)
        assert programs == ["probe_program.py"]
        assert report.gpus[0].compute_capability == (8, 0)
        assert not started()


def tensorflow_has_listed_its_devices(way: str) -> None:
    import tensorflow as tf

    assert len(tf.config.list_physical_devices("GPU")) == 1
    with counted() as programs:
        assert len(Door(way).ask("").gpus) == 1
    assert programs == []


def a_hiding_variable_needs_no_second_question(way: str) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    door = Door(way)
    with counted() as programs:
        for _ in range(2):
            assert door.ask("").why_no_gpu == "CUDA_VISIBLE_DEVICES=-1 hides every GPU"
    assert programs == ["probe_program.py"]


def there_is_no_driver(way: str) -> None:
    door = Door(way)
    with counted() as programs:
        assert "no NVIDIA driver" in door.ask("").why_no_gpu
        start_tensorflow()
        door.ask("")
    assert programs == []


def a_limit_above_the_memory(way: str) -> None:
    """The size of the card comes from the driver, without NVML."""
    door = Door(way)
    assert (
        door.refused("0 --limit 5G", indices=0, limit="5G") == "The limit 5G is more than GPU 0 has: 4 GiB."
    )
    assert door.refused("--limit 3G --split 2", limit="3G", split=2) == (
        "2 times 3G is more than GPU 0 has: 4 GiB."
    )
    assert limits() == [None]
    for line, limit, taken in (("4G", "4G", 4096), ("50%", 0.5, 2048), ("1.5G", "1.5G", 1536)):
        report = door.ask(f"0 --limit {line}", indices=0, limit=limit)
        assert limits() == [[taken]]
        assert report.gpus[0].memory_total == 4 * GIB
    assert any("nvidia-ml-py is not installed" in note for note in report.notes)


def the_doctor_believes_tensorflow(folder: str) -> None:
    """Where TensorFlow has a GPU, files that are not there are no reason why it has none."""
    from tape_magic.engine.devices.machine import Machine
    from tape_magic.engine.doctor import examine as doctor
    from tape_magic.engine.doctor.isolated import IsolatedRun
    from tape_magic.results.doctor import Link, LinkState

    answers = ({"gpus": 1}, {"right": True, "seconds": 1.0})
    module: Any = doctor
    module.run_isolated = lambda *args: IsolatedRun(answers, (), None)
    report = doctor.examine(Machine(Path(folder), dict(os.environ)))
    assert report.headline == "The GPU works"
    found = {one.link: one.finding for one in report.links}
    assert found[Link.DRIVER] is LinkState.OK
    assert found[Link.FILES] is LinkState.UNNEEDED
