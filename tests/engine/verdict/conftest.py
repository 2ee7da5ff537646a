"""Evidence takes the time that it takes: no test here goes by the clock."""

from __future__ import annotations

import pytest

from tape_magic.engine.verdict import facts


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "LEAST", 60.0)
