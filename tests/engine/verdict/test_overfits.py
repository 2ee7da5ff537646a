"""Runs that overfit, of which it is known since when, and curves that only look so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tape_magic
from tape_magic.engine.verdict.overfits import since
from tape_magic.results.epochs import Epochs
from tape_magic.results.findings import FindingKind
from tape_magic.results.minimum import StopReason

N = 40
E = np.arange(N)
FALLS = 0.05 + 2 * np.exp(-E / 8)


def epochs_of(training: Any, validation: Any) -> Epochs:
    numbers = np.arange(1, len(training) + 1)
    return Epochs(numbers, 10 * numbers, np.asarray(training), {}, val_loss=np.asarray(validation))


def test_it_is_said_since_the_lowest_validation() -> None:
    parabola = 0.5 + 0.001 * (E - 12.0) ** 2
    assert since(epochs_of(FALLS, parabola)) == 12
    assert since(epochs_of(FALLS - 3, parabola - 3)) == 12  # a loss that is negative
    assert since(epochs_of(FALLS, np.where(E == 20, np.nan, parabola))) == 12
    level = 0.5 + 0.02 * np.minimum(np.abs(E - 5.0), 10.0)  # which rises, and stays there
    assert since(epochs_of(FALLS, level)) == 5


NOISE = np.random.default_rng(0).normal(size=(50, N))
PLATEAU = 0.4 + 2 * np.exp(-E / 4)
HEALTHY: dict[str, Callable[[], Any]] = {
    "noise": lambda: [(FALLS, PLATEAU + 0.1 * noise) for noise in NOISE],
    "a plateau that wanders": lambda: [
        (FALLS, PLATEAU + 0.02 * np.convolve(noise, np.ones(6) / 6, "same")) for noise in NOISE
    ],
    "a plateau that rises a little": lambda: [(FALLS, PLATEAU + 0.0005 * E)],
    "down, up, and down again": lambda: [
        (FALLS, 1.0 - 0.01 * E + 0.25 * np.exp(-(((E - peak) / 4) ** 2))) for peak in (10, 15, 25, 30)
    ],
    "both rise": lambda: [(0.5 + 0.002 * (E - 12.0) ** 2, 0.5 + 0.001 * (E - 12.0) ** 2)],
    "the last epochs alone": lambda: [(FALLS, np.where(E > N - 4, PLATEAU + 0.5, PLATEAU))],
    "too few epochs": lambda: [(FALLS[:4], [0.5, 0.4, 0.6, 0.8])],
    "none validated": lambda: [(FALLS, np.full(N, np.nan))],
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_nothing_is_said_of(kind: str) -> None:
    assert [since(epochs_of(*curves)) for curves in HEALTHY[kind]()] == [None] * len(HEALTHY[kind]())


def test_what_is_said_of_a_run() -> None:
    """Gradient descent on w² from 8 halves w; the validation is lowest where w is 2, after two epochs."""

    def run(**more: Any) -> Any:
        data, val = ((np.float32([at]),) for at in (0.0, 1.8))
        return tape_magic.minimize(
            lambda w, at: (w - at[0]) ** 2, {"w": 8.0}, "sgd", lr=0.25, data=data, val=val, **more
        )

    result = run(epochs=20)
    (finding,) = result.findings
    assert (finding.kind, finding.line) == (FindingKind.OVERFITS, None)
    assert str(finding) == (
        "overfits since epoch 2: the validation rose from 0.04 to 3.24 "
        "while the training loss fell from 16 to 2.328·10⁻¹⁰ · --keep best --patience 5"
    )
    assert finding.evidence["epoch"] == 2
    assert not result.converged
    stopped = run(epochs=20, patience=6)
    assert (stopped.reason, stopped.findings[0].cure) == (StopReason.PATIENCE, "--keep best")
    for more in ({"keep": "best"}, {"keep": "best", "patience": 6}):
        assert run(epochs=20, **more).findings == ()
