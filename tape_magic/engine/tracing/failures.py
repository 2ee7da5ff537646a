"""Why a program cannot be traced, compiled or differentiated: each failure of TensorFlow in one clause."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tape_magic.engine.program.program import Program, Untraceable
from tape_magic.errors import TapeMagicError, TargetError


class EngineRefused(Exception):
    """An engine cannot run a program; the message says why in one clause."""


class CreatesVariable(TargetError):
    """A program creates a variable each time that it runs."""


@contextmanager
def trace_failures(program: Program) -> Iterator[None]:
    """Turn what tracing raises into :class:`Untraceable` with one clause; let refusals of the package pass.

    Raises :class:`CreatesVariable` for a program that creates a variable at each trace.
    """
    try:
        yield
    except (TapeMagicError, Untraceable):
        raise
    except Exception as error:
        # tf.function's message for a variable that is created again in the second trace (TensorFlow 2.21).
        if "singleton tf.Variable" in str(error):
            raise creates_a_variable(program, error) from None
        raise Untraceable(failure_of_trace(error, program)) from error


@contextmanager
def compile_failures(engine: str, line_of: Callable[[str], int | None]) -> Iterator[None]:
    """Turn TensorFlow's refusal to compile a graph into :class:`EngineRefused` with one clause.

    Parameters
    ----------
    engine
        ``xla`` or ``graph``.
    line_of
        Finds the user's line that an error message names.
    """
    import tensorflow as tf

    try:
        yield
    except (tf.errors.OpError, ValueError, TypeError, LookupError, NotImplementedError) as error:
        raise EngineRefused(_failure_of_compiling(engine, error, line_of(str(error)))) from error


@contextmanager
def missing_gradients(advice: str = "") -> Iterator[None]:
    """Refuse an operation without a gradient by its name, with some advice for the user.

    Raises :class:`TargetError` in place of TensorFlow's ``LookupError``.
    """
    try:
        yield
    except LookupError as error:
        operation = _operation_without_gradient(error)
        if not operation:
            raise
        end = f": {advice}." if advice else "."
        raise TargetError(
            f"the loss goes through {operation}, which TensorFlow has no gradient of{end}"
        ) from None


def creates_a_variable(program: Program, error: BaseException) -> CreatesVariable:
    """Return the refusal of a program that was stopped by an error as it created a variable."""
    line = program.line_of(error)
    return CreatesVariable(
        f"{f'line {line[0]}' if line else 'the loss'} creates a variable, "
        "which would be a new one at each step: create it in a cell above."
    )


def failure_of_trace(error: BaseException, program: Program) -> str:
    """Return why tracing failed, with the user's line."""
    where = program.line_of(error)
    text = str(error).lower()
    if "numpy" in text:
        why = "calls NumPy on a tensor"
    elif "iterating over" in text or "python `bool`" in text:
        why = "needs the value of a tensor in Python"
    else:
        why = f"cannot be traced ({type(error).__name__})"
    return f"line {where[0]} {why}: {where[1]}" if where else f"it {why}"


def _failure_of_compiling(engine: str, error: Exception, line: int | None) -> str:
    """Return why an engine could not run a graph, with the user's line."""
    where = f" (line {line})" if line else ""
    message = str(getattr(error, "message", error))
    kernels = re.search(r"unsupported operations[^:]*:\s*(\w+)", message)
    if kernels:
        return f"XLA has no kernel for {kernels[1]}{where}"
    if isinstance(error, LookupError) and (operation := _operation_without_gradient(error)):
        return f"TensorFlow has no gradient of {operation}{where}"
    first = message.strip().partition("\n")[0]
    runner = "XLA" if engine == "xla" else "a graph"
    return f"{runner} cannot run it{where}: {textwrap.shorten(first, 160, placeholder='…')}"


def _operation_without_gradient(error: LookupError) -> str:
    """Return the type of the operation whose gradient is not registered; empty for another error."""
    found = re.search(
        r"gradient registry has no entry for: (\w+)|No gradient defined .*op type: (\w+)", str(error)
    )
    return (found[1] or found[2]) if found else ""
