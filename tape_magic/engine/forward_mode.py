"""Where TensorFlow's forward mode stops the program itself, and what to do.

Forward mode differentiates each operation as it runs, so it fails in the middle of the user's code,
with exceptions that speak of TensorFlow's inside.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from tape_magic.engine.program import Program
from tape_magic.errors import TargetError

_UNREGISTERED = "gradient registry has no entry for: "
_ELSE = "put it under tape.stop_recording() if it is constant, or take --jacobian or --hessian"


@contextmanager
def explained(program: Program) -> Iterator[None]:
    """Turn what forward mode raises into a :class:`TargetError` with the line; the user's own passes."""
    try:
        yield
    except Exception as error:
        why = _why(error)
        if not why:
            raise
        found = program.line_of(error)
        raise TargetError(f"line {found[0]}: {why}" if found else why) from error


def _why(error: Exception) -> str:
    """A sentence; empty for an exception that is not forward mode's."""
    message = str(error)
    if isinstance(error, LookupError) and _UNREGISTERED in message:
        operation = message.partition(_UNREGISTERED)[2].partition(" ")[0]
        return f"{operation} has no gradient registered, and forward mode needs one: {_ELSE}."
    for known, (what, cure) in _LIMITS.items():
        if known in message:
            return f"TensorFlow's forward mode cannot follow {what}: {cure}, or take --jacobian or --hessian."
    if _is_within_forward_mode(error):
        return f"TensorFlow's forward mode fails here with {type(error).__name__}: {_ELSE}."
    return ""


def _is_within_forward_mode(error: Exception) -> bool:
    """Whether TensorFlow differentiated when it failed, and not by a tape of the user's."""
    files = (os.path.basename(frame.filename) for frame in traceback.extract_tb(error.__traceback__))
    first = next((file for file in files if file in _DIFFERENTIATION), "")
    return first in _DIFFERENTIATION[1:]


_LIMITS = {
    "of a variable without handle data": (
        "a variable into this tf.function",
        "call the function with its value, x + 0",
    ),
    "Tensor.graph is undefined when eager": (
        "a variable into this tf.function",
        "call the function with its value, x + 0",
    ),
    "<dtype: 'variant'> is not compatible": (
        "a loop within a tf.function",
        "write the loop outside of it",
    ),
}
"""What TensorFlow says where its forward mode ends → what that is, and the cure."""

_DIFFERENTIATION = ("backprop.py", "forwardprop.py", "imperative_grad.py", "default_gradient.py")
"""Files of TensorFlow; the first is where a tape is asked."""
