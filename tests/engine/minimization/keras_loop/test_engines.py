"""How long a chunk is to be, by what is known of the time of a step."""

from __future__ import annotations

import pytest

from tape_magic.engine.minimization.keras_loop.chunks import ChunkPlanner
from tape_magic.engine.minimization.keras_loop.compiled_program import EngineTimes
from tape_magic.engine.minimization.keras_loop.protocol import CHUNK_SECONDS


def planned(step: int, limit: int, pace: float | None = None) -> int:
    """Where the first chunk of a graph ends, where an earlier run took so many seconds a step."""
    times = EngineTimes()
    if pace is not None:
        times.note("graph", pace, 1)
    return ChunkPlanner(times).plan("graph", step, limit)


def test_the_first_chunk_is_one_step_where_nothing_is_known() -> None:
    assert planned(20_000, 10**9) == 20_001


@pytest.mark.parametrize("pace", [1e-6, 1e-3])
def test_what_an_earlier_run_took_is_not_taken_for_granted(pace: float) -> None:
    """Steps may have become slower, and nothing can stop a chunk."""
    first = planned(20_000, 10**9, pace) - 20_000
    assert 1 <= first <= CHUNK_SECONDS / pace / 10


def test_the_last_chunk_ends_with_the_run() -> None:
    assert planned(20_000, 20_010, 1e-6) == 20_010
