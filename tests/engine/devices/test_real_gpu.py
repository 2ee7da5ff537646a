"""`%tfgpu` on a real card of NVIDIA's; where there is none, these are not collected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.forks import Forks

pytestmark = pytest.mark.gpu

CASES = (
    "growth_is_real",
    "a_limit_is_real",
    "parts_are_real",
    "the_figures_agree_with_nvml",
    "the_freest_is_one_of_them",
    "the_doctor_finds_all_well",
    "a_watch_reads_the_card",
)


@pytest.fixture(scope="module")
def real_gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    forks = Forks("tests.engine.devices.real_gpu_cases", {}, tmp_path_factory.mktemp("gpu"))
    yield forks
    forks.close()


@pytest.mark.parametrize("case", CASES)
def test_on_a_real_card(case: str, real_gpu: Forks) -> None:
    real_gpu.run(case)
