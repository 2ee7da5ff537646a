"""`Holding`: what a program keeps from its tapes, held as it was in the run with nothing moved."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from tape_magic.engine.internals.operations import (
    BackwardFunction,
    is_eager,
    key_of,
    listening_to_operations,
)
from tape_magic.engine.internals.stopping import replacing_stops
from tape_magic.engine.record.entry import writes


class Holding:
    """Holds variables after they are written and what ``tf.stop_gradient`` gives; hides custom gradients.

    A tape takes what is stopped, and what comes through the state of a variable, for constants. Differences
    that are to show the same must hold these while the sources move. The values are those of the first run
    within :meth:`during`. Stops, writes and custom gradients are counted from 0 in each run.

    Parameters
    ----------
    stops, writes
        The numbers of the stops whose results, and of the writes whose variables, are held.
    customs
        The numbers of the custom gradients that the tapes do not get to see.

    Attributes
    ----------
    stopped, customized
        The keys of the tensors that each stop and each custom gradient gave in the last run.
    """

    def __init__(
        self, stops: Collection[int] = (), writes: Collection[int] = (), customs: Collection[int] = ()
    ) -> None:
        self._stops, self._writes, self._customs = frozenset(stops), frozenset(writes), frozenset(customs)
        self._given: list[Any] = []
        self._written: list[Any] = []
        self._known = self._busy = False
        self._leaves: Mapping[int, Any] = {}
        self._count = 0
        self.stopped: list[int] = []
        self.customized: list[int] = []

    @contextmanager
    def during(self, leaves: Mapping[int, Any]) -> Iterator[None]:
        """Hold what is to be held within the block, or remember it in the first run that does not fail.

        `leaves` are the leaves that are variables: by the key of its handle, the distance by which each is
        moved. Such a variable is held, at that distance, after every write.
        """
        self._leaves, self._count = leaves, 0
        self.stopped, self.customized = [], []
        if not self._known:
            self._given, self._written = [], []
        with listening_to_operations(self._hear, self._hear_custom), replacing_stops(self._stop):
            yield
        self._known = True

    def _stop(self, stopped: Any) -> Any:
        number = len(self.stopped)
        if not self._known:
            self._given.append(stopped)
        elif number in self._stops and number < len(self._given):
            given = self._given[number]
            stopped = given if given.shape == stopped.shape and given.dtype == stopped.dtype else stopped
        self.stopped.append(key_of(stopped))
        return stopped

    def _hear(
        self,
        op_type: str | bytes,
        inputs: Sequence[Any],
        attrs: tuple[Any, ...],
        outputs: Sequence[Any] | None,
        op_name: str | None = None,
        graph: Any = None,
    ) -> None:
        name = op_type if isinstance(op_type, str) else op_type.decode()
        if graph is not None or self._busy or not writes(name):
            return
        self._busy = True  # the operations here are heard, too
        try:
            with suppress(Exception):  # the program must not fail of it
                self._hold(inputs[0], attrs)
        finally:
            self._busy = False
            self._count += 1

    def _hold(self, handle: Any, attrs: tuple[Any, ...]) -> None:
        """Remember the variable that was just written, or put it back to what was remembered."""
        import tensorflow as tf

        number, key = self._count, key_of(handle)
        if not self._known:
            self._written += [None] * (number + 1 - len(self._written))
            known = dict(zip(attrs[::2], attrs[1::2], strict=False))
            dtype = tf.as_dtype(known.get("dtype", known.get("T")))
            self._written[number] = tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
        elif (number in self._writes or key in self._leaves) and self._written[number] is not None:
            value = self._written[number]
            if key in self._leaves:
                value += tf.cast(self._leaves[key], value.dtype)
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)

    def _hear_custom(
        self, name: str, outputs: Sequence[Any], inputs: Sequence[Any], backward: BackwardFunction
    ) -> BackwardFunction | None:
        if not outputs or not all(map(is_eager, outputs)):
            return backward
        number = len(self.customized)
        self.customized.append(key_of(outputs[0]))
        return None if number in self._customs else backward
