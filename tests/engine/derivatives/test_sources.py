"""What can be differentiated by: every kind of source, what is chosen without a name, and lifting."""

from __future__ import annotations

import collections
import contextlib
import functools
import re
import types
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.results.gradients import GradReport
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook


def grads(shell: Notebook, cell: str, **namespace: Any) -> GradReport:
    """The report of a cell with its magic line, in a namespace with these names."""
    shell.ns.update(tf=tf, np=np, keras=keras, **namespace)
    before = {name: shell.ns[name] for name in namespace}
    shell.ok(cell)
    report: GradReport = shell.ns["grads"]
    for name, value in before.items():
        if not re.search(rf"^{name} \W?=", cell, re.MULTILINE):
            assert shell.ns[name] is value, f"{name} is another object"
    return report


def rows(report: GradReport) -> dict[str, Any]:
    """Key → value, as numbers and nested lists."""
    return {
        key: None if value is None else np.asarray(value).tolist() for key, value in report.to_dict().items()
    }


# -- kinds -----------------------------------------------------------------------------------------

SCALARS: dict[str, Callable[[], Any]] = {
    "variable": lambda: tf.Variable(3.0),
    "variable, not trainable": lambda: tf.Variable(3.0, trainable=False),
    "tensor": lambda: tf.constant(3.0),
    "Keras variable": lambda: keras.Variable(3.0),
    "float": lambda: 3.0,
    "float32": lambda: np.float32(3),
    "float64": lambda: np.float64(3),
    "array without dimensions": lambda: np.array(3.0),
    "float subclass": lambda: type("Metre", (float,), {})(3),
}


@pytest.mark.parametrize("kind", SCALARS)
@pytest.mark.parametrize("line", ["dy/dx", "y --wrt x", "y --wrt x --order 2", "d2y/dx2"])
@pytest.mark.both_doors("kind")
def test_scalars(door: Door, kind: str, line: str) -> None:
    x = SCALARS[kind]()
    report = door.grad(Case("y = x*x*x", line, {"x": x}))
    assert list(rows(report).values()) == ([18.0] if "2" in line else [27.0])
    if door.name == "magic":
        assert door.shell.ns["x"] is x


@pytest.mark.parametrize("kind", ["variable", "tensor", "Keras variable"])
def test_two_names_of_one_object(door: Door, kind: str) -> None:
    x = SCALARS[kind]()
    assert rows(door.grad(Case("y = x*z", "dy/dx, dy/dz", {"x": x, "z": x}))) == {"dy/dx": 6.0, "dy/dz": 6.0}


@pytest.mark.parametrize("kind", ["float", "float64", "array without dimensions"])
def test_two_names_of_one_number_are_two_arguments(door: Door, kind: str) -> None:
    x = SCALARS[kind]()
    assert rows(door.grad(Case("y = x*z", "dy/dx, dy/dz", {"x": x, "z": x}))) == {"dy/dx": 3.0, "dy/dz": 3.0}


@pytest.mark.parametrize("make", [tf.Variable, tf.constant, np.array])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_arrays_keep_their_type(door: Door, dtype: str, make: Callable[[Any], Any]) -> None:
    report = door.grad(Case("y = tf.reduce_sum(3*w)", "dy/dw", {"tf": tf, "w": make(np.ones((2, 2), dtype))}))
    assert report["dy/dw"].dtype.name == dtype
    assert report["dy/dw"].numpy().tolist() == [[3, 3], [3, 3]]


Point = collections.namedtuple("Point", "u v")  # one without types


@pytest.mark.parametrize("leaf", [tf.Variable, tf.constant, float])
@pytest.mark.parametrize(
    ("structure", "cell", "expected", "paths"),
    [
        ([2.0, 3.0], "y = p[0]*p[1]", [3.0, 2.0], ["p[0]", "p[1]"]),
        ((2.0, 3.0), "y = p[0]*p[1]", (3.0, 2.0), ["p[0]", "p[1]"]),
        ({"u": 2.0, "v": 3.0}, "y = p['u']*p['v']", {"u": 3.0, "v": 2.0}, ["p['u']", "p['v']"]),
        (Point(2.0, 3.0), "y = p.u*p.v", Point(3.0, 2.0), ["p.u", "p.v"]),
        (
            {"a": [2.0, (3.0, {"b": 4.0})], "c": 5.0},
            "y = p['a'][0]*p['a'][1][0]*p['a'][1][1]['b']*p['c']",
            {"a": [60.0, (40.0, {"b": 30.0})], "c": 24.0},
            ["p['a'][0]", "p['a'][1][0]", "p['a'][1][1]['b']", "p['c']"],
        ),
        (
            {("k", 0): 2.0, ("k", 1): 3.0},
            "y = p['k', 0]*p['k', 1]",
            {("k", 0): 3.0, ("k", 1): 2.0},
            ["p[('k', 0)]", "p[('k', 1)]"],
        ),
    ],
    ids=["list", "tuple", "dict", "named tuple", "nested", "odd keys"],
)
@pytest.mark.both_doors("structure")
def test_structures_come_back_as_they_are(
    door: Door, structure: Any, cell: str, expected: Any, paths: list[str], leaf: Callable[[Any], Any]
) -> None:
    source = tf.nest.map_structure(leaf, structure)
    objects = tf.nest.flatten(source)
    report = door.grad(Case(cell, "y --wrt p", {"p": source}))
    assert [row.wrt for row in report] == [(path,) for path in paths]
    value = report["y", "p"]
    tf.nest.assert_same_structure(value, expected)
    assert type(value) is type(expected)
    assert [float(one) for one in tf.nest.flatten(value)] == tf.nest.flatten(expected)
    # Nothing of the user's has changed, inside the structure either.
    assert all(new is old for new, old in zip(tf.nest.flatten(source), objects, strict=True))


def test_a_structure_is_bound_as_one(shell: Notebook) -> None:
    report = grads(shell, "%%grad dy/dp\ny = p['u']**2 + p['v']", p={"u": 3.0, "v": tf.Variable(1.0)})
    assert {key: float(value) for key, value in shell.ns["dy_dp"].items()} == {"u": 6.0, "v": 1.0}
    assert rows(report) == {"dy/dp['u']": 6.0, "dy/dp['v']": 1.0}
    assert report["dy/dp"] is shell.ns["dy_dp"]
    assert float(report["dy/dp['u']"]) == 6.0


def test_second_derivatives_by_a_structure_are_each_by_itself(door: Door) -> None:
    report = door.grad(Case("y = p[0]**2*p[1]**3", "y --wrt p --order 2", {"p": [2.0, 3.0]}))
    assert rows(report) == {"d2y/dp[0]2": 54.0, "d2y/dp[1]2": 72.0}


def test_mixed_derivatives_by_structures_are_each_by_each(door: Door) -> None:
    report = door.grad(Case("y = p[0]**2*p[1]*x**2", "d2y/dp dx", {"p": [2.0, 3.0], "x": 5.0}))
    assert rows(report) == {"d2y/dp[0]dx": 120.0, "d2y/dp[1]dx": 40.0}


@pytest.mark.parametrize(
    ("line", "keys"),
    [
        ("y --wrt p['w']", {"dy/dp['w']": 7.0}),
        ('y --wrt p["w"]', {"dy/dp['w']": 7.0}),
        ("dy/dp['w']", {"dy/dp['w']": 7.0}),
        ("dy/dq[-1]", {"dy/dq[-1]": 2.0}),
        ("dy/dq[0]", {"dy/dq[0]": 1.0}),
        ("dy/dt[1]", {"dy/dt[1]": 5.0}),
        ("dy/do.k", {"dy/do.k": 3.0}),
        ("dy/do.deep['a'].k", {"dy/do.deep['a'].k": 4.0}),
        ("d2y/dp['w']do.k, dy/dp['w']", {"d2y/dp['w']do.k": None, "dy/dp['w']": 7.0}),
    ],
)
@pytest.mark.parametrize("leaf", [tf.Variable, float])
def test_places(shell: Notebook, line: str, keys: dict[str, Any], leaf: Callable[[float], Any]) -> None:
    inner = types.SimpleNamespace(k=leaf(1.0))
    namespace = {
        "p": {"w": leaf(1.0)},
        "q": [leaf(1.0), leaf(1.0)],
        "t": (leaf(1.0), leaf(1.0)),
        "o": types.SimpleNamespace(k=leaf(1.0), deep={"a": inner}),
    }
    held = namespace["p"]["w"], namespace["q"][0], namespace["t"][1], namespace["o"].k, inner.k
    cell = "y = 7*p['w'] + q[0] + 2*q[1] + 5*t[1] + 3*o.k + 4*o.deep['a'].k"
    report = grads(shell, f"%%grad {line}\n{cell}", **namespace)
    assert list(rows(report).values()) == list(keys.values())
    assert (namespace["p"]["w"], namespace["q"][0], namespace["t"][1], namespace["o"].k, inner.k) == held
    assert namespace["p"]["w"] is held[0]
    assert namespace["t"][1] is held[2]
    assert namespace["o"].k is held[3]
    assert inner.k is held[4]


# -- layers and models -----------------------------------------------------------------------------

INPUTS = np.ones((4, 3), np.float32)


def network(*, built: bool) -> Any:
    layers = [keras.layers.Dense(2, name="first", activation="tanh"), keras.layers.Dense(1, name="second")]
    return keras.Sequential([keras.Input((3,)), *layers] if built else layers, name="net")


class Branches(keras.Model):
    """A model that is built when it is first called, of layers in attributes and in a list."""

    def __init__(self) -> None:
        super().__init__(name="branches")
        self.stem = keras.layers.Dense(2, name="stem")
        self.heads = [keras.layers.Dense(1, name="head"), keras.layers.Dense(1, name="head")]

    def call(self, inputs: Any) -> Any:
        return sum(head(self.stem(inputs)) for head in self.heads)


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("line", ["loss --wrt net", "loss", ""])
def test_models(shell: Notebook, line: str, built: bool) -> None:
    net = network(built=built)
    cell = "loss = tf.reduce_mean(net(inputs)**2)" + ("" if line else "\nloss")
    report = grads(shell, f"%%grad {line}\n{cell}", net=net, inputs=INPUTS)
    paths = ["first/kernel", "first/bias", "second/kernel", "second/bias"]
    assert [row.wrt for row in report] == [(path,) for path in paths]
    assert all(row.of_model for row in report)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(net(INPUTS) ** 2)
    expected = tape.gradient(loss, net.trainable_variables)
    target = "loss" if line else "_"
    for path, want, one in zip(paths, expected, report[target, "net"], strict=True):
        np.testing.assert_allclose(report[target, path], want, rtol=1e-5)
        assert report[target, path] is one


@pytest.mark.parametrize("built", [True, False])
def test_layers(shell: Notebook, built: bool) -> None:
    layer = keras.layers.Dense(2, name="dense")
    if built:
        layer.build((None, 3))
    report = grads(
        shell, "%%grad dloss/dlayer\nloss = tf.reduce_sum(layer(inputs))", layer=layer, inputs=INPUTS
    )
    assert rows(report) == {"dloss/dkernel": [[4.0, 4.0]] * 3, "dloss/dbias": [4.0, 4.0]}
    assert [value.shape for value in shell.ns["dloss_dlayer"]] == [(3, 2), (2,)]


def test_a_part_of_a_layer(shell: Notebook) -> None:
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    cell = "%%grad dloss/dlayer.kernel, d2loss/dlayer.kernel2\nloss = tf.reduce_sum(layer(inputs)**2)"
    report = grads(shell, cell, layer=layer, inputs=INPUTS)
    assert [row.key for row in report] == ["dloss/dlayer.kernel", "d2loss/dlayer.kernel2"]
    assert shell.ns["dloss_dlayer_kernel"].shape == (3, 2)
    assert shell.ns["d2loss_dlayer_kernel2"].numpy().tolist() == [[24.0, 24.0]] * 3


def test_frozen_layers_are_no_sources(shell: Notebook) -> None:
    net = network(built=True)
    net.layers[0].trainable = False
    report = grads(shell, "%%grad\ntf.reduce_sum(net(inputs))", net=net, inputs=INPUTS)
    assert [row.wrt for row in report] == [("second/kernel",), ("second/bias",)]


def test_frozen_layers_are_no_sources_in_functions_either(shell: Notebook) -> None:
    net = network(built=True)
    net.layers[0].trainable = False
    shell.ns.update(tf=tf, inputs=INPUTS)
    shell.ok("def make(model):\n    return lambda x: tf.reduce_sum(model(x))")
    loss = shell.ns["make"](net)
    report = grads(shell, "%%grad\nloss(inputs)", loss=loss)
    assert [row.wrt for row in report] == [("net/second/kernel",), ("net/second/bias",)]


def test_a_frozen_layer_by_its_name(shell: Notebook) -> None:
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    layer.trainable = False
    report = grads(
        shell, "%%grad dy/dlayer.bias\ny = tf.reduce_sum(layer(inputs))", layer=layer, inputs=INPUTS
    )
    assert rows(report) == {"dy/dlayer.bias": [4.0, 4.0]}


def test_a_subclassed_model_with_equal_names(shell: Notebook) -> None:
    net = Branches()
    cell = "%%grad loss --wrt net\nloss = tf.reduce_sum(net(inputs))"
    report = grads(shell, cell, net=net, inputs=INPUTS)
    names = [row.wrt[0] for row in report]
    assert len(set(names)) == 6
    assert names[:2] == ["stem/kernel", "stem/bias"]
    assert all(row.connected for row in report)
    for name, value in zip(names, report["loss", "net"], strict=True):
        assert report["loss", name] is value


def test_two_models_with_equal_paths(shell: Notebook) -> None:
    cell = "%%grad loss --wrt a b\nloss = tf.reduce_sum(a(inputs) + 2*b(inputs))"
    report = grads(shell, cell, a=network(built=True), b=network(built=True), inputs=INPUTS)
    names = [row.wrt[0] for row in report]
    assert names[0] == "a/first/kernel"
    assert names[4] == "b/first/kernel"
    assert float(report["loss", "a/second/bias"][0]) == 4.0
    assert float(report["loss", "b/second/bias"][0]) == 8.0


class Partly(keras.Model):
    """A model with one variable from the start, and others when it is first called."""

    def __init__(self) -> None:
        super().__init__(name="partly")
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
        self.dense = keras.layers.Dense(1, name="dense")

    def call(self, inputs: Any) -> Any:
        return self.scale * self.dense(inputs)


@pytest.mark.parametrize("line", ["loss --wrt net", "loss", "dloss/dnet"])
def test_a_model_that_is_built_in_part(shell: Notebook, line: str) -> None:
    report = grads(shell, f"%%grad {line}\nloss = tf.reduce_sum(net(inputs))", net=Partly(), inputs=INPUTS)
    assert {row.wrt[0] for row in report} == {"scale", "dense/kernel", "dense/bias"}
    assert all(row.connected for row in report)


@pytest.mark.parametrize("line", ["loss --wrt net", "loss", "dloss/dnet"])
@pytest.mark.parametrize("first", ["", "keras.Input((3,)), "], ids=["unbuilt", "built"])
@pytest.mark.parametrize("call", ["net", "tf.function(net)"])
def test_a_model_that_the_cell_itself_makes(shell: Notebook, line: str, first: str, call: str) -> None:
    make = f"net = keras.Sequential([{first}keras.layers.Dense(1, name='dense')])"
    report = grads(shell, f"%%grad {line}\n{make}\nloss = tf.reduce_sum({call}(inputs))", inputs=INPUTS)
    assert rows(report) == {"dloss/d(dense/kernel)": [[4.0]] * 3, "dloss/d(dense/bias)": [4.0]}


@pytest.mark.parametrize("line", ["loss --wrt net", "loss"])
def test_a_model_that_makes_its_variables_out_of_sight(shell: Notebook, line: str) -> None:
    shell.ns.update(tf=tf, keras=keras, Branches=Branches, inputs=INPUTS)
    report = grads(shell, f"%%grad {line}\nnet = Branches()\nloss = tf.reduce_sum(net(inputs))")
    assert len(report) == 6
    assert all(row.connected for row in report)


def test_a_part_of_a_layer_that_is_not_built_yet(shell: Notebook) -> None:
    cell = "%%grad dy/dlayer.kernel\ny = tf.reduce_sum(layer(inputs))"
    assert rows(grads(shell, cell, layer=keras.layers.Dense(1), inputs=INPUTS)) == {
        "dy/dlayer.kernel": [[4.0]] * 3
    }
    cell = "%%grad dy/dnew.bias\nnew = keras.layers.Dense(1)\ny = tf.reduce_sum(new(inputs))"
    assert rows(grads(shell, cell)) == {"dy/dnew.bias": [4.0]}
    shell.ns["layer"] = keras.layers.Dense(1)
    message = shell.refused("%%grad dy/dlayer.kernal\ny = tf.reduce_sum(layer(inputs))")
    assert message == "layer is a Dense and has no kernal; did you mean kernel?"


def test_a_list_of_layers_that_are_not_built_yet(shell: Notebook) -> None:
    layers = [keras.layers.Dense(2, name="one"), keras.layers.Dense(1, name="two")]
    cell = "%%grad y --wrt layers\ny = tf.reduce_sum(layers[1](layers[0](inputs)))"
    report = grads(shell, cell, layers=layers, inputs=INPUTS)
    assert len(report) == 4
    assert [[value.shape for value in one] for one in report["y", "layers"]] == [
        [(3, 2), (2,)],
        [(2, 1), (1,)],
    ]


def test_variables_that_a_new_layer_makes_are_all_that_is_watched(shell: Notebook) -> None:
    cell = (
        "%%grad y --wrt layer\nlayer = keras.layers.Dense(1)\n"
        "more = tf.image.adjust_saturation(image*u, 2.0)\n"
        "y = tf.reduce_sum(layer(tf.ones((1, 2))))*tf.reduce_mean(more)"
    )
    report = grads(shell, cell, u=tf.Variable(1.0), image=tf.ones((1, 2, 2, 3)))
    assert [row.connected for row in report] == [True, True]


class Affine(tf.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.w = tf.Variable(scale)
        self.fixed = tf.Variable(1.0, trainable=False)


class Stack(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = [Affine(2.0), Affine(3.0)]
        self.named = {"out": Affine(5.0)}
        self.bias = tf.Variable(1.0)

    def __call__(self, x: Any) -> Any:
        return self.parts[0].w * self.parts[1].w * self.named["out"].w * x + self.bias


def test_modules(door: Door) -> None:
    stack = Stack()
    report = door.grad(Case("y = stack(2.0)", "y --wrt stack", {"stack": stack}))
    found = {row.wrt[0]: float(row.value) for row in report}
    assert found == {"bias": 1.0, "named/out/w": 12.0, "parts/0/w": 30.0, "parts/1/w": 20.0}


def test_a_part_of_a_module(shell: Notebook) -> None:
    cell = "%%grad dy/dstack.parts[0].w, dy/dstack.parts[1].fixed\ny = stack(2.0)*stack.parts[1].fixed"
    report = grads(shell, cell, stack=Stack())
    assert rows(report) == {"dy/dstack.parts[0].w": 30.0, "dy/dstack.parts[1].fixed": 61.0}


# -- what the cell itself assigns ------------------------------------------------------------------


@pytest.mark.parametrize("make", [tf.Variable, tf.constant, float])
def test_intermediates(shell: Notebook, make: Callable[[float], Any]) -> None:
    cell = "%%grad dy/dh, dh/dx, dy/dx, d2y/dh2\nh = x**2\ny = h**3"
    report = grads(shell, cell, x=make(2.0))
    assert rows(report) == {"dy/dh": 48.0, "dh/dx": 4.0, "dy/dx": 192.0, "d2y/dh2": 24.0}
    assert float(shell.ns["h"]) == 4.0


def test_an_intermediate_alone(shell: Notebook) -> None:
    report = grads(shell, "%%grad dy/dh\nh = tf.sin(k)\ny = h**3", k=0.5)
    np.testing.assert_allclose(float(report["dy/dh"]), 3 * np.sin(0.5) ** 2, rtol=1e-5)
    assert type(shell.ns["k"]) is float


def test_inputs_written_in_the_cell(shell: Notebook) -> None:
    report = grads(
        shell,
        "%%grad dy/dx, dy/dw, dy/dp\nx = 3.0\nw = np.ones(2)\np = {'k': 2.0}\ny = tf.reduce_sum(w)*x*p['k']",
    )
    assert rows(report) == {"dy/dx": 4.0, "dy/dw": [6.0, 6.0], "dy/dp['k']": 6.0}
    # What the user wrote is what is there afterwards.
    assert type(shell.ns["x"]) is float
    assert type(shell.ns["w"]) is np.ndarray
    assert type(shell.ns["p"]["k"]) is float


def test_an_input_counts_as_it_was_last_assigned(shell: Notebook) -> None:
    report = grads(shell, "%%grad dy/dh\nh = x\nu = h**3\nh = x + 1.0\ny = h**2 + u", x=tf.Variable(2.0))
    assert rows(report) == {"dy/dh": 6.0}


def test_a_name_that_is_read_before_it_is_assigned(shell: Notebook) -> None:
    x = tf.Variable(2.0)
    report = grads(shell, "%%grad y --wrt x\ny = x**2\nx = x + 1", x=x)
    assert rows(report) == {"dy/dx": 4.0}
    assert report.notes == (
        "line 3 replaces the variable x by a tensor; x.assign_add(1) keeps it a variable",
    )
    assert float(shell.ns["x"]) == 3.0
    assert shell.ns["x"] is not x
    assert float(x) == 2.0


def test_a_tensor_that_is_read_before_it_is_assigned_needs_no_note(shell: Notebook) -> None:
    report = grads(shell, "%%grad dx/dx\nx = x*x\nx = x*x", x=tf.constant(2.0))
    assert rows(report) == {"dx/dx": 32.0}
    assert report.notes == ()
    assert float(shell.ns["x"]) == 16.0


@pytest.mark.parametrize("body", ["x = 3.0\ny = x**2", "for x in [1.0, 3.0]:\n    y = x**2"])
def test_an_input_in_the_place_of_a_variable_needs_no_note(shell: Notebook, body: str) -> None:
    shell.ns["x"] = tf.Variable(1.0)
    shell.ok(f"%%grad dy/dx\n{body}")
    assert rows(shell.ns["grads"]) == {"dy/dx": 6.0}
    assert shell.ns["grads"].notes == ()
    assert shell.ns["x"] == 3.0


def test_a_float_that_is_read_before_it_is_assigned(shell: Notebook) -> None:
    report = grads(shell, "%%grad dy/dx\ny = x**2\nx = x + 1", x=2.0)
    assert rows(report) == {"dy/dx": 4.0}
    assert float(shell.ns["x"]) == 3.0


def test_augmented_assignment_reads_first(shell: Notebook) -> None:
    report = grads(shell, "%%grad dy/dx\nx *= 3.0\ny = x**2", x=tf.constant(2.0))
    assert rows(report) == {"dy/dx": 36.0}


@pytest.mark.parametrize(
    ("cell", "h"),
    [
        ("if k > 0:\n    h = k*2\nelse:\n    h = k\ny = h**2", 6.0),
        ("for i in range(3):\n    h = k*i\ny = h**2", 6.0),
        ("with tf.name_scope('s'):\n    h = k*2\ny = h**2", 6.0),
        ("try:\n    h = k*2\n    1/0\nexcept ZeroDivisionError:\n    h = k\ny = h**2", 3.0),
        ("try:\n    pass\nexcept OSError:\n    pass\nelse:\n    h = 2*k\nfinally:\n    g = 1\ny = h**2", 6.0),
        ("try:\n    pass\nfinally:\n    h = 2*k\ny = h**2", 6.0),
        ("i = 0\nwhile i < 2:\n    h, i = k*i, i + 1\ny = h**2", 3.0),
        ("for h in [k, 2*k]:\n    y = h**2", 6.0),
        ("for i in range(1):\n    for j in range(2):\n        if j:\n            h = k*j\ny = h**2", 3.0),
        ("with box(k) as h:\n    y = h**2", 3.0),
        ("(h := k*2)\ny = h**2", 6.0),
        ("if (h := k*2) > 0:\n    y = h**2", 6.0),
        ("while (h := k*2) < 0:\n    pass\ny = h**2", 6.0),
        ("[(h := k*i) for i in range(3)]\ny = h**2", 6.0),
        ("match k:\n    case _:\n        h = k\ny = h**2", 3.0),
        ("match k:\n    case h:\n        y = h**2", 3.0),
        ("h, other = k, 2\ny = h**2", 3.0),
        ("[h, *others] = [k, 1, 2]\ny = h**2", 3.0),
        ("h: float = k\ny = h**2", 3.0),
    ],
)
@pytest.mark.parametrize("k", [tf.constant(3.0), 3.0], ids=["tensor", "float"])
def test_a_source_assigned_in_a_block(shell: Notebook, cell: str, h: float, k: Any) -> None:
    report = grads(shell, f"%%grad dy/dh\n{cell}", k=k, box=contextlib.nullcontext)
    assert rows(report) == {"dy/dh": 2 * h}
    assert float(shell.ns["h"]) == h
    assert isinstance(shell.ns["h"], float if isinstance(k, float) else tf.Tensor)


# -- without a name --------------------------------------------------------------------------------


def test_variables_come_first(shell: Notebook) -> None:
    namespace = {
        "v": tf.Variable(2.0),
        "still": tf.Variable(1.0, trainable=False),
        "t": tf.constant(3.0),
        "f": 5.0,
    }
    report = grads(shell, "%%grad y\ny = v*still*t*f", **namespace)
    assert rows(report) == {"dy/dv": 15.0}


def test_then_float_tensors(shell: Notebook) -> None:
    report = grads(
        shell, "%%grad y\ny = t*tf.cast(n, tf.float32)*f", t=tf.constant(3.0), n=tf.constant(2), f=5.0
    )
    assert rows(report) == {"dy/dt": 10.0}


def test_then_floats_and_arrays(shell: Notebook) -> None:
    namespace = {"f": 5.0, "w": np.ones(2), "n": 2, "s": "a", "i": np.arange(2)}
    report = grads(shell, "%%grad y\ny = tf.reduce_sum(f*w)*n*len(s) + float(i[0])", **namespace)
    assert rows(report) == {"dy/df": 4.0, "dy/dw": [10.0, 10.0]}


def test_only_what_is_read_is_a_source(shell: Notebook) -> None:
    report = grads(shell, "%%grad y\ny = v**2", v=tf.Variable(2.0), other=tf.Variable(3.0))
    assert rows(report) == {"dy/dv": 4.0}


def test_variables_have_the_names_that_the_notebook_gives_them(shell: Notebook) -> None:
    namespace = {"v": tf.Variable(2.0, name="other"), "ws": [tf.Variable(1.0, name="inner")]}
    report = grads(shell, "%%grad y\ny = v*ws[0]", **namespace)
    assert rows(report) == {"dy/dv": 1.0, "dy/dinner": 2.0}


@pytest.mark.parametrize(
    "definition",
    [
        "def loss(x):\n    return w*x",
        "loss = lambda x: w*x",
        "@tf.function\ndef loss(x):\n    return w*x",
        "def make(v):\n    def loss(x):\n        return v*x\n    return loss\nloss = make(w)",
        "def inner(x):\n    return w*x\ndef loss(x):\n    return inner(x)",
        "def loss(x):\n    return [w*one for one in [x]][0]",
        "class Model:\n    def __init__(self, v):\n        self.v = v\n"
        "    def loss(self, x):\n        return self.v*x\n"
        "loss = Model(w).loss",
        "class Model:\n    def __init__(self, v):\n        self.v = v\n"
        "    def __call__(self, x):\n        return self.v*x\n"
        "loss = Model(w)",
        "import functools\ndef two(v, x):\n    return v*x\nloss = functools.partial(two, w)",
        "def loss(x, v=w):\n    return v*x",
    ],
    ids=[
        "def",
        "lambda",
        "tf.function",
        "closure",
        "two deep",
        "comprehension",
        "method",
        "object",
        "partial",
        "default",
    ],
)
@pytest.mark.parametrize("x", [2.0, tf.constant(2.0)], ids=["float", "tensor"])
def test_variables_that_functions_of_other_cells_read(shell: Notebook, definition: str, x: Any) -> None:
    shell.ns.update(tf=tf, w=tf.Variable(3.0))
    shell.ok(definition)
    report = grads(shell, "%%grad y\ny = loss(x)**2", x=x)
    assert rows(report) == {"dy/dw": 24.0}


def test_a_cell_with_nothing_to_differentiate_by(shell: Notebook) -> None:
    shell.ns.update(n=3)
    message = shell.refused("%%grad y\ny = n*2")
    assert message.startswith("there is nothing to differentiate by")


# -- lifting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "dtype"),
    [
        ({}, "float32"),
        ({"v": tf.Variable(1.0, dtype=tf.float64)}, "float64"),
        ({"v": tf.Variable(1.0, dtype=tf.float32)}, "float32"),
        ({"v": tf.constant(1.0, tf.float64)}, "float64"),
        ({"v": tf.constant(1.0, tf.float16)}, "float16"),
        ({"v": [tf.constant(1.0, tf.float64)]}, "float64"),
        ({"v": {"k": keras.Variable(1.0, dtype="float64")}}, "float64"),
        # An integer tensor says nothing.
        ({"v": tf.constant(1)}, "float32"),
    ],
    ids=["nothing", "variable64", "variable32", "tensor64", "tensor16", "list", "dict", "integer"],
)
def test_floats_take_the_type_of_what_the_cell_reads(
    shell: Notebook, read: dict[str, Any], dtype: str
) -> None:
    cell = "%%grad dy/dx\ny = x*x" + ("\nv" if read else "")
    report = grads(shell, cell, x=3.0, **read)
    assert report["dy/dx"].dtype.name == dtype
    assert float(report["dy/dx"]) == 6.0


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["float32"], "float32"),
        (["float64"], "float64"),
        (["float32", "float64"], "float64"),
        (["float16"], "float16"),
    ],
)
def test_without_tensors_arrays_are_lifted_to_the_widest(
    shell: Notebook, dtypes: list[str], expected: str
) -> None:
    arrays = {f"w{n}": np.ones(2, dtype) for n, dtype in enumerate(dtypes)}
    line = ", ".join(f"dy/d{name}" for name in arrays)
    cell = f"%%grad {line}, dy/dx\ny = tf.reduce_sum({'*'.join(arrays)})*x"
    report = grads(shell, cell, x=3.0, **arrays)
    assert {value.dtype.name for value in report.to_dict().values()} == {expected}
    assert float(report["dy/dx"]) == 2.0


def test_what_is_no_source_is_not_lifted(shell: Notebook) -> None:
    namespace = {"v": tf.Variable(2.0, dtype=tf.float64), "f": 0.3, "w": np.ones(2, np.float32)}
    report = grads(
        shell, "%%grad dy/dv\nassert type(f) is float and type(w) is np.ndarray\ny = f*v + 0.3*v", **namespace
    )
    np.testing.assert_allclose(float(report["dy/dv"]), 0.6, rtol=1e-15)


def test_a_float_source_beside_a_float64_variable(shell: Notebook) -> None:
    report = grads(shell, "%%grad dy/df, dy/dv\ny = f*v", v=tf.Variable(2.0, dtype=tf.float64), f=0.3)
    assert rows(report) == {"dy/df": 2.0, "dy/dv": 0.3}


@pytest.mark.parametrize("fails", [False, True])
def test_lifted_objects_are_back(shell: Notebook, fails: bool) -> None:
    values = [float(f"1.{n}") for n in range(8)]
    array = np.ones(3)
    inner = [values[2], array]
    tuple_ = (values[3], inner, {"k": values[4]})
    box = types.SimpleNamespace(f=values[5], t=(values[6],))
    namespace = {"x": values[0], "p": {"w": values[1], "l": inner}, "t": tuple_, "box": box}
    shell.ns.update(tf=tf, np=np, **namespace)
    cell = (
        "%%grad y --wrt x p t box.f box.t\n"
        "assert all(tf.is_tensor(one) for one in tf.nest.flatten([x, p, t, box.f, box.t]))\n"
        "y = x*p['w']*tf.reduce_sum(p['l'][1])*t[0]*t[2]['k']*box.f*box.t[0]\n"
    )
    run = shell.run(cell + ("1/0" if fails else ""))
    assert run.success is not fails, run.traceback + run.stderr
    if fails:
        assert isinstance(run.error, ZeroDivisionError)
    assert {name: shell.ns[name] for name in namespace} == namespace
    assert all(shell.ns[name] is value for name, value in namespace.items())
    assert namespace["p"]["w"] is values[1]
    assert namespace["p"]["l"] is inner
    assert inner[0] is values[2]
    assert inner[1] is array
    assert tuple_[2]["k"] is values[4]
    assert box.f is values[5]
    assert box.t[0] is values[6]


def test_aliases_of_a_lifted_object_are_given_back(shell: Notebook) -> None:
    grads(shell, "%%grad dy/dx\nz = x\ny = z**2", x=3.0)
    assert type(shell.ns["x"]) is float


# -- only the sources are watched ------------------------------------------------------------------


def test_an_op_without_a_gradient_on_a_path_of_no_source(shell: Notebook) -> None:
    namespace = {"image": tf.ones((1, 2, 2, 3)), "w": tf.Variable(2.0), "u": tf.Variable(1.0)}
    cell = (
        "%%grad loss --wrt w\nmore = tf.image.adjust_saturation(image*u, 2.0)\nloss = w*tf.reduce_mean(more)"
    )
    report = grads(shell, cell, **namespace)
    assert rows(report) == {"dloss/dw": 1.0}


def test_a_float_tensor_that_is_no_source_is_not_watched(shell: Notebook) -> None:
    cell = "%%grad dy/dx\ny = x*t\nseen = tape.watched_variables()"
    grads(shell, cell, x=tf.Variable(2.0), t=tf.constant(3.0), other=tf.Variable(1.0))
    assert [float(one) for one in shell.ns["seen"]] == [2.0]


# -- refusals --------------------------------------------------------------------------------------

REFUSED = [
    ("x", 3, "x is an integer, and integers have no derivative: write x = 3.0"),
    ("x", np.int64(3), "x is an integer, and integers have no derivative: write x = 3.0"),
    ("x", True, "x is the bool True, which has no derivative."),
    ("x", "word", "x is the str 'word', which has no derivative."),
    ("x", b"word", "x is the bytes b'word', which has no derivative."),
    ("x", None, "x is None, which has no derivative"),
    ("x", np.arange(3), "x is an array of int64, which has no derivative: write x = x.astype('float32')"),
    ("x", np.array(["a"]), "x is an array of <U1, which has no derivative"),
    (
        "x",
        tf.constant(3),
        "x is int32, and only floating-point numbers have a derivative: write x = tf.cast(x, tf.float32).",
    ),
    (
        "x",
        tf.Variable(3),
        "x is int32, and only floating-point numbers have a derivative: "
        "write x = tf.Variable(tf.cast(x, tf.float32)).",
    ),
    ("x", tf.constant("a"), "x is string"),
    ("x", tf.constant(True), "x is bool"),
    ("x", [1.0, 2], "x[1] is an integer, and integers have no derivative"),
    ("x", {"k": {"j": "s"}}, "x['k']['j'] is the str 's', which has no derivative."),
    ("x", {1.0}, "x is a set, which has no derivative"),
    ("x[2]", tf.Variable([1.0, 2.0]), "x is of shape (2,), and has no x[2]."),
    ("x[0][1]", np.ones(2), "x is of shape (2,), and has no x[0][1]."),
    ("x[0, 1]", np.ones(2), "x is of shape (2,), and has no x[0, 1]."),
    ("x['k']", {"j": 1.0}, "x is a dict and has no 'k'"),
    ("x[3]", [1.0], "x is a list and has no 3"),
    (
        "x.kernal",
        types.SimpleNamespace(kernel=1.0),
        "x is a SimpleNamespace and has no kernal; did you mean kernel?",
    ),
    ("x.real", 1.0, "x.real cannot be replaced by a tensor: real is read-only."),
]


@pytest.mark.parametrize(
    ("place", "value", "message"), REFUSED, ids=[f"{place}-{value!r:.20}" for place, value, _ in REFUSED]
)
@pytest.mark.parametrize("line", ["y --wrt {}", "dy/d{}"])
def test_refusals(shell: Notebook, line: str, place: str, value: Any, message: str) -> None:
    shell.ns.update(tf=tf, x=value)
    refused = shell.refused(f"%%grad {line.format(place)}\nran = True\ny = tf.constant(1.0)")
    assert refused.startswith(message)


@pytest.mark.parametrize("value", [3, "s", True, tf.constant(1)])
@pytest.mark.both_doors("value")
def test_both_doors_refuse_alike(door: Door, value: Any) -> None:
    assert "x is " in door.refused_grad(Case("y = 1.0*x", "dy/dx", {"x": value}))


def test_an_integer_that_the_cell_itself_writes(shell: Notebook) -> None:
    message = shell.refused("%%grad dy/dx\nx = 3\ny = 2.0*x")
    assert message == "x is an integer, and integers have no derivative: write x = 3.0"


def test_unknown_names(shell: Notebook) -> None:
    shell.ns.update(model=tf.Variable(1.0))
    assert shell.refused("%%grad dy/dmodle\ny = model*2") == "modle is not defined; did you mean model?"
    assert shell.refused("%%grad y --wrt Model\ny = model*2") == "Model is not defined; did you mean model?"
    assert shell.refused("%%grad dy/dq\ny = model*2") == "q is not defined"


def test_functools_partial_is_no_source(shell: Notebook) -> None:
    shell.ns.update(p=functools.partial(print))
    assert shell.refused("%%grad dy/dp\ny = 1.0").startswith("p is a partial, which has no derivative")


# -- lookups, whose gradients are sparse -----------------------------------------------------------


def test_a_lookup(door: Door) -> None:
    table = tf.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    cell = "rows = tf.nn.embedding_lookup(table, [0, 2, 2])\nloss = tf.reduce_sum(rows**3)"
    report = door.grad(Case(cell, "dloss/dtable, d2loss/dtable2", {"tf": tf, "table": table}))
    first, second = report
    assert isinstance(first.value, tf.IndexedSlices)  # as TensorFlow gave it
    assert tf.convert_to_tensor(first.value).numpy().tolist() == [[3.0, 12.0], [0.0, 0.0], [150.0, 216.0]]
    assert tf.convert_to_tensor(second.value).numpy().tolist() == [[6.0, 12.0], [0.0, 0.0], [60.0, 72.0]]
    assert first.shape == second.shape == (3, 2)
    assert first.summary is not None
    assert first.summary.values == (3.0, 12.0, 0.0, 0.0, 150.0, 216.0)
    assert second.label == "∂Σ(∂loss/∂table)/∂table"
    assert second.sum_note == "sum of 6 first derivatives"


@pytest.mark.parametrize("leaf", [tf.Variable, tf.constant, float])
def test_a_field_of_a_named_tuple_is_a_source(door: Door, leaf: Callable[[Any], Any]) -> None:
    point = Point(leaf(2.0), leaf(3.0))
    report = door.grad(Case("y = p.u**2*p.v", "dy/dp.u, d2y/dp.u2 --check", {"p": point}))
    assert rows(report) == {"dy/dp.u": 12.0, "d2y/dp.u2": 6.0}
    assert [check.agrees for check in report.checks] == [True, True]


class Circle(collections.namedtuple("Circle", "radius")):
    @property
    def diameter(self) -> float:
        return 2.0 * self.radius


def test_a_property_of_a_named_tuple_is_none(door: Door) -> None:
    sentence = door.refused_grad(Case("y = p.diameter**2", "dy/dp.diameter", {"p": Circle(2.0)}))
    assert sentence == "p.diameter cannot be replaced by a tensor: diameter is read-only."
