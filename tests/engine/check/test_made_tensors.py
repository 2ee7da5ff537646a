"""`--check` by a source that comes from the same call as the output: it is moved where it is made."""

from __future__ import annotations

from typing import Any

import keras
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


def both(x: Any) -> Any:
    h = tf.sin(x)
    return h, tf.reduce_sum(h**3)


def wrongly(x: Any) -> Any:
    h = tf.sin(x)
    return h, tf.reduce_sum(wrong(h))


def named(x: Any) -> Any:
    h, y = both(x)
    return {"h": h, "y": y}


OWN = {"tf": tf, "both": both, "wrongly": wrongly, "named": named, "graph": tf.function(both)}


def checks_of(shell: Notebook, line: str, cell: str, **names: Any) -> Any:
    shell.ns.update(OWN, **names)
    shell.ok(f"%%grad {line} --check\n{cell}")
    return shell.ns["grads"].checks


@pytest.mark.parametrize(
    ("line", "cell"),
    [
        ("y --wrt h", "h, y = both(x)"),
        ("y --wrt h --jacobian", "h, y = both(x)"),
        ("z --wrt h,x", "h, y = both(x)\nz = y*tf.reduce_sum(h)"),
        ("z --wrt h", "d = named(x)\nh, y = d['h'], d['y']\nz = y*tf.reduce_sum(h)"),
        ("y --wrt h", "for i in range(3):\n    h, y = both(x*i)"),
        ("y --wrt h", "h = tf.sin(x)\nh = tf.sin(h)\ny = tf.reduce_sum(h**2)"),
    ],
)
def test_what_comes_with_the_output_is_moved_where_it_is_made(shell: Notebook, line: str, cell: str) -> None:
    for dtype in ("float32", "float64"):
        for check in checks_of(shell, line, cell, x=tf.Variable([0.3, 0.7], dtype=dtype)):
            assert check.agrees, check
            assert check.compared == check.elements


def test_what_the_tapes_did_not_follow_before_it_had_its_name(shell: Notebook) -> None:
    """TensorFlow's derivative is by what is computed from it since, and so are the differences."""
    (check,) = checks_of(shell, "z --wrt h", "h, y = both(x)\nz = y*tf.reduce_sum(h)", x=tf.constant([0.3]))
    assert check.agrees


def test_feature_maps_of_a_model(shell: Notebook) -> None:
    keras.utils.set_random_seed(4)
    image = keras.Input((4, 4, 1))
    maps = keras.layers.Conv2D(2, 3, activation="tanh")(image)
    model = keras.Model(image, [maps, keras.layers.Dense(2)(keras.layers.Flatten()(maps))])
    pixels = tf.random.stateless_normal((1, 4, 4, 1), (1, 2))
    (check,) = checks_of(
        shell, "s --wrt maps", "maps, out = model(pixels)\ns = out[0, 1]", model=model, pixels=pixels
    )
    assert check.agrees
    assert check.compared == 8


def test_a_wrong_gradient_behind_it_is_found(shell: Notebook) -> None:
    (check,) = checks_of(shell, "y --wrt h", "h, y = wrongly(x)", x=tf.Variable([0.3, 0.7]))
    assert check.outcome is CheckOutcome.DIFFERS
    assert check.reason.startswith("the custom gradient of wrong")


def test_losses_that_the_cell_makes_compute_in_double_precision(shell: Notebook) -> None:
    layer = keras.layers.Dense(3)
    layer.build((None, 2))
    names = {"keras": keras, "layer": layer, "x": tf.ones((2, 2)), "labels": tf.constant([0, 2])}
    cell = "loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, layer(x))"
    for check in checks_of(shell, "loss --wrt layer", cell, **names):
        assert check.agrees
        assert check.dtype == "float64"
    assert keras.config.floatx() == "float32"
