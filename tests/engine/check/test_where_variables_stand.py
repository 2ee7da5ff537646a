"""`--check` of variables that stand in objects of libraries: moved and put back where they can be found."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import keras
import pytest
import tensorflow as tf

from tape_magic.results.check import CheckOutcome
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook


class Inner(tf.Module):
    """A list of variables, as the object that is loaded has one, too."""

    def __init__(self) -> None:
        super().__init__()
        self.k = [tf.Variable([0.5, 1.5]), tf.Variable(2.0)]


class Net(tf.Module):
    """Variables in a module, and in one within it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.w = Inner(), tf.Variable([1.0, 2.0])

    @tf.function(input_signature=[tf.TensorSpec([2])])
    def __call__(self, x: Any) -> Any:
        return tf.reduce_sum(tf.tanh(x * self.w * self.inner.k[0]) * self.inner.k[1])


@pytest.fixture
def loaded(tmp_path: Path) -> Any:
    tf.saved_model.save(Net(), str(tmp_path))
    return tf.saved_model.load(str(tmp_path))


LOADED = [
    ("y = loaded(x)**2", "y --wrt x,loaded.w"),
    ("y = loaded(x)**2", "y --wrt loaded.inner.k"),
    ("y = loaded(x)**2", "y --wrt params"),
    ("y = held['m'](x)**2", "y --wrt held['m'].w"),
    ("y = loaded(x)**2", "y"),
    ("y = loaded(x)**2\nloaded.w.assign_add([1.0, 1.0])", "y --wrt loaded.w"),
]


@pytest.mark.parametrize(("cell", "line"), LOADED)
def test_variables_of_a_loaded_model(shell: Notebook, loaded: Any, cell: str, line: str) -> None:
    params, held = [loaded.w, loaded.inner.k[1]], {"m": loaded}
    shell.ns.update(loaded=loaded, params=params, held=held, x=tf.constant([0.1, 0.2]))
    before = [variable.numpy().tolist() for variable in (loaded.w, *loaded.inner.k)]
    shell.ok(f"%%grad {line} --check\n{cell}")
    checks = shell.ns["grads"].checks
    assert checks
    for check in checks:
        assert check.agrees, check
        assert check.compared == check.elements
    before[0] = [2.0, 3.0] if "assign" in cell else before[0]
    assert [variable.numpy().tolist() for variable in (loaded.w, *loaded.inner.k)] == before


def test_a_wrong_gradient_by_a_loaded_variable_is_found(door: Door, loaded: Any) -> None:
    @tf.custom_gradient
    def wrong(v: Any) -> Any:
        return tf.sin(v), lambda upstream: upstream * tf.cos(v) * 1.1

    names = {"tf": tf, "w": loaded.w, "loaded": loaded, "wrong": wrong, "x": tf.constant([0.1, 0.2])}
    (check,) = door.grad(Case("y = wrong(loaded(x))", "y --wrt w --check", names)).checks
    assert check.outcome is CheckOutcome.DIFFERS


def test_a_model_that_keras_exported(shell: Notebook, tmp_path: Path) -> None:
    keras.utils.set_random_seed(4)
    net = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(3, activation="tanh"), keras.layers.Dense(1)]
    )
    net.export(str(tmp_path), verbose=False)
    artifact = tf.saved_model.load(str(tmp_path))
    shell.ns.update(artifact=artifact, x=tf.constant([[0.3], [0.5]]), tf=tf)
    shell.ok("%%grad y --check\ny = tf.reduce_sum(artifact.serve(x)**2)")
    checks = shell.ns["grads"].checks
    assert len(checks) == 4
    assert all(check.agrees for check in checks), checks


def test_the_place_of_a_source_is_followed_into_any_object(shell: Notebook) -> None:
    holder = SimpleNamespace(w=tf.Variable(2.0), deep=SimpleNamespace(v=[tf.Variable(3.0)]))
    shell.ns.update(h=holder)
    shell.ok("%%grad y --wrt h.w h.deep.v --check\ny = h.w**3*h.deep.v[0]**2")
    assert [check.agrees for check in shell.ns["grads"].checks] == [True, True]
    assert (float(holder.w), float(holder.deep.v[0])) == (2.0, 3.0)


def test_a_variable_out_of_sight_is_told_apart_from_one_of_the_cell(shell: Notebook) -> None:
    shell.ns.update(h=MappingProxyType({"w": tf.Variable(2.0)}), tf=tf)
    shell.ok("%%grad y --check\ny = h['w']**3")
    (check,) = shell.ns["grads"].checks
    assert check.outcome is CheckOutcome.NOT_COMPARED
    assert "stands where --check does not look: name its place with --wrt" in check.note
    shell.ok("%%grad y --check\nv = tf.Variable(2.0)\ny = v**3")
    (check,) = shell.ns["grads"].checks
    assert "v is made in the cell itself" in check.note
    assert check.reason == ""


@pytest.mark.parametrize(
    "layer",
    [
        lambda: keras.layers.Dense(2),
        lambda: keras.Sequential([keras.layers.Dense(2), keras.layers.BatchNormalization()]),
        lambda: keras.layers.GRU(2),
    ],
    ids=["layer", "model", "recurrent"],
)
def test_a_layer_that_the_cell_builds(shell: Notebook, layer: Any) -> None:
    shell.ns.update(layer=layer(), data=tf.reshape(tf.range(12.0) / 10.0, [2, 2, 3]), tf=tf)
    shell.ok("%%grad y --wrt layer --check\ny = tf.reduce_sum(layer(data)**3)")
    checks = shell.ns["grads"].checks
    assert len(checks) == len(shell.ns["layer"].trainable_variables)
    assert all(check.agrees for check in checks), checks


def test_a_variable_that_each_run_makes_anew_is_not_moved(shell: Notebook) -> None:
    """The object is there before the cell, and without its variable when the cell begins again."""
    shell.ok(
        "import tensorflow as tf\n"
        "class Module(tf.Module):\n"
        "    def __call__(self, x):\n"
        "        if not hasattr(self, 'w'):\n"
        "            self.w = tf.Variable([1.0, 2.0])\n"
        "        return x * self.w\n"
        "module = Module()"
    )
    shell.ok("%%grad y --wrt module --check\ny = tf.reduce_sum(module(3.0)**2)")
    (check,) = shell.ns["grads"].checks
    assert "w is made in the cell itself" in check.note
