"""`--check` takes the steps at which the differences settle, far from 0 and at narrow peaks, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tape_magic.results.check import CheckOutcome
from tests.support.notebook import Notebook


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, everything is compared and explained."""
    monkeypatch.setattr("tape_magic.engine.check.sampling.SECONDS", 600.0)
    monkeypatch.setattr("tape_magic.engine.check.explanation.SECONDS", 600.0)


@tf.custom_gradient
def wrong(v: Any) -> Any:
    """A sine with a gradient that is wrong by a fifth."""
    return tf.sin(v), lambda upstream: upstream * tf.cos(v) * 1.2


def checks_of(shell: Notebook, line: str, cell: str, x: Any) -> Any:
    shell.ns.update(tf=tf, np=np, wrong=wrong, x=x)
    shell.ok(f"%%grad {line} --check\n{cell}")
    return shell.ns["grads"].checks


def double(value: Any) -> Any:
    return tf.Variable(value, dtype=tf.float64)


SCALES = [
    ("y --wrt x", "y = tf.sin((x - 1.7e9)/700.0)", double(1.7e9 + 120.0)),
    ("y --wrt x --jacobian", "y = tf.sin((x - 1.7e9)/700.0)**2", double(1.7e9 + np.linspace(0, 3000, 30))),
    ("y --wrt x", "y = tf.cos(2*np.pi*(x - 1.7e9)/700.0)", 1.7e9 + 10.0),
    ("y --wrt x", "y = 1.0/(1.0 + ((x - 1e6)/2.0)**2)", double(1e6 + 3.0)),
    ("y --wrt x", "y = 1.0/(1.0 + ((x - 1e6)/2e-3)**2)", double(1e6 + 3e-3)),
    ("d2y/dx2", "y = 1.0/(1.0 + ((x - 1e6)/2.0)**2)", double(1e6 + 3.0)),
    ("y --wrt x", "y = tf.sin(2*np.pi*(x - 2460000.0)/0.01)", double(2460000.5)),
    ("y --wrt x", "y = tf.exp(-x/1e-9)", double(3e-9)),
    ("y --wrt x", "y = tf.sin(1e7*x)", double(0.3)),
    ("y --wrt x", "y = tf.cos(1e6*x)", double(0.0)),
    ("y --wrt x", "y = tf.round(1e6*x)*x", double(0.3)),
]


@pytest.mark.parametrize(("line", "cell", "x"), SCALES)
def test_right_derivatives_at_any_scale(shell: Notebook, line: str, cell: str, x: Any) -> None:
    (check,) = checks_of(shell, line, cell, x)
    assert check.agrees, check
    assert check.compared == check.elements


@pytest.mark.parametrize(
    ("cell", "x"),
    [
        ("y = wrong((x - 1e6)/2.0)", double(1e6 + 3.0)),
        ("y = wrong(x/1e-9)", double([3e-9, 1e-9])),
        ("y = wrong(1e6*x)", double(0.3)),
    ],
)
def test_wrong_derivatives_at_any_scale(shell: Notebook, cell: str, x: Any) -> None:
    (check,) = checks_of(shell, "y --wrt x", cell, x)
    assert check.outcome is CheckOutcome.DIFFERS
    assert check.reason.startswith("the custom gradient of wrong is not the derivative of what it computes")
    assert check.error == pytest.approx(1 / 6, rel=1e-3)


def test_a_kink_far_from_0(shell: Notebook) -> None:
    (check,) = checks_of(shell, "y --wrt x", "y = tf.abs(x - 1e6)", double(1e6))
    assert "a kink, −1 from below and 1 from above" in check.note
