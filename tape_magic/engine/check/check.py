"""`checked`: derivatives compared with central differences; the further runs leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.engine.check.finite_differences import step_of
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
from tape_magic.engine.check.sampling import Sampling
from tape_magic.engine.derivatives.differentiate import differentiate
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import RunResult
from tape_magic.engine.internals.contexts import restore_after_interrupt
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.values.precision import double_of, epsilon
from tape_magic.errors import CheckError, TapeMagicError
from tape_magic.notation import LAST_EXPRESSION, read_targets
from tape_magic.results.check import Check
from tape_magic.syntax import place

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

    Raises what ``differentiate`` raises, :class:`CheckError` for a program that gives other results from run
    to run or cannot run again, and ``KeyboardInterrupt`` with everything put back.
    """
    rerun = Rerun(program, namespace, _bases(request, program, namespace))
    done = differentiate(program, namespace, request)
    with restore_after_interrupt(), rerun.opened(silence):
        checks = _Checker(rerun, program, namespace, request, done).checks()
    return replace(done, report=replace(done.report, checks=checks))


def _bases(request: Request, program: Program, namespace: Namespace) -> list[str]:
    """Return the names at which the sources begin that a request names: ``p`` for ``p['w']``."""
    known = {*namespace, *program.names.reads, *program.names.assigns}
    targets = read_targets(request.words, known.__contains__)
    texts = [*(text for target in targets for text in target.wrt), *(request.wrt or ()), *request.vectors]
    return list(dict.fromkeys(place(text)[0] for text in texts))


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
        recomputed, dtype, note = self._recompute()
        base = self._observe({})
        rows = []
        for row in self._done.report.rows:
            key = row.target, row.wrt
            below = base.get(lower_key(row))
            numbers = np.zeros(0) if below is None else below.numbers
            rows.append(RowCheck(row, self._own.get(key), recomputed.get(key), numbers, epsilon(dtype)))
            if note:
                rows[-1].note(note)
        Sampling(self._rerun, self._done, self._observe).take(rows, step_of(epsilon(dtype)))
        return tuple(row.check(dtype) for row in rows)

    # -- runs with nothing moved -------------------------------------------------------------------

    def _recompute(self) -> tuple[Quantities, str, str]:
        """Return the derivatives of a further run, their dtype, and why it is not float64.

        Raises :class:`CheckError` where one of two further runs does not agree with the program's own.
        """
        for _ in range(2):
            try:
                done, found = self._run()
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
        narrow = _narrow(done, found)
        if not narrow:
            return found, "float64", ""
        why = "the cell does not compute in float64"
        self._rerun.wide = True
        try:
            wide, further = self._run()
            one, other = ({row.key: row.connected for row in run.report} for run in (done, wide))
            if one == other and not _narrow(wide, further):
                if first_difference({key: one for key, one in found.items() if not key[1]}, further) is None:
                    return further, "float64", ""
                why = "in float64 the cell gives something else"
        except Exception as error:
            why += self._at(error)
        self._rerun.wide = False
        return found, max(narrow, key=epsilon), why

    def _run(self) -> tuple[RunResult, Quantities]:
        """Run the program again with nothing moved, and return its result and all its numbers."""

        def compute(program: Program, namespace: Namespace) -> tuple[RunResult, Quantities]:
            done = differentiate(program, namespace, self._request)
            outputs = output_numbers(program, namespace, done.value, self._outputs)
            return done, {**outputs, **derivative_numbers(done)}

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


def _narrow(done: RunResult, found: Quantities) -> list[str]:
    """Return the dtypes below double precision among sources, outputs and derivatives."""
    dtypes = [leaf.dtype for leaf in done.leaves.values()]
    dtypes += [quantity.dtype for quantity in found.values() if quantity is not None]
    return [dtype for dtype in dtypes if double_of(dtype) is not None]
