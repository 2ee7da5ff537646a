"""How long a chunk is to be, by what is known of the time of a step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tape_magic.engine.minimization.keras_loop.compiled_loop import CHUNK_SECONDS
from tape_magic.engine.minimization.keras_loop.engines import Engines


def engines(paces: dict[str, float]) -> Engines:
    compilation: Any = SimpleNamespace(made=SimpleNamespace(paces=paces), careful=False)
    made = Engines(compilation, "graph", same=False)
    made.engine = "graph"
    return made


def test_the_first_chunk_is_one_step_where_nothing_is_known() -> None:
    assert engines({}).plan(20_000, 10**9, 10_000) == 20_001


@pytest.mark.parametrize("pace", [1e-6, 1e-3])
def test_what_an_earlier_run_took_is_not_taken_for_granted(pace: float) -> None:
    """Steps may have become slower, and nothing can stop a chunk."""
    first = engines({"graph": pace}).plan(20_000, 10**9, 10_000) - 20_000
    assert 1 <= first <= CHUNK_SECONDS / pace / 10


def test_the_last_chunk_ends_with_the_run() -> None:
    assert engines({"graph": 1e-6}).plan(20_000, 20_010, 10_000) == 20_010
