"""The user's line that an operation was called from, found in the stack of Python's frames."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tape_magic.engine import op_events

_LIBRARY, _USER, _OWN, _BACKPROP = range(4)

Frame = tuple[str, int]
"""A file, as the code object names it, and a line in it."""


class Backward(tuple[Frame, ...]):
    """The lines of an operation that is part of the gradient of another; `of` is that one's type."""

    of: str = ""


def gradient_of(frames: tuple[Frame, ...]) -> str:
    """Of what operation the gradient was being computed; empty where none was."""
    return frames.of if isinstance(frames, Backward) else ""


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
            kind = kinds[filename] if filename in kinds else kinds.setdefault(filename, _kind(filename))
            if kind:
                if kind == _USER:
                    return ((filename, frame.f_lineno),)
                if kind == _OWN:
                    return ()
                if op_events.is_gradient_frame(frame.f_code):
                    return self._forward(frame)
            frame = frame.f_back
        return ()


def failing_rule(error: BaseException) -> str:
    """The operation whose gradient TensorFlow could not compute; empty where an exception came otherwise."""
    found, traceback = "", error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if op_events.is_gradient_frame(code):
            found = str(traceback.tb_frame.f_locals.get("op_name", ""))
        elif is_users(code.co_filename):
            found = ""
        traceback = traceback.tb_next
    return found


def is_users(filename: str) -> bool:
    """Whether a file holds the user's code, and not a library's."""
    return _kind(filename) == _USER


@lru_cache(maxsize=4096)
def _kind(filename: str) -> int:
    """Whose code a file holds: a library's, the user's, or this package's."""
    if filename.startswith(_own_folder()):
        # What makes a variable there stands between the user's line and TensorFlow.
        return _LIBRARY if filename.endswith(os.path.join("engine", "selection.py")) else _OWN
    if "__autograph_generated_file" in filename or filename.startswith("<frozen"):
        return _LIBRARY
    if not filename.startswith(_library_folders()):
        return _USER
    return _BACKPROP if filename.endswith(os.path.join("eager", "backprop.py")) else _LIBRARY


@lru_cache(maxsize=1)
def _own_folder() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    import keras
    import tensorflow as tf

    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {os.path.dirname(os.path.dirname(module.__file__ or "")) for module in (keras, tf)}
    return tuple(folder + os.sep for folder in folders if folder)
