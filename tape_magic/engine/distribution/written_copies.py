"""What a program assigns itself, once more for each further device: averages, counters, random states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tape_magic.engine.tracing.traced import Traced

SEEDS = {"seed_generator_state": 0, "StateVar": 2}
"""The place of the number that tells one stream from another, in Keras's seeds and TensorFlow's generators.

Keras 3.15 keeps a seed and a counter, ``tf.random.Generator`` of TensorFlow 2.21 two halves of a counter and
a key. The names are those of the variables.
"""


class WrittenCopies:
    """The variables that a program assigns itself, for one device.

    Parameters
    ----------
    traced
        The program.
    device
        The name of the device.
    index
        Its place among all; the first one has the program's own variables, and no copies.

    Attributes
    ----------
    handles
        The handles of the copies, by the ids of those that the program has.
    """

    def __init__(self, traced: Traced, device: str, index: int) -> None:
        import tensorflow as tf

        self.device, self._index, self._written = device, index, traced.written
        self._copies: list[Any] = []
        if index:
            with tf.device(device):
                self._copies = [
                    tf.Variable(one.read_value(), trainable=False, shape=one.shape) for one in self._written
                ]
        pairs = zip(self._written, self._copies, strict=False)
        self.handles: Mapping[int, Any] = {id(one.handle): copy.handle for one, copy in pairs}

    def begin(self, values: Sequence[Any]) -> None:
        """Set the copies to values; random states are moved on, so that each device has other numbers."""
        for copy, value, own in zip(self._copies, values, self._written, strict=False):
            copy.assign(self._apart(own, value))

    def after(self) -> list[Any]:
        """Return what the variables of this device hold."""
        return [variable.read_value() for variable in self._copies or self._written]

    def _apart(self, variable: Any, value: Any) -> Any:
        import tensorflow as tf

        place = next((place for name, place in SEEDS.items() if name in variable.name), None)
        if place is None or value.shape.rank != 1 or value.shape[0] <= place:
            return value
        return value + tf.one_hot(place, value.shape[0], on_value=tf.cast(self._index, value.dtype))
