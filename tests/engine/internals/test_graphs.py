"""Graphs of functions, branches and loops in a TensorFlow that lacks a private part used for them."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf
from tensorflow.python.autograph.operators import variables as undefined
from tensorflow.python.ops import cond_v2, control_flow_ops, script_ops, while_v2

import tape_magic
from tape_magic.engine.diagnosis import expansion, graph_operations, loop_expansion
from tape_magic.engine.internals.captures import caller_with_captures
from tape_magic.engine.internals.graphs import (
    all_in_variables,
    branch_graphs,
    custom_gradient_name,
    function_graph,
    is_undefined,
    loop_graphs,
    py_function_tensors,
    written_inputs,
)
from tape_magic.engine.internals.xla import XlaContext
from tape_magic.engine.record.recorder import Recorder
from tests.support.other_version import remove_module


@tf.function
def branching(x: Any) -> Any:
    return tf.cond(x > 0.0, lambda: tf.round(x), lambda: x * x)


@tf.function
def looping(x: Any) -> Any:
    return tf.while_loop(lambda y: y < 10.0, lambda y: [tf.round(y) + 1.0], [x])[0]


@tf.function
def calling(x: Any) -> Any:
    return inner(x)


@tf.function
def inner(x: Any) -> Any:
    return tf.round(x)


def operation_of(function: Any, *types: str) -> Any:
    graph = function.get_concrete_function(tf.TensorSpec([], tf.float32)).graph
    (found,) = [operation for operation in graph.get_operations() if operation.type in types]
    return found


def types_in(graph: Any) -> set[str]:
    return {operation.type for operation in graph.get_operations()}


def test_graphs_are_found() -> None:
    first, second = branch_graphs(operation_of(branching, "If", "StatelessIf")) or ()
    assert "Round" in types_in(first)
    assert "Mul" in types_in(second)
    condition, body = loop_graphs(operation_of(looping, "While", "StatelessWhile")) or ()
    assert "Less" in types_in(condition)
    assert "Round" in types_in(body)
    call = operation_of(calling, "PartitionedCall", "StatefulPartitionedCall")
    assert "Round" in types_in(function_graph(call))


def test_graphs_that_are_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    conditional, loop = (
        operation_of(branching, "If", "StatelessIf"),
        operation_of(looping, "While", "StatelessWhile"),
    )
    call = operation_of(calling, "PartitionedCall", "StatefulPartitionedCall")
    monkeypatch.delattr(cond_v2, "get_func_graphs")
    monkeypatch.delattr(while_v2, "_get_graph")
    monkeypatch.delattr(tf.Graph, "_get_function")
    assert branch_graphs(conditional) is None
    assert loop_graphs(loop) is None
    assert function_graph(call) is None


@pytest.mark.parametrize("function", [branching, looping, calling])
def test_a_derivative_through_a_graph_that_is_not_found(
    monkeypatch: pytest.MonkeyPatch, function: Any
) -> None:
    """The derivative is the same, and the diagnosis does without the graphs."""
    (expected,) = tape_magic.grad(lambda x: function(x), {"x": 1.5}).rows
    for module in (expansion, graph_operations, loop_expansion):
        for name in {"branch_graphs", "loop_graphs", "function_graph"} & vars(module).keys():
            monkeypatch.setattr(module, name, lambda operation: None)
    (row,) = tape_magic.grad(lambda x: function(x), {"x": 1.5}).rows
    assert row.value is None if expected.value is None else float(row.value) == float(expected.value)


def test_a_call_with_other_captures() -> None:
    variable, other = tf.Variable(2.0), tf.Variable(7.0)
    concrete = tf.function(lambda x: x * variable).get_concrete_function(tf.TensorSpec([], tf.float32))
    call = caller_with_captures(concrete)
    assert call is not None
    assert float(tf.nest.flatten(call([tf.constant(3.0)], [other.handle]))[0]) == 21.0
    assert float(concrete(tf.constant(3.0))) == 6.0


def test_no_call_with_other_captures() -> None:
    assert caller_with_captures(object()) is None


def test_the_tensors_of_a_py_function(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    with recorder.listening(), tf.GradientTape() as tape:
        x = tf.constant(3.0)
        tape.watch(x)
        tf.py_function(lambda y: y * y, [x], tf.float32)
    (entry,) = [entry for entry in recorder.entries if entry.type == "EagerPyFunc"]
    assert entry.within is not None
    (given,), (returned,) = entry.within
    assert float(recorder.tensor(given)) == 3.0
    assert float(recorder.tensor(returned)) == 9.0
    assert py_function_tensors(()) is None
    monkeypatch.delattr(script_ops, "tape_cache")
    assert py_function_tensors(entry.attrs or ()) is None


def test_the_name_of_a_custom_gradient() -> None:
    @tf.custom_gradient
    def twice(x: Any) -> Any:
        return tf.identity(x), lambda upstream: 2.0 * upstream

    graph = tf.function(twice).get_concrete_function(tf.TensorSpec([], tf.float32)).graph
    names = {operation.type: custom_gradient_name(operation) for operation in graph.get_operations()}
    assert names["Placeholder"] == ""
    assert names["IdentityN"].startswith("CustomGradient")


def test_undefined_values_of_autograph() -> None:
    assert is_undefined(undefined.Undefined("y"))
    assert is_undefined(undefined.UndefinedReturnValue())
    assert not is_undefined(tf.constant(1.0))


def test_without_its_table_every_other_operation_counts_as_stateful(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all_in_variables(["MatMul", "AssignVariableOp"])
    assert not all_in_variables(["PrintV2"])
    remove_module(monkeypatch, "tensorflow.python.framework.op_def_registry")
    assert all_in_variables(["AssignVariableOp"])
    assert not all_in_variables(["MatMul"])


def test_written_inputs_of_a_call() -> None:
    """A call of a function that only reads a variable is told from one that assigns the variable."""
    variable = tf.Variable(1.0)
    reads = tf.function(lambda: variable + 1.0)
    writes = tf.function(lambda: variable.assign(2.0) + 0.0)
    outer = [tf.function(lambda inner=inner: inner()).get_concrete_function() for inner in (reads, writes)]
    assert [len(written_inputs(function.graph)) for function in outer] == [0, 1]


def test_no_context_for_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(control_flow_ops, "XLAControlFlowContext")

    @tf.function
    def doubled(x: Any) -> Any:
        with XlaContext():
            return 2.0 * x

    assert float(doubled(tf.constant(3.0))) == 6.0
