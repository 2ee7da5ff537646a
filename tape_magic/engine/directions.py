"""Forward mode: the vectors that sources are moved along while a program runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tape_magic.engine.log_lines import kept_log
from tape_magic.engine.selection import Source
from tape_magic.engine.sources import Leaf
from tape_magic.engine.vectors import Pair, paired, snapshot
from tape_magic.errors import SourceError


class Directions:
    """Vectors for some of the sources, and what follows from them by forward mode.

    Parameters
    ----------
    vectors
        By the source's name; see :func:`~tape_magic.engine.vectors.paired`.
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
        with kept_log():  # it warns of complex numbers, which it differentiates well
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
