"""Eager operations in a TensorFlow that lacks a private part used to hear or repeat them."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import backprop, execute, record
from tensorflow.python.framework import op_callbacks, ops

import tape_magic
from tape_magic.engine.internals.operations import (
    argument_at,
    element_count,
    execute_unrecorded,
    gradients_of,
    is_eager,
    is_registered,
    key_of,
    listening_to_operations,
    never_differentiable,
    newest_key,
    stopped_reader,
    watch_sources,
)
from tape_magic.engine.record.recomputed import recompute
from tape_magic.engine.record.recorder import Recorder
from tape_magic.results.reasons import Cause, Reason
from tests.support.other_version import remove_module


def reason_for_rounding() -> Reason:
    """Why there is no derivative of a value that is rounded."""
    (row,) = tape_magic.grad(lambda x: tf.round(x) * 2.0, {"x": 1.5}).rows
    assert row.value is None
    assert row.reason is not None
    return row.reason


def no_backward(name: str, outputs: Any, inputs: Any, backward: Any) -> Any:
    return backward


@pytest.mark.parametrize(
    "missing", ["tensorflow.python.eager.record", "tensorflow.python.framework.op_callbacks"]
)
def test_nothing_is_heard_without_the_module(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    remove_module(monkeypatch, missing)
    with listening_to_operations(lambda *_: None, no_backward) as heard:
        assert not heard


def test_without_callbacks_the_derivative_is_right_and_the_reason_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert reason_for_rounding().cause is not Cause.UNKNOWN
    monkeypatch.delattr(op_callbacks, "add_op_callback")
    recorder = Recorder()
    with recorder.listening():
        tf.tanh(1.0)
    assert not recorder.complete
    assert recorder.entries == []
    assert reason_for_rounding().cause is Cause.UNKNOWN
    (row,) = tape_magic.grad(lambda x: x**3, {"x": 2.0}).rows
    assert float(row.value) == 12.0


def test_a_tensor_of_another_make_leaves_the_record_incomplete() -> None:
    recorder = Recorder()
    with recorder.listening():
        recorder._hear("Tanh", [object()], (), [object()])
    assert not recorder.complete


def test_hooks_are_gone_after_the_last_listener() -> None:
    before = record.record_operation, execute.execute
    with listening_to_operations(lambda *_: None, no_backward) as heard:
        assert heard
        assert record.record_operation is not before[0]
    assert (record.record_operation, execute.execute) == before


def test_keys_without_the_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tf.constant(0)
    monkeypatch.delattr(ops, "uid")
    newest = newest_key()
    assert key_of(before) <= newest < key_of(tf.constant(0))


def test_a_number_of_elements_without_the_method() -> None:
    class Shaped:
        shape = tf.TensorShape([2, 3])

    assert element_count(Shaped()) == element_count(tf.zeros([2, 3])) == 6
    assert not is_eager(Shaped())
    assert is_eager(tf.zeros([2, 3]))


@pytest.mark.parametrize("public", [False, True])
def test_sources_are_watched(public: bool) -> None:
    variable, tensor = tf.Variable(3.0), tf.constant(5.0)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        # Of the second, only the public method is there.
        watch_sources(SimpleNamespace(watch=tape.watch) if public else tape, [variable, tensor])
        product = variable * tensor
    assert [float(one) for one in tape.gradient(product, [variable, tensor])] == [5.0, 3.0]


def test_tapes_count_as_running_where_they_do_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pywrap_tfe, "TFE_Py_TapeSetIsStopped")
    assert stopped_reader.__wrapped__()() is False


def test_no_gradient_is_called_missing_without_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [is_registered(kind) for kind in ("Mul", "ArgMax", "NoSuchOp")] == [True, True, False]
    assert [never_differentiable(kind) for kind in ("Mul", "Shape", "NoSuchOp")] == [False, True, True]
    monkeypatch.delattr(ops, "_gradient_registry")
    assert is_registered("NoSuchOp")
    assert not never_differentiable("Shape")


def test_the_diagnosis_goes_on_without_the_gradient_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(backprop, "_gradient_function")
    one = tf.constant(1.0)
    with pytest.raises(AttributeError):
        gradients_of("Round", (), [one], [one], [one])
    assert reason_for_rounding().text


def test_nothing_is_recomputed_without_the_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    attrs, inputs = ("T", tf.float32.as_datatype_enum), [tf.constant(-2.0)]
    assert float(execute_unrecorded("Relu", attrs, inputs)) == 0.0
    assert float(recompute("Relu", attrs, inputs)) == 0.0
    monkeypatch.delattr(execute, "quick_execute")
    assert recompute("Relu", attrs, inputs) is None


def test_an_argument_is_told_only_in_a_generated_function() -> None:
    assert argument_at(sys._getframe(), 0) is None
