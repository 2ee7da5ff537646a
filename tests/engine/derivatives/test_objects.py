"""Objects as sources, by what they hold: records, the user's classes, ragged and sparse tensors."""

from __future__ import annotations

import argparse
import dataclasses
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.engine.values import objects
from tape_magic.results.gradients import GradReport
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook


@dataclasses.dataclass
class State:
    w: Any
    b: Any
    step: int = 3
    name: str = "state"


@dataclasses.dataclass(frozen=True)
class Frozen:
    w: Any
    b: Any


@dataclasses.dataclass(slots=True)
class Slotted:
    w: Any
    b: Any


class AttrsLike:
    """A class as the library ``attrs`` makes it."""

    __attrs_attrs__ = (types.SimpleNamespace(name="w"), types.SimpleNamespace(name="b"))

    def __init__(self, w: Any, b: Any) -> None:
        self.w, self.b = w, b


class Own:
    def __init__(self, w: Any, b: Any) -> None:
        self.w, self.b, self.steps, self.own = w, b, 10, self


class OwnSlots:
    __slots__ = ("b", "empty", "w")

    def __init__(self, w: Any, b: Any) -> None:
        self.w, self.b = w, b


class Guarded:
    """An object whose own methods must not run."""

    def __init__(self, w: Any, b: Any) -> None:
        self.__dict__.update(w=w, b=b)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AssertionError(name)


class Pair(NamedTuple):
    w: Any
    b: Any


class Plain(tf.Module):
    """A module whose attributes are no variables."""

    def __init__(self, w: Any, b: Any) -> None:
        super().__init__(name="plain")
        self.w, self.b = w, b


def namespace(w: Any, b: Any) -> Any:
    return types.SimpleNamespace(w=w, b=b, note="text")


def parsed(w: Any, b: Any) -> Any:
    return argparse.Namespace(w=w, b=b, epochs=3)


for kind in (State, Frozen, Slotted, AttrsLike, Own, OwnSlots, Guarded):
    kind.__module__ = "__main__"  # as in a notebook, whose state a check puts back

KINDS = [State, Frozen, Slotted, AttrsLike, Own, OwnSlots, Guarded, Pair, namespace, parsed]
LEAVES = {
    "variable": tf.Variable,
    "tensor": tf.constant,
    "float": float,
    "array": np.array,
    "Keras": keras.Variable,
}


def flat(report: GradReport) -> dict[str, Any]:
    return {row.wrt[0]: None if row.value is None else np.asarray(row.value).tolist() for row in report}


@pytest.mark.parametrize("leaf", LEAVES)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_object_stands_for_what_it_holds(door: Door, kind: Callable[..., Any], leaf: str) -> None:
    s = kind(LEAVES[leaf](2.0), LEAVES[leaf](5.0))
    before = s.w, s.b
    report = door.grad(Case("y = s.w**2*s.b", "y --wrt s", {"s": s}))
    assert flat(report) == {"s.w": 20.0, "s.b": 4.0}
    assert s.w is before[0]
    assert s.b is before[1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("leaf", ["variable", "tensor", "float"])
def test_the_check_moves_what_an_object_holds(shell: Notebook, kind: Callable[..., Any], leaf: str) -> None:
    s = kind(LEAVES[leaf](2.0), LEAVES[leaf](5.0))
    before = s.w, s.b
    shell.ns.update(tf=tf, s=s)
    shell.ok("%%grad y --wrt s --check\ny = tf.sin(s.w)*s.b")
    assert [check.outcome.name for check in shell.ns["grads"].checks] == ["AGREES", "AGREES"]
    assert (s.w, s.b) == before
    assert s.w is before[0]
    assert s.b is before[1]


@pytest.mark.parametrize(
    "kind", [State, Frozen, Slotted, AttrsLike, namespace], ids=lambda kind: kind.__name__
)
def test_a_record_comes_back_as_one(shell: Notebook, kind: Callable[..., Any]) -> None:
    s = kind(tf.Variable(2.0), 5.0)
    shell.ns.update(s=s)
    shell.ok("%%grad dy/ds\ny = s.w**2*s.b")
    found = shell.ns["dy_ds"]
    assert type(found) is type(s)
    assert (float(found.w), float(found.b)) == (20.0, 4.0)


def test_other_objects_come_back_as_dicts(shell: Notebook) -> None:
    shell.ns.update(s=Own(tf.Variable(2.0), tf.Variable(5.0)))
    shell.ok("%%grad dy/ds\ny = s.w**2*s.b")
    assert {name: float(value) for name, value in shell.ns["dy_ds"].items()} == {"w": 20.0, "b": 4.0}


def test_objects_in_structures_and_structures_in_objects(shell: Notebook) -> None:
    s = [State(tf.Variable(1.0), 2.0), {"k": Frozen(3.0, (tf.constant(4.0), {"j": Own(5.0, 6.0)}))}]
    shell.ns.update(s=s)
    shell.ok("%%grad y --wrt s\ny = s[0].w*s[0].b*s[1]['k'].w*s[1]['k'].b[0]*s[1]['k'].b[1]['j'].w")
    assert flat(shell.ns["grads"]) == {
        "s[0].w": 120.0,
        "s[0].b": 60.0,
        "s[1]['k'].w": 40.0,
        "s[1]['k'].b[0]": 30.0,
        "s[1]['k'].b[1]['j'].w": 24.0,
        "s[1]['k'].b[1]['j'].b": None,
    }
    assert type(s[0].b) is float
    assert type(s[1]["k"].b[1]["j"].w) is float


def test_an_object_that_the_cell_makes(shell: Notebook) -> None:
    shell.ns.update(State=State, x=tf.constant(2.0))
    shell.ok("%%grad y --wrt s --check\ns = State(2*x, 3.0)\ny = s.w**2*s.b")
    assert flat(shell.ns["grads"]) == {"s.w": 24.0, "s.b": 16.0}
    assert type(shell.ns["s"].b) is float
    assert [check.outcome.name for check in shell.ns["grads"].checks] == ["AGREES", "AGREES"]


def test_objects_that_know_each_other(shell: Notebook) -> None:
    parent = Own(tf.Variable(2.0), tf.Variable(3.0))
    parent.child = Own(tf.Variable(5.0), parent)
    shell.ns.update(s=parent)
    shell.ok("%%grad y --wrt s\ny = s.w*s.b*s.child.w")
    assert flat(shell.ns["grads"]) == {"s.w": 15.0, "s.b": 10.0, "s.child.w": 6.0}


class Trainer:
    def __init__(self) -> None:
        self.net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="dense")])
        self.scale = tf.Variable(2.0)
        self.rate, self.rows, self.labels = 0.1, np.ones((1, 2)), ["a"]
        self.optimizer = keras.optimizers.SGD()


def test_settings_beside_variables_are_no_sources(shell: Notebook) -> None:
    s = Trainer()
    shell.ns.update(tf=tf, s=s)
    shell.ok(
        "%%grad y --wrt s\nassert type(s.rate) is float\ny = s.rate*s.scale*tf.reduce_sum(s.net(s.rows))"
    )
    assert list(flat(shell.ns["grads"])) == ["dense/kernel", "dense/bias", "s.scale"]
    np.testing.assert_allclose(shell.ns["grads"]["y", "dense/bias"], [0.2], rtol=1e-6)


@pytest.mark.parametrize("leaf", ["tensor", "float", "array"])
def test_a_module_of_plain_attributes(shell: Notebook, leaf: str) -> None:
    s = Plain(LEAVES[leaf](2.0), [LEAVES[leaf](5.0)])
    held = s.b[0]
    shell.ns.update(tf=tf, s=s)
    shell.ok("%%grad y --wrt s --check\ny = tf.sin(s.w)*s.b[0]")
    assert list(flat(shell.ns["grads"])) == ["s.w", "s.b[0]"]
    assert [check.outcome.name for check in shell.ns["grads"].checks] == ["AGREES", "AGREES"]
    assert s.b[0] is held


def test_a_module_with_variables_stands_for_these(shell: Notebook) -> None:
    shell.ns.update(s=Plain(tf.Variable(2.0), tf.constant(5.0)))
    shell.ok("%%grad y --wrt s\ny = s.w**2*s.b")
    assert flat(shell.ns["grads"]) == {"w": 20.0}


@pytest.mark.parametrize("vector", ["dict(w=1.0, b=0.5)", "State(1.0, 0.5)"])
def test_a_vector_for_an_object(shell: Notebook, vector: str) -> None:
    shell.ns.update(State=State, s=State(tf.Variable(2.0), tf.Variable(5.0)))
    shell.ok(f"%%grad y --jvp s={vector} --check\ny = s.w**2*s.b")
    (row,) = shell.ns["grads"]
    assert float(row.value) == 22.0
    said = shell.refused("%%grad y --jvp s=1.0\ny = s.w**2*s.b")
    assert said == "1.0 does not fit s, a State that holds w, b: give a dict of as many."


def test_second_derivatives_and_hessians_by_an_object(shell: Notebook) -> None:
    shell.ns.update(s=State(2.0, 5.0))
    shell.ok("%%grad y --wrt s --order 2\ny = s.w**3*s.b**2")
    assert flat(shell.ns["grads"]) == {"s.w": 300.0, "s.b": 16.0}
    shell.ok("%%grad y --wrt s --hessian\ny = s.w**3*s.b**2")
    assert shell.ns["grads"].hessian["s.w", "s.b"].numpy() == 120.0


@pytest.mark.parametrize("kind", [State, Frozen, Own], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("leaf", ["variable", "float"])
def test_minimising_over_an_object(shell: Notebook, kind: Callable[..., Any], leaf: str) -> None:
    s = kind(LEAVES[leaf](2.0), LEAVES[leaf](5.0))
    shell.ns.update(s=s)
    shell.ok(
        "%%minimize y --over s --optimizer sgd --lr 0.25 --steps 40\ny = (s.w - 1.0)**2 + (s.b + 3.0)**2"
    )
    np.testing.assert_allclose([float(s.w), float(s.b)], [1.0, -3.0], atol=1e-5)
    assert type(s.w) is float or leaf == "variable"


# -- ragged and sparse tensors ---------------------------------------------------------------------

RAGGED = tf.ragged.constant([[1.0], [2.0, 3.0]])
SPARSE = tf.sparse.from_dense([[1.0, 0.0], [2.0, 3.0]])


@pytest.mark.parametrize("line", ["dy/ds", "y --wrt s", "dy/ds.flat_values", "y --wrt s --check"])
def test_ragged_tensors(shell: Notebook, line: str) -> None:
    shell.ns.update(tf=tf, s=RAGGED)
    shell.ok(f"%%grad {line}\ny = tf.reduce_sum(s**2)")
    report = shell.ns["grads"]
    assert flat(report) == {"s.flat_values": [2.0, 4.0, 6.0]}
    assert shell.ns["s"] is RAGGED
    assert [check.outcome.name for check in report.checks] == ["AGREES"] * len(report.checks)
    if "flat" not in line:
        assert report["y", "s"].to_list() == [[2.0], [4.0, 6.0]]


def test_sparse_tensors(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=SPARSE)
    shell.ok(
        "%%grad dy/ds --check\n"
        "y = tf.reduce_sum(tf.sparse.sparse_dense_matmul(s, tf.ones((2, 1), s.dtype))**2)"
    )
    assert flat(shell.ns["grads"]) == {"s.values": [2.0, 10.0, 10.0]}
    assert tf.sparse.to_dense(shell.ns["dy_ds"]).numpy().tolist() == [[2.0, 0.0], [10.0, 10.0]]
    assert [check.outcome.name for check in shell.ns["grads"].checks] == ["AGREES"]


def test_ragged_tensors_that_the_cell_makes_or_an_object_holds(shell: Notebook) -> None:
    shell.ns.update(tf=tf, v=tf.constant([1.0, 2.0]), o=State(RAGGED, 2.0))
    shell.ok("%%grad dy/ds\ns = tf.RaggedTensor.from_row_splits(v, [0, 1, 2])\ny = tf.reduce_sum(s**2)")
    assert shell.ns["dy_ds"].to_list() == [[2.0], [4.0]]
    shell.ok("%%grad dy/do\ny = tf.reduce_sum(o.w**2)*o.b")
    assert flat(shell.ns["grads"]) == {"o.w.flat_values": [4.0, 8.0, 12.0], "o.b": 14.0}
    assert shell.ns["dy_do"].w.to_list() == [[4.0], [8.0, 12.0]]


def test_a_ragged_tensor_that_is_not_read(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=RAGGED, x=tf.constant(2.0))
    shell.ok("%%grad dy/ds\ny = x**2")
    assert shell.ns["dy_ds"] is None
    assert "does not read" in shell.ns["grads"].rows[0].why


def test_the_numbers_of_a_ragged_tensor_move_along_a_vector(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=RAGGED)
    shell.ok("%%grad y --jvp s=s\ny = tf.reduce_sum(s**2)")
    assert float(shell.ns["grads"].rows[0].value) == 28.0


def test_a_ragged_tensor_cannot_be_minimised_over(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=RAGGED)
    said = shell.refused("%%minimize y --over s\ny = tf.reduce_sum(s**2)")
    assert said == (
        "a RaggedTensor cannot be minimised over: make a variable v of its flat_values, "
        "and the RaggedTensor from v in the cell."
    )


# -- what is no source still ---------------------------------------------------------------------------


class Nothing:
    def __init__(self) -> None:
        self.name, self.size = "x", 3


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (Nothing(), "a Nothing"),
        (types.SimpleNamespace(), "a SimpleNamespace"),
        (dataclasses.make_dataclass("Empty", [])(), "an Empty"),
        (keras.optimizers.SGD(), "a SGD"),
        (lambda x: x, "a function"),
        (State, "a type"),
        (np, "a module"),
        ({1.0}, "a set"),
    ],
    ids=["own", "namespace", "dataclass", "optimizer", "function", "class", "module", "set"],
)
def test_objects_that_hold_nothing(shell: Notebook, value: Any, what: str) -> None:
    shell.ns.update(s=value, x=tf.constant(1.0))
    said = shell.refused("%%grad y --wrt s\ny = x*2")
    assert said == (
        f"s is {what}, which has no derivative; sources are variables, float tensors, floats, arrays, "
        "layers and models, and lists, tuples, dicts or objects that hold them."
    )


def test_an_object_is_no_parameter_of_a_compiled_function(shell: Notebook) -> None:
    shell.ns.update(tf=tf, s=State(2.0, 3.0), r=RAGGED)
    assert shell.refused("%%grad dy/ds --def f\ny = s.w*s.b") == (
        "s is a State, and parameters of f stand for variables, tensors, floats and arrays, "
        "or for lists, tuples and dicts of them."
    )
    assert shell.refused("%%grad dy/dr --def f\ny = tf.reduce_sum(r)").startswith("r is a RaggedTensor, and")


def test_variables_of_an_object_that_is_not_named(shell: Notebook) -> None:
    shell.ns.update(s=State(tf.Variable(2.0), tf.Variable(5.0)), w=tf.Variable(1.0))
    shell.ok("%%grad y\ny = s.w**2*s.b*w")
    assert flat(shell.ns["grads"]) == {"s.w": 20.0, "s.b": 4.0, "w": 20.0}


def test_a_long_list_in_an_object_takes_no_time(shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    monkeypatch.setattr(objects, "is_tensor", lambda value: looked_at.append(value) or tf.is_tensor(value))
    s = Own(tf.Variable(2.0), list(range(100_000)))
    assert list(objects.parts_of_object(s)) == ["w"]
    assert len(looked_at) < 5000


def test_an_integer_in_a_list_is_refused_still(shell: Notebook) -> None:
    shell.ns.update(s=[State(2.0, 3.0), 3])
    assert shell.refused("%%grad y --wrt s\ny = s[0].w*1.0").startswith("s[1] is an integer")
