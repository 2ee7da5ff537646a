"""TensorFlow itself, imported late; and one sentence where that fails."""

from __future__ import annotations

import importlib
import sys
from contextlib import nullcontext
from typing import Any

from tape_magic.engine.internals.log_level import is_quiet_allowed
from tape_magic.engine.process.native_log import quiet_import
from tape_magic.errors import TapeMagicError


class TensorFlowMissing(TapeMagicError):
    """TensorFlow cannot be imported; the message says why, and what to run.

    Attributes
    ----------
    installed
        Whether TensorFlow is installed, and fails to import.
    said
        The first line of the exception that the import raised.
    cause
        What is wrong, in a clause.
    command
        The command to run in the notebook.
    """

    def __init__(self, error: Exception) -> None:
        self.installed = not (isinstance(error, ModuleNotFoundError) and error.name == "tensorflow")
        self.said = f"{type(error).__name__}: {error}".partition("\n")[0]
        self.cause = "TensorFlow cannot be imported" if self.installed else "TensorFlow is not installed"
        self.command = f"%pip install {'--force-reinstall ' if self.installed else ''}tensorflow"
        said = f" ({self.said})" if self.installed else ""
        super().__init__(f"{self.cause}{said}: run {self.command} and restart the kernel.")


def load_tensorflow() -> Any:
    """Import TensorFlow, which takes seconds the first time. Raises :class:`TensorFlowMissing`."""
    try:
        if "tensorflow" in sys.modules:
            return importlib.import_module("tensorflow")
        with quiet_import() if is_quiet_allowed() else nullcontext():
            return importlib.import_module("tensorflow")
    except Exception as error:  # packages of other versions than it needs raise TypeError and AttributeError
        raise TensorFlowMissing(error) from None
