"""Compiling in threads, which a run waits for in slices, so that the user can stop the wait.

Nothing can end TensorFlow or XLA while they compile. So they compile in a thread here, by a call of no steps
on copies of the variables: the thread may be left to itself and touches nothing. The run's own call then
finds the compiled function.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar

from tape_magic.engine.internals.captures import caller_with_captures
from tape_magic.engine.internals.contexts import capture_call_context
from tape_magic.engine.internals.log_level import quiet_log
from tape_magic.engine.minimization.control import RunControl, StopRequested
from tape_magic.engine.process.interrupts import Interrupt
from tape_magic.results.steps import Step

SLICE_SECONDS = 0.02
"""Seconds after which a waiting run asks again whether it should end."""

THREAD = "tape_magic: compiling"
"""The name of the threads."""

LOW_PRIORITY = 15
"""The priority, as ``nice`` counts it, of a thread that compiles beside steps."""

_Result = TypeVar("_Result")


class BackgroundCompile:
    """A concrete function that TensorFlow compiles in another thread.

    Parameters
    ----------
    call
        A call that makes TensorFlow compile it.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._call: Callable[[], Any] | None = call
        self._state = capture_call_context()
        _leave_compilers_alone()
        # A daemon, so that Python can end while it compiles.
        threading.Thread(target=self._run, name=THREAD, daemon=True).start()

    def _run(self) -> None:
        assert self._call is not None
        try:
            with self._state(), quiet_log():
                self._call()
        except BaseException as error:
            self._error = error
        finally:
            self._call = None  # and the copies with it
            self._done.set()

    @property
    def done(self) -> bool:
        """Whether the function is compiled, or refused."""
        return self._done.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for at most so many seconds, and return whether the function is compiled or refused."""
        return self._done.wait(seconds)

    def check(self) -> None:
        """Raise the error that TensorFlow refused the function with, if it did."""
        if self._error is not None:
            raise self._error


@cache
def _leave_compilers_alone() -> None:
    """Make a process that ends while a compiler works exit before TensorFlow tidies up.

    Otherwise the compiler would use what is gone by then, and the process would crash instead of ending with
    its status. This needs ``on_exit``, which glibc has.
    """
    try:
        library = ctypes.CDLL(None)
        at_exit, flush, leave = library.on_exit, library.fflush, library._exit
    except (OSError, AttributeError, TypeError):
        return

    def end() -> None:
        if any(thread.name == THREAD for thread in threading.enumerate()):
            flush(None)
            at_exit(leave, None)  # after all of Python's, with the status as its first argument

    atexit.register(end)


def compile_in_background(
    function: Any, arguments: Sequence[Any], *, gives_way: bool = False
) -> BackgroundCompile | None:
    """Begin to compile a concrete function, by a call on copies of the variables that it captures.

    If it `gives_way`, other threads go before it where processors are few. Copies share the memory of their
    originals until one of them is assigned. ``None`` where a call with
    other variables than its own is not possible.
    """
    import tensorflow as tf

    call = caller_with_captures(function)
    if call is None or tf.distribute.has_strategy() or not tf.executing_eagerly():
        return None
    try:
        copies = {id(variable.handle): _copy(variable) for variable in function.graph.variables}
        captured = [copies[id(one)].handle if id(one) in copies else one for one in function.captured_inputs]
    except (AttributeError, ValueError, tf.errors.OpError):
        return None
    flat = tf.nest.flatten(arguments, expand_composites=True)

    def compiled() -> Any:
        if gives_way and sys.platform == "linux":  # where each thread has a priority of its own
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)
        return call(flat, captured), copies

    return BackgroundCompile(compiled)


def _copy(variable: Any) -> Any:
    import tensorflow as tf

    with tf.device(variable.device):
        return tf.Variable(variable.read_value(), trainable=False, shape=variable.shape)


class CompileWaiter:
    """Waits for compilers, so that the user can stop the run at any time.

    Parameters
    ----------
    control
        Says whether the user wants the run to end, and is shown where the run stands; ``None`` for nobody.
    step_of
        Returns the step to show while an engine compiles: before Python begins its part, and at each slice.

    Attributes
    ----------
    seconds
        The time that the run has waited for compilers.
    """

    def __init__(
        self, control: RunControl | None = None, step_of: Callable[[str], Step] | None = None
    ) -> None:
        self._control = RunControl(Interrupt()) if control is None else control
        self._step_of = step_of
        self.seconds = 0.0

    def lay_out(self, call: Callable[[], _Result], engine: str) -> _Result:
        """Call Python's part of compiling, which the first interrupt ends.

        Raises :class:`StopRequested`.
        """
        with self._counted():
            self._show(engine)
            with self._control.at_once():
                return call()

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Let the first interrupt end the block, which traces the program; there is nothing to report yet."""
        with self._control.before_anything():
            yield

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the first interrupt end the block, in which the program runs for the first time."""
        with self._control.raising():
            yield

    def wait(self, compiling: BackgroundCompile, engine: str) -> None:
        """Wait until a thread has compiled. Raises :class:`StopRequested` where the user ends the run."""
        with self._counted():
            while not compiling.wait(SLICE_SECONDS):
                if self._control() is not None:
                    raise StopRequested
                self._show(engine)

    def _show(self, engine: str) -> None:
        if self._step_of is not None:
            self._control.show(self._step_of(engine))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        began, paused = time.perf_counter(), self._control.paused
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began - (self._control.paused - paused)
