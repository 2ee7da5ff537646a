"""Derivatives and minima in several threads at once, and beside threads that compute for themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tests.notebook import Notebook

PATIENCE = 60  # seconds until a thread counts as stuck


class Threads:
    """Functions in threads of their own; what they raise is raised where they are joined."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self.results: dict[str, Any] = {}

    def start(self, name: str, function: Callable[[], Any]) -> None:
        def run() -> None:
            try:
                self.results[name] = function()
            except BaseException as error:
                self._errors.append(error)

        self._threads.append(threading.Thread(target=run, name=name, daemon=True))
        self._threads[-1].start()

    def join(self) -> dict[str, Any]:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name} is stuck"
        for error in self._errors:
            raise error
        return self.results


def parts_of_tensorflow() -> list[Any]:
    """What listening to operations replaces within TensorFlow."""
    from tensorflow.python.eager import execute, record

    return [execute.execute, record.record_operation]


def test_two_derivatives_at_once_are_each_explained() -> None:
    """The first ends while the second runs; what the second computes from then on is heard all the same."""

    @tf.function
    def chosen(x: Any) -> Any:
        return tf.cast(tf.argmax(tf.stack([x, 1.0])), tf.float32)

    chosen(tf.constant(1.0))
    before = parts_of_tensorflow()
    second_runs, first_is_done = threading.Event(), threading.Event()

    def first(x: Any) -> Any:
        assert second_runs.wait(PATIENCE)
        return x * tf.stop_gradient(x)

    def second(x: Any) -> Any:
        second_runs.set()
        assert first_is_done.wait(PATIENCE)
        return chosen(x)

    def run_first() -> Any:
        try:
            return tape_magic.grad(first, {"x": 2.0})
        finally:
            first_is_done.set()

    threads = Threads()
    threads.start("first", run_first)
    threads.start("second", lambda: tape_magic.grad(second, {"x": 2.0}))
    found = threads.join()
    assert float(found["first"]["_", "x"]) == 2.0
    (row,) = found["second"].rows
    assert row.reason is not None
    assert "cut at ArgMax" in str(row.reason)
    assert parts_of_tensorflow() == before


def test_what_was_listening_before_goes_on() -> None:
    """A listener of the user's, such as TensorFlow's check of numerics, hears operations before and after."""
    from tensorflow.python.framework import op_callbacks

    heard: list[str] = []

    def hear(op_type: Any, *more: Any, **named: Any) -> None:
        heard.append(str(op_type))

    @tf.function
    def called(x: Any) -> Any:
        return x + 1.0

    x = tf.constant(2.0)
    called(x)
    op_callbacks.add_op_callback(hear)
    try:
        threads = Threads()
        threads.start("grad", lambda: tape_magic.grad(lambda x: x * x, {"x": 3.0}))
        threads.join()
        heard.clear()
        called(x)
        assert any("called" in one for one in heard), heard
    finally:
        op_callbacks.remove_op_callback(hear)
