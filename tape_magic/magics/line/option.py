"""An option of a magic: a row of its table."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Completed(enum.Enum):
    """The names that complete the values of an option."""

    SOURCES = "what can be minimised over"
    CELL_SOURCES = "what can be differentiated by, which the cell may assign"
    OUTPUTS = "what the cell assigns"
    TARGETS = "derivatives of what the cell assigns"
    FOR = "the parts of a batch, and the data"
    OPTIMIZERS = "optimizers"
    NUMBERS = "numbers"


@dataclass(frozen=True)
class Option:
    """One option of a magic: a row of its table.

    Attributes
    ----------
    name
        The attribute of the options' class, or else the argument of the engine, that the value is given to.
    flags
        ``("-o",)`` or ``("--wrt",)``; empty for the words without a flag.
    help
        One sentence without a full stop.
    metavar
        The placeholder of the value; empty for a switch.
    convert
        A function of a word that returns its value, and raises ``LineError`` or ``ValueError``.
    many
        Whether the option takes several words.
    choices
        The values that completion offers.
    closed
        Whether other values than `choices` are refused here; for most options, the engine refuses them.
    evaluated
        Whether a word that `convert` refuses may be an expression, whose value in the notebook is meant.
    names
        The names that completion offers.
    phrase
        Whether the value is a quoted phrase of several words, each of which is completed.
    then
        The option that a number behind the value is meant for.
    """

    name: str
    flags: tuple[str, ...]
    help: str
    metavar: str = ""
    convert: Callable[[str], Any] = str
    many: bool = False
    choices: tuple[str, ...] = ()
    closed: bool = False
    evaluated: bool = False
    names: Completed | None = None
    phrase: bool = False
    then: str = ""


@dataclass(frozen=True)
class Expression:
    """An expression that stands where the line could have a value: ``rate``, ``10*n``."""

    text: str
