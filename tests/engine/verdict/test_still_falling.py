"""Runs that their limit cut off on the way down, and runs that were there."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.findings import FindingKind
from tape_magic.results.minimum import MinimizeResult

ENGINES = ("xla", "graph", "eager")


def run(engine: str, steps: int, rate: float, lift: float = 0.0, **options: Any) -> MinimizeResult:
    """Gradient descent on 100·x² + lift from 1, which multiplies x by 1 − 200·rate."""
    x = tf.Variable(1.0, dtype=tf.float64)
    return tape_magic.minimize(
        lambda: 100 * x**2 + lift, None, "sgd", steps, lr=rate, engine=engine, **options
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_limit_on_the_way_down(engine: str) -> None:
    """x is multiplied by 0.99 a step: the last ten of 100 steps lower the loss by 18 %."""
    result = run(engine, 100, 5e-5)
    (finding,) = result.findings
    assert (finding.kind, str(finding)) == (
        FindingKind.STILL_FALLING,
        "still falling · raise --steps or --lr",
    )
    assert finding.evidence["before"] / finding.evidence["end"] == pytest.approx(0.99**-20)
    assert not result.converged


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_said_of_a_run_that_is_there(engine: str) -> None:
    for steps, rate, lift in (
        (100, 2e-3, 0.0),  # x is multiplied by 0.6: 10⁻⁴² of the start in the end
        (100, 5e-4, 1e3),  # ten per cent of nothing beside the 1,000
        (100, 0.0075, 1.0),  # back and forth, and there
        (5, 5e-5, 0.0),  # five steps are a look
    ):
        assert run(engine, steps, rate, lift).findings == ()


@pytest.mark.parametrize("engine", ENGINES[1:])  # XLA seeds no such numbers
def test_nothing_is_said_of_random_losses(engine: str) -> None:
    x = tf.Variable(0.0)
    result = tape_magic.minimize(
        lambda: x**2 + tf.random.normal([]), None, "sgd", 200, lr=1e-3, engine=engine, seed=1
    )
    assert result.findings == ()


def test_nothing_is_said_of_other_ends() -> None:
    assert run("graph", 100, 5e-5, target=30.0).findings == ()
    assert run("graph", 100, 5e-5, tol=50.0).findings == ()


def test_the_losses_of_batches_do_not_tell() -> None:
    x, rows = tf.Variable(1.0, dtype=tf.float64), tf.range(1.0, 17.0)[:, None]
    result = tape_magic.minimize(
        lambda r: tf.reduce_mean(tf.cast(r, tf.float64) * x**2), None, "sgd", 16, lr=1e-3, data=rows, batch=1
    )
    assert result.findings == ()
