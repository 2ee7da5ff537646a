"""Which differences are taken, and what is done where they do not agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np

from tape_magic.engine.check.finite_differences import Array, Ends, Estimate, Probe, glance, second_look
from tape_magic.engine.check.judgement import Judgement
from tape_magic.engine.check.quantities import Quantities, lower_key
from tape_magic.engine.check.rerun import Deltas, Rerun
from tape_magic.engine.check.row_check import Direction, RowCheck
from tape_magic.engine.derivatives.run import RunResult
from tape_magic.notation import Kind
from tape_magic.results.gradients import Derivative

DIRECTIONS = 200
"""How many elements are compared one by one at the most; of more, a sample."""

LOOKS = 24
"""For how many directions a whole series of steps is taken."""

SECONDS = 10.0
"""After this no more differences are taken."""

SEED = 20_231_017
"""Of the sample, so that the same cell is compared at the same places."""


class Sampling:
    """Differences for all rows of a report.

    Parameters
    ----------
    rerun
        Where leaves are, and which of them can be moved.
    done
        What the program's own run gave.
    observe
        By how much leaves are moved → what the program then gives.
    """

    def __init__(self, rerun: Rerun, done: RunResult, observe: Callable[[Deltas], Quantities]) -> None:
        self._rerun, self._done, self._observe = rerun, done, observe
        self._random = np.random.default_rng(SEED)
        self._started = time.perf_counter()

    def take(self, rows: Iterable[RowCheck], step: float) -> None:
        """Compare every row, leaf by leaf, and then look again at what does not agree.

        `step` is relative to the size of what moves.
        """
        plans = [(group, self._directions(leaves, group)) for leaves, group in self._groups(rows)]
        doubtful = []
        # First one direction for each leaf, so that time that runs out leaves few without.
        for turn in range(max((len(directions) for _, directions in plans), default=0)):
            for group, directions in plans:
                if turn >= len(directions) or self._over(group):
                    continue
                judged = self._judged(group, directions[turn], step, glance)
                severity = max(one.severity for one in judged)
                if severity > 1:
                    doubtful.append((severity, group, directions[turn], judged))
                else:
                    _enter(group, directions[turn], judged, sure=True)
        doubtful.sort(key=lambda entry: -entry[0])
        for number, (_, group, direction, judged) in enumerate(doubtful):
            sure = number < LOOKS and not self._over(group)
            if sure:  # from larger steps on than before; the smaller ones tell kinks apart
                judged = self._judged(group, direction, 4 * step, second_look)
            _enter(group, direction, judged, sure=sure)

    def _over(self, group: list[RowCheck]) -> bool:
        if time.perf_counter() - self._started < SECONDS:
            return False
        for row in group:
            row.note(f"the rest not compared: {SECONDS:g} s were over")
        return True

    def _groups(self, rows: Iterable[RowCheck]) -> list[tuple[tuple[str, ...], list[RowCheck]]]:
        """The rows by the leaves that are moved for them."""
        groups: dict[tuple[str, ...], list[RowCheck]] = {}
        for row in rows:
            leaves = self._moved(row.row)
            unknown = [name for name in leaves if not self._rerun.knows(name)]
            if not row.base.size:
                before = "the derivative before it" if lower_key(row.row)[1] else row.row.target
                row.note(f"not compared: {before} is no number")
            elif unknown:
                row.note(f"not compared: {unknown[0]} is made in the cell itself")
            else:
                groups.setdefault(leaves, []).append(row)
        return list(groups.items())

    def _moved(self, row: Derivative) -> tuple[str, ...]:
        """The leaves that move: those that have a vector, or else the last source."""
        return tuple(self._done.tangents) if row.kind in (Kind.JVP, Kind.HVP) else row.wrt[-1:]

    def _directions(self, leaves: tuple[str, ...], rows: list[RowCheck]) -> list[Direction]:
        if rows[0].product:
            return [self._given()]
        (name,) = leaves
        at = self._rerun.value(name)
        units = (1.0, 1j) if np.iscomplexobj(at) else (1.0,)
        count = len({self._moved(row) for row in self._done.report})
        share = max(DIRECTIONS // count // len(units), 3)
        whole = at.size <= share
        chosen = range(at.size) if whole else self._sample(rows, at, share - 2)
        axes = [_axis(name, at, index, unit) for index in chosen for unit in units]
        if whole:
            return axes
        for row in rows:
            row.note("a sample of the elements, and two random directions")
        return [self._anywhere(name, at, rows), *axes, self._anywhere(name, at, rows)]

    def _given(self) -> Direction:
        """That of the vectors."""
        deltas = {name: _wide(np.asarray(vector)) for name, vector in self._done.tangents.items()}
        size = max((float(np.max(np.abs(delta), initial=0.0)) for delta in deltas.values()), default=0.0)
        return Direction(deltas, 1.0 / (size or 1.0))

    def _anywhere(self, name: str, at: Array, rows: list[RowCheck]) -> Direction:
        """Half along a gradient, where the change is plain, and half anywhere."""
        anywhere: Array = np.asarray(self._random.normal(size=at.shape))
        if np.iscomplexobj(at):
            anywhere = anywhere + 1j * self._random.normal(size=at.shape)
        delta: Array = anywhere / np.linalg.norm(anywhere)
        for row in rows:
            again = row.again if row.row.kind is Kind.GRADIENT else None
            if again is not None and np.isfinite(again.numbers).all():
                along = again.numbers.reshape(at.shape)
                return Direction({name: delta + along / (np.linalg.norm(along) or 1.0)}, _scale(at))
        return Direction({name: delta}, _scale(at))

    def _sample(self, rows: list[RowCheck], at: Array, count: int) -> list[int]:
        """Elements at random, half of them among those whose derivative is not 0."""
        gradients = [row.again for row in rows if row.row.kind is Kind.GRADIENT and row.again is not None]
        there = np.flatnonzero(gradients[0].numbers) if gradients else np.arange(0)
        some = (
            self._random.choice(there, min((count + 1) // 2, there.size), replace=False)
            if there.size
            else there
        )
        rest = self._random.choice(at.size, min(count, at.size), replace=False)
        return [int(index) for index in dict.fromkeys([*some, *rest])][:count]

    # -- one direction -----------------------------------------------------------------------------

    def _judged(
        self,
        group: list[RowCheck],
        direction: Direction,
        step: float,
        estimated: Callable[[Probe, float], Estimate],
    ) -> list[Judgement]:
        """Rows beside the differences along a direction."""
        seen: dict[float, tuple[Deltas, Quantities]] = {}

        def find(distance: float) -> tuple[Deltas, Quantities]:
            if distance not in seen:
                moved = {name: distance * delta for name, delta in direction.deltas.items()}
                seen[distance] = self._rounded(moved), self._observe(moved)
            return seen[distance]

        estimates = [estimated(_probe(row, find), step * direction.scale) for row in group]
        return [row.judged(direction, one) for row, one in zip(group, estimates, strict=True)]

    def _rounded(self, deltas: Deltas) -> Deltas:
        """By how much leaves are moved after rounding."""
        rerun = self._rerun
        return {
            name: _wide(rerun.moved(name, delta)) - _wide(rerun.value(name)) for name, delta in deltas.items()
        }


def _enter(group: list[RowCheck], direction: Direction, judged: list[Judgement], *, sure: bool) -> None:
    for row, one in zip(group, judged, strict=True):
        row.enter(direction, one, sure=sure)


def _probe(row: RowCheck, find: Callable[[float], tuple[Deltas, Quantities]]) -> Probe:
    def numbers(found: Quantities) -> Array:
        quantity = found.get(lower_key(row.row))
        if quantity is None or quantity.numbers.shape != row.base.shape:
            return np.full(row.base.shape, np.nan)
        return quantity.numbers

    def probe(step: float) -> Ends:
        (plus, ahead), (minus, behind) = find(step), find(-step)
        deltas = {name: (plus[name] - minus[name]) / (2 * step) for name in plus}
        return row.ends(numbers(ahead), numbers(behind), deltas, step)

    return probe


def _wide(numbers: Array) -> Array:
    return numbers.astype(np.result_type(numbers, "float64"))


def _axis(name: str, at: Array, index: int, unit: complex) -> Direction:
    """One element along the real or the imaginary axis."""
    delta = np.zeros(at.shape, "complex128" if np.iscomplexobj(at) else "float64")
    delta.reshape(-1)[index] = unit
    return Direction({name: delta}, _scale(at.reshape(-1)[index]), index, unit)


def _scale(at: Array) -> float:
    """What a step is in proportion to: the size of the numbers, but at least 1."""
    wide = np.asarray(at).astype("complex128")
    return max(1.0, float(np.sqrt(np.mean(np.abs(wide) ** 2)))) if wide.size else 1.0
