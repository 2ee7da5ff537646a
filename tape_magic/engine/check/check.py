"""`checked`: derivatives compared with central differences; the further runs leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tape_magic.engine.check.causes import Way, what_leaves_became
from tape_magic.engine.check.explanation import Explanation
from tape_magic.engine.check.holding import Holding
from tape_magic.engine.check.precisions import DOUBLE, Precisions, is_coarse
from tape_magic.engine.check.quantities import (
    Key,
    Quantities,
    derivative_numbers,
    first_difference,
    lower_key,
    lower_request,
    observe,
    output_numbers,
)
from tape_magic.engine.check.rerun import Deltas, Rerun
from tape_magic.engine.check.row_check import RowCheck
from tape_magic.engine.check.sampling import Sampling, moved_leaves
from tape_magic.engine.derivatives.differentiate import differentiate
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import Run, RunResult
from tape_magic.engine.internals.contexts import restore_after_interrupt
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.errors import CheckError, LineError, TapeMagicError
from tape_magic.notation import LAST_EXPRESSION, Kind, read_targets
from tape_magic.results.check import Check
from tape_magic.results.gradients import Derivative

_NOT_CHECKED = {
    Kind.LAPLACIAN: "a Laplacian: check what it sums, with --hessian or --jacobian",
    Kind.DIVERGENCE: "a divergence: check what it sums, with --jacobian or --batch-jacobian",
    Kind.PER_EXAMPLE: "norms: check the gradients, without --per-example",
}

Silence = Callable[[], AbstractContextManager[Any]]


def checked(
    program: Program, namespace: Namespace, request: Request, silence: Silence = nullcontext
) -> RunResult:
    """Differentiate a program, and compare each derivative with central differences.

    The program's own run comes first, and its effects remain. The further runs begin from the state that it
    began from: names, containers, arrays, variables, models, generators of random numbers and the user's own
    objects, as far as the program reaches them. They run in float64 where the program allows it. Their prints
    and figures are hidden. Their effects elsewhere remain: on files, or on the objects of libraries other
    than TensorFlow, Keras and NumPy.

    Parameters
    ----------
    program, namespace, request
        As :func:`~tape_magic.engine.derivatives.differentiate.differentiate` takes them.
    silence
        Makes a context manager that hides what the program displays.

    Raises what ``differentiate`` raises, :class:`LineError` for a kind that is not compared,
    :class:`CheckError` for a program that gives other results from run to run or cannot run again, and
    ``KeyboardInterrupt`` with everything put back.
    """
    if request.kind in _NOT_CHECKED:
        raise LineError(f"--check cannot compare {_NOT_CHECKED[request.kind]}.")
    rerun = Rerun(program, namespace, _sources(request, program, namespace))
    done = differentiate(program, namespace, request)
    with restore_after_interrupt(), rerun.opened(silence):
        checks = _Checker(rerun, program, namespace, request, done).checks()
    return replace(done, report=replace(done.report, checks=checks))


def _sources(request: Request, program: Program, namespace: Namespace) -> list[str]:
    """Return the places of the sources that a request names."""
    known = {*namespace, *program.names.reads, *program.names.assigns}
    targets = read_targets(request.words, known.__contains__)
    return [*(text for target in targets for text in target.wrt), *(request.wrt or ()), *request.vectors]


_Seen = tuple[RunResult, Quantities, Precisions, Mapping[Way, str]]
"""A run's result, its numbers, its precisions, and what is said of leaves that it assigns."""


@dataclass(frozen=True)
class _Recomputed:
    """The numbers of a further run, which has the precision of the differences.

    Attributes
    ----------
    quantities, precisions
        Its numbers, and in which dtypes it computes.
    own
        In which dtypes the program itself computes.
    note
        Why the run is not in float64; empty where it is, or where it is for some rows.
    became
        What is said of leaves that the program assigns before it reads them.
    """

    quantities: Quantities
    precisions: Precisions
    own: Precisions
    note: str = ""
    became: Mapping[Way, str] = field(default_factory=dict)


class _Checker:
    """The further runs of one program, and the comparison of its derivatives."""

    def __init__(
        self, rerun: Rerun, program: Program, namespace: Namespace, request: Request, done: RunResult
    ) -> None:
        self._rerun, self._program, self._request, self._done = rerun, program, request, done
        self._outputs = list(dict.fromkeys(row.target for row in done.report.rows))
        self._own: Quantities = {
            **output_numbers(program, namespace, done.value, self._outputs),
            **derivative_numbers(done),
        }
        self._lower = lower_request(request, program, rerun.entry)

    def checks(self) -> tuple[Check, ...]:
        """Return a check for each row of the report."""
        found = self._recompute()
        if found.became:
            self._rerun.holding = Holding()
        base = self._observe({})
        rows = [self._row_check(row, found, base) for row in self._done.report.rows]
        Sampling(self._rerun, self._done, self._observe).take(rows)
        Explanation(self._rerun, self._request, self._done, self._observe).add_to(rows)
        return tuple(row.check() for row in rows)

    def _row_check(self, row: Derivative, found: _Recomputed, base: Quantities) -> RowCheck:
        """Return a row to be compared, with a remark on its precision."""
        moved, below = moved_leaves(row, self._done), base.get(lower_key(row))
        dtype, own = found.precisions.of_row(row.target, moved), found.own.of_output(row.target)
        checked = RowCheck(
            row,
            self._own.get((row.target, row.wrt)),
            found.quantities.get((row.target, row.wrt)),
            np.zeros(0) if below is None else below.numbers,
            dtype,
            own,
        )
        became = [found.became[row.target, leaf] for leaf in moved if (row.target, leaf) in found.became]
        checked.reason = next(iter(became), "")
        if is_coarse(own) and not is_coarse(dtype):
            checked.note(f"the cell itself computes in {own}")
        elif dtype != DOUBLE:
            checked.note(
                f"it computes in {dtype} inside" if is_coarse(dtype) or not found.note else found.note
            )
        return checked

    # -- runs with nothing moved -------------------------------------------------------------------

    def _recompute(self) -> _Recomputed:
        """Return the derivatives of a further run, in double precision where the program allows it.

        Raises :class:`CheckError` where one of two further runs does not agree with the program's own.
        """
        for _ in range(2):
            try:
                done, found, own, became = self._run()
            except TapeMagicError:
                raise
            except Exception as error:
                raise CheckError(
                    f"the cell fails when it runs again{self._at(error)}, and --check needs it to."
                ) from error
            key = first_difference(self._own, found)
            if key is not None:
                raise CheckError(self._two_answers(key, found))
        self._rerun.learn(done.leaves)
        dtypes = self._dtypes(own)
        if set(dtypes) <= {DOUBLE}:
            if self._rerun.assigns_sources:
                self._run()  # shows which of them the tapes follow before they get their names
            return _Recomputed(found, own, own, became=became)
        why = "the cell does not compute in float64"
        self._rerun.wide = True
        try:
            wide, further, there, became = self._run()
            one, other = ({row.key: row.connected for row in run.report} for run in (done, wide))
            if one == other and self._dtypes(there) != dtypes:
                outputs = {key: one for key, one in found.items() if not key[1]}
                if first_difference(outputs, further, own.of_output) is None:
                    return _Recomputed(further, there, own, became=became)
                why = "in float64 the cell gives something else"
        except Exception as error:
            why += self._at(error)
        self._rerun.wide = False
        return _Recomputed(found, own, own, why, became)

    def _dtypes(self, precisions: Precisions) -> list[str]:
        """Return the dtype in which each row's differences would be taken."""
        rows = self._done.report.rows
        return [precisions.of_row(row.target, moved_leaves(row, self._done)) for row in rows]

    def _run(self) -> _Seen:
        """Run the program again with nothing moved."""

        def compute(program: Program, namespace: Namespace) -> _Seen:
            seen: list[tuple[Precisions, Mapping[Way, str]]] = []

            def look(run: Run) -> None:
                became: Mapping[Way, str] = {}
                with suppress(Exception):  # the record may be such that nothing can be read from it
                    became = what_leaves_became(run, self._outputs)
                seen.append((Precisions.of(run, self._outputs), became))

            done = differentiate(program, namespace, self._request, look)
            outputs = output_numbers(program, namespace, done.value, self._outputs)
            return done, {**outputs, **derivative_numbers(done)}, *seen[0]

        return self._rerun.run(compute)

    def _at(self, error: BaseException) -> str:
        """Return an error's kind and the user's line, in brackets."""
        where = self._program.line_of(error)
        return f" ({f'line {where[0]}: ' if where else ''}{type(error).__name__})"

    def _two_answers(self, key: Key, found: Quantities) -> str:
        """Return the message for a program whose further run gives other numbers under a key."""
        one, other = self._own[key], found.get(key)
        name = "the value" if key[0] == LAST_EXPRESSION else key[0]
        shown = ""
        if one is not None and other is not None and one.numbers.shape == other.numbers.shape:
            index = int(np.argmax(np.abs(one.numbers - other.numbers)))
            shown = f", {one.numbers[index]:.6g} and then {other.numbers[index]:.6g}"
        what = f"the derivative of {name}" if key[1] else name
        return (
            f"the cell gives two different answers for the same input: {what} differs from run to run"
            f"{shown}. --check needs one: seed the random numbers in the cell, or take them out."
        )

    def _observe(self, deltas: Deltas) -> Quantities:
        """Return the outputs and lower derivatives of a run with some leaves moved."""

        def compute(program: Program, namespace: Namespace) -> Quantities:
            return observe(program, namespace, self._outputs, self._lower)

        if not deltas:
            return self._rerun.run(compute, deltas)
        try:
            return self._rerun.run(compute, deltas)
        except Exception:
            return {}  # counts as not finite: the program has no value at that place
