"""Derivatives and minima in several threads at once, and beside threads that compute for themselves."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.internals.contexts import run_eagerly_here
from tape_magic.engine.process.log import capture_log
from tape_magic.engine.process.output import hide_output
from tape_magic.results.minimum import MinimizeResult

PATIENCE = 300  # seconds until a thread counts as stuck


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


HOW: dict[str, dict[str, Any]] = {
    "graph": {"optimizer": "adam", "lr": 0.1, "engine": "graph"},
    "eager": {"optimizer": "sgd", "lr": 0.1, "engine": "eager"},
    "bfgs": {"optimizer": "bfgs"},
}


@pytest.mark.parametrize("how", HOW)
def test_two_minima_at_once_are_those_of_each_alone(how: str) -> None:
    """From their starts on, step by step, whatever runs beside them."""
    begins = threading.Barrier(2, timeout=PATIENCE)

    def run(start: float) -> MinimizeResult:
        x = tf.Variable([start, -start], name="x", dtype=tf.float64)
        return tape_magic.minimize(lambda: tf.reduce_sum((x - 1.0) ** 4), [x], steps=60, **HOW[how])

    def beside(start: float) -> MinimizeResult:
        begins.wait()
        return run(start)

    threads = Threads()
    threads.start("one", lambda: beside(2.0))
    threads.start("other", lambda: beside(3.0))
    found = threads.join()
    for name, start in (("one", 2.0), ("other", 3.0)):
        alone = run(start)
        assert found[name].steps == alone.steps > 0
        np.testing.assert_allclose(found[name].history, alone.history, rtol=1e-9, atol=1e-12)


def test_two_checks_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Each runs its function again and again, unseen; both leave the program as it was."""
    before = [sys.stdout, sys.stderr, tf.config.functions_run_eagerly(), *parts_of_tensorflow()]
    begins = threading.Barrier(2, timeout=PATIENCE)
    traced: list[int] = []

    @tf.function
    def cube(x: Any) -> Any:
        traced.append(1)
        return x**3

    def check(said: str) -> Any:
        def function(x: Any) -> Any:
            print(said)
            return cube(x) * 2.0

        begins.wait()
        return tape_magic.grad(function, {"x": 2.0}, check=True)

    threads = Threads()
    threads.start("one", lambda: check("one"))
    threads.start("other", lambda: check("other"))
    found = threads.join()
    assert [float(found[name]["_", "x"]) for name in ("one", "other")] == [24.0, 24.0]
    assert sorted(capsys.readouterr().out.split()) == ["one", "other"]
    assert [sys.stdout, sys.stderr, tf.config.functions_run_eagerly(), *parts_of_tensorflow()] == before
    assert isinstance(tf.config.functions_run_eagerly(), bool)


def on_another_thread(function: Callable[[], Any]) -> Any:
    """What a function gives on another thread."""
    threads = Threads()
    threads.start("another", function)
    return threads.join()["another"]


@pytest.mark.parametrize("set_by_user", [False, True])
def test_functions_run_eagerly_on_one_thread_only(set_by_user: bool) -> None:
    tf.config.run_functions_eagerly(set_by_user)
    try:
        run_eagerly_here(True)
        assert tf.config.functions_run_eagerly()
        assert on_another_thread(lambda: bool(tf.config.functions_run_eagerly())) == set_by_user
        on_another_thread(lambda: (run_eagerly_here(True), run_eagerly_here(False)))
        assert tf.config.functions_run_eagerly()
        run_eagerly_here(False)
        assert tf.config.functions_run_eagerly() is set_by_user
    finally:
        tf.config.run_functions_eagerly(False)


def test_the_log_of_another_thread_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = tf.get_logger()
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "level", logging.INFO)
    with capture_log(details=True) as messages:
        logger.debug("own detail")
        on_another_thread(lambda: (logger.warning("of another"), logger.debug("detail of another")))
    assert messages == ["own detail"]
    assert heard == ["of another"]


def test_of_two_that_keep_the_log_the_last_puts_its_level_back() -> None:
    logger = tf.get_logger()
    before = logger.level, list(logger.filters)
    first_keeps, second_keeps, first_is_done = (threading.Event() for _ in range(3))

    def first() -> list[str]:
        with capture_log(details=True) as messages:
            first_keeps.set()
            assert second_keeps.wait(PATIENCE)
            logger.debug("first")
        first_is_done.set()
        return messages

    def second() -> list[str]:
        assert first_keeps.wait(PATIENCE)
        with capture_log(details=True) as messages:
            second_keeps.set()
            assert first_is_done.wait(PATIENCE)
            logger.debug("second")
        return messages

    threads = Threads()
    threads.start("first", first)
    threads.start("second", second)
    assert threads.join() == {"first": ["first"], "second": ["second"]}
    assert (logger.level, list(logger.filters)) == before


def test_what_another_thread_prints_waits_for_the_file_and_is_not_lost(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """On a terminal; the thread is there before what it prints beside begins."""
    begins, ended = threading.Event(), threading.Event()

    def talk() -> None:
        assert begins.wait(PATIENCE)
        print("of another", flush=True)
        ended.set()

    threads = Threads()
    threads.start("talk", talk)
    with hide_output():
        print("own")
        begins.set()
        assert ended.wait(PATIENCE)
    print("later", flush=True)
    threads.join()
    assert capfd.readouterr().out == "of another\nlater\n"
