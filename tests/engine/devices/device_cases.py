"""The cases of `test_devices.py`, each for a process that has imported TensorFlow and started nothing.

Each takes the name of a door, the Python function or the magic line. The GPUs are the stub's
(`tests/stub_gpu`), two devices that hold memory and compute nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.stub_nvml import StubCard, install

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


def start_tensorflow() -> None:
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
    from tape_magic.results.devices import SetupOutcome

    report = door.ask("")
    before = settings()
    assert door.ask("") == report
    assert settings() == before
    assert not started()
    assert report.outcome is SetupOutcome.ASKED
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
    assert door.ask("--require", require=True).outcome is SetupOutcome.ASKED

    start_tensorflow()
    kept = hold_on_gpu("GPU:1")
    report = door.ask("")
    assert report.started
    assert report.gpus[0].memory_used == 0
    assert report.gpus[1].memory_used >= 4
    assert report.gpus[1].memory_peak >= report.gpus[1].memory_used
    del kept
    assert any("nvidia-ml-py is not installed" in note for note in report.notes)
    # without growth the first tensor takes nearly all of the stub's 64 MiB
    assert held_by_stub(1) > 32 * MIB


def growth_on_one_of_two(door: Door) -> None:
    from tape_magic.results.devices import SetupOutcome

    report = door.ask("0 --growth", indices=0, growth=True)
    assert report.outcome is SetupOutcome.DONE
    assert not started()
    assert report.headline == "Done: GPU 0 memory as needed, GPU 1 hidden."
    assert [gpu.logical_names for gpu in report.gpus] == [("GPU:0",), ()]
    assert [gpu.visible for gpu in report.gpus] == [True, False]
    assert settings()["growth"] == [True, None]
    assert settings()["visible"] == ["/physical_device:CPU:0", "/physical_device:GPU:0"]
    assert door.ask("0 --growth", indices=[0], growth=True).outcome is SetupOutcome.ALREADY_SO

    kept = hold_on_gpu("GPU:0")
    assert 0 < held_by_stub(0) < 32 * MIB  # growth is real, and
    assert [each.name for each in tensorflow().config.list_logical_devices("GPU")] == ["/device:GPU:0"]
    again = door.ask("0 --growth", indices=0, growth=True)
    assert again.outcome is SetupOutcome.ALREADY_SO
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
    from tape_magic.results.devices import SetupOutcome

    report = door.ask("0,1 --limit 48M", indices=[0, 1], limit="48M")
    assert report.outcome is SetupOutcome.DONE
    assert limits() == [[48], [48]]
    assert [gpu.policy.limits for gpu in report.gpus] == [(48 * MIB,)] * 2
    assert door.ask("--limit 48MiB", limit="48MiB").outcome is SetupOutcome.ALREADY_SO

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
    assert report.outcome is SetupOutcome.DONE
    assert not started()
    start_tensorflow()
    assert len(tensorflow().config.list_logical_devices("GPU")) == 2
    assert door.ask("0,1 --growth", indices=(0, 1), growth=True).outcome is SetupOutcome.ALREADY_SO


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
        "split 2 needs a limit, since TensorFlow splits a GPU only into parts of a given size: write"
        " --limit 2G --split 2, or --cpu --split 2 for logical CPUs."
    )
    assert "split 0 is no number" in door.refused("--cpu --split 0", cpu=True, split=0)
    assert "cpu hides every GPU" in door.refused("0 --cpu", indices=0, cpu=True)
    assert "cpu hides every GPU" in door.refused("--cpu --growth", growth=True, cpu=True)
    assert "cpu hides every GPU" in door.refused("--cpu --limit 1G", limit="1G", cpu=True)
    assert "cpu hides every GPU" in door.refused("--cpu --require", require=True, cpu=True)
    assert "cpu hides every GPU" in door.refused("--cpu --reset-peak", reset_peak=True, cpu=True)
    assert "cpu hides every GPU" in door.refused("--cpu --allocator bfc", allocator="bfc", cpu=True)
    for option in ("allocator", "precision"):
        assert "'x' is none of" in door.refused(f"--{option} x", **{option: "x"}).replace("x is", "'x' is")
    assert "out of range" in door.refused(f"--seed {2**32}", seed=2**32)
    assert "named 2 times" in door.refused("1,1", indices=[1, 1])
    if door.name == "function":
        for limit in (0, -1, 0.0, -0.5, float("nan"), float("inf")):
            assert "leaves no memory" in door.refused("", limit=limit)
        for index in (-1, True, "0", "GPU:0", [0, -1], 1.0, [[0]], ["freest"]):
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
    start_tensorflow()


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
    from tape_magic.results.devices import SetupOutcome

    tf = tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    for growth in (False, True):
        tf.config.experimental.set_memory_growth(gpus[0], growth)
        tf.config.experimental.set_memory_growth(gpus[1], None)
        asked = door.ask("")
        assert any("differ in memory growth" in note for note in asked.notes)
        # TensorFlow cannot start like this, so default memory is not "already so"
        assert door.ask("0,1", indices=[0, 1]).outcome is SetupOutcome.DONE
        assert settings()["growth"] == [False, False]

    # logical CPUs drop growth from what TensorFlow starts CUDA with, while its getter goes on saying True
    door.ask("--growth", growth=True)
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    assert settings()["growth"] == [True, True]
    assert not eager_context().config.gpu_options.allow_growth
    assert policies(door.ask("")) == ["nearly all memory at once"] * 2
    assert door.ask("--growth", growth=True).outcome is SetupOutcome.DONE
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
    start_tensorflow()


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
    from tape_magic.results.devices import SetupOutcome

    report = door.ask("0 --growth", indices=0, growth=True)
    assert report.outcome is SetupOutcome.NO_GPU
    assert report.gpus == ()
    assert not started()
    assert report.headline == f"No GPU: TensorFlow continues on the CPU ({report.why_no_gpu})."
    built = tensorflow().test.is_built_with_cuda()
    assert report.why_no_gpu
    assert ("built without CUDA" in report.why_no_gpu) is not built
    assert door.ask("7 --limit 50%", indices=7, limit="50%").outcome is SetupOutcome.NO_GPU
    required = door.refused("0 --growth --require", indices=0, growth=True, require=True)
    assert required == f"There is no GPU, and require asks for one: {report.why_no_gpu}."
    assert door.refused("--require", require=True) == required
    assert door.ask("").headline == f"Only asked, nothing changed: no GPU ({report.why_no_gpu})."
    assert door.ask("--cpu", cpu=True).outcome is SetupOutcome.ALREADY_SO
    assert not started()
    start_tensorflow()
    assert door.ask("0 --growth", indices=0, growth=True).outcome is SetupOutcome.NO_GPU


def four_logical_cpus(door: Door) -> None:
    from tape_magic.results.devices import SetupOutcome

    report = door.ask("--cpu --split 4", cpu=True, split=4)
    assert report.outcome is SetupOutcome.DONE
    assert not started()
    assert report.cpus[0].logical_names == ("CPU:0", "CPU:1", "CPU:2", "CPU:3")
    assert door.ask("--cpu --split 4", cpu=True, split=4).outcome is SetupOutcome.ALREADY_SO

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
    with strategy.scope():
        weight = tf.Variable(0.0, aggregation=tf.VariableAggregation.MEAN)

    def step() -> Any:
        """Towards 1, 2, 3 or 4 on each replica: to their mean together."""
        with tf.GradientTape() as tape:
            loss = (weight - replica()) ** 2
        weight.assign_sub(0.1 * tape.gradient(loss, weight))

    train = tf.function(lambda: strategy.run(step))
    for _ in range(30):
        train()
    assert abs(float(weight.numpy()) - 2.5) < 0.01

    assert door.ask("--cpu --split 4", cpu=True, split=4).outcome is SetupOutcome.ALREADY_SO
    assert door.refused("--cpu", cpu=True) == (
        "TensorFlow has already started with other devices: the CPU is 4 logical CPUs, not 1. Only a kernel"
        " restart can change them: restart, and put this line first: %tfgpu --cpu"
    )
    assert "%tfgpu --cpu --split 2" in door.refused("--cpu --split 2", cpu=True, split=2)


# What stands beside the devices


def beside(tf: Any) -> dict[str, Any]:
    """The settings of the whole program, and what the random generators would give next."""
    import random

    determinism = importlib.import_module("tensorflow.python.framework.config")
    context = eager_context()
    return {
        "allocator": os.environ.get("TF_GPU_ALLOCATOR"),
        "precision": tf.keras.mixed_precision.global_policy().name,
        "deterministic": determinism.is_op_determinism_enabled(),
        "placement": tf.debugging.get_log_device_placement(),
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),
        "seed": (context._seed, context._rng.getstate() if context._seed is not None else None),
    }


def what_stands_beside_the_devices(door: Door) -> None:
    from tape_magic.results.devices import SetupOutcome

    tf = tensorflow()
    before = settings()
    line = "--allocator cuda_malloc_async --precision mixed_bfloat16 --deterministic --placement --seed 7"
    asked: dict[str, Any] = {
        "allocator": "cuda_malloc_async",
        "precision": "mixed_bfloat16",
        "deterministic": True,
        "placement": True,
        "seed": 7,
    }
    report = door.ask(line, **asked)
    assert report.outcome is SetupOutcome.DONE
    assert report.settings == (
        "allocator cuda_malloc_async",
        "precision mixed_bfloat16",
        "operations deterministic",
        "placement logged",
        "seed 7",
    )
    now = beside(tf)
    assert {key: now[key] for key in ("allocator", "precision", "deterministic", "placement")} == {
        key: asked[key] for key in ("allocator", "precision", "deterministic", "placement")
    }
    assert now["seed"][0] == 7
    assert settings() == before  # a setting alone leaves the devices alone
    again = door.ask(line, **asked)
    assert again.outcome is SetupOutcome.ALREADY_SO
    assert beside(tf) == now
    assert not started()
    assert any("TF_CPP_MIN_LOG_LEVEL=3 hides it" in note for note in again.notes)

    # another whole setup of the devices leaves them; only what is named changes
    assert door.ask("0 --growth", indices=0, growth=True).settings == report.settings[:-1]
    start_tensorflow()
    assert door.ask(f"0 --growth {line}", indices=0, growth=True, **asked).outcome is SetupOutcome.ALREADY_SO
    assert door.ask("--precision float32", precision="float32").outcome is SetupOutcome.DONE
    assert beside(tf)["precision"] == "float32"
    assert door.refused("--allocator bfc --seed 1", allocator="bfc", seed=1) == (
        "TensorFlow has already started with other devices: the allocator is cuda_malloc_async, not bfc."
        " Only a kernel restart can change them: restart, and put this line first:"
        " %tfgpu --allocator bfc --seed 1"
    )
    assert beside(tf)["seed"][0] == 7
    os.environ["TF_GPU_ALLOCATOR"] = "best"
    assert any("TF_GPU_ALLOCATOR=best is ignored" in note for note in door.ask("").notes)
    assert any("need a seed" in n for n in door.ask("--deterministic", deterministic=True).notes)


def a_seed_begins_anew(door: Door) -> None:
    import random

    tf = tensorflow()
    drawn = []
    for _ in range(2):
        door.ask("--seed 3", seed=3)
        with tf.device("/CPU:0"):
            drawn.append((random.random(), np.random.random(), float(tf.random.uniform([]))))
    assert drawn[0] == drawn[1]


def a_failing_setting(door: Door) -> None:
    tf = tensorflow()
    asked: dict[str, Any] = {
        "indices": 1,
        "growth": True,
        "allocator": "cuda_malloc",
        "precision": "float16",
        "deterministic": True,
        "placement": True,
        "seed": 5,
    }
    line = "1 --growth --allocator cuda_malloc --precision float16 --deterministic --placement --seed 5"
    setters = (
        (tf.keras.mixed_precision, "set_global_policy", "the precision"),
        (tf.config.experimental, "enable_op_determinism", "determinism"),
        (tf.debugging, "set_log_device_placement", "the log of placement"),
        (tf.keras.utils, "set_random_seed", "the seed"),
    )
    devices_before, before = settings(), beside(tf)
    for owner, name, what in setters:
        for after in (False, True):
            with broken(owner, name, ValueError("no\nsecond line"), after):
                said = door.refused(line, **asked)
            assert said == (
                f"TensorFlow refused to set {what} (ValueError: no); everything is set back as it was."
            ), said
            assert settings() == devices_before, (name, after)
            assert beside(tf) == before, (name, after)
    # a setting that is taken and dropped is found out by reading back
    real, tf.debugging.set_log_device_placement = tf.debugging.set_log_device_placement, lambda on: None
    said = door.refused(line, **asked)
    tf.debugging.set_log_device_placement = real
    assert "the log of placement is not what was set" in said
    assert (settings(), beside(tf)) == (devices_before, before)
    assert not started()


@contextlib.contextmanager
def broken(owner: Any, name: str, error: Exception, after: bool) -> Iterator[None]:
    """Within this a setter fails at its first call, before or after it has done its work."""
    real, calls = getattr(owner, name), []

    def once(*args: Any) -> None:
        calls.append(args)
        if after or len(calls) > 1:
            real(*args)
        if len(calls) == 1:
            raise error

    setattr(owner, name, once)
    try:
        yield
    finally:
        setattr(owner, name, real)


def a_gpu_in_parts(door: Door) -> None:
    from tape_magic.results.devices import SetupOutcome

    report = door.ask("0 --limit 8M --split 3", indices=0, limit="8M", split=3)
    assert report.outcome is SetupOutcome.DONE
    assert policies(report) == ["at most 8 MiB + 8 MiB + 8 MiB", "hidden"]
    assert report.gpus[0].logical_names == ("GPU:0", "GPU:1", "GPU:2")
    assert limits() == [[8, 8, 8], None]
    assert (
        door.ask("0 --limit 8M --split 3", indices=0, limit="8M", split=3).outcome is SetupOutcome.ALREADY_SO
    )
    both = door.ask("--limit 8M --split 2", limit="8M", split=2)
    assert [gpu.logical_names for gpu in both.gpus] == [("GPU:0", "GPU:1"), ("GPU:2", "GPU:3")]
    assert door.refused("--growth --split 2", growth=True, split=2).startswith("split 2 needs a limit")
    assert door.refused("0 --limit 8M --split 0", indices=0, limit="8M", split=0).startswith("split 0 is no")
    start_tensorflow()
    # plug-ins make no parts of a device, CUDA does: the report says what is so
    assert len(tensorflow().config.list_logical_devices("GPU")) == 2
    asked = door.ask("")
    assert [gpu.logical_names for gpu in asked.gpus] == [("GPU:0",), ("GPU:1",)]
    assert [gpu.memory_used for gpu in asked.gpus] == [0, 0]
    assert any("did not split" in note for note in asked.notes)
    said = door.refused("0 --limit 8M --split 3", indices=0, limit="8M", split=3)
    assert "GPU 0 has at most 8 MiB + 8 MiB, not at most 8 MiB + 8 MiB + 8 MiB" in said


def a_peak_begins_anew(door: Door) -> None:
    from tape_magic.results.devices import SetupOutcome

    report = door.ask("--reset-peak", reset_peak=True)
    assert report.outcome is SetupOutcome.ASKED
    assert any("has not started, so there is no peak" in note for note in report.notes)
    assert not started()
    door.ask("0 --growth", indices=0, growth=True)
    tf = tensorflow()
    with tf.device("/CPU:0"):
        value = tf.zeros([1000])
    with tf.device("/GPU:0"):
        kept = tf.identity(value)
    assert door.ask("").gpus[0].memory_peak >= 4000
    del kept, value
    report = door.ask("0 --growth --reset-peak", indices=0, growth=True, reset_peak=True)
    assert report.outcome is SetupOutcome.ALREADY_SO
    assert report.gpus[0].memory_peak == report.gpus[0].memory_used < 4000
    assert door.ask("--reset-peak", reset_peak=True).outcome is SetupOutcome.DONE
    with broken(tf.config.experimental, "reset_memory_stats", ValueError("no\nmore"), False):
        assert door.refused("--reset-peak --precision float16", reset_peak=True, precision="float16") == (
            "TensorFlow refused to set the peak of memory (ValueError: no); everything is set back as it was."
        )
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def the_error_table(door: Door) -> None:
    """Each error of TensorFlow as it is, and what becomes of it here."""
    tf = tensorflow()
    gpus, cpus = tf.config.list_physical_devices("GPU"), tf.config.list_physical_devices("CPU")
    growth, logical = tf.config.experimental.set_memory_growth, tf.config.set_logical_device_configuration
    part = tf.config.LogicalDeviceConfiguration

    for device in ("GPU:0", gpus[0].name, (gpus[0],)):
        with pytest.raises(ValueError, match="Unrecognized device"):
            growth(device, True)
    if door.name == "function":
        assert "not by 'GPU:0'" in door.refused("", indices="GPU:0")
    else:
        assert "'GPU:zero' is not the index of a GPU" in door.refused("GPU:zero")
    with pytest.raises(ValueError, match="Cannot set memory growth on non-GPU"):
        growth(cpus[0], True)
    assert "cpu hides every GPU, so growth has" in door.refused("--cpu --growth", cpu=True, growth=True)
    with pytest.raises(ValueError, match="Setting memory limit is required for GPU virtual devices"):
        logical(gpus[0], [part(), part()])
    assert "split 2 needs a limit" in door.refused("0 --split 2", indices=0, split=2)
    with pytest.raises(ValueError, match="Setting memory limit on CPU virtual devices is currently not"):
        logical(cpus[0], [part(memory_limit=4)])
    assert "so limit has" in door.refused("--cpu --limit 1G", cpu=True, limit="1G")
    with pytest.raises(KeyError):
        tf.config.experimental.get_memory_growth(cpus[0])
    assert door.ask("").cpus[0].policy.text == "the system's memory"

    door.ask("--limit 8M", limit="8M")
    with pytest.raises(ValueError, match="Cannot set memory growth on device when virtual devices conf"):
        growth(gpus[0], True)
    assert policies(door.ask("--growth", growth=True)) == ["memory as needed"] * 2

    growth(gpus[1], None)
    with pytest.raises(ValueError, match="Memory growth cannot differ between GPU devices"):
        start_tensorflow()
    assert not started()
    assert any("differ in memory growth" in note for note in door.ask("").notes)
    assert policies(door.ask("0,1 --growth", indices=[0, 1], growth=True)) == ["memory as needed"] * 2
    start_tensorflow()

    with pytest.raises(RuntimeError, match="Physical devices cannot be modified after being initialized"):
        growth(gpus[0], False)
    assert "GPU 0 has memory as needed, not nearly all" in door.refused("0,1", indices=[0, 1])
    with pytest.raises(RuntimeError, match="Visible devices cannot be modified after being initialized"):
        tf.config.set_visible_devices(gpus[0], "GPU")
    assert "GPU 1 is visible, not hidden" in door.refused("0 --growth", indices=0, growth=True)
    with pytest.raises(RuntimeError, match="Virtual devices cannot be modified after being initialized"):
        logical(gpus[0], [part(memory_limit=8)])
    assert "not at most 8 MiB" in door.refused("--limit 8M", limit="8M")
    # unchanged values that TensorFlow refuses all the same
    with pytest.raises(RuntimeError, match="Visible devices cannot be modified"):
        tf.config.set_visible_devices(cpus, "CPU")
    assert door.ask("--growth", growth=True).headline.startswith("Already so")


# With a stub of NVML


def figures_of_nvml(door: Door) -> None:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    mine, others = 7 * MIB, 30 * MIB
    module = install(
        StubCard(used=mine + others, load=87, temperature=54, processes=[(os.getpid(), mine), (1, others)]),
        StubCard(used=0, load=None, temperature=None, uuid="GPU-1", bus="00000000:02:00.0"),
    )
    report = door.ask("")
    assert not started()
    assert module.opened == 0
    first, second = report.gpus
    assert (first.memory_total, first.memory_all, first.memory_used) == (64 * MIB, mine + others, None)
    assert (first.load, first.temperature, first.card) == (0.87, 54, 0)
    assert [(holder.pid, holder.here, holder.memory) for holder in first.holders] == [
        (1, False, others),
        (os.getpid(), True, mine),
    ]
    assert (second.load, second.temperature, second.memory_all) == (None, None, 0)
    assert report.driver == "580.159.03"
    assert report.notes == ()

    # shares, and sizes that the device does not have
    assert limits_after(door, "0 --limit 50%", indices=0, limit="50%") == [[32], None]
    assert limits_after(door, "--limit 0.25 --split 2", limit="0.25", split=2) == [[16, 16], [16, 16]]
    assert door.refused("0 --limit 1G", indices=0, limit="1G") == (
        "The limit 1G is more than GPU 0 has: 64 MiB."
    )
    assert door.refused("0 --limit 40M --split 2", indices=0, limit="40M", split=2) == (
        "2 times 40M is more than GPU 0 has: 64 MiB."
    )
    assert limits() == [[16, 16], [16, 16]]

    install(broken="Driver Not Loaded")
    assert any("NVML says: Driver Not Loaded" in note for note in door.ask("").notes)


def limits_after(door: Door, line: str, **kwargs: Any) -> list[list[float] | None]:
    door.ask(line, **kwargs)
    return limits()


def the_freest(door: Door) -> None:
    from tape_magic.results.devices import SetupOutcome

    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    assert door.refused("freest", indices="freest") == (
        "freest needs the free memory of each GPU, and nvidia-ml-py is not installed: pip install"
        ' "tape_magic[nvml]"; name a GPU by its index, as in %tfgpu 0.'
    )
    install(StubCard(used=40 * MIB), StubCard(used=8 * MIB, uuid="GPU-1"))
    report = door.ask("freest --growth", indices="freest", growth=True)
    assert report.outcome is SetupOutcome.DONE
    assert policies(report) == ["hidden", "memory as needed"]
    assert "GPU 1 has the most free memory: 56 MiB, the others 24 MiB." in report.notes
    assert door.ask("freest --growth", indices="freest", growth=True).outcome is SetupOutcome.ALREADY_SO
    install(StubCard(used=4 * MIB), StubCard(used=60 * MIB, uuid="GPU-1"))
    assert policies(door.ask("freest --growth", indices="freest", growth=True)) == [
        "memory as needed",
        "hidden",
    ]
    start_tensorflow()
    # what this program holds by now does not count against the choice that was made
    install(StubCard(used=60 * MIB), StubCard(used=0, uuid="GPU-1"))
    assert door.ask("freest --growth", indices="freest", growth=True).outcome is SetupOutcome.ALREADY_SO
    said = door.refused("freest", indices="freest")
    assert said.endswith("put this line first: %tfgpu freest"), said


def cards_that_are_not_seen(door: Door) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "2,0"
    cards = [StubCard(uuid=f"GPU-{n}", used=n * MIB, bus=f"00000000:0{n}:00.0") for n in range(3)]
    install(*cards)
    report = door.ask("")
    assert [gpu.card for gpu in report.gpus] == [2, 0]
    assert [gpu.memory_all for gpu in report.gpus] == [2 * MIB, 0]
    (unseen,) = [device for device in report.devices if device.kind == "CARD"]
    assert (unseen.name, unseen.memory_all, unseen.visible) == ("card 1", MIB, False)
    assert len(report.gpus) == 2
    os.environ["CUDA_VISIBLE_DEVICES"] = "0"
    report = door.ask("")
    assert [gpu.card for gpu in report.gpus] == [None, None]
    assert any("cannot be told" in note for note in report.notes)


# The doctor


def the_doctor(door: Door) -> None:
    from tape_magic.engine.doctor import examine as doctor
    from tape_magic.engine.doctor.isolated import IsolatedRun
    from tape_magic.results.doctor import Link, LinkState

    door.ask("0 --growth", indices=0, growth=True)
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "false"
    report = doctor.examine()
    assert report.broken is not None
    assert report.broken.link is Link.SETTINGS
    assert report.headline.startswith(
        "The GPU is there, but TF_FORCE_GPU_ALLOW_GROWTH=false overrides growth"
    )
    assert report.advice == "Run before the first tensor"
    assert report.command == "%env TF_FORCE_GPU_ALLOW_GROWTH=true"
    assert report.links[0].finding is LinkState.UNNEEDED
    assert report.links[-1].finding is LinkState.UNTRIED
    del os.environ["TF_FORCE_GPU_ALLOW_GROWTH"]

    # the stub cannot compute, and whatever becomes of the process that tries, this one lives on
    report = doctor.examine()
    assert report.broken is not None
    assert report.broken.link is Link.COMPUTATION
    assert report.cause.startswith("a small computation on GPU 0 ")
    assert len(report.broken.evidence) == 2
    assert not started()

    real, answers = doctor.run_isolated, [{"gpus": 2}, {"right": True, "seconds": 1.0}]
    doctor.run_isolated = lambda *args: IsolatedRun(tuple(answers), (), None)
    report = doctor.examine()
    assert report.well
    assert (report.headline, report.command) == ("The GPU works", "%tfgpu 0 --growth")
    answers[1]["right"] = False
    assert doctor.examine().cause == "a small computation on GPU 0 gives a wrong product"
    doctor.run_isolated = real

    door.ask("--cpu", cpu=True)
    report = doctor.examine()
    assert report.cause == "every GPU is hidden in this notebook"
    assert not started()


# Any lines


def any_lines(door: Door, lines: list[tuple[str, dict[str, Any]]]) -> None:
    """Lines one after the other, "start" starts TensorFlow: each ends well or in one sentence."""
    from tape_magic.results.devices import SetupOutcome

    said: dict[str, Any] | None = None
    for line, asked in lines:
        if line == "start":
            start_tensorflow()
            continue
        before, program, had_started = settings(), beside(tensorflow()), started()
        try:
            report = door.ask(line, **asked)
        except Exception as error:
            if type(error).__name__ not in ("DeviceError", "AssertionError"):
                raise
            refused = str(error).strip()
            assert "\n" not in refused, refused
            assert (settings(), beside(tensorflow())) == (before, program), line
            assert expected(asked) is None or (had_started and "kernel restart" in refused), refused
            continue
        assert started() is had_started, line
        wanted = expected(asked)
        assert wanted is not None, f"{line} was not refused"
        if wanted:
            said = wanted
        assert report.outcome in (SetupOutcome.DONE, SetupOutcome.ALREADY_SO, SetupOutcome.ASKED), line
        assert (report.outcome is SetupOutcome.ASKED) is (not asked), line
        if said is not None:
            assert {key: reduced()[key] for key in said} == said, (line, reduced(), said)
        if asked:
            assert door.ask(line, **asked).outcome is SetupOutcome.ALREADY_SO, line
        if asked.get("precision"):
            assert beside(tensorflow())["precision"] == asked["precision"]


def expected(asked: dict[str, Any]) -> dict[str, Any] | None:
    """What TensorFlow must say of itself after such a line, by the words of the spec; None for an error."""
    indices = asked.get("indices", [0, 1])
    growth, limit, cpu, split = (asked.get(key) for key in ("growth", "limit", "cpu", "split"))
    if growth and limit:
        return None
    if (cpu and (growth or limit or "indices" in asked)) or (split and not (limit or cpu)):
        return None
    if any(index > 1 for index in indices) or len(set(indices)) < len(indices):
        return None
    if not (growth or limit or cpu or "indices" in asked):
        return {}
    visible = [] if cpu else sorted(indices)
    each = [int(limit[:-1])] * (split or 1) if limit else None
    return {
        "visible": visible,
        "growth": [bool(growth)] * len(visible),
        "limits": [each if index in visible else None for index in (0, 1)],
        "cpus": split or 1 if cpu else 1,
    }


def reduced() -> dict[str, Any]:
    """What TensorFlow says of itself, as far as a line can set it."""
    now = settings()
    visible = [int(name[-1]) for name in now["visible"] if "GPU" in name]
    return {
        "visible": visible,
        "growth": [bool(now["growth"][index]) for index in visible],
        "limits": limits(),
        "cpus": len(now["logical"][-1] or [None]),
    }


def through(case: str, door: str, *args: Any) -> None:
    """One case through one door."""
    globals()[case](Door(door), *args)
