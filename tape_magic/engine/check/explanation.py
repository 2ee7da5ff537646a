"""`Explanation`: why a derivative is not what differences show, where a cause is tried and found right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from tape_magic.engine.check.causes import Suspect, Way, suspects
from tape_magic.engine.check.finite_differences import quick_estimate
from tape_magic.engine.check.holding import STRAIGHT, Holding
from tape_magic.engine.check.quantities import Quantities, derivative_numbers
from tape_magic.engine.check.rerun import Deltas, Rerun
from tape_magic.engine.check.row_check import RowCheck
from tape_magic.engine.check.sampling import Sampling, moved_leaves, step_for
from tape_magic.engine.derivatives.differentiate import differentiate
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import RunResult
from tape_magic.engine.program.program import Namespace, Program

MOST_SUSPECTS = 6
"""A way with more suspects than this is not explained: each takes runs of its own."""

SECONDS = 5.0
"""Seconds after which no further row is explained."""

Combination = tuple[Suspect, ...]


class Explanation:
    """The suspects of one program, tried one by one and then together.

    A suspect is the cause where derivative and differences agree without it. For that, what it keeps from
    the tapes is held while the sources move (a stop, a variable's state), or the tapes get to see what a
    function with a custom gradient computes, or what is computed while they pause.

    Parameters
    ----------
    rerun, request, done
        The program to run again, what was asked, and the result of its own run.
    observe
        Runs the program with some leaves moved, and returns its outputs and lower derivatives.
    """

    def __init__(
        self, rerun: Rerun, request: Request, done: RunResult, observe: Callable[[Deltas], Quantities]
    ) -> None:
        self._rerun, self._request, self._done, self._observe = rerun, request, done, observe
        self._held = rerun.holding
        self._holdings: dict[tuple[frozenset[int], frozenset[int]], Holding] = {}
        self._derivatives: dict[tuple[frozenset[int], bool], Quantities] = {}
        self._sampling = Sampling(rerun, done, observe)

    def add_to(self, rows: Iterable[RowCheck]) -> None:
        """Give each row that does not agree the cause as its reason, where it is found.

        Of differences that do not settle, only the steps of an operation that rounds are taken for the cause.
        """
        wrong = sorted((row for row in rows if row.unexplained), key=lambda row: -row.worst)
        if not wrong:
            return
        started, known = time.perf_counter(), list[Combination]()
        try:
            found = self._suspects(dict.fromkeys(row.row.target for row in wrong))
            for number, row in enumerate(wrong):
                if number and time.perf_counter() - started > SECONDS:
                    return
                moved = moved_leaves(row.row, self._done)
                here = [one for leaf in moved for one in found.get((row.row.target, leaf), ())]
                here = here if row.wrong_directions else [one for one in here if one.name in STRAIGHT]
                combination = self._cause(row, list(dict.fromkeys(here)), known)
                if combination:
                    known = list(dict.fromkeys([combination, *known]))
                    row.reason = "; also ".join(map(str, combination))
        except Exception:  # the comparison stands, however little can be said of its cause
            return
        finally:
            self._rerun.holding = self._held

    def _suspects(self, outputs: Iterable[str]) -> dict[Way, list[Suspect]]:
        """Return the suspects on each way to some outputs, from a run of their own."""
        found: dict[Way, list[Suspect]] = {}
        holding = self._rerun.holding = Holding()

        def compute(program: Program, namespace: Namespace) -> None:
            differentiate(
                program,
                namespace,
                self._request,
                lambda run: found.update(suspects(run, outputs, holding)),
            )

        self._rerun.run(compute, {})
        return found

    def _cause(
        self, row: RowCheck, here: Sequence[Suspect], known: Sequence[Combination]
    ) -> Combination | None:
        """Return the fewest suspects without which a row agrees; `known` are causes of other rows."""
        if not 0 < len(here) <= MOST_SUSPECTS:
            return None
        for combination in (*(one for one in known if set(one) <= set(here)), *((one,) for one in here)):
            if self._agrees(row, combination):
                return combination
        left = tuple(here)
        if len(left) == 1 or not self._agrees(row, left):
            return None
        for one in here:
            fewer = tuple(other for other in left if other is not one)
            if len(fewer) > 1 and self._agrees(row, fewer):
                left = fewer
        return left

    def _agrees(self, row: RowCheck, without: Combination) -> bool:
        """Return whether a row agrees without some suspects, along the directions where it did not."""
        numbers = {
            kind: frozenset(number for one in without if one.kind == kind for number in one.numbers)
            for kind in ("operation", "write", "custom")
        }
        records_all = any(one.kind == "pause" for one in without)
        derivative = self._derivative(numbers["custom"], records_all).get((row.row.target, row.row.wrt))
        self._hold(numbers["operation"], numbers["write"])
        other = replace(row, recomputed=derivative, reported=derivative)
        return all(
            self._sampling.judge([other], direction, min(step, step_for([row])), quick_estimate)[0].severity
            <= 1
            for step, direction in row.unexplained
        )

    def _derivative(self, customs: frozenset[int], records_all: bool) -> Quantities:
        """Return the derivatives without some custom gradients, or without pauses of the tapes."""
        key = customs, records_all
        if key not in self._derivatives:
            self._rerun.holding = Holding(customs=customs, records_all=records_all)
            self._derivatives[key] = self._rerun.run(
                lambda program, namespace: derivative_numbers(
                    differentiate(program, namespace, self._request)
                ),
                {},
            )
        return self._derivatives[key]

    def _hold(self, operations: frozenset[int], writes: frozenset[int]) -> None:
        """Hold some operations and writes from here on, as they are with nothing moved."""
        holding = self._holdings.get((operations, writes))
        if holding is None:
            holding = self._holdings[operations, writes] = Holding(operations, writes)
            self._rerun.holding = holding
            self._observe({})
        self._rerun.holding = holding
