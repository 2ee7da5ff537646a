"""Why a derivative is ``None``, zero or not finite."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Cause(enum.Enum):
    """The kind of a reason; each member carries its sentence, in words for a heading."""

    NOT_READ = "the output does not read the source"
    CUT = "an operation has no derivative"
    LEFT = "the computation leaves TensorFlow"
    INTEGER = "the way leads through integers, strings or truth values"
    STATE = "the way leads through the state of a variable"
    STOPPED = "the recording or the gradient was stopped"
    CUSTOM = "a custom gradient returns none"
    UNREGISTERED = "no gradient is registered for an operation"
    NOT_FINITE = "an operation made infinite or undefined values"
    ZERO = "the derivative is zero wherever it exists"
    UNKNOWN = "the reason is not known"

    @property
    def sentence(self) -> str:
        """The kind of reason in words."""
        return str(self.value)


@dataclass(frozen=True)
class Where:
    """A line of the user's code.

    Attributes
    ----------
    line
        The number of the line as the user counts: in a magic's cell, the line of the magic is line 1.
    text
        The text of the line, without its indentation.
    file
        Empty in the cell itself; ``cell 3`` for another cell, or a file's name.
    """

    line: int
    text: str = ""
    file: str = ""

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.file else f"line {self.line}"
        return f"{place}: {self.text}" if self.text else place


@dataclass(frozen=True)
class Reason:
    """Why a derivative is as it is, in words and as data.

    Attributes
    ----------
    cause
        The kind of reason.
    text
        One sentence without a full stop: ``cut at ArgMax, line 3: i = tf.argmax(p)``.
    cure
        The change that helps, where it is known: ``use tf.reduce_mean``; empty otherwise.
    operation
        TensorFlow's name of the operation, such as ``ArgMax``; empty where there is none.
    where
        The user's line, where it is known.
    """

    cause: Cause
    text: str
    cure: str = ""
    operation: str = ""
    where: Where | None = None

    def __str__(self) -> str:
        return f"{self.text}; {self.cure}" if self.cure else self.text
