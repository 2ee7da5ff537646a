"""What the variables of a loop held before its last step, in variables of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class PreviousValues:
    """What some variables held before the last step, in variables that a graph assigns.

    Assigned, they share the memory of what was read until that changes, and let go of what they held: so
    there is one copy at a time. A graph that is given copies, or returns some, holds twice as many.

    Parameters
    ----------
    variables
        What a step changes.

    Attributes
    ----------
    copies
        A variable for each; it holds nothing before the first step.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        import tensorflow as tf

        self._shapes = [variable.shape for variable in variables]
        self.copies = [
            tf.Variable(tf.zeros([0], variable.dtype), trainable=False, shape=tf.TensorShape(None))
            for variable in variables
        ]

    def taken(self) -> Sequence[Any]:
        """Return the values; an empty sequence before the first step."""
        found = [copy.read_value() for copy in self.copies]
        filled = all(one.shape == shape for one, shape in zip(found, self._shapes, strict=True))
        return found if filled else ()

    def release(self) -> None:
        """Let go of the values."""
        import tensorflow as tf

        for copy in self.copies:
            copy.assign(tf.zeros([0], copy.dtype))
