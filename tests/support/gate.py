"""Compilers that wait for a test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tape_magic.engine.minimization.compiling import BackgroundCompile

PATIENCE = 600  # seconds until a compiler that is held goes on; no test waits for them to pass


class Gate:
    """Stands for ``BackgroundCompile``: compilers wait until the gate is open, however fast the machine is.

    Attributes
    ----------
    opened
        The event that lets them go on.
    begun
        How many compilers have begun.
    """

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.begun = 0

    def held(self, call: Callable[[], Any]) -> BackgroundCompile:
        """Compile in the background once the gate is open."""
        self.begun += 1
        return BackgroundCompile(lambda: (self.opened.wait(PATIENCE), call()))
