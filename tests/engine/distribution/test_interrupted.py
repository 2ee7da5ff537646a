"""Interrupts in each phase of a cell that is shared out to two devices, each in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.forks import Forks

CASES = (
    "before_there_is_a_report",
    "with_a_report",
    "within_a_validation",
    "with_a_checkpoint",
    "of_a_gradient",
)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """TensorFlow without a GPU, not started."""
    forks = Forks(
        "tests.engine.distribution.interrupted_cases",
        {"CUDA_VISIBLE_DEVICES": "-1"},
        tmp_path_factory.mktemp("interrupted"),
    )
    yield forks
    forks.close()


@pytest.mark.parametrize("case", CASES)
def test_interrupted(case: str, fresh: Forks) -> None:
    fresh.run(case)
