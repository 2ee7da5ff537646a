"""Why tracing or compiling failed, in one clause with the user's line; programs that create variables."""

from __future__ import annotations

import re
import textwrap

from tape_magic.engine.program.program import Program
from tape_magic.errors import TargetError


class VariableCreated(Exception):
    """The program created a variable when it had none left to create."""


def creates_a_variable(program: Program, error: BaseException) -> TargetError:
    """The refusal of a program that an error stopped as it created a variable."""
    line = program.line_of(error)
    return TargetError(
        f"{f'line {line[0]}' if line else 'the loss'} creates a variable, "
        "which would be a new one at each step: create it in a cell above."
    )


def operation_without_gradient(error: LookupError) -> str:
    """The kind of operation that TensorFlow missed a gradient of; empty if the error is another one."""
    found = re.search(
        r"gradient registry has no entry for: (\w+)|No gradient defined .*op type: (\w+)", str(error)
    )
    return (found[1] or found[2]) if found else ""


def failure_of_compiling(engine: str, error: Exception, line: int | None) -> str:
    """Why an engine could not run the graph, in one clause, and the line of the user's that is at fault."""
    where = f" (line {line})" if line else ""
    message = str(getattr(error, "message", error))
    kernels = re.search(r"unsupported operations[^:]*:\s*(\w+)", message)
    if kernels:
        return f"XLA has no kernel for {kernels[1]}{where}"
    if isinstance(error, LookupError) and (operation := operation_without_gradient(error)):
        return f"TensorFlow has no gradient of {operation}{where}"
    first = message.strip().partition("\n")[0]
    runner = "XLA" if engine == "xla" else "a graph"
    return f"{runner} cannot run it{where}: {textwrap.shorten(first, 160, placeholder='…')}"


def failure_of_trace(error: BaseException, program: Program) -> str:
    """Why tracing failed, and on which of the user's lines."""
    where = program.line_of(error)
    text = str(error).lower()
    if "numpy" in text:
        why = "calls NumPy on a tensor"
    elif "iterating over" in text or "python `bool`" in text:
        why = "needs the value of a tensor in Python"
    else:
        why = f"cannot be traced ({type(error).__name__})"
    return f"line {where[0]} {why}: {where[1]}" if where else f"it {why}"
