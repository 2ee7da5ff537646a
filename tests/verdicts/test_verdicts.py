"""The tables can be read; ``python -m tests.verdicts`` runs them."""

from __future__ import annotations

from tape_magic.results.findings import FindingKind
from tests.verdicts.cases import is_python, read
from tests.verdicts.healthy import HEALTHY
from tests.verdicts.planted import PLANTED

LEAST, LEAST_HEALTHY = 10, 80


def test_each_kind_is_planted_with_a_truth() -> None:
    assert set(PLANTED) == set(FindingKind)
    for table in PLANTED.values():
        cases = list(read(table))
        assert len(cases) >= LEAST
        assert all(is_python(case) and case.truth for case in cases)


def test_healthy_runs_have_nothing_to_be_said() -> None:
    cases = list(read(HEALTHY))
    assert len(cases) >= LEAST_HEALTHY
    assert all(is_python(case) and not case.truth for case in cases)
