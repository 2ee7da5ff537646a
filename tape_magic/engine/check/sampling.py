"""`Sampling`: the directions in which differences are taken, in which order, and within which time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from tape_magic.engine.check.finite_differences import (
    Array,
    Differences,
    Estimate,
    Probe,
    quick_estimate,
    step_of,
    thorough_estimate,
)
from tape_magic.engine.check.judgement import Judgement
from tape_magic.engine.check.quantities import Quantities, lower_key
from tape_magic.engine.check.rerun import Deltas, Rerun
from tape_magic.engine.check.row_check import Direction, RowCheck
from tape_magic.engine.derivatives.run import RunResult
from tape_magic.engine.values.precision import epsilon
from tape_magic.notation import Kind
from tape_magic.results.gradients import Derivative

DIRECTIONS = 200
"""Most elements that are compared one by one; of a larger number, a sample is compared."""

THOROUGH = 24
"""Most directions along which a thorough estimate is made."""

_MANY = 100_000
"""Numbers that are not all looked at for a sample."""

_FEW, _TINY = 4.0, 1e-30
"""Least step, relative to the numbers that move, as a multiple of their precision; the same beside 0."""

SECONDS = 10.0
"""Seconds after which no more differences are taken."""

SEED = 20_231_017
"""Seed of the sample, so that the same cell is compared at the same places."""


class Sampling:
    """The differences for all rows of a report.

    Parameters
    ----------
    rerun
        Knows the values of leaves, and which of them can be moved.
    done
        Result of the program's own run.
    observe
        Runs the program with some leaves moved, and returns its outputs and lower derivatives.
    """

    def __init__(self, rerun: Rerun, done: RunResult, observe: Callable[[Deltas], Quantities]) -> None:
        self._rerun, self._done, self._observe = rerun, done, observe
        self._random = np.random.default_rng(SEED)
        self._started = 0.0

    def take(self, rows: Iterable[RowCheck]) -> None:
        """Compare every row, leaf by leaf, and then make thorough estimates where a row does not agree."""
        # One direction of each leaf comes first, small leaves before large ones, so that few leaves have none
        # when the time is up.
        groups = sorted(self._groups(rows), key=lambda pair: self._size(pair[0]))
        plans = [(group, self._directions(leaves, group)) for leaves, group in groups]
        doubtful = []
        self._started = time.perf_counter()
        for turn in range(max((len(directions) for _, directions in plans), default=0)):
            for group, directions in plans:
                if turn >= len(directions) or self._time_is_up(group):
                    continue
                direction = directions[turn]()
                judgements = self.judge(group, direction, step_for(group), quick_estimate)
                severity = max(one.severity for one in judgements)
                if severity > 1:
                    doubtful.append((severity, group, direction, judgements))
                else:
                    _add(group, direction, judgements, sure=True)
        doubtful.sort(key=lambda entry: -entry[0])
        smaller, number = dict[int, float](), 0
        for _, group, direction, judgements in doubtful:
            sure = number < THOROUGH and not self._time_is_up(group)
            if id(group) in smaller and not self._time_is_up(group):
                again = self.judge(group, direction, smaller[id(group)], quick_estimate)
                if max(one.severity for one in again) <= 1:
                    _add(group, direction, again, sure=True)
                    continue
            if sure:  # a series that begins at a larger step, and whose smaller steps show kinks
                number += 1
                judgements = self._judge_thoroughly(group, direction)
                step = min(float(np.min(one.estimate.step)) for one in judgements) / direction.scale
                if step < step_for(group):  # what is seen at such steps only is so for its neighbours
                    smaller[id(group)] = step / 4
            _add(group, direction, judgements, sure=sure)

    def _time_is_up(self, group: list[RowCheck]) -> bool:
        """Return whether no more differences are to be taken, and if so, note it in the rows."""
        if time.perf_counter() - self._started < SECONDS:
            return False
        for row in group:
            row.note(f"the rest not compared: {SECONDS:g} s were over")
        return True

    def _groups(self, rows: Iterable[RowCheck]) -> list[tuple[tuple[str, ...], list[RowCheck]]]:
        """Return the rows that can be compared, in groups with the leaves that are moved for them."""
        groups: dict[tuple[str, ...], list[RowCheck]] = {}
        for row in rows:
            leaves = moved_leaves(row.row, self._done)
            unknown = [name for name in leaves if not self._rerun.can_move(name)]
            if not row.base.size:
                before = "the derivative before it" if lower_key(row.row)[1] else row.row.target
                row.note(f"not compared: {before} is no number")
            elif unknown:
                row.note(f"not compared: {unknown[0]} {self._rerun.why_fixed(unknown[0])}")
            else:
                groups.setdefault(leaves, []).append(row)
        return list(groups.items())

    def _size(self, leaves: Iterable[str]) -> int:
        return sum(self._rerun.value(name).size for name in leaves)

    def _directions(self, leaves: tuple[str, ...], rows: list[RowCheck]) -> list[Callable[[], Direction]]:
        """Return the directions for a group: along its vectors, or along each element of a leaf or sample.

        Each is made when it is needed, since those of a large layer take as much memory as the layer.
        """
        if rows[0].is_product:
            return [self._along_vectors]
        (name,) = leaves
        at = self._rerun.value(name)
        units = (1.0, 1j) if np.iscomplexobj(at) else (1.0,)
        count = len({moved_leaves(row, self._done) for row in self._done.report})
        share = max(DIRECTIONS // count // len(units), 3)
        whole = at.size <= share
        chosen = range(at.size) if whole else self._sample(rows, at, share - 2)
        axes = [partial(_axis, name, at, index, unit) for index in chosen for unit in units]
        if whole:
            return list(axes)
        for row in rows:
            row.note("a sample of the elements, and two random directions")
        anywhere = partial(self._random_direction, name, at, rows)
        return [anywhere, *axes, anywhere]

    def _along_vectors(self) -> Direction:
        """Return the direction of a product's vectors."""
        deltas = {name: _wide(np.asarray(vector)) for name, vector in self._done.tangents.items()}
        size = max((float(np.max(np.abs(delta), initial=0.0)) for delta in deltas.values()), default=0.0)
        return Direction(deltas, 1.0 / (size or 1.0))

    def _random_direction(self, name: str, at: Array, rows: list[RowCheck]) -> Direction:
        """Return a random direction, to which the direction of a gradient is added where there is one."""
        delta: Array = np.asarray(self._random.standard_normal(at.shape))
        if np.iscomplexobj(at):
            delta = delta + 1j * self._random.standard_normal(at.shape)
        delta = delta / np.linalg.norm(delta)
        for row in rows:
            gradient = row.recomputed if row.row.kind is Kind.GRADIENT else None
            if gradient is not None and np.isfinite(gradient.numbers).all():
                along = gradient.numbers.reshape(at.shape)  # along it, the change is well above rounding
                delta = delta + along / (np.linalg.norm(along) or 1.0)
                break
        return Direction({name: delta}, _scale(at))

    def _sample(self, rows: list[RowCheck], at: Array, count: int) -> list[int]:
        """Return random elements of a leaf, half of them among the elements whose gradient is not 0."""
        found = [row.recomputed for row in rows if row.row.kind is Kind.GRADIENT]
        gradients = [gradient for gradient in found if gradient is not None]
        there = self._not_zero(gradients[0].numbers) if gradients else np.arange(0)
        some = (
            self._random.choice(there, min((count + 1) // 2, there.size), replace=False)
            if there.size
            else there
        )
        rest = self._random.choice(at.size, min(count, at.size), replace=False)
        return [int(index) for index in dict.fromkeys([*some, *rest])][:count]

    def _not_zero(self, numbers: Array) -> Array:
        """Return where numbers are not 0: of many, at some random places, if there is enough among them."""
        some = np.unique(self._random.integers(numbers.size, size=_MANY)) if numbers.size > _MANY else None
        found = None if some is None else some[numbers[some] != 0]
        return np.flatnonzero(numbers) if found is None or found.size < DIRECTIONS else found

    # -- one direction -----------------------------------------------------------------------------

    def judge(
        self,
        group: list[RowCheck],
        direction: Direction,
        step: float,
        estimate: Callable[[Probe, float], Estimate],
    ) -> list[Judgement]:
        """Return a judgement on each row of a group along a direction; all rows share the runs."""
        seen: dict[float, tuple[Deltas, Quantities]] = {}

        def find(distance: float) -> tuple[Deltas, Quantities]:
            if distance not in seen:
                moved = {name: distance * delta for name, delta in direction.deltas.items()}
                seen[distance] = self._rounded(moved), self._observe(moved)
            return seen[distance]

        estimates = [estimate(_probe(row, find), step * direction.scale) for row in group]
        return [row.judge(direction, one) for row, one in zip(group, estimates, strict=True)]

    def _judge_thoroughly(self, group: list[RowCheck], direction: Direction) -> list[Judgement]:
        """Return a judgement for which steps are tried until the differences settle."""
        least = max(self._least_step(name, delta) for name, delta in direction.deltas.items())
        estimate = partial(thorough_estimate, least=least)
        return self.judge(group, direction, 4 * step_for(group), estimate)

    def _least_step(self, name: str, delta: Array) -> float:
        """Return the step along a direction at which a leaf moves by few of its own steps."""
        at = self._rerun.value(name)
        moved = delta != 0
        size = float(np.max(np.abs(at[moved]), initial=0.0))
        unit = float(np.max(np.abs(delta), initial=0.0)) or 1.0
        return max(_FEW * epsilon(at.dtype.name) * size, _TINY) / unit

    def _rounded(self, deltas: Deltas) -> Deltas:
        """Return the distances by which leaves are moved after rounding."""
        rerun = self._rerun
        return {
            name: _wide(rerun.moved(name, delta)) - _wide(rerun.value(name)) for name, delta in deltas.items()
        }


def moved_leaves(row: Derivative, done: RunResult) -> tuple[str, ...]:
    """Return the leaves that move for a row: the leaves that have a vector, or the last source."""
    return tuple(done.tangents) if row.kind in (Kind.JVP, Kind.HVP) else row.wrt[-1:]


def step_for(group: list[RowCheck]) -> float:
    """Return the step for a group of rows, relative to the magnitude of what moves."""
    return step_of(max(row.eps for row in group))


def _add(group: list[RowCheck], direction: Direction, judgements: list[Judgement], *, sure: bool) -> None:
    for row, judgement in zip(group, judgements, strict=True):
        row.add(direction, judgement, sure=sure)


def _probe(row: RowCheck, find: Callable[[float], tuple[Deltas, Quantities]]) -> Probe:
    """Return a function that gives a row's differences for a step.

    `find` gives the distances after rounding, and the program's numbers there.
    """

    def numbers(found: Quantities) -> Array:
        flat = found.get(lower_key(row.row))
        if flat is None or flat.numbers.shape != row.base.shape:
            return np.full(row.base.shape, np.nan)
        return flat.numbers

    def probe(step: float) -> Differences:
        (plus, ahead), (minus, behind) = find(step), find(-step)
        deltas = {name: (plus[name] - minus[name]) / (2 * step) for name in plus}
        return row.differences(numbers(ahead), numbers(behind), deltas, step)

    return probe


def _wide(numbers: Array) -> Array:
    """Return numbers in double precision."""
    return numbers.astype(np.result_type(numbers, "float64"))


def _axis(name: str, at: Array, index: int, unit: complex) -> Direction:
    """Return the direction of one element, along the real or the imaginary axis."""
    delta = np.zeros(at.shape, "complex128" if np.iscomplexobj(at) else "float64")
    delta.reshape(-1)[index] = unit
    return Direction({name: delta}, _scale(at.reshape(-1)[index]), index, unit)


def _scale(at: Array) -> float:
    """Return the magnitude that a step is proportional to: the numbers' root mean square, but at least 1."""
    wide = np.asarray(at, np.result_type(at, "float32"))  # of float16, the norm would overflow
    return max(1.0, float(np.linalg.norm(wide)) / np.sqrt(wide.size)) if wide.size else 1.0
