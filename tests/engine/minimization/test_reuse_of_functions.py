"""`minimize()` in a Python loop: what a function compiled is found again while its variables live."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.tracing.traced import Traced


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[Traced]:
    made: list[Traced] = []
    trace = Traced.__init__

    def counted(self: Traced, *arguments: Any, **named: Any) -> None:
        made.append(self)
        trace(self, *arguments, **named)

    monkeypatch.setattr(Traced, "__init__", counted)
    return made


def square(a: Any) -> Any:
    return (a - 3.0) ** 2


def network(inputs: int) -> Any:
    return keras.Sequential(
        [keras.layers.Input((inputs,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    )


def test_two_players_are_traced_once_each(traces: list[Traced]) -> None:
    maker, judge = network(2), network(1)
    noise, real = tf.random.normal((8, 2)), tf.random.normal((8, 1))
    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    first, second = keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.01)
    for _ in range(4):
        tape_magic.minimize(
            lambda: entropy(tf.ones((8, 1)), judge(real)) + entropy(tf.zeros((8, 1)), judge(maker(noise))),
            judge.trainable_variables,
            first,
            steps=1,
        )
        tape_magic.minimize(
            lambda: entropy(tf.ones((8, 1)), judge(maker(noise))), maker.trainable_variables, second, steps=1
        )
    assert len(traces) == 2
    assert int(first.iterations) == int(second.iterations) == 4


CALLS: dict[str, Callable[[Any], Any]] = {
    "a lambda": lambda x: tape_magic.minimize(lambda: (x - 3.0) ** 2, x, "sgd", steps=1, lr=0.25),
    "the variables that it reads": lambda x: tape_magic.minimize(
        lambda: (x - 3.0) ** 2, None, "sgd", steps=1, lr=0.25
    ),
    "an argument": lambda x: tape_magic.minimize(square, x, "sgd", steps=1, lr=0.25),
    "a name": lambda x: tape_magic.minimize(square, {"a": x}, "sgd", steps=1, lr=0.25),
    "a compiled function": lambda x: tape_magic.minimize(COMPILED, x, "sgd", steps=1, lr=0.25),
    "a default": lambda x: tape_magic.minimize(lambda k=3.0: (x - k) ** 2, None, "sgd", steps=1, lr=0.25),
    "data": lambda x: tape_magic.minimize(
        lambda a, b: tf.reduce_mean((a - b) ** 2), x, "sgd", 1, lr=0.25, data=(np.full(32, 3.0, "float32"),)
    ),
}
COMPILED = tf.function(square)


@pytest.mark.parametrize("call", CALLS)
def test_further_calls_that_are_traced_once(call: str, traces: list[Traced]) -> None:
    x = tf.Variable(1.0)
    for expected in (2.0, 2.5, 2.75):
        CALLS[call](x)
        assert float(x) == pytest.approx(expected)
    assert len(traces) == 1


@pytest.mark.parametrize("method", ["bfgs", "sgd"])
def test_floats_of_a_function(method: str, traces: list[Traced]) -> None:
    lr = {"lr": 0.4} if method == "sgd" else {}

    def loss(a: Any) -> Any:
        return (a - 3.0) ** 2

    for start in (0.0, 1.0, 9.0):
        result = tape_magic.minimize(loss, {"a": start}, method, steps=50, **lr)
        assert float(result.variables["a"].start) == start
        assert float(result.variables["a"].end) == pytest.approx(3.0, abs=1e-3)
    assert len(traces) == 1


def test_what_changed_is_seen(traces: list[Traced]) -> None:
    x, numbers, array = tf.Variable(0.0), [1.0], np.ones(3, "float32")

    def target() -> Any:
        return numbers[0] * tf.reduce_mean(array) * target.factor  # type: ignore[attr-defined]

    target.factor = 1.0  # type: ignore[attr-defined]

    def end() -> float:
        tape_magic.minimize(lambda: (x - target()) ** 2, x, "sgd", steps=1, lr=0.5)
        return float(x)

    assert end() == end() == 1.0
    assert len(traces) == 1
    numbers[0] = 2.0
    assert end() == 2.0
    array[:] = 3.0
    assert end() == 6.0
    target.factor = 2.0  # type: ignore[attr-defined]
    assert end() == 12.0
    assert len(traces) == 4


def test_another_model_and_another_setting_are_others(traces: list[Traced]) -> None:
    for _ in range(2):
        x = tf.Variable(0.0)
        for lr in (0.5, 0.25):
            tape_magic.minimize(square, x, "sgd", steps=1, lr=lr)
    assert len(traces) == 4


def test_a_frozen_layer_counts(traces: list[Traced]) -> None:
    model = network(2)
    data = tf.ones((4, 2))
    for frozen in (False, True):
        model.layers[0].trainable = not frozen
        before = [value.numpy() for value in model.layers[0].weights]
        tape_magic.minimize(lambda: tf.reduce_mean(model(data) ** 2), model, "sgd", steps=1)
        same = all(
            np.array_equal(one, two.numpy()) for one, two in zip(before, model.layers[0].weights, strict=True)
        )
        assert same == frozen
    assert len(traces) == 2


def test_nothing_outlives_the_variable() -> None:
    def run() -> weakref.ref[Any]:
        x, array = tf.Variable(1.0), np.ones((300, 300), "float32")
        tape_magic.minimize(lambda: (x - tf.reduce_mean(array)) ** 2, x, "sgd", steps=1)
        return weakref.ref(x)

    gone = run()
    gc.collect()
    assert gone() is None


def test_threads_do_not_share_a_loop() -> None:
    ends: dict[int, float] = {}
    barrier = threading.Barrier(3)

    def run(number: int) -> None:
        for start in range(3):
            barrier.wait(60)
            result = tape_magic.minimize(square, {"a": float(number + start)}, "sgd", steps=1, lr=0.25)
            ends[3 * start + number] = float(result.variables["a"].end) - (number + start + 3.0) / 2.0

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert list(ends.values()) == [0.0] * 9


def test_a_run_that_fails_leaves_the_next_one_right(traces: list[Traced]) -> None:
    x = tf.Variable(1.0)

    def loss() -> Any:
        return (x - 3.0) ** 2

    tape_magic.minimize(loss, x, "sgd", steps=1, lr=0.25)
    with pytest.raises(RuntimeError, match="stop"):
        tape_magic.minimize(loss, x, "sgd", steps=1, lr=0.25, on_progress=_raise)
    x.assign(1.0)
    tape_magic.minimize(loss, x, "sgd", steps=1, lr=0.25)
    assert float(x) == 2.0


def _raise(_: Any) -> None:
    raise RuntimeError("stop")
