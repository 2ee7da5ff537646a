"""Bounds that hold a variable: named, and no fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.display.content.document import Tone
from tape_magic.display.describe import describe
from tape_magic.results.findings import FindingKind
from tape_magic.results.minimum import MinimizeResult


def held(result: MinimizeResult) -> list[str]:
    return [str(one) for one in result.findings if one.kind is FindingKind.AT_BOUND]


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
@pytest.mark.parametrize("optimizer", ["lbfgs", "sgd", "adam"])
def test_a_bound_is_named_and_is_no_fault(optimizer: str, engine: str) -> None:
    """The minimum of (x + 1)² from 0 on is at 0."""
    options: dict[str, Any] = {"engine": engine, "bounds": {"x": (0.0, None)}}
    if optimizer != "lbfgs":
        options |= {"lr": 0.1, "tol": 1e-3}
    result = tape_magic.minimize(lambda x, y: (x + 1) ** 2 + y**2, {"x": 0.3, "y": 1.0}, optimizer, **options)
    assert held(result) == ["x stays at its bound 0; the loss falls beyond it"]
    assert result.converged
    assert describe(result).parts[0].tone is Tone.GOOD


def test_elements_are_counted() -> None:
    """Of the minimum at (2, −1, 3, −4), two elements are below 0."""
    target = np.array([2.0, -1.0, 3.0, -4.0], "float32")
    start = {"w": np.ones(4, "float32")}
    result = tape_magic.minimize(lambda w: tf.reduce_sum((w - target) ** 2), start, bounds={"w": (0.0, None)})
    assert held(result) == ["2 of 4 in w stay at their bound 0; the loss falls beyond it"]
    result = tape_magic.minimize(lambda w: tf.reduce_sum((w - target) ** 2), start, bounds={"w": (-1.5, 2.5)})
    assert held(result) == ["2 of 4 in w stay at their bounds; the loss falls beyond them"]


def test_the_mean_over_batches_tells() -> None:
    """The loss of each batch has its minimum near −1."""
    data = np.random.default_rng(1).normal(-1.0, 0.1, 64).astype("float32")
    result = tape_magic.minimize(
        lambda w, r: tf.reduce_mean((w - r) ** 2),
        {"w": 1.0},
        "sgd",
        lr=0.1,
        data=data,
        batch=8,
        epochs=5,
        bounds={"w": (0.0, None)},
    )
    assert held(result) == ["w stays at its bound 0; the loss falls beyond it"]


@pytest.mark.parametrize(
    ("loss", "bounds"),
    [
        (lambda x: (x - 1) ** 2, (0.0, 3.0)),  # within
        (lambda x: x**2, (0.0, None)),  # the minimum is at the bound
        (lambda x: tf.nn.relu(x), (0.0, None)),
        (lambda x: tf.cosh(x), (0.0, None)),
        (lambda x: tf.sqrt(x), (0.0, None)),  # there is no loss beyond it
        (lambda x: (x + 1) ** 2, (-2.0, 2.0)),
        (
            lambda x: (x + 1) ** 2 + 0 * tf.random.normal([]),
            (0.0, None),
        ),  # random
    ],
)
def test_nothing_is_said(loss: Any, bounds: tuple[Any, Any]) -> None:
    result = tape_magic.minimize(loss, {"x": 2.0}, "sgd", 50, lr=0.1, bounds={"x": bounds})
    assert held(result) == []


def test_scattering_batches_do_not_tell() -> None:
    """Batches have their minima on both sides of the bound."""
    data = np.random.default_rng(1).normal(0.0, 1.0, 64).astype("float32")
    result = tape_magic.minimize(
        lambda w, r: tf.reduce_mean((w - r + 0.02) ** 2),
        {"w": 1.0},
        "sgd",
        lr=0.1,
        data=data,
        batch=8,
        epochs=5,
        bounds={"w": (0.0, None)},
    )
    assert held(result) == []
