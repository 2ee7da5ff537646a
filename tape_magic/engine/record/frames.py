"""The user's line that an operation was called from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tape_magic.engine.internals.operations import is_gradient_frame
from tape_magic.engine.values.functions import OWN, USER, is_users, origin_of

Frame = tuple[str, int]
"""A file, as the code object names it, and a line in it."""


class BackwardFrames(tuple[Frame, ...]):
    """The lines of an operation that is part of the gradient of another; `of` is that one's type."""

    of: str = ""


def gradient_of(frames: tuple[Frame, ...]) -> str:
    """Of what operation the gradient was being computed; empty where none was."""
    return frames.of if isinstance(frames, BackwardFrames) else ""


class UserFrames:
    """Finds the user's innermost line around a frame, as far as a run goes.

    Parameters
    ----------
    forward
        The lines of an operation that a tape runs backward, by the frame that calls its gradient.
    """

    def __init__(self, forward: Callable[[Any], tuple[Frame, ...]]) -> None:
        self._forward = forward
        self._kinds: dict[str, int] = {}

    def around(self, frame: Any) -> tuple[Frame, ...]:
        """One line, or none."""
        kinds = self._kinds
        while frame is not None:
            filename = frame.f_code.co_filename
            # Called for every operation, and most frames around it are a library's.
            kind = kinds[filename] if filename in kinds else kinds.setdefault(filename, origin_of(filename))
            if kind:
                if kind == USER:
                    return ((filename, frame.f_lineno),)
                if kind == OWN:
                    return ()
                if is_gradient_frame(frame.f_code):
                    return self._forward(frame)
            frame = frame.f_back
        return ()


def failing_rule(error: BaseException) -> str:
    """The operation whose gradient TensorFlow could not compute; empty where an exception came otherwise."""
    found, traceback = "", error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if is_gradient_frame(code):
            found = str(traceback.tb_frame.f_locals.get("op_name", ""))
        elif is_users(code.co_filename):
            found = ""
        traceback = traceback.tb_next
    return found
