"""`devices()` and `%tfgpu` on the real TensorFlow runtime, which settles its devices once in a process.

Each case is a function that runs in a fresh process, through one door: the Python function or the magic line.
The GPUs are the stub's (`tests/stub_gpu`), two devices that hold memory and compute nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
MIB = 2**20
GIB = 2**30


class Door:
    """One way in: `ask` gives the report, `refused` the error's text; a request is a line and its kwargs."""

    def __init__(self, name: str) -> None:
        self.name = name
        if name == "magic":
            from IPython.core.interactiveshell import InteractiveShell

            self.shell: Any = InteractiveShell.instance()
            self.shell.run_line_magic("load_ext", "tape_magic")

    def ask(self, line: str, **kwargs: Any) -> Any:
        if self.name == "function":
            import tape_magic

            return tape_magic.devices(**kwargs)
        result, complaint = self._run(f"%tfgpu {line} -o report")
        assert result.success, complaint
        return self.shell.user_ns["report"]

    def refused(self, line: str, **kwargs: Any) -> str:
        if self.name == "function":
            from tape_magic.errors import DeviceError

            with pytest.raises(DeviceError) as caught:
                self.ask(line, **kwargs)
            message = str(caught.value)
        else:
            result, complaint = self._run(f"%tfgpu {line}")
            assert not result.success, f"%tfgpu {line} was not refused"
            message = complaint.strip().removeprefix("UsageError: ")
            assert message != complaint.strip(), complaint
        assert message
        assert "\n" not in message, message
        return message

    def _run(self, cell: str) -> tuple[Any, str]:
        complaint = io.StringIO()
        with contextlib.redirect_stderr(complaint), contextlib.redirect_stdout(io.StringIO()):
            result = self.shell.run_cell(cell)
        return result, complaint.getvalue()


# What TensorFlow itself says, read without the code under test


def tensorflow() -> Any:
    return importlib.import_module("tensorflow")


def eager_context() -> Any:
    return importlib.import_module("tensorflow.python.eager.context").context()


def started() -> bool:
    return eager_context()._context_handle is not None


def settings() -> dict[str, Any]:
    tf = tensorflow()
    gpus, cpus = tf.config.list_physical_devices("GPU"), tf.config.list_physical_devices("CPU")
    return {
        "visible": [device.name for device in tf.config.get_visible_devices()],
        "growth": [tf.config.experimental.get_memory_growth(gpu) for gpu in gpus],
        "logical": [tf.config.get_logical_device_configuration(device) for device in gpus + cpus],
    }


def start() -> None:
    tf = tensorflow()
    with tf.device("/CPU:0"):
        tf.constant(1.0)


def limits() -> list[list[float] | None]:
    """The limits in MiB that TensorFlow has for each GPU."""
    tf = tensorflow()
    configs = [
        tf.config.get_logical_device_configuration(gpu) for gpu in tf.config.list_physical_devices("GPU")
    ]
    return [None if config is None else [each.memory_limit for each in config] for config in configs]


def policies(report: Any) -> list[str]:
    return [gpu.policy.text for gpu in report.gpus]


def hold_on_gpu(name: str) -> Any:
    """Four bytes copied to a stub GPU; a copy is all it can do."""
    tf = tensorflow()
    with tf.device("/CPU:0"):
        value = tf.constant(1.0)
    with tf.device(f"/{name}"):
        return tf.identity(value)


def held_by_stub(index: int) -> int:
    """Bytes that TensorFlow's allocator has taken from a stub GPU."""
    library = ctypes.CDLL(os.environ["TF_PLUGGABLE_DEVICE_LIBRARY_PATH"])
    library.stub_bytes_in_use.restype = ctypes.c_int64
    return int(library.stub_bytes_in_use(index))


@contextlib.contextmanager
def failing(setter: str, call: int, error: BaseException, after: bool = False) -> Iterator[None]:
    """Makes one of TensorFlow's setters fail at its `call`-th call, before or `after` it has done its work.

    >>> with failing("set_memory_growth", 2, ValueError("no")):
    ...     tape_magic.devices(growth=True)  # GPU 0 is set, GPU 1 fails
    """
    tf = tensorflow()
    owner = tf.config.experimental if setter == "set_memory_growth" else tf.config
    real, calls = getattr(owner, setter), [0]
    failed: list[bool] = []

    def broken(*args: Any, **kwargs: Any) -> None:
        # without a device type it is the question whether TensorFlow has started
        calls[0] += not (setter == "set_visible_devices" and len(args) == 1)
        fails = calls[0] == call and not failed
        if fails:
            failed.append(True)
        if after or not fails:
            real(*args, **kwargs)
        if fails:
            raise error

    setattr(owner, setter, broken)
    try:
        yield
    finally:
        setattr(owner, setter, real)


# Cases with the stub GPUs


def asking_starts_nothing(door: Door) -> None:
    from tape_magic.results.devices import Outcome

    report = door.ask("")
    before = settings()
    assert door.ask("") == report
    assert settings() == before
    assert not started()
    assert report.outcome is Outcome.ASKED
    assert not report.started
    assert report.tensorflow == tensorflow().__version__
    assert [gpu.product for gpu in report.gpus] == ["STUB", "STUB"]
    assert [gpu.logical_names for gpu in report.gpus] == [("GPU:0",), ("GPU:1",)]
    assert policies(report) == ["nearly all memory at once"] * 2
    assert {(row.memory_used, row.memory_peak) for row in report.devices} == {(None, None)}
    (cpu,) = report.cpus
    assert cpu.logical_names == ("CPU:0",)
    assert cpu.memory_total > 2**28
    assert "core" in cpu.product
    assert door.ask("--require", require=True).outcome is Outcome.ASKED

    start()
    kept = hold_on_gpu("GPU:1")
    report = door.ask("")
    assert report.started
    assert report.gpus[0].memory_used == 0
    assert report.gpus[1].memory_used >= 4
    assert report.gpus[1].memory_peak >= report.gpus[1].memory_used
    del kept
    # without growth the first tensor takes nearly all of the stub's 64 MiB
    assert held_by_stub(1) > 32 * MIB


def growth_on_one_of_two(door: Door) -> None:
    from tape_magic.results.devices import Outcome

    report = door.ask("0 --growth", indices=0, growth=True)
    assert report.outcome is Outcome.DONE
    assert not started()
    assert report.headline == "Done: GPU 0 memory as needed, GPU 1 hidden."
    assert [gpu.logical_names for gpu in report.gpus] == [("GPU:0",), ()]
    assert [gpu.visible for gpu in report.gpus] == [True, False]
    assert settings()["growth"] == [True, None]
    assert settings()["visible"] == ["/physical_device:CPU:0", "/physical_device:GPU:0"]
    assert door.ask("0 --growth", indices=[0], growth=True).outcome is Outcome.ALREADY_SO

    kept = hold_on_gpu("GPU:0")
    assert 0 < held_by_stub(0) < 32 * MIB  # growth is real, and
    assert [each.name for each in tensorflow().config.list_logical_devices("GPU")] == ["/device:GPU:0"]
    again = door.ask("0 --growth", indices=0, growth=True)
    assert again.outcome is Outcome.ALREADY_SO
    assert again.started
    assert again.gpus[0].memory_used >= 4
    del kept

    before = settings()
    assert door.refused("0,1 --limit 4G", indices=[0, 1], limit="4G") == (
        "TensorFlow has already started with other devices: GPU 0 has memory as needed, not at most 4 GiB;"
        " GPU 1 is hidden, not visible with at most 4 GiB. Only a kernel restart can change them: restart,"
        " and put this line first: %tfgpu 0,1 --limit 4G"
    )
    assert door.refused("--cpu --split 2 ", cpu=True, split=2) == (
        "TensorFlow has already started with other devices: GPU 0 is visible, not hidden; the CPU is 1"
        " logical CPU, not 2. Only a kernel restart can change them: restart, and put this line first:"
        " %tfgpu --cpu --split 2"
    )
    assert "GPU 2 does not exist" in door.refused("2", indices=2)
    assert settings() == before


def a_later_line_before_the_start(door: Door) -> None:
    from tape_magic.results.devices import Outcome

    report = door.ask("0,1 --limit 48M", indices=[0, 1], limit="48M")
    assert report.outcome is Outcome.DONE
    assert limits() == [[48], [48]]
    assert [gpu.policy.limits for gpu in report.gpus] == [(48 * MIB,)] * 2
    assert door.ask("--limit 48MiB", limit="48MiB").outcome is Outcome.ALREADY_SO

    report = door.ask("1,0 --limit 1.5G", indices=[1, 0], limit="1.5G")
    assert limits() == [[1536], [1536]]
    assert any("1,0 is the same as 0,1" in note for note in report.notes)

    assert policies(door.ask("1 --growth", indices=1, growth=True)) == ["hidden", "memory as needed"]
    assert limits() == [None, None]  # a limit left on the hidden GPU would drop growth on the other
    assert door.ask("1", indices=1).gpus[1].policy.text == "nearly all memory at once"

    report = door.ask("--cpu --split 4", cpu=True, split=4)
    assert policies(report) == ["hidden", "hidden"]
    assert len(report.cpus[0].logical_names) == 4
    assert "every gpu is hidden" in door.refused("--require", require=True).lower()
    assert policies(door.ask("--cpu", cpu=True)) == ["hidden", "hidden"]
    assert settings()["logical"][-1] is None

    report = door.ask("--growth", growth=True)  # no index: all of them, alike
    assert policies(report) == ["memory as needed"] * 2
    assert settings()["growth"] == [True, True]
    assert report.outcome is Outcome.DONE
    assert not started()
    start()
    assert len(tensorflow().config.list_logical_devices("GPU")) == 2
    assert door.ask("0,1 --growth", indices=(0, 1), growth=True).outcome is Outcome.ALREADY_SO


def refusals_change_nothing(door: Door) -> None:
    door.ask("0 --growth", indices=0, growth=True)
    before = settings()
    assert door.refused("5", indices=5) == (
        "GPU 5 does not exist: TensorFlow sees GPU 0, GPU 1, so name one of these."
    )
    assert "GPU 2 does not exist" in door.refused("0,2 --growth", indices=[0, 2], growth=True)
    together = door.refused("0 --growth --limit 4G", indices=0, growth=True, limit="4G")
    assert together.startswith("growth and limit exclude each other, since TensorFlow drops growth")
    for size in ("0", "0G", "0%", "-1G", "-0.5"):
        assert f"limit {size} leaves no memory" in door.refused(f"0 --limit={size}", indices=0, limit=size)
    for size in ("4GB", "G", "four", "1e3M", "4G4"):
        assert f"limit '{size}' is not a size" in door.refused(f"0 --limit {size}", indices=0, limit=size)
    for size in ("4", "1", "1.5"):
        assert f"limit {size} has no unit" in door.refused(f"0 --limit {size}", indices=0, limit=size)
    assert "100% or less" in door.refused("0 --limit 101%", indices=0, limit="101%")
    assert "less than 1 MiB" in door.refused("0 --limit 1K", indices=0, limit="1K")
    for size in ("0.5", "50%"):
        unknown = door.refused(f"0 --limit {size}", indices=0, limit=size)
        assert f"The limit {size} is a part of GPU 0's memory" in unknown
        assert "write the size itself" in unknown
    assert door.refused("--split 2", split=2) == (
        "split 2 needs cpu, which it splits into logical CPUs: write --cpu --split 2."
    )
    assert "split 0 is no number" in door.refused("--cpu --split 0", cpu=True, split=0)
    assert "cpu hides every GPU" in door.refused("0 --cpu", indices=0, cpu=True)
    assert "cpu hides every GPU" in door.refused("--cpu --growth", growth=True, cpu=True)
    assert "cpu hides every GPU" in door.refused("--cpu --limit 1G", limit="1G", cpu=True)
    assert "cpu hides every GPU" in door.refused("--cpu --require", require=True, cpu=True)
    assert "named 2 times" in door.refused("1,1", indices=[1, 1])
    if door.name == "function":
        for limit in (0, -1, 0.0, -0.5, float("nan"), float("inf")):
            assert "leaves no memory" in door.refused("", limit=limit)
        for index in (-1, True, "0", [0, -1], 1.0, [[0]]):
            assert "named by their index" in door.refused("", indices=index)
        assert "empty list" in door.refused("", indices=[])
        assert "is not a size" in door.refused("", limit=True)
        assert "is not a size" in door.refused("", limit=b"4G")
        assert policies(door.ask("", limit=GIB + 5)) == ["at most 1 GiB"] * 2
        door.ask("0 --growth", indices=0, growth=True)
        before["growth"] = settings()["growth"]
        before["visible"] = settings()["visible"]
    assert settings() == before
    assert not started()


def a_failing_setter(door: Door) -> None:
    tf = tensorflow()
    setters: dict[str, tuple[str, int, str, dict[str, Any]]] = {
        "set_memory_growth": ("memory growth of GPU 1", 2, "--growth", {"growth": True}),
        "set_visible_devices": ("the visible devices", 1, "1 --growth", {"indices": 1, "growth": True}),
        "set_logical_device_configuration": (
            "the logical devices of GPU 1",
            2,
            "--limit 2M",
            {"limit": "2M"},
        ),
    }
    beginnings: dict[str, dict[str, Any]] = {
        "": {},
        "0 --limit 4M": {"indices": 0, "limit": "4M"},
        "0 --growth": {"indices": 0, "growth": True},
    }
    for beginning, asked in beginnings.items():
        door.ask(beginning, **asked)
        before = settings()
        for setter, (what, call, line, kwargs) in setters.items():
            for after in (False, True):
                # GPU 0 has growth already, so GPU 1 is the first one to be set
                first = 1 if setter == "set_memory_growth" and "growth" in asked else call
                with failing(setter, first, ValueError("no\nsecond line"), after):
                    said = door.refused(line, **kwargs)
                assert said == (
                    f"TensorFlow refused to set {what} (ValueError: no); everything is set back as it was."
                ), said
                assert settings() == before, (beginning, setter, after)
                assert not started(), (beginning, setter, after)
    with failing("set_visible_devices", 1, KeyboardInterrupt()):
        if door.name == "function":
            with pytest.raises(KeyboardInterrupt):
                door.ask("1", indices=1)
            assert settings() == before

    # a setter that takes the value and drops it is found out by reading back
    real, tf.config.set_visible_devices = tf.config.set_visible_devices, lambda *args: None
    said = door.refused("1 --growth", indices=1, growth=True)
    tf.config.set_visible_devices = real
    assert said.startswith("TensorFlow accepted the devices and then had them otherwise (GPU 0 is visible")
    assert said.endswith("everything is set back as it was.")
    assert settings() == before
    start()


def a_setter_that_cannot_be_set_back(door: Door) -> None:
    tf = tensorflow()
    real = tf.config.experimental.set_memory_growth

    def one_way(device: Any, enable: bool | None) -> None:
        if device.name.endswith("1") or enable is None:
            raise RuntimeError("stuck")
        real(device, enable)

    tf.config.experimental.set_memory_growth = one_way
    said = door.refused("--growth", growth=True)
    assert said.endswith("(RuntimeError: stuck); setting it back failed too, so restart the kernel.")

    # a TensorFlow that keeps its logical devices elsewhere: nothing is changed, and the sentence says so
    tf.config.experimental.set_memory_growth = real
    door.ask("--limit 4M", limit="4M")
    before = settings()
    inner = eager_context()
    inner._virtual_device_map = HiddenMap(inner._virtual_device_map)
    said = door.refused("--growth", growth=True)
    assert "no way to take logical devices back" in said
    assert said.endswith("set back as it was.")
    assert settings() == before


class HiddenMap:
    """TensorFlow's map of configurations, no longer the dict that it was."""

    def __init__(self, inner: dict[Any, Any]) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.inner[key] = value

    def __contains__(self, key: Any) -> bool:
        return key in self.inner

    def __len__(self) -> int:
        return len(self.inner)


def what_the_user_had_set(door: Door) -> None:
    from tape_magic.results.devices import Outcome

    tf = tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    for growth in (False, True):
        tf.config.experimental.set_memory_growth(gpus[0], growth)
        tf.config.experimental.set_memory_growth(gpus[1], None)
        asked = door.ask("")
        assert any("differ in memory growth" in note for note in asked.notes)
        # TensorFlow cannot start like this, so default memory is not "already so"
        assert door.ask("0,1", indices=[0, 1]).outcome is Outcome.DONE
        assert settings()["growth"] == [False, False]

    # logical CPUs drop growth from what TensorFlow starts CUDA with, while its getter goes on saying True
    door.ask("--growth", growth=True)
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    assert settings()["growth"] == [True, True]
    assert not eager_context().config.gpu_options.allow_growth
    assert policies(door.ask("")) == ["nearly all memory at once"] * 2
    assert door.ask("--growth", growth=True).outcome is Outcome.DONE
    assert settings()["logical"] == [None] * 3
    assert eager_context().config.gpu_options.allow_growth
    door.ask("0,1", indices=[0, 1])

    tf.config.set_logical_device_configuration(
        gpus[0], [tf.config.LogicalDeviceConfiguration(memory_limit=limit) for limit in (8, "16")]
    )
    asked = door.ask("")
    assert asked.gpus[0].policy.limits == (8 * MIB, 16 * MIB)
    assert [gpu.logical_names for gpu in asked.gpus] == [("GPU:0", "GPU:1"), ("GPU:2",)]
    assert policies(door.ask("--growth", growth=True)) == ["memory as needed"] * 2
    start()


def overridden_by_the_environment(door: Door) -> None:
    def about(name: str, report: Any) -> list[str]:
        return [note for note in report.notes if name in note]

    forced, cuda = "TF_FORCE_GPU_ALLOW_GROWTH", "CUDA_VISIBLE_DEVICES"
    assert about(cuda, door.ask("")) == [
        "CUDA_VISIBLE_DEVICES=-1 comes first: CUDA shows only those GPUs, numbered from 0."
    ]
    os.environ.pop(cuda)
    os.environ[forced] = "false"
    assert about(forced, door.ask("0", indices=0)) == []
    assert "false overrides growth" in about(forced, door.ask("0 --growth", indices=0, growth=True))[0]
    os.environ[forced] = "1"
    assert "=1 is ignored" in about(forced, door.ask("0 --growth", indices=0, growth=True))[0]
    os.environ[forced] = "true"
    report = door.ask("0 --growth", indices=0, growth=True)
    assert about(forced, report) == about(cuda, report) == []
    assert "true overrides this" in about(forced, door.ask("0", indices=0))[0]
    kept = hold_on_gpu("GPU:0")
    assert 0 < held_by_stub(0) < 32 * MIB  # it does override: the default would have taken nearly all
    del kept


# Cases without a GPU


def no_gpu_continues_on_the_cpu(door: Door) -> None:
    from tape_magic.results.devices import Outcome

    report = door.ask("0 --growth", indices=0, growth=True)
    assert report.outcome is Outcome.NO_GPU
    assert report.gpus == ()
    assert not started()
    assert report.headline == f"No GPU: TensorFlow continues on the CPU ({report.why_no_gpu})."
    built = tensorflow().test.is_built_with_cuda()
    assert report.why_no_gpu
    assert ("built without CUDA" in report.why_no_gpu) is not built
    assert door.ask("7 --limit 50%", indices=7, limit="50%").outcome is Outcome.NO_GPU
    required = door.refused("0 --growth --require", indices=0, growth=True, require=True)
    assert required == f"There is no GPU, and require asks for one: {report.why_no_gpu}."
    assert door.refused("--require", require=True) == required
    assert door.ask("").headline == f"Only asked, nothing changed: no GPU ({report.why_no_gpu})."
    assert door.ask("--cpu", cpu=True).outcome is Outcome.ALREADY_SO
    assert not started()
    start()
    assert door.ask("0 --growth", indices=0, growth=True).outcome is Outcome.NO_GPU


def four_logical_cpus(door: Door) -> None:
    from tape_magic.results.devices import Outcome

    report = door.ask("--cpu --split 4", cpu=True, split=4)
    assert report.outcome is Outcome.DONE
    assert not started()
    assert report.cpus[0].logical_names == ("CPU:0", "CPU:1", "CPU:2", "CPU:3")
    assert door.ask("--cpu --split 4", cpu=True, split=4).outcome is Outcome.ALREADY_SO

    tf = tensorflow()
    names = [each.name.removeprefix("/device:") for each in tf.config.list_logical_devices("CPU")]
    assert tuple(names) == report.cpus[0].logical_names
    strategy = tf.distribute.MirroredStrategy(names)
    assert strategy.num_replicas_in_sync == 4

    def replica() -> Any:
        context = tf.distribute.get_replica_context()
        return tf.cast(context.replica_id_in_sync_group, tf.float32) + 1.0

    total = strategy.reduce("SUM", strategy.run(replica), axis=None)
    assert float(total) == 1 + 2 + 3 + 4

    assert door.ask("--cpu --split 4", cpu=True, split=4).outcome is Outcome.ALREADY_SO
    assert door.refused("--cpu", cpu=True) == (
        "TensorFlow has already started with other devices: the CPU is 4 logical CPUs, not 1. Only a kernel"
        " restart can change them: restart, and put this line first: %tfgpu --cpu"
    )
    assert "%tfgpu --cpu --split 2" in door.refused("--cpu --split 2", cpu=True, split=2)


WITH_STUB = (
    asking_starts_nothing,
    growth_on_one_of_two,
    a_later_line_before_the_start,
    refusals_change_nothing,
    a_failing_setter,
    a_setter_that_cannot_be_set_back,
    what_the_user_had_set,
    overridden_by_the_environment,
)
WITHOUT_GPU = (no_gpu_continues_on_the_cpu, four_logical_cpus)
CASES: dict[str, Callable[[Door], None]] = {case.__name__: case for case in WITH_STUB + WITHOUT_GPU}


@pytest.fixture(scope="session")
def stub_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    sys.path.insert(0, str(ROOT))
    try:
        from tests import stub_gpu
    finally:
        sys.path.remove(str(ROOT))
    if stub_gpu.compiler() is None:
        if os.environ.get("CI"):
            pytest.fail("the stub GPU needs a C compiler, and CI must not skip its tests")
        pytest.skip("the stub GPU needs a C compiler")
    return stub_gpu.environment(stub_gpu.build(tmp_path_factory.mktemp("stub_gpu")))


def run_fresh(case: str, door: str, environment: dict[str, str], folder: Path) -> None:
    """Runs one case in a process of its own, which starts as a user's would."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "CUDA_"))}
    # the user's own IPython profile must not take part
    own = {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, __file__, case, door],
        env=inherited | own | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{case} through the {door} door:\n{done.stdout}{done.stderr[-6000:]}"


@pytest.mark.parametrize("door", ["function", "magic"])
@pytest.mark.parametrize("case", [case.__name__ for case in WITH_STUB])
def test_stub_gpus(case: str, door: str, stub_environment: dict[str, str], tmp_path: Path) -> None:
    run_fresh(case, door, stub_environment, tmp_path)


@pytest.mark.parametrize("door", ["function", "magic"])
@pytest.mark.parametrize("case", [case.__name__ for case in WITHOUT_GPU])
def test_without_gpu(case: str, door: str, tmp_path: Path) -> None:
    run_fresh(case, door, {"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path)


# The parts that need no TensorFlow


def test_reasons_for_no_gpu_come_in_the_order_of_need() -> None:
    from tape_magic.engine.device_report import no_gpu_reason

    assert no_gpu_reason(False, False, "-1") == "this TensorFlow is built without CUDA"
    assert no_gpu_reason(True, False, "-1") == "no NVIDIA driver: libcuda.so.1 was not found"
    for value in ("-1", "", "-1,0"):
        assert no_gpu_reason(True, True, value) == f"CUDA_VISIBLE_DEVICES={value} hides every GPU"
    for other in (None, "0", "0,-1"):
        assert "no GPU that this TensorFlow can use" in no_gpu_reason(True, True, other)


@pytest.mark.parametrize(
    ("limit", "size"),
    [
        ("512M", 512 * MIB),
        ("4G", 4 * GIB),
        ("4GiB", 4 * GIB),
        (" 4 gib ", 4 * GIB),
        ("0.5", 4 * GIB),
        ("50%", 4 * GIB),
        (".25", 2 * GIB),
        ("1.0", 8 * GIB),
        ("100%", 8 * GIB),
        (0.5, 4 * GIB),
        (GIB + 1, GIB),
        ("8G", 8 * GIB),
    ],
)
def test_sizes_on_a_device_of_8_gib(limit: str | int | float, size: int) -> None:
    from tape_magic.engine.device_request import read_size

    assert read_size(limit).on("GPU 0", 8 * GIB) == size
    # the text goes to the magic line that the error proposes, where it must mean the same
    assert read_size(read_size(limit).text).on("GPU 0", 8 * GIB) == size


def test_a_size_above_the_device_is_refused_with_the_size_of_the_device() -> None:
    from tape_magic.engine.device_request import read_size
    from tape_magic.errors import DeviceError

    with pytest.raises(DeviceError, match=r"^The limit 9G is more than GPU 0 has: 8 GiB\.$"):
        read_size("9G").on("GPU 0", 8 * GIB)


def test_a_report_is_frozen_and_hashable_data() -> None:
    from tape_magic.results.devices import Device, DeviceReport, Outcome, Policy, PolicyKind

    gpu = Device("GPU", 0, ("GPU:0",), "A100", (8, 0), None, None, None, Policy(PolicyKind.GROWTH), True)
    report = DeviceReport((gpu,), "2.21.0", "12.5.1", "9", False, Outcome.DONE, None, ())
    assert hash(report) == hash(dataclasses.replace(report))
    assert report.headline == "Done: GPU 0 memory as needed."
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.started = True  # type: ignore[misc]


if __name__ == "__main__":
    CASES[sys.argv[1]](Door(sys.argv[2]))
