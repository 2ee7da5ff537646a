"""`devices()` and `%tfgpu` on the real TensorFlow runtime, which settles its devices once in a process.

Each case of `device_cases.py` runs in a process of its own, through one door: the function or the magic.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import stub_gpu
from tests.support.forks import Forks

MIB = 2**20
GIB = 2**30

WITH_STUB = (
    "asking_starts_nothing",
    "growth_on_one_of_two",
    "a_later_line_before_the_start",
    "refusals_change_nothing",
    "a_failing_setter",
    "a_setter_that_cannot_be_set_back",
    "what_the_user_had_set",
    "overridden_by_the_environment",
    "what_stands_beside_the_devices",
    "a_seed_begins_anew",
    "a_failing_setting",
    "a_gpu_in_parts",
    "a_peak_begins_anew",
    "the_error_table",
    "figures_of_nvml",
    "the_freest",
    "cards_that_are_not_seen",
)
WITHOUT_GPU = ("no_gpu_continues_on_the_cpu", "four_logical_cpus")


@pytest.fixture(scope="module")
def stub_gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """TensorFlow with the stub's two GPUs."""
    if stub_gpu.compiler() is None:
        if os.environ.get("CI"):
            pytest.fail("the stub GPU needs a C compiler, and CI must not skip its tests")
        pytest.skip("the stub GPU needs a C compiler")
    folder = tmp_path_factory.mktemp("stub_gpu")
    forks = Forks("tests.engine.devices.device_cases", stub_gpu.environment(stub_gpu.build(folder)), folder)
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def no_gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """TensorFlow without a GPU."""
    folder = tmp_path_factory.mktemp("no_gpu")
    forks = Forks("tests.engine.devices.device_cases", {"CUDA_VISIBLE_DEVICES": "-1"}, folder)
    yield forks
    forks.close()


@pytest.mark.parametrize("way", ["function", "magic"])
@pytest.mark.parametrize("case", WITH_STUB)
def test_stub_gpus(case: str, way: str, stub_gpus: Forks) -> None:
    stub_gpus.run("through", case, way)


@pytest.mark.parametrize("way", ["function", "magic"])
@pytest.mark.parametrize("case", WITHOUT_GPU)
def test_without_gpu(case: str, way: str, no_gpus: Forks) -> None:
    no_gpus.run("through", case, way)


def test_the_doctor_with_stub_gpus(stub_gpus: Forks) -> None:
    stub_gpus.run("through", "the_doctor", "magic")


def _line(asked: dict[str, Any]) -> str:
    """The magic's words for the arguments of the function."""
    words = [",".join(map(str, asked["indices"]))] if "indices" in asked else []
    for name, value in asked.items():
        if name != "indices":
            words.append(f"--{name}" if value is True else f"--{name} {value}")
    return " ".join(words)


_ASKED = st.fixed_dictionaries(
    {},
    optional={
        "indices": st.lists(st.integers(0, 2), min_size=1, max_size=2),
        "growth": st.just(True),
        "limit": st.sampled_from(["8M", "16M"]),
        "cpu": st.just(True),
        "split": st.integers(1, 3),
        "precision": st.sampled_from(["float32", "mixed_bfloat16"]),
        "deterministic": st.just(True),
    },
)
_LINES = st.lists(_ASKED.map(lambda asked: (_line(asked), asked)) | st.just(("start", {})), max_size=6)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(door=st.sampled_from(["function", "magic"]), lines=_LINES)
def test_any_lines_on_stub_gpus(stub_gpus: Forks, door: str, lines: list[Any]) -> None:
    stub_gpus.run("through", "any_lines", door, lines)


# The parts that need no TensorFlow


def test_reasons_for_no_gpu_come_in_the_order_of_need() -> None:
    from tape_magic.engine.devices.notes import no_gpu_reason

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
    from tape_magic.engine.devices.size import read_size

    assert read_size(limit).on("GPU 0", 8 * GIB) == size
    # the text goes to the magic line that the error proposes, where it must mean the same
    assert read_size(read_size(limit).text).on("GPU 0", 8 * GIB) == size


def test_a_plan_is_frozen_and_can_be_printed() -> None:
    from tape_magic.engine.devices.plan import make_plan
    from tape_magic.engine.devices.request import DeviceRequest
    from tape_magic.engine.devices.size import read_size

    plan = make_plan(DeviceRequest((1,), limit=read_size("25%"), split=2), (8 * GIB, 8 * GIB))
    assert str(plan) == "GPU 0 hidden, GPU 1 at most 2 GiB + 2 GiB"
    assert str(make_plan(DeviceRequest(cpu=True, split=4), (None,))) == "GPU 0 hidden, 4 logical CPUs"
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.cpus = 2  # type: ignore[misc]


def test_a_size_above_the_device_is_refused_with_the_size_of_the_device() -> None:
    from tape_magic.engine.devices.size import read_size
    from tape_magic.errors import DeviceError

    with pytest.raises(DeviceError, match=r"^The limit 9G is more than GPU 0 has: 8 GiB\.$"):
        read_size("9G").on("GPU 0", 8 * GIB)


def test_a_report_is_frozen_and_hashable_data() -> None:
    from tape_magic.results.devices import Device, DeviceReport, Policy, PolicyKind, SetupOutcome

    gpu = Device("GPU", 0, ("GPU:0",), "A100", (8, 0), None, None, None, Policy(PolicyKind.GROWTH), True)
    report = DeviceReport((gpu,), "2.21.0", "12.5.1", "9", False, SetupOutcome.DONE, None, ())
    assert hash(report) == hash(dataclasses.replace(report))
    assert report.headline == "Done: GPU 0 memory as needed."
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.started = True  # type: ignore[misc]
