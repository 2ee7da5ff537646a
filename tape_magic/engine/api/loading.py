"""TensorFlow itself, imported before a magic runs anything of the user's."""

from __future__ import annotations

from tape_magic.engine.internals.loading import load_tensorflow


def require_tensorflow() -> None:
    """Import TensorFlow, which takes seconds the first time.

    Raises
    ------
    TensorFlowMissing
        With what is wrong, and the command that installs TensorFlow.
    """
    load_tensorflow()
