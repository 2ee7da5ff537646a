"""Which values a record notes as gone out and come in, and under which calls of the user's."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.record import conversions
from tape_magic.engine.record.conversions import Conversions
from tape_magic.engine.record.recorder import Recorder
from tests.support.cells import elsewhere


def lines(calls: Any) -> list[int]:
    return [line for call in calls for _, line in call.frames]


def test_the_calls_lead_from_the_innermost_outwards() -> None:
    text = "def inner(v):\n    return float(v)\n\ndef outer(v):\n    a = 1\n    return inner(v)\n"
    outer, kept = elsewhere(text)["outer"], Conversions()
    with kept.listening():
        outer(tf.constant(2.0))
    (left,) = kept.exits
    assert lines(left.calls)[:2] == [2, 6]
    assert [call.direct for call in left.calls[:2]] == [False, True]
    assert left.calls[0].code.co_name == "inner"


def test_a_library_in_between_is_seen() -> None:
    kept = Conversions()
    with kept.listening():
        tf.nest.map_structure(lambda v: float(v), [tf.constant(2.0)])
    (left,) = kept.exits
    assert left.calls[0].code.co_name == "<lambda>"
    assert not left.calls[1].direct


def test_numbers_come_in_with_their_values() -> None:
    recorder, x = Recorder(), tf.Variable(2.0)
    with recorder.listening():
        y = x * 4.5 + tf.constant([1.0, 2.0])
    assert y.shape == (2,)
    assert {one.number for one in recorder.conversions.arrivals} == {4.5, None}


def test_whole_numbers_are_noted_once_something_has_left() -> None:
    kept, x = Conversions(), tf.constant(1.0)
    with kept.listening():
        tf.constant([7, 8])
        assert kept.arrivals == []
        float(x)
        tf.constant([7, 9])
    assert len(kept.arrivals) == 1


def test_a_run_with_too_many_conversions_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversions, "MOST_CONVERSIONS", 3)
    kept, x = Conversions(), tf.constant(1.0)
    with kept.listening():
        for _ in range(5):
            float(x)
    assert len(kept.exits) == 3
    assert not kept.complete


def test_a_failure_to_listen_is_no_failure_of_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Conversions, "_calls_around", lambda self, frame: 1 / 0)
    report = tape_magic.grad(lambda x: x * float(x), {"x": 3.0})
    assert float(report["_", "x"]) == 3.0


def test_forward_mode_reads_a_variable_once_more_than_its_tangent() -> None:
    """The operation of the tangent is heard before the operation itself, with the tensor that both read."""
    x, recorder = tf.Variable([0.4, 1.0]), Recorder()
    with (
        tf.autodiff.ForwardAccumulator(x, tf.ones(2)) as accumulator,
        recorder.listening(),
    ):
        y = tf.sin(x)
    assert accumulator.jvp(y) is not None
    kinds = [entry.type for entry in recorder.entries]
    assert "ReadVariableOp" in kinds
    (sine,) = [entry for entry in recorder.entries if entry.type == "Sin"]
    (read,) = [entry for entry in recorder.entries if entry.type == "ReadVariableOp"]
    assert sine.inputs[0] in read.outputs
