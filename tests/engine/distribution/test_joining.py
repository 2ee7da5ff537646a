"""Lines of `%tfgpu --workers` of which no cluster can be made, each kind in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.forks import Forks

KINDS = ("no address", "several", "values", "number", "environment")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """TensorFlow without a GPU, not started."""
    forks = Forks(
        "tests.engine.distribution.joining_cases",
        {"CUDA_VISIBLE_DEVICES": "-1"},
        tmp_path_factory.mktemp("joining"),
    )
    yield forks
    forks.close()


@pytest.mark.parametrize("kind", KINDS)
def test_lines(kind: str, fresh: Forks) -> None:
    fresh.run("lines", kind)


def test_places(fresh: Forks) -> None:
    fresh.run("places")
