"""The user's line that an operation was called from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tape_magic.engine.internals.generated_code import GENERATED, original_line
from tape_magic.engine.internals.operations import differentiated_by, is_backprop_file, is_gradient_frame
from tape_magic.engine.values.functions import LIBRARY, OWN, USER, is_users, origin_of

Frame = tuple[str, int]
"""A file, as the code object names it, and a line in it."""

_BACKPROP, _GENERATED = -1, -2


class BackwardFrames(tuple[Frame, ...]):
    """The lines of an operation that is part of the gradient of another.

    `of` is the other's type; empty where that is not known, within a graph.
    """

    of: str = ""


def gradient_of(frames: tuple[Frame, ...]) -> str:
    """Return the type of the operation whose gradient was being computed; empty where none was."""
    return frames.of if isinstance(frames, BackwardFrames) else ""


def is_backward(frames: tuple[Frame, ...]) -> bool:
    """Return whether an operation of some lines is part of the gradient of another."""
    return isinstance(frames, BackwardFrames)


class UserFrames:
    """Finds the user's innermost line around a frame, as far out as the run.

    Parameters
    ----------
    forward
        Returns the lines of an operation that a tape differentiates, given the frame that calls its gradient.

    Attributes
    ----------
    fixed
        The lines to give for every frame; ``None`` where they are to be found.
    """

    def __init__(self, forward: Callable[[Any], tuple[Frame, ...]]) -> None:
        self.fixed: tuple[Frame, ...] | None = None
        self._forward = forward
        self._kinds: dict[str, int] = {}

    def around(self, frame: Any) -> tuple[Frame, ...]:
        """Return the user's line around a frame, alone in a tuple; an empty tuple where there is none."""
        if self.fixed is not None:
            return self.fixed
        kinds = self._kinds
        while frame is not None:
            filename = frame.f_code.co_filename
            # Called for every operation, and most frames around it are a library's, of kind 0.
            kind = kinds[filename] if filename in kinds else kinds.setdefault(filename, _kind_of(filename))
            if kind:
                if kind == USER:
                    return ((filename, frame.f_lineno),)
                if kind == OWN:
                    return ()
                if kind == _GENERATED:
                    line = original_line(filename, frame.f_lineno)
                    if line is not None and is_users(line[0]):
                        return (line,)
                elif is_gradient_frame(frame.f_code):
                    return self._forward(frame)
            frame = frame.f_back
        return ()


def _kind_of(filename: str) -> int:
    if GENERATED in filename:
        return _GENERATED
    origin = origin_of(filename)
    return _BACKPROP if origin == LIBRARY and is_backprop_file(filename) else origin


def failing_rule(error: BaseException) -> str:
    """Return the type of the operation whose gradient raised an exception; empty where no gradient did."""
    found, traceback = "", error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if is_gradient_frame(code):
            found, _ = differentiated_by(traceback.tb_frame)
        elif is_users(code.co_filename):
            found = ""
        traceback = traceback.tb_next
    return found
