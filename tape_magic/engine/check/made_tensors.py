"""`MadeTensors`: sources that a program computes, moved where they are made and not where they get a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from tape_magic.engine.internals.operations import give_instead, is_followed, key_of, listening_to_operations
from tape_magic.engine.values.tensors import is_tensor

Array = np.ndarray[Any, Any]
_Maker = tuple[int, int, str]
"""An operation's number in the run, the place among its outputs, and its type."""


class MadeTensors:
    """The operations that made the sources, by their numbers in the run, and the same ones in later runs.

    For ``h, y = model(x)``, ``y`` was computed from ``h`` before the cell gives it this name, so that moving
    what the name stands for would change nothing. Only a source that the tapes followed before it got its
    name is moved where it was made: of any other, they see no more than what is computed from it since.

    The operations of a program are taken to have the same numbers in each run. Where one of another type or
    shape has the number, the source is moved as it gets its name.

    Attributes
    ----------
    turns
        How often the last run assigned each name.
    """

    def __init__(self) -> None:
        self.turns: Mapping[str, int] = {}
        self._makers: dict[str, _Maker] = {}
        self._followed: dict[str, bool] = {}
        self._deltas: Mapping[str, Array] | None = None
        self._made: dict[int, _Maker] = {}
        self._moved: set[str] = set()
        self._number = 0
        self._busy = False

    @contextmanager
    def during(self, deltas: Mapping[str, Array] | None) -> Iterator[None]:
        """Learn in the block which operations make the sources, or move what they make by the `deltas`.

        Where `deltas` is ``None``, in a run within tapes, it is learned which sources the tapes follow.
        """
        self._deltas, self._number = deltas, 0
        if deltas is None:
            yield
            return
        self._made, self._moved = {}, set()
        if not deltas:
            self._makers = {}
        with listening_to_operations(self._hear, lambda name, outputs, inputs, backward: backward):
            yield

    def moves(self, name: str, item: Any) -> bool:
        """Return whether a source that now gets its name was moved already; take note of what made it."""
        if self._deltas is None:
            self._followed[name] = is_tensor(item) and is_followed(item)
            return False
        if not self._deltas:
            maker = self._made.get(key_of(item))
            if maker is not None and self._followed.get(name):
                self._makers[name] = maker
            return False
        return name in self._moved

    def _hear(
        self,
        op_type: str | bytes,
        inputs: Sequence[Any],
        attrs: tuple[Any, ...],
        outputs: Any,
        op_name: str | None = None,
        graph: Any = None,
    ) -> None:
        if graph is not None or self._busy:
            return
        kind = op_type if isinstance(op_type, str) else op_type.decode()
        number, self._number = self._number, self._number + 1
        if not self._deltas:
            self._made |= {key_of(one): (number, place, kind) for place, one in enumerate(outputs or ())}
            return
        for name, maker in self._makers.items():
            if maker[0] == number and maker[2] == kind and name in self._deltas:
                self._busy = True
                try:
                    with suppress(Exception):  # the program must not fail of it
                        self._move(name, outputs, maker[1])
                finally:
                    self._busy = False

    def _move(self, name: str, outputs: Any, place: int) -> None:
        """Have the operation that makes a source give the moved one."""
        import tensorflow as tf

        assert self._deltas is not None
        made, delta = outputs[place], self._deltas[name]
        if made.shape != delta.shape:
            return
        # Added, so that tapes follow the moved tensor to what the operation computed.
        tensors = [*outputs]
        tensors[place] = made + tf.cast(delta, made.dtype)
        if give_instead(outputs, tensors):
            self._moved.add(name)
