"""Sources without a derivative: empty, of whole numbers, symbols of Keras; the reason, and the cure."""

from __future__ import annotations

import dataclasses
import decimal
import fractions
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

DATA = tf.constant([[1.0, 2.0]])


def dense(*, trainable: bool = True, units: int = 1) -> Any:
    layer = keras.layers.Dense(units, name="dense")
    layer(DATA)
    layer.trainable = trainable
    return layer


def network(*, trainable: bool = True, inner: bool = True) -> Any:
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")], name="net")
    net.layers[0].trainable = inner
    net.trainable = trainable if not trainable else net.trainable
    return net


class Scale(keras.layers.Layer):
    """A layer whose variable Keras does not know of."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = tf.Variable(2.0)

    def call(self, inputs: Any) -> Any:
        return self.factor * inputs


@dataclasses.dataclass
class State:
    w: Any


class Untrained(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.v = tf.Variable(1.0, trainable=False, name="v")


# -- empty -----------------------------------------------------------------------------------------

EMPTY = {
    "frozen layer": (
        lambda: dense(trainable=False),
        "s has no trainable variables (s.trainable is False): set s.trainable = True, "
        "or name one of its variables, such as s.kernel.",
    ),
    "frozen model": (
        lambda: network(trainable=False),
        "s has no trainable variables (s.trainable is False): set s.trainable = True.",
    ),
    "model of frozen layers": (
        lambda: network(inner=False),
        "s has no trainable variables: each of its layers is frozen, or has none; "
        "set trainable = True for one of them.",
    ),
    "layer without weights": (
        lambda: keras.layers.ReLU(),
        "s is a ReLU without variables: name a tensor that goes into it or comes out.",
    ),
    "layer with a seed only": (
        lambda: keras.layers.Dropout(0.5),
        "s is a Dropout without variables: name a tensor that goes into it or comes out.",
    ),
    "model without weights": (
        lambda: keras.Sequential([keras.Input((2,)), keras.layers.ReLU(), keras.layers.Dropout(0.1)]),
        "s is a Sequential without variables: name a tensor that goes into it or comes out.",
    ),
    "module of variables that are not trained": (
        Untrained,
        "s has no trainable variables, only such as are made with trainable=False: "
        "name one of its variables, such as s.v.",
    ),
}


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.parametrize(
    "line", ["loss --wrt s", "dloss/ds", "loss --wrt s --jacobian", "loss --wrt s --check"]
)
def test_layers_without_a_trainable_variable(shell: Notebook, kind: str, line: str) -> None:
    make, message = EMPTY[kind]
    call = "s.v*data" if kind.startswith("module") else "s(data)"
    shell.ns.update(tf=tf, s=make(), data=DATA)
    said = shell.refused(f"%%grad {line}\nloss = tf.reduce_sum({call}**2)")
    assert said == message


def test_a_frozen_layer_is_refused_before_the_cell_runs(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=dense(trainable=False), data=DATA, count=tf.Variable(0.0))
    shell.refused("%%grad loss --wrt s\ncount.assign_add(1.0)\nloss = tf.reduce_sum(s(data))")
    assert float(shell.ns["count"]) == 0.0


def test_a_frozen_layer_among_others(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=dense(trainable=False), w=tf.Variable(2.0), data=DATA)
    said = shell.refused("%%grad loss --wrt w s\nloss = w*tf.reduce_sum(s(data))")
    assert said.startswith("s has no trainable variables (s.trainable is False)")


def test_a_frozen_model_that_is_all_that_is_read(shell: Notebook) -> None:
    shell.ns.update(tf=tf, net=network(trainable=False))
    said = shell.refused("%%grad loss\nloss = tf.reduce_sum(net(tf.ones((1, 2))))")
    assert said == (
        "there is nothing to differentiate by: net has no trainable variables (net.trainable is False): "
        "set net.trainable = True."
    )


@pytest.mark.parametrize("other", ["w", "x"])
def test_beside_a_frozen_model_the_rest_is_differentiated_by(shell: Notebook, other: str) -> None:
    shell.ns.update(tf=tf, net=network(trainable=False), w=tf.Variable(2.0), x=DATA)
    shell.ok(f"%%grad loss\nloss = tf.reduce_sum(net({other}*tf.ones((1, 2))))")
    assert [row.wrt for row in shell.ns["grads"]] == [(other,)]


def test_a_layer_that_the_cell_freezes(shell: Notebook) -> None:
    shell.ns.update(tf=tf, keras=keras, data=DATA)
    cell = "s = keras.layers.Dense(1)\ns(data)\ns.trainable = False\nloss = tf.reduce_sum(s(data))"
    said = shell.refused(f"%%grad loss --wrt s\n{cell}")
    assert said.startswith("s has no trainable variables (s.trainable is False)")


def test_a_layer_that_the_cell_does_not_call(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=keras.layers.Dense(1), data=DATA)
    said = shell.refused("%%grad loss --wrt s\nloss = tf.reduce_sum(data)")
    assert said == "s has no variables yet: a layer makes them when called, and the cell does not call it."


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "s is empty: there is no variable, tensor, float or array in it."),
        ({}, "s is empty: there is no variable, tensor, float or array in it."),
        ((), "s is empty: there is no variable, tensor, float or array in it."),
        ({"a": [], "b": {}}, "s holds nothing that has a derivative: there is no variable, tensor, float or"),
        ([[], ()], "s holds nothing that has a derivative"),
    ],
    ids=["list", "dict", "tuple", "dict of empty", "list of empty"],
)
@pytest.mark.parametrize("line", ["y --wrt s", "dy/ds"])
def test_empty_structures(shell: Notebook, value: Any, message: str, line: str) -> None:
    shell.ns.update(tf=tf, s=value, data=DATA)
    assert shell.refused(f"%%grad {line}\ny = tf.reduce_sum(data)").startswith(message)


def test_empty_modules(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=tf.Module(), data=DATA)
    said = shell.refused("%%grad y --wrt s\ny = tf.reduce_sum(data)")
    assert said == "s is a Module without variables: name a tensor that goes into it or comes out."


def test_an_empty_list_that_the_cell_makes(shell: Notebook) -> None:
    shell.ns.update(tf=tf, data=DATA)
    assert shell.refused("%%grad y --wrt s\ns = []\ny = tf.reduce_sum(data)").startswith("s is empty")


@pytest.mark.parametrize("value", [[], {}])
def test_both_doors_refuse_what_is_empty(door: Door, value: Any) -> None:
    case = Case("y = tf.reduce_sum(data)", "y --wrt s", {"tf": tf, "s": value, "data": DATA})
    assert door.refused_grad(case).startswith("s is empty")


@pytest.mark.parametrize("kind", ["frozen layer", "model of frozen layers"])
def test_there_is_nothing_to_minimise_over_either(shell: Notebook, kind: str) -> None:
    make, message = EMPTY[kind]
    shell.ns.update(tf=tf, s=make(), data=DATA)
    said = shell.refused("%%minimize loss --over s --steps 2\nloss = tf.reduce_sum(s(data)**2)")
    assert said == message


def test_a_layer_with_a_variable_that_keras_does_not_know_of(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=Scale(), data=DATA)
    assert shell.refused("%%grad y --wrt s\ny = tf.reduce_sum(s(data))") == (
        "s has no variables that Keras knows of, since factor is a tf.Variable: "
        "name it, s.factor, or make it with add_weight."
    )
    shell.ok("%%grad y --wrt s.factor\ny = tf.reduce_sum(s(data))")
    assert float(shell.ns["grads"].rows[0].value) == 3.0


# -- look-alikes that are no empty sources ------------------------------------------------------------


def test_a_layer_that_the_cell_makes_trainable(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=dense(trainable=False), data=DATA)
    shell.ok("%%grad loss --wrt s\ns.trainable = True\nloss = tf.reduce_sum(s(data))")
    assert [row.wrt for row in shell.ns["grads"]] == [("kernel",), ("bias",)]
    np.testing.assert_allclose(shell.ns["grads"]["loss", "kernel"], [[1.0], [2.0]])


@pytest.mark.parametrize(
    ("make", "line", "expected"),
    [
        (lambda: dense(trainable=False), "loss --wrt s.bias", [1.0]),
        (lambda: [keras.layers.ReLU(), dense()], "loss --wrt s[1].bias", [1.0]),
        (Untrained, "loss --wrt s.v", 3.0),
    ],
    ids=["frozen by name", "in a list by name", "not trainable by name"],
)
def test_what_is_named_counts(shell: Notebook, make: Any, line: str, expected: Any) -> None:
    s = make()
    call = {"Untrained": "s.v*data", "list": "s[1](data)"}.get(type(s).__name__, "s(data)")
    shell.ns.update(tf=tf, s=s, data=DATA)
    shell.ok(f"%%grad {line}\nloss = tf.reduce_sum({call})")
    (row,) = shell.ns["grads"]
    assert np.asarray(row.value).tolist() == expected


@pytest.mark.parametrize("rest", [[], [keras.layers.ReLU], [keras.layers.Dropout]])
def test_layers_without_weights_among_others(shell: Notebook, rest: list[Any]) -> None:
    layers = [*(make() if make is keras.layers.ReLU else make(0.5) for make in rest), dense()]
    shell.ns.update(tf=tf, s=layers, data=DATA)
    shell.ok("%%grad loss --wrt s\nloss = tf.reduce_sum(s[-1](data))")
    assert [row.wrt for row in shell.ns["grads"]] == [("kernel",), ("bias",)]


def test_floats_beside_a_layer_that_is_not_built_yet(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=[keras.layers.Dense(1, name="new"), 2.0, State(3.0)], data=DATA)
    shell.ok("%%grad y --wrt s\ny = tf.reduce_sum(s[0](data))*0.0 + s[1]*s[2].w")
    found = {row.wrt[0]: np.asarray(row.value).reshape(-1).tolist() for row in shell.ns["grads"]}
    assert found == {"kernel": [0.0, 0.0], "bias": [0.0], "s[1]": [3.0], "s[2].w": [2.0]}


def test_empty_lists_among_others(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s={"a": [], "w": tf.Variable(2.0)})
    shell.ok("%%grad y --wrt s\ny = s['w']**2")
    assert float(shell.ns["grads"]["y", "s['w']"]) == 4.0


def test_a_model_of_which_one_layer_is_frozen(shell: Notebook) -> None:
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1, name="top")])
    net.layers[0].trainable = False
    shell.ns.update(tf=tf, s=net, data=DATA)
    shell.ok("%%grad y --wrt s\ny = tf.reduce_sum(s(data))")
    assert [row.wrt for row in shell.ns["grads"]] == [("top/kernel",), ("top/bias",)]


# -- types without a derivative -----------------------------------------------------------------------

SELECT = "differentiate by what they select, such as an embedding's output"
INDICES = "; of indices, differentiate by what they select, such as an embedding's output."
TENSORS = [
    (tf.zeros((1, 2, 2, 3), tf.uint8), "s is uint8", "write s = tf.cast(s, tf.float32)."),
    (tf.zeros((2,), tf.int8), "s is int8", "write s = tf.cast(s, tf.float32)."),
    (tf.zeros((2,), tf.uint16), "s is uint16", "write s = tf.cast(s, tf.float32)."),
    (tf.constant([True, False]), "s is bool", "write s = tf.cast(s, tf.float32)."),
    (tf.constant(3), "s is int32", "write s = tf.cast(s, tf.float32)."),
    (tf.constant([[3, 1]]), "s is int32", f"write s = tf.cast(s, tf.float32){INDICES}"),
    (tf.constant([3, 1], tf.int64), "s is int64", f"write s = tf.cast(s, tf.float32){INDICES}"),
    (tf.Variable(3), "s is int32", "write s = tf.Variable(tf.cast(s, tf.float32))."),
    (
        tf.constant(["a"]),
        "s is string",
        "differentiate by numbers that are computed from it, such as an embedding's output.",
    ),
]


@pytest.mark.parametrize(
    ("value", "start", "end"), TENSORS, ids=[f"{v.dtype.name}{v.shape}" for v, *_ in TENSORS]
)
@pytest.mark.parametrize("line", ["dy/ds", "y --wrt s"])
def test_tensors_of_other_types(shell: Notebook, value: Any, start: str, end: str, line: str) -> None:
    shell.ns.update(tf=tf, s=value)
    said = shell.refused(f"%%grad {line}\ny = tf.constant(1.0)")
    assert said == f"{start}, and only floating-point numbers have a derivative: {end}"


ARRAYS = [
    (np.zeros(2, "uint8"), "uint8", ": write s = s.astype('float32')."),
    (np.zeros(2, bool), "bool", ": write s = s.astype('float32')."),
    (np.arange(2), "int64", f": write s = s.astype('float32'){INDICES}"),
    (np.array([1.5, 2], object), "object", ": write s = s.astype('float32')."),
    (np.array(["a"]), "<U1", "."),
    (np.array([None, 1.0], object), "object", "."),
    (np.array(["2020-01-01"], "datetime64[D]"), "datetime64[D]", "."),
]


@pytest.mark.parametrize(("value", "dtype", "end"), ARRAYS, ids=[f"{v!r:.24}" for v, *_ in ARRAYS])
def test_arrays_of_other_types(shell: Notebook, value: Any, dtype: str, end: str) -> None:
    shell.ns.update(tf=tf, s=value)
    said = shell.refused("%%grad y --wrt s\ny = tf.constant(1.0)")
    assert said == f"s is an array of {dtype}, which has no derivative{end}"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (fractions.Fraction(1, 2), "s is a Fraction, which has no derivative: write s = float(s)."),
        (decimal.Decimal(1), "s is a Decimal, which has no derivative: write s = float(s)."),
        (range(3), "s is a range, which has no derivative; sources are"),
        (tf.ragged.constant([[1], [2, 3]]), "s is a RaggedTensor of int32, which has no derivative."),
    ],
    ids=["fraction", "decimal", "range", "ragged"],
)
def test_other_numbers(shell: Notebook, value: Any, message: str) -> None:
    shell.ns.update(tf=tf, s=value)
    assert shell.refused("%%grad y --wrt s\ny = tf.constant(1.0)").startswith(message)


@pytest.mark.parametrize(
    ("value", "cure"),
    [
        (tf.constant(np.full((1, 2, 2, 1), 7, "uint8")), "s = tf.cast(s, tf.float32)"),
        (tf.constant(3), "s = tf.cast(s, tf.float32)"),
        (tf.Variable([1, 2]), "s = tf.Variable(tf.cast(s, tf.float32))"),
        (np.arange(3, dtype="uint8"), "s = s.astype('float32')"),
        (np.array([1.5, 2], object), "s = s.astype('float32')"),
        (fractions.Fraction(1, 2), "s = float(s)"),
    ],
    ids=["image", "scalar", "variable", "array", "objects", "fraction"],
)
def test_the_cures_help(shell: Notebook, value: Any, cure: str) -> None:
    shell.ns.update(tf=tf, s=value)
    assert cure in shell.refused("%%grad dy/ds\ny = tf.reduce_sum(3.0*tf.cast(s, tf.float32))")
    shell.ok(f"{cure}\n")
    shell.ok("%%grad dy/ds\ny = tf.reduce_sum(3.0*s)")
    assert set(np.asarray(shell.ns["dy_ds"]).reshape(-1).tolist()) == {3.0}


def test_what_indices_select_is_a_source(shell: Notebook) -> None:
    embedding = keras.layers.Embedding(4, 2)
    shell.ns.update(tf=tf, embedding=embedding, ids=tf.constant([1, 2]))
    said = shell.refused("%%grad dy/dids\ny = tf.reduce_sum(embedding(ids)**2)")
    assert said == f"ids is int32, and indices have no derivative: {SELECT}."
    shell.ok("%%grad dy/drows\nrows = embedding(ids)\ny = tf.reduce_sum(rows**2)")
    np.testing.assert_allclose(shell.ns["dy_drows"], 2 * shell.ns["rows"].numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    "cell",
    [
        "y = tf.reduce_sum(net(ids))",
        "y = tf.reduce_sum(outer(ids))",
        "y = tf.reduce_sum(tf.nn.embedding_lookup(table, ids))",
        "y = tf.reduce_sum(tf.gather(table, ids))",
        "y = tf.reduce_sum(tf.one_hot(ids, 3))",
    ],
)
@pytest.mark.parametrize("make", [tf.constant, np.array], ids=["tensor", "array"])
def test_indices_are_not_to_be_cast(shell: Notebook, cell: str, make: Any) -> None:
    net = keras.Sequential([keras.layers.Embedding(4, 2), keras.layers.Flatten(), keras.layers.Dense(1)])
    outer = keras.Sequential([net, keras.layers.Dense(1)])
    shell.ns.update(tf=tf, net=net, outer=outer, table=tf.ones((3, 2)), ids=make([[1, 2]]))
    said = shell.refused(f"%%grad dy/dids\n{cell}")
    assert said.endswith(f"and indices have no derivative: {SELECT}.")


def test_an_image_beside_an_embedding_is_cast(shell: Notebook) -> None:
    shell.ns.update(tf=tf, embedding=keras.layers.Embedding(4, 2), ids=tf.constant([1]))
    shell.ns["image"] = tf.zeros((2, 2), tf.uint8)
    said = shell.refused("%%grad dy/dimage\ny = tf.reduce_sum(embedding(ids))*tf.cast(image, tf.float32)")
    assert said.endswith("write image = tf.cast(image, tf.float32).")


# -- symbols of Keras ---------------------------------------------------------------------------------


class Called(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.inner = keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs)


PLAN = "belongs to the plan of a model, and has no value: "


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "net.inputs",
            f"net.inputs[0] {PLAN}differentiate by what the cell calls net with, as x in y = net(x).",
        ),
        (
            "wide.input",
            f"wide.input {PLAN}differentiate by what the cell calls wide with, as x in y = wide(x).",
        ),
        ("symbol", f"symbol {PLAN}differentiate by what the cell calls model with, as x in y = model(x)."),
        (
            "net.layers[0].output",
            f"net.layers[0].output {PLAN}have the cell compute it, h, y = keras.Model(net.inputs, "
            "[net.layers[0].output, *net.outputs])(x), and differentiate by h.",
        ),
        (
            "hidden.output",
            f"hidden.output {PLAN}have the cell compute it, h, y = keras.Model(model.inputs, "
            "[hidden.output, *model.outputs])(x), and differentiate by h.",
        ),
        (
            "called.input",
            "called.input has no value: differentiate by what the cell calls called with, "
            "as x in y = called(x).",
        ),
        (
            "called.inner.output",
            "called.inner.output has no value: have the cell compute it under a name, "
            "as in h = called.inner(x), and differentiate by h.",
        ),
    ],
)
@pytest.mark.parametrize("line", ["dy/d{}", "y --wrt {}"])
def test_symbols_have_no_value(shell: Notebook, place: str, message: str, line: str) -> None:
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    symbol = keras.Input((2,))
    wide = keras.Model(symbol, keras.layers.Dense(1)(symbol))
    called = Called()
    shell.ns.update(tf=tf, net=net, wide=wide, symbol=symbol, hidden=net.layers[0], called=called, x=DATA)
    assert shell.refused(f"%%grad {line.format(place)}\ny = net(x)") == message


def test_the_output_of_a_layer_as_the_refusal_says(shell: Notebook) -> None:
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)])
    shell.ns.update(tf=tf, keras=keras, net=net, x=DATA)
    said = shell.refused("%%grad dy/dnet.layers[0].output\ny = net(x)")
    statement = said.partition("compute it, ")[2].partition(", and differentiate")[0]
    shell.ok(f"%%grad dy/dh\n{statement}")
    np.testing.assert_allclose(shell.ns["dy_dh"], net.layers[1].kernel.numpy().T, rtol=1e-6)


def test_a_wrong_attribute_of_a_layer_still_has_its_closest(shell: Notebook) -> None:
    shell.ns.update(net=dense())
    said = shell.refused("%%grad dy/dnet.kernal\ny = 1.0")
    assert said == "net is a Dense and has no kernal; did you mean kernel?"
