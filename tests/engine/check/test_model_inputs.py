"""`--check` of models whose input is differentiated: in float64, and the models stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.doors import Case, Door
from tests.support.notebook import Notebook


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, everything is compared and explained."""
    monkeypatch.setattr("tape_magic.engine.check.sampling.SECONDS", 600.0)
    monkeypatch.setattr("tape_magic.engine.check.explanation.SECONDS", 600.0)


COLUMN = np.linspace(-1.0, 1.0, 6, dtype="float32").reshape(6, 1)
PAIRS = np.array([[0.1, 0.2], [0.5, -0.3], [0.7, 1.1]], "float32")
SEQUENCE = np.linspace(-1.0, 1.0, 8, dtype="float32").reshape(1, 4, 2)


def dense(units: int, activation: str | None = None, **options: Any) -> Any:
    return keras.layers.Dense(units, activation=activation, **options)


def sequential() -> Any:
    return keras.Sequential([keras.Input((1,)), dense(8, "tanh"), dense(1)])


def unnamed_input() -> Any:
    model = keras.Sequential([dense(5, "tanh"), dense(1)])
    model(COLUMN)
    return model


def nested() -> Any:
    inner = keras.Sequential([keras.Input((3,)), dense(4, "tanh")])
    return keras.Sequential([keras.Input((2,)), dense(3, "sigmoid"), inner, dense(1)])


def functional_in_functional() -> Any:
    within = keras.Input((2,))
    inner = keras.Model(within, dense(4, "tanh")(within))
    outer = keras.Input((2,))
    return keras.Model(outer, dense(1)(inner(outer) + keras.ops.sin(inner(outer))))


class Subclassed(keras.Model):
    """A model that holds a sequential one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = keras.Sequential([keras.Input((2,)), dense(4, "tanh")]), dense(1)

    def call(self, inputs: Any) -> Any:
        return self.head(self.body(inputs))


def subclassed() -> Any:
    model = Subclassed()
    model(PAIRS)
    return model


def scaled() -> Any:
    normal = keras.layers.Normalization()
    normal.adapt(np.array([[1.0, 2.0], [3.0, 7.0], [2.0, 2.0]], "float32"))
    layers = [
        normal,
        keras.layers.Rescaling(0.5, 0.1),
        keras.layers.Lambda(lambda v: tf.sin(v) * 3.0),
        dense(1),
    ]
    return keras.Sequential([keras.Input((2,)), *layers])


def normalized() -> Any:
    layers = [dense(3), keras.layers.BatchNormalization(), dense(1)]
    return keras.Sequential([keras.Input((2,)), *layers])


def recurrent() -> Any:
    return keras.Sequential([keras.Input((4, 2)), keras.layers.Bidirectional(keras.layers.GRU(2)), dense(1)])


def long_memory() -> Any:
    return keras.Sequential([keras.Input((4, 2)), keras.layers.LSTM(3), dense(1)])


def convolution() -> Any:
    inputs = keras.Input((4, 2))
    hidden = keras.ops.mean(keras.layers.Conv1D(3, 3, activation="softplus")(inputs), axis=1)
    return keras.Model(inputs, dense(1)(hidden))


def attention() -> Any:
    inputs = keras.Input((4, 2))
    hidden = keras.layers.MultiHeadAttention(2, 2)(inputs, inputs) + inputs
    return keras.Model(inputs, dense(1)(keras.layers.LayerNormalization()(hidden)))


def mixed() -> Any:
    """The float32 layer after the other one puts a cast among the operations of the model."""
    inputs = keras.Input((2,))
    return keras.Model(inputs, dense(1, dtype="float32")(dense(4, "tanh", dtype="mixed_bfloat16")(inputs)))


MODELS = [
    (sequential, COLUMN),
    (unnamed_input, COLUMN),
    (nested, PAIRS),
    (functional_in_functional, PAIRS),
    (subclassed, PAIRS),
    (scaled, PAIRS),
    (normalized, PAIRS),
    (recurrent, SEQUENCE),
    (long_memory, SEQUENCE),
    (convolution, SEQUENCE),
    (attention, SEQUENCE),
    (mixed, PAIRS),
]


def all_agree(door: Door, case: Case) -> Any:
    """The report of a case whose derivatives all agree, element by element, in float64."""
    report = door.grad(case)
    for check in report.checks:
        assert check.agrees, check
        assert check.dtype == "float64", check
        assert check.compared == check.elements, check
        assert "not compared" not in check.note, check
    return report


@pytest.mark.parametrize(("make", "x"), MODELS, ids=lambda value: getattr(value, "__name__", ""))
def test_by_the_input(door: Door, make: Callable[[], Any], x: Any) -> None:
    keras.utils.set_random_seed(3)
    model, x = make(), tf.constant(x)
    before, dtypes = state_of(model), computed(model, x)
    all_agree(
        door, Case("y = tf.reduce_sum(net(x)**2)", "y --wrt x --check", {"tf": tf, "net": model, "x": x})
    )
    assert state_of(model) == before
    assert computed(model, x) == dtypes


@pytest.mark.parametrize(("make", "x"), MODELS[:7], ids=lambda value: getattr(value, "__name__", ""))
def test_second_derivatives_by_the_input(door: Door, make: Callable[[], Any], x: Any) -> None:
    keras.utils.set_random_seed(3)
    names = {"tf": tf, "net": make(), "x": tf.constant(x)}
    all_agree(door, Case("y = net(x)**2", "d2y/dx2 --check", names))


def state_of(model: Any) -> list[Any]:
    """What a further run in float64 changes of a model: dtypes and values."""
    layers = [model, *model._flatten_layers(include_self=False)]
    return [
        *(layer.dtype_policy.name for layer in layers),
        *(layer.compute_dtype for layer in layers),
        *(tensor.dtype for layer in layers for tensor in getattr(layer, "_inputs", None) or ()),
        *(tensor.dtype for layer in layers if isinstance(layer, keras.Sequential) for tensor in layer.inputs),
        *(layer.dtype for layer in layers),
        *(getattr(one, "dtype", "") for layer in layers for one in getattr(layer, "operations", ())),
        *(variable.dtype for variable in model.variables),
        *(variable.numpy().tobytes() for variable in model.variables),
    ]


def computed(model: Any, x: Any) -> tuple[Any, bytes]:
    y = model(x)
    return y.dtype, y.numpy().tobytes()


SLOPE = """\
with tf.GradientTape() as one:
    one.watch(x)
    u = net(x)
u_x = one.gradient(u, x)
"""

LOSSES = [
    "loss = tf.reduce_mean((u_x - 1.0)**2)",
    "loss = tf.reduce_mean((tf.norm(u_x, axis=1) - 1.0)**2)",
    "loss = mse(tf.ones_like(u_x), u_x)",
    "loss = tf.reduce_mean(u_x**2) + tf.reduce_mean(u**2)",
]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.both_doors("loss")
def test_losses_with_a_slope_in_them(door: Door, loss: str) -> None:
    """The gradient by the biases is 0 by symmetry in some, and then rounding is all that there is of it."""
    keras.utils.set_random_seed(4)
    names = {"tf": tf, "net": sequential(), "x": tf.constant(COLUMN), "mse": keras.losses.MeanSquaredError()}
    all_agree(door, Case(SLOPE + loss, "loss --wrt net --check", names))
    assert names["mse"].dtype == "float32"


@pytest.mark.parametrize(
    "line", ["u --wrt x --jacobian", "u --wrt x --batch-jacobian", "u --jvp x=2*x", "u --hvp x=2*x"]
)
def test_other_derivatives_by_the_input(door: Door, line: str) -> None:
    keras.utils.set_random_seed(4)
    names = {"tf": tf, "net": sequential(), "x": tf.constant(COLUMN)}
    cell = "u = tf.reduce_sum(net(x)**2)" if "hvp" in line else "u = net(x)"
    all_agree(door, Case(cell, f"{line} --check", names))


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_several_inputs(door: Door, kind: str) -> None:
    keras.utils.set_random_seed(1)
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    hidden = keras.layers.Concatenate()([dense(4, "tanh")(a), b])
    model = keras.Model([a, b] if kind == "list" else {"a": a, "b": b}, dense(1)(hidden))
    names = {"net": model, "p": tf.fill((2, 2), 0.3), "q": tf.fill((2, 3), 0.2)}
    call = "net([p, q])" if kind == "list" else "net({'a': p, 'b': q})"
    all_agree(door, Case(f"y = {call}**2", "y --wrt p,q --check", names))


def test_whole_numbers_beside_an_input_stay_whole(door: Door) -> None:
    keras.utils.set_random_seed(1)
    tokens, a = keras.Input((2,), dtype="int32"), keras.Input((2,))
    hidden = keras.layers.Flatten()(keras.layers.Embedding(5, 2)(tokens))
    model = keras.Model([tokens, a], dense(1)(keras.layers.Concatenate()([hidden, dense(2, "tanh")(a)])))
    names = {"net": model, "t": tf.constant([[1, 3]]), "a": tf.constant([[0.2, 0.4]])}
    all_agree(door, Case("y = net([t, a])**2", "y --wrt a --check", names))


def test_random_units_are_as_they_are(door: Door) -> None:
    """Which units drop out depends on the dtype, so that only float32 gives what the cell gave."""
    keras.utils.set_random_seed(1)
    layers = [dense(8, "tanh"), keras.layers.Dropout(0.5, seed=3), dense(1)]
    names = {"net": keras.Sequential([keras.Input((2,)), *layers]), "x": tf.constant(PAIRS)}
    (check,) = door.grad(Case("y = net(x, training=True)**2", "y --wrt x --check", names)).checks
    assert check.agrees
    assert check.dtype == "float32"
    assert check.compared == check.elements


@pytest.mark.parametrize("factor", [1.0005, 1.1, -1.0, 0.0])
def test_a_wrong_gradient_behind_a_model_is_found(door: Door, factor: float) -> None:
    @tf.custom_gradient
    def wrong(v: Any) -> Any:
        return tf.sin(v), lambda upstream: upstream * tf.cos(v) * factor

    keras.utils.set_random_seed(4)
    names = {"net": sequential(), "x": tf.constant(COLUMN), "wrong": wrong}
    (check,) = door.grad(Case("u = wrong(net(x))", "du/dx --check", names)).checks
    assert not check.agrees
    np.testing.assert_allclose(check.derivative, check.difference * factor, rtol=1e-5)


@pytest.mark.parametrize("ending", ["ValueError('later')", "KeyboardInterrupt"])
def test_a_model_is_as_before_after_an_end_in_the_middle(shell: Notebook, ending: str) -> None:
    keras.utils.set_random_seed(4)
    model, x = mixed(), tf.constant(PAIRS)
    before, result = state_of(model), computed(model, x)
    shell.ns.update(tf=tf, net=model, x=x, turns=iter(range(99)), dtypes=[])
    shell.ns["turn"] = shell.ns["turns"].__next__
    shell.ok(f"def later(y):\n    dtypes.append(y.dtype)\n    if turn() > 6:\n        raise {ending}")
    run = shell.run("%%grad y --wrt x --check\ny = net(x)**2\nlater(y)")
    assert run.success == ("Value" in ending)  # it has no value where it fails, and an interrupt passes
    assert state_of(model) == before
    assert computed(model, x) == result
