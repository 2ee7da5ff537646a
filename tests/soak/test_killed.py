"""Runs that a SIGKILL ends at chosen points end with the same bits; ``killed`` is for random moments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.killed_cases import CHANGE, EPOCHS, STEPS_PER_EPOCH
from tests.support.forks import Forks

CUTS = {
    "within an epoch": ("step", 3 * STEPS_PER_EPOCH + 2),
    "at the end of an epoch": ("step", 5 * STEPS_PER_EPOCH),
    "once XLA took over": ("step", CHANGE + 1),
}


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    forks = Forks("tests.soak.killed_cases", {}, tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()


@pytest.mark.parametrize(("engine", "kind"), [("graph", "known length"), ("auto", "unknown length")])
def test_a_killed_run_ends_as_one_that_nobody_cut(
    forks: Forks, tmp_path: Path, engine: str, kind: str
) -> None:
    uncut = forks.run("run", engine, kind, None, None)
    assert uncut["steps"] == EPOCHS * STEPS_PER_EPOCH
    assert uncut["engine"] == ("xla" if engine == "auto" else engine)
    # One after the other: each process goes on from where the one before was killed.
    for cut in CUTS.values():
        assert forks.status("run", engine, kind, str(tmp_path / "run"), cut) == -9
    ended = forks.run("run", engine, kind, str(tmp_path / "run"), None)
    assert {**ended, "seconds": None} == {**uncut, "seconds": None}
