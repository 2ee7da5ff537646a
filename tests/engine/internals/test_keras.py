"""Keras layers and optimizers in a Keras that lacks one of the private parts that are used for them."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import keras
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.internals.keras_layers import inner_layers, widen
from tape_magic.engine.internals.keras_optimizers import built_variables, learning_rate_schedule
from tape_magic.engine.minimization.fingerprint import Fingerprints, NotHashable


class Stack(keras.Layer):
    """A layer that holds layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = keras.layers.Dense(2), keras.Sequential([keras.layers.Dense(3)])

    def call(self, inputs: Any) -> Any:
        return self.inner(self.first(inputs))


def test_layers_within_a_layer() -> None:
    stack = Stack()
    found = inner_layers(stack)
    assert found is not None
    assert {id(layer) for layer in found} >= {id(stack.first), id(stack.inner), id(stack.inner.layers[0])}
    assert stack not in found
    assert inner_layers(object()) is None


def test_a_layer_whose_layers_are_not_told_has_no_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell is then traced for every run."""
    layer = keras.layers.Dense(2)
    Fingerprints({}).of(layer)
    monkeypatch.setattr("tape_magic.engine.minimization.fingerprint.inner_layers", lambda layer: None)
    with pytest.raises(NotHashable):
        Fingerprints({}).of(layer)


@pytest.mark.parametrize("part", ["_dtype_policy", "_value"])
def test_a_layer_that_cannot_be_widened_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """The check computes in the layer's own precision."""
    layer = keras.layers.Dense(1, kernel_initializer="ones")
    x = tf.constant([[2.0, 3.0]])
    layer(x)
    without(monkeypatch, part)
    with ExitStack() as back, pytest.raises(AttributeError):
        widen([layer], [], {"float32": "float64"}.get, back)
    assert layer.compute_dtype == "float32"
    report = tape_magic.grad(lambda x: tf.reduce_sum(layer(x)), {"x": x}, check=True)
    (check,) = report.checks
    assert check.dtype == "float32"
    assert layer.kernel.dtype == "float32"


def without(patch: pytest.MonkeyPatch, part: str) -> None:
    """Have `widen` look for a private attribute under a name that there is not."""
    from tape_magic.engine.internals import keras_layers

    replace = keras_layers._replace

    def renamed(owner: Any, name: str, value: Any, back: ExitStack) -> None:
        replace(owner, f"{name}_elsewhere" if name == part else name, value, back)

    patch.setattr(keras_layers, "_replace", renamed)


def test_what_an_optimizer_was_built_for() -> None:
    optimizer, variable = keras.optimizers.SGD(0.1), keras.Variable(1.0)
    optimizer.build([variable])
    assert built_variables(optimizer) == [variable]
    assert built_variables(SimpleNamespace()) == []


def test_an_optimizer_that_does_not_tell_is_copied_for_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tape_magic.engine.minimization.optimizers.built_variables", lambda optimizer: [])
    optimizer, x = keras.optimizers.SGD(0.5), tf.Variable(3.0)
    for _ in range(2):
        x.assign(3.0)
        result = tape_magic.minimize(lambda: (x - 1.0) ** 2, x, optimizer, 3)
        assert result.steps == 3
        assert float(x) == 1.0  # a step of half the curvature's inverse leads there at once


def test_the_schedule_of_an_optimizer() -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert learning_rate_schedule(keras.optimizers.SGD(schedule)) is schedule
    assert learning_rate_schedule(keras.optimizers.SGD(0.1)) is None
    assert learning_rate_schedule(SimpleNamespace()) is None
