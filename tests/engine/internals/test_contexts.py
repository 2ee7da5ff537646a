"""An interrupt at the moment at which TensorFlow has entered a graph, and its `with` does not know of it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.eager import context
from tensorflow.python.framework import ops

from tape_magic.engine.internals.contexts import restore_after_interrupt
from tests.support.notebook import Notebook


@pytest.fixture
def unraised(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What goes wrong where nobody can catch it, such as in a generator that is thrown away."""
    found: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    yield found
    ops._default_graph_stack.stack[:] = []  # for the other tests, if this one fails


def entered() -> tuple[Any, ...]:
    """All that this thread is in."""
    return (
        ops.inside_function(),
        tf.executing_eagerly(),
        len(ops._default_graph_stack.stack),
        len(context.context().context_switches.stack),
        len(ag_ctx._control_ctx()),
        context.context().device_name or "",
    )


PRESSED = """
import contextlib, dis, sys
import tensorflow as tf
from tensorflow.python.eager import context

@tf.autograph.experimental.do_not_convert
def pressed(manager):
    def trace(frame, event, argument):
        if frame.f_code is contextlib._GeneratorContextManager.__enter__.__code__:
            frame.f_trace_opcodes = True
            if event == "opcode" and dis.opname[frame.f_code.co_code[frame.f_lasti]] == "RETURN_VALUE":
                raise KeyboardInterrupt
            return trace
    sys._getframe().f_trace_opcodes = True  # Python 3.12 wants to know before a tracer is set
    sys.settrace(trace)
    with manager:
        pass

@tf.autograph.experimental.do_not_convert
def pressed_on_leaving():
    def trace(frame, event, argument):
        if frame.f_code is contextlib._GeneratorContextManager.__exit__.__code__:
            raise KeyboardInterrupt
    with tf.Graph().as_default(), context.graph_mode():
        sys.settrace(trace)

x = tf.Variable(1.0)
"""
"""An interrupt at the return from ``__enter__``, where Python looks for signals before ``with`` goes on, and
at the call of ``__exit__``, before the context is left."""


INTERRUPTED = "\ny = x*x\nwith tf.device('CPU:0'):\n    {}"


@pytest.mark.parametrize("pressed", ["pressed(tf.Graph().as_default())", "pressed_on_leaving()"])
@pytest.mark.parametrize(
    "line",
    [
        "%%grad dy/dx",
        "%%grad y --hessian",
        "%%minimize y --over x --engine graph",
        "%%minimize y --over x --engine eager",
        "%%minimize y --over x --optimizer bfgs",
    ],
)
def test_nothing_stays_entered(shell: Notebook, unraised: list[Any], line: str, pressed: str) -> None:
    before = entered()
    shell.ok(PRESSED)
    run = shell.run(line + INTERRUPTED.format(pressed))
    assert isinstance(run.error, KeyboardInterrupt)
    assert entered() == before
    assert float(shell.ok("float(x*3)").out) == 3.0
    del run
    for name in ("last_exc", "last_value", "last_traceback"):  # IPython leaves the traceback there
        vars(sys).pop(name, None)
    gc.collect()
    assert unraised == []
    assert entered() == before


def test_contexts_of_the_users_own_stay_entered() -> None:
    with tf.Graph().as_default() as graph, tf.device("CPU:0"):
        before = entered()
        names: dict[str, Any] = {}
        exec(PRESSED, names)
        with pytest.raises(KeyboardInterrupt), restore_after_interrupt():
            names["pressed"](tf.Graph().as_default())
        assert entered() == before
        assert tf.compat.v1.get_default_graph() is graph
    assert not ops._default_graph_stack.stack
