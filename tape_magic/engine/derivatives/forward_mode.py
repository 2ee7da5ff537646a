"""Forward accumulators, and the sentence where forward mode cannot follow the program."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tape_magic.engine.derivatives.vectors import Pair, paired, snapshot
from tape_magic.engine.process.log import capture_log
from tape_magic.engine.program.program import Program
from tape_magic.engine.program.selection import Source
from tape_magic.engine.values.leaves import Leaf
from tape_magic.errors import SourceError, TargetError


class Directions:
    """Vectors for some of the sources, and what follows from them by forward mode.

    Parameters
    ----------
    vectors
        By the source's name; see :func:`~tape_magic.engine.derivatives.vectors.paired`.
    called
        What the user calls each of them.
    """

    def __init__(self, vectors: Mapping[str, Any], called: Mapping[str, str]) -> None:
        self._vectors = {name: snapshot(vector) for name, vector in vectors.items()}
        self._called = called
        self._moving: dict[str, _Moving] = {}
        self._misfits: dict[str, SourceError] = {}
        self._stops = 0

    def move(self, sources: Iterable[Source]) -> None:
        """Move the sources that are known before the program runs, all at once.

        Raises :class:`SourceError` where a vector does not fit.
        """
        pairs = [pair for source in sources for pair in self._pairs(source)]
        if pairs:
            self._start("", pairs)

    def move_assigned(self, source: Source) -> None:
        """Move a source that the program has just assigned, and no longer what it was before.

        A further accumulator, since one that is at work takes no more sources. What does not fit may
        be assigned again: :meth:`check` tells in the end.
        """
        if source.name not in self._vectors:
            return
        before = self._moving.pop(source.name, None)
        if before is not None:
            before.leave()
        self._misfits.pop(source.name, None)
        try:
            self._start(source.name, self._pairs(source))
        except SourceError as error:
            self._misfits[source.name] = error

    def check(self) -> None:
        """Raise :class:`SourceError` for a vector that did not fit what was assigned last."""
        for error in self._misfits.values():
            raise error

    def along(self, tensor: Any) -> Any:
        """How a tensor changes along all vectors together; ``None`` where it does not depend on them."""
        import tensorflow as tf

        found = [moving.accumulator.jvp(tensor) for moving in self._moving.values()]
        parts = [tf.convert_to_tensor(part) for part in found if part is not None]
        return None if not parts else parts[0] if len(parts) == 1 else tf.add_n(parts)

    def tangents(self, leaves: Iterable[Leaf]) -> dict[str, Any]:
        """The part of the vectors for each leaf that has one, by its name."""
        found = {id(primal): part for moving in self._moving.values() for primal, part in moving.pairs}
        return {leaf.name: found[id(leaf.value)] for leaf in leaves if id(leaf.value) in found}

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Within this, nothing moves: what is computed counts as constant."""
        if not self._stops:
            for moving in self._moving.values():
                moving.leave()
        self._stops += 1
        try:
            yield
        finally:
            self._stops -= 1
            if not self._stops:
                for moving in self._moving.values():
                    moving.enter()

    def restart(self) -> None:
        """Forget what followed so far; only the sources themselves move."""
        for name, moving in list(self._moving.items()):
            moving.leave()
            self._start(name, moving.pairs)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """After this, nothing moves any more."""
        try:
            yield
        finally:
            for moving in self._moving.values():
                moving.leave()

    def _pairs(self, source: Source) -> list[Pair]:
        if source.name not in self._vectors:
            return []
        called = self._called[source.name]
        return list(paired(source.value, self._vectors[source.name], source.name, called))

    def _start(self, name: str, pairs: list[Pair]) -> None:
        self._moving[name] = moving = _Moving(pairs)
        if not self._stops:
            moving.enter()


class _Moving:
    """One accumulator and what it began with."""

    def __init__(self, pairs: list[Pair]) -> None:
        import tensorflow as tf

        self.pairs = pairs
        # An accumulator refuses a tensor given twice, as when a source is part of another.
        primals = {id(primal): primal for primal, _ in pairs}
        tangents: dict[int, Any] = {}
        for primal, tangent in pairs:
            held = tangents.get(id(primal))
            tangents[id(primal)] = tangent if held is None else held + tangent
        with capture_log():  # it warns of complex numbers, which it differentiates well
            self.accumulator = tf.autodiff.ForwardAccumulator(
                list(primals.values()), [tangents[key] for key in primals]
            )
        self._entered = False

    def enter(self) -> None:
        self.accumulator.__enter__()
        self._entered = True

    def leave(self) -> None:
        if self._entered:
            self.accumulator.__exit__(None, None, None)
            self._entered = False


_UNREGISTERED = "gradient registry has no entry for: "
_ELSE = "put it under tape.stop_recording() if it is constant, or take --jacobian or --hessian"


@contextmanager
def explained(program: Program) -> Iterator[None]:
    """Turn what forward mode raises into a :class:`TargetError` with the line; the user's own passes."""
    try:
        yield
    except Exception as error:
        why = _why(error)
        if not why:
            raise
        found = program.line_of(error)
        raise TargetError(f"line {found[0]}: {why}" if found else why) from error


def _why(error: Exception) -> str:
    """A sentence; empty for an exception that is not forward mode's."""
    message = str(error)
    if isinstance(error, LookupError) and _UNREGISTERED in message:
        operation = message.partition(_UNREGISTERED)[2].partition(" ")[0]
        return f"{operation} has no gradient registered, and forward mode needs one: {_ELSE}."
    for known, (what, cure) in _LIMITS.items():
        if known in message:
            return f"TensorFlow's forward mode cannot follow {what}: {cure}, or take --jacobian or --hessian."
    if _is_within_forward_mode(error):
        return f"TensorFlow's forward mode fails here with {type(error).__name__}: {_ELSE}."
    return ""


def _is_within_forward_mode(error: Exception) -> bool:
    """Whether TensorFlow differentiated when it failed, and not by a tape of the user's."""
    files = (os.path.basename(frame.filename) for frame in traceback.extract_tb(error.__traceback__))
    first = next((file for file in files if file in _DIFFERENTIATION), "")
    return first in _DIFFERENTIATION[1:]


_LIMITS = {
    "of a variable without handle data": (
        "a variable into this tf.function",
        "call the function with its value, x + 0",
    ),
    "Tensor.graph is undefined when eager": (
        "a variable into this tf.function",
        "call the function with its value, x + 0",
    ),
    "<dtype: 'variant'> is not compatible": (
        "a loop within a tf.function",
        "write the loop outside of it",
    ),
}
"""What TensorFlow says where its forward mode ends → what that is, and the cure."""

_DIFFERENTIATION = ("backprop.py", "forwardprop.py", "imperative_grad.py", "default_gradient.py")
"""Files of TensorFlow; the first is where a tape is asked."""
