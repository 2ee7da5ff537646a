"""What a run of one of SciPy's methods leaves for the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tape_magic.engine.flat import Flat
from tape_magic.engine.scipy_functions import Choice
from tape_magic.engine.trace import Traced


@dataclass(eq=False)
class Prepared:
    """What was compiled for a program, which its next run can use again.

    Attributes
    ----------
    asked
        The engine that was asked for.
    traced, flat, connected
        As a graph; what has a gradient, as a vector; and for each thing minimised over, whether it has one.
    choice
        The compiled functions.
    lifted
        The variables that stand for floats and arrays, in the order in which they were made.
    """

    asked: str
    traced: Traced
    flat: Flat
    connected: Sequence[bool]
    choice: Choice
    lifted: list[Any] = field(default_factory=list)
