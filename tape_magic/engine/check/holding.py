"""`Holding`: what a program keeps from its tapes, held as it was in the run with nothing moved."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from tape_magic.engine.internals.operations import (
    BackwardFunction,
    give_instead,
    gradients_of,
    is_eager,
    key_of,
    listening_to_operations,
)
from tape_magic.engine.record.entry import writes

CONSTANT = frozenset({"StopGradient"})
"""Operations whose results a tape takes for constants."""

STRAIGHT = frozenset(
    {
        "FakeQuantWithMinMaxArgs",
        "FakeQuantWithMinMaxVars",
        "FakeQuantWithMinMaxVarsPerChannel",
        "QuantizeAndDequantizeV2",
        "QuantizeAndDequantizeV3",
        "QuantizeAndDequantizeV4",
    }
)
"""Operations that round their first input, element by element, and whose gradient leaves that out."""

SYMMETRIC = frozenset({"Cholesky"})
"""Operations that read one triangle of a matrix, and whose gradient is that for a symmetric matrix."""


class Holding:
    """Holds variables after they are written and what operations give; hides custom gradients and pauses.

    A tape takes what is stopped, and what comes through the state of a variable, for constants. Differences
    that are to show the same must hold these while the sources move. The values are those of the first run
    within :meth:`during`. Operations, writes and custom gradients are counted from 0 in each run.

    Parameters
    ----------
    operations, writes
        The numbers of the operations, of the types above, that give what their gradient says, and of the
        writes whose variables are held.
    customs
        The numbers of the custom gradients that the tapes do not get to see.
    records_all
        Whether the tapes record within ``tape.stop_recording()``, too.

    Attributes
    ----------
    operated, customized
        The keys of the tensors that each operation of the types above, and each custom gradient, gave first
        in the last run.
    """

    def __init__(
        self,
        operations: Collection[int] = (),
        writes: Collection[int] = (),
        customs: Collection[int] = (),
        records_all: bool = False,
    ) -> None:
        self._operations, self._writes = frozenset(operations), frozenset(writes)
        self._customs, self.records_all = frozenset(customs), records_all
        self._given: list[tuple[list[Any], list[Any], Any]] = []
        self._written: list[Any] = []
        self._known = self._busy = False
        self._leaves: Mapping[int, Any] = {}
        self._count = 0
        self.operated: list[int] = []
        self.customized: list[int] = []

    @contextmanager
    def during(self, leaves: Mapping[int, Any]) -> Iterator[None]:
        """Hold what is to be held within the block, or remember it in the first run that does not fail.

        `leaves` are the leaves that are variables: by the key of its handle, the distance by which each is
        moved. Such a variable is held, at that distance, after every write.
        """
        self._leaves, self._count = leaves, 0
        self.operated, self.customized = [], []
        if not self._known:
            self._given, self._written = [], []
        with listening_to_operations(self._hear, self._hear_custom):
            yield
        self._known = True

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
        operates = name in CONSTANT or name in STRAIGHT or name in SYMMETRIC
        if graph is not None or self._busy or not (operates or writes(name)):
            return
        self._busy = True  # the operations here are heard, too
        try:
            with suppress(Exception):  # the program must not fail of it
                if operates:
                    self._replace(name, inputs, attrs, outputs)
                else:
                    self._hold(inputs[0], attrs)
        finally:
            self._busy = False
            if operates:
                self.operated.append(key_of(outputs[0]) if outputs else 0)
            else:
                self._count += 1

    # -- operations --------------------------------------------------------------------------------

    def _replace(self, name: str, inputs: Sequence[Any], attrs: tuple[Any, ...], outputs: Any) -> None:
        """Remember what an operation gives, or have it give what its gradient says."""
        number = len(self.operated)
        if not self._known:
            slopes = _slopes(name, attrs, inputs, outputs) if name in STRAIGHT else None
            self._given.append((list(inputs), list(outputs), slopes))
        elif number in self._operations and number < len(self._given):
            given, made, slopes = self._given[number]
            if not _alike(made, outputs):
                return
            if name in STRAIGHT:
                made = [made[0] + slopes * (inputs[0] - given[0]), *made[1:]]
            elif name in SYMMETRIC:
                made = _of_symmetric(name, attrs, inputs)
            give_instead(outputs, made)

    # -- variables ---------------------------------------------------------------------------------

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


def _alike(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(some) == len(others) and all(
        one.shape == other.shape and one.dtype == other.dtype for one, other in zip(some, others, strict=True)
    )


def _slopes(name: str, attrs: tuple[Any, ...], inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """Return what an operation's gradient gives its first input for ones."""
    import tensorflow as tf

    return gradients_of(name, attrs, inputs, outputs, [tf.ones_like(one) for one in outputs])[0]


def _of_symmetric(name: str, attrs: tuple[Any, ...], inputs: Sequence[Any]) -> list[Any]:
    """Return what an operation gives for the symmetric part of its matrix."""
    import tensorflow as tf

    (matrix,) = inputs
    options = {key: value for key, value in zip(attrs[::2], attrs[1::2], strict=False) if key != "T"}
    found = getattr(tf.raw_ops, name)(input=(matrix + tf.linalg.adjoint(matrix)) / 2, **options)
    return list(found) if isinstance(found, tuple) else [found]
