"""Values that leave TensorFlow and come in are heard, by one thread, and as long as somebody listens."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import constant_op, ops

from tape_magic.engine.internals.conversions import listening_to_conversions


class Heard:
    """What was heard: tensors that left, and pairs of values and tensors that came in."""

    def __init__(self) -> None:
        self.left: list[Any] = []
        self.came: list[tuple[Any, Any]] = []

    def listening(self) -> Any:
        return listening_to_conversions(self.left.append, lambda *pair: self.came.append(pair))


WAYS_OUT: dict[str, Callable[[Any], Any]] = {
    "numpy": lambda t: t.numpy(),
    "array": lambda t: t.__array__(),
    "float": float,
    "int": int,
    "complex": complex,
    "bool": bool,
    "format": lambda t: f"{t:.2f}",
    "str": str,
    "repr": repr,
    "pickle": lambda t: pickle.loads(pickle.dumps(t)).numpy(),
    "static value": tf.get_static_value,
    "stored in an array": lambda t: np.zeros(1).__setitem__(0, t),
    "in a list": lambda t: np.array([t, t]).tolist(),
    "NumPy's generator": lambda t: np.random.default_rng(0).normal(0.0, t),
}


@pytest.mark.parametrize("name", WAYS_OUT)
def test_the_ways_out_are_heard_and_give_the_same(name: str) -> None:
    tensor, heard = tf.constant(3.0), Heard()
    expected = WAYS_OUT[name](tensor)
    with heard.listening() as works:
        found = WAYS_OUT[name](tensor)
    assert works
    assert any(one is tensor for one in heard.left)
    assert type(found) is type(expected)
    assert found == expected


@pytest.mark.parametrize("make", [tf.Variable, keras.Variable], ids=["tf", "keras"])
def test_the_values_of_variables_are_heard(make: Callable[[Any], Any]) -> None:
    variable, heard = make(2.0), Heard()
    with heard.listening():
        assert float(variable) == 2.0
        assert np.array(variable) == 2.0
        assert keras.ops.convert_to_numpy(variable) == 2.0
    assert len(heard.left) >= 3


def test_an_index_is_heard() -> None:
    heard = Heard()
    with heard.listening():
        assert [5, 6, 7][tf.constant(1)] == 6
    assert len(heard.left) == 1


def test_what_comes_in_is_heard() -> None:
    heard = Heard()
    with heard.listening():
        first = tf.constant(2.5)
        second = tf.convert_to_tensor(np.ones(2))
        assert tf.convert_to_tensor(first) is first
    assert [id(tensor) for _, tensor in heard.came] == [id(first), id(second)]
    assert heard.came[0][0] == 2.5


def test_each_thread_hears_its_own() -> None:
    here, there = Heard(), Heard()
    started, done = threading.Event(), threading.Event()

    def beside() -> None:
        with there.listening():
            started.set()
            assert done.wait(60)
            float(tf.constant(7.0))

    thread = threading.Thread(target=beside)
    with here.listening():
        thread.start()
        assert started.wait(60)
        float(tf.constant(8.0))
        done.set()
        thread.join(60)
    assert [float(one) for one in here.left] == [8.0]
    assert [float(one) for one in there.left] == [7.0]


def test_listening_nests() -> None:
    outer, inner, tensor = Heard(), Heard(), tf.constant(1.5)
    with outer.listening():
        with inner.listening():
            float(tensor)
        float(tensor)
    float(tensor)
    assert (len(outer.left), len(inner.left)) == (2, 1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nobody_listens_after_an_error(error: type[BaseException]) -> None:
    heard = Heard()
    with pytest.raises(error), heard.listening():
        raise error
    float(tf.constant(1.0))
    assert heard.left == []
    assert ops._EagerTensorBase._numpy.hearers == {}
    assert constant_op.convert_to_eager_tensor.hearers == {}


def test_a_function_is_replaced_once() -> None:
    with Heard().listening():
        first = ops._EagerTensorBase._numpy
    with Heard().listening():
        assert ops._EagerTensorBase._numpy is first


@pytest.mark.parametrize("missing", ["_EagerTensorBase", "convert_to_eager_tensor"])
def test_a_tensorflow_without_the_private_parts_is_not_heard(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(ops if missing == "_EagerTensorBase" else constant_op, missing)
    heard = Heard()
    with heard.listening() as works:
        assert not works
    assert heard.left == []
