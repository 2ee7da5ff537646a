"""Forward accumulators for vectors of the sources, and the errors of TensorFlow's forward mode."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tape_magic.engine.derivatives.vectors import Pair, copied, primals_and_tangents
from tape_magic.engine.process.log import capture_log
from tape_magic.engine.program.program import Program
from tape_magic.engine.program.selection import Source
from tape_magic.engine.values.leaves import Leaf
from tape_magic.errors import SourceError, TargetError


class Directions:
    """Vectors for some of the sources, and the derivatives along them, which forward mode computes.

    A source *moves* while a forward accumulator carries its vector along as the program computes.

    Parameters
    ----------
    vectors
        A vector for each source, by the source's name, as
        :func:`~tape_magic.engine.derivatives.vectors.primals_and_tangents` takes it.
    called
        The user's name for the vector of each source.
    """

    def __init__(self, vectors: Mapping[str, Any], called: Mapping[str, str]) -> None:
        self._vectors = {name: copied(vector) for name, vector in vectors.items()}
        self._called = called
        self._accumulators: dict[str, _Accumulator] = {}
        self._misfits: dict[str, SourceError] = {}
        self._pauses = 0

    def move(self, sources: Iterable[Source]) -> None:
        """Move the sources that exist before the program runs, all with one accumulator.

        Raises :class:`SourceError` where a vector does not fit.
        """
        pairs = [pair for source in sources for pair in self._pairs(source)]
        if pairs:
            self._start("", pairs)

    def move_assigned(self, source: Source) -> None:
        """Move the value that the program has just assigned to a source, in place of the value before.

        The value gets an accumulator of its own, since one that has started takes no more sources. A value
        that the vector does not fit may be assigned again: :meth:`check` raises when the run is over.
        """
        if source.name not in self._vectors:
            return
        before = self._accumulators.pop(source.name, None)
        if before is not None:
            before.stop()
        self._misfits.pop(source.name, None)
        try:
            self._start(source.name, self._pairs(source))
        except SourceError as error:
            self._misfits[source.name] = error

    def check(self) -> None:
        """Raise :class:`SourceError` where a vector does not fit what its source was assigned last."""
        for error in self._misfits.values():
            raise error

    def jvp(self, tensor: Any) -> Any:
        """Return the derivative of a tensor along all vectors together; ``None`` where nothing moves it."""
        import tensorflow as tf

        found = [accumulator.jvp(tensor) for accumulator in self._accumulators.values()]
        parts = [tf.convert_to_tensor(part) for part in found if part is not None]
        return None if not parts else parts[0] if len(parts) == 1 else tf.add_n(parts)

    def tangents(self, leaves: Iterable[Leaf]) -> dict[str, Any]:
        """Return the part of the vectors for each leaf that has one, by the leaf's name."""
        pairs = [pair for accumulator in self._accumulators.values() for pair in accumulator.pairs]
        found = {id(primal): tangent for primal, tangent in pairs}
        return {leaf.name: found[id(leaf.value)] for leaf in leaves if id(leaf.value) in found}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Move nothing within the block: what is computed there counts as constant."""
        if not self._pauses:
            self._stop_all()
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            if not self._pauses:
                for accumulator in self._accumulators.values():
                    accumulator.start()

    def restart(self) -> None:
        """Forget the derivatives computed so far; only the sources themselves move."""
        for name, accumulator in list(self._accumulators.items()):
            accumulator.stop()
            self._start(name, accumulator.pairs)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Stop all accumulators when the block ends; the derivatives that they computed stay readable."""
        try:
            yield
        finally:
            self._stop_all()

    def _stop_all(self) -> None:
        for accumulator in self._accumulators.values():
            accumulator.stop()

    def _pairs(self, source: Source) -> list[Pair]:
        if source.name not in self._vectors:
            return []
        called = self._called[source.name]
        return list(primals_and_tangents(source.value, self._vectors[source.name], source.name, called))

    def _start(self, name: str, pairs: list[Pair]) -> None:
        self._accumulators[name] = accumulator = _Accumulator(pairs)
        if not self._pauses:
            accumulator.start()


class _Accumulator:
    """A forward accumulator, with the pairs of primals and tangents that it starts from."""

    def __init__(self, pairs: list[Pair]) -> None:
        import tensorflow as tf

        self.pairs = pairs
        # ForwardAccumulator refuses a tensor that is given twice, as when one source is part of another.
        primals = {id(primal): primal for primal, _ in pairs}
        tangents: dict[int, Any] = {}
        for primal, tangent in pairs:
            held = tangents.get(id(primal))
            tangents[id(primal)] = tangent if held is None else held + tangent
        with capture_log():  # TensorFlow warns of complex primals, whose derivatives are right all the same
            self._accumulator = tf.autodiff.ForwardAccumulator(
                list(primals.values()), [tangents[key] for key in primals]
            )
        self._started = False

    def start(self) -> None:
        """Carry the tangents along from now on."""
        self._accumulator.__enter__()
        self._started = True

    def stop(self) -> None:
        """Carry the tangents along no further."""
        if self._started:
            self._accumulator.__exit__(None, None, None)
            self._started = False

    def jvp(self, tensor: Any) -> Any:
        """Return the derivative of a tensor along the tangents; ``None`` where nothing moves it."""
        return self._accumulator.jvp(tensor)


_UNREGISTERED = "gradient registry has no entry for: "
_OTHER_KIND = "put it under tape.stop_recording() if it is constant, or take --jacobian or --hessian"


@contextmanager
def forward_mode_errors(program: Program) -> Iterator[None]:
    """Raise :class:`TargetError`, with the user's line, for what forward mode raises within the block.

    An exception of the user's own code passes.
    """
    try:
        yield
    except Exception as error:
        sentence = _limit_of_forward_mode(error)
        if not sentence:
            raise
        found = program.line_of(error)
        raise TargetError(f"line {found[0]}: {sentence}" if found else sentence) from error


def _limit_of_forward_mode(error: Exception) -> str:
    """Return a sentence on what forward mode cannot do; empty for an exception from elsewhere."""
    message = str(error)
    if isinstance(error, LookupError) and _UNREGISTERED in message:
        operation = message.partition(_UNREGISTERED)[2].partition(" ")[0]
        return f"{operation} has no gradient registered, and forward mode needs one: {_OTHER_KIND}."
    for known, (what, cure) in _LIMITS.items():
        if known in message:
            return f"TensorFlow's forward mode cannot follow {what}: {cure}, or take --jacobian or --hessian."
    if _is_within_forward_mode(error):
        return f"TensorFlow's forward mode fails here with {type(error).__name__}: {_OTHER_KIND}."
    return ""


def _is_within_forward_mode(error: Exception) -> bool:
    """Return whether TensorFlow failed while it differentiated, and not on behalf of a tape of the user's."""
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
"""Messages of TensorFlow 2.21 where its forward mode ends, each with what it cannot follow and the cure."""

_DIFFERENTIATION = ("backprop.py", "forwardprop.py", "imperative_grad.py", "default_gradient.py")
"""TensorFlow's files of differentiation; the first is the file of ``tf.GradientTape``."""
