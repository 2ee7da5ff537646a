"""The facts of a run by one of SciPy's methods, for the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization.log import RunLog
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.scipy_solver.evaluations import Evaluations, at_rest, recorded, written_by
from tape_magic.engine.minimization.scipy_solver.vector import Vector
from tape_magic.engine.minimization.undone import Unsafe, asked_by, known_of, undone
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.tracing.apart import is_apart
from tape_magic.engine.values.tensors import read_all
from tape_magic.engine.verdict.facts import Array, Clock, LossAt, RunFacts
from tape_magic.engine.verdict.verdict import find
from tape_magic.results.findings import Finding
from tape_magic.results.minimum import BY_HAND


class SolverProbe:
    """Asks the loss of a run once more; a :class:`~tape_magic.engine.verdict.facts.Probe` without steps.

    Parameters
    ----------
    evaluations
        Those of the run.
    failed
        Where the loss or its gradient was not finite; ``None`` where that was nowhere.
    """

    def __init__(self, evaluations: Evaluations, failed: Vector | None) -> None:
        self._evaluations, self._flat, self._failed = evaluations, evaluations.flat, failed
        self._end = self._flat.read()

    def values(self) -> list[Array]:
        """Return the values of the leaves as they are."""
        return [np.array(variable.numpy()) for variable in self._flat.variables]

    def evaluate(self, batch: Sequence[Any] | None = None) -> LossAt:
        """Return loss and gradients at the variables as they are."""
        loss, gradient = self._loss_and_gradient(self._flat.read())
        assert gradient is not None, "an operation has no gradient"
        return LossAt(loss, [np.array(part) for part in self._flat.parts(gradient)])

    def _loss_and_gradient(self, x: Vector) -> tuple[float, Vector | None]:
        """Return both by the functions of the run where they give both, which are compiled."""
        asked = self._evaluations
        if asked.program is not None or not {"gradient", "jacobian"}.intersection(asked.kinds):
            return at_rest(asked, x)
        written = written_by(asked)
        before = read_all(written)
        try:
            if "gradient" in asked.kinds:
                loss, gradient = asked.call("gradient", x)
                return float(loss), gradient
            residuals, matrix = asked.call("residuals", x), asked.call("jacobian", x)
            return float(residuals @ residuals) / 2, residuals @ matrix
        finally:
            assign_all(zip(written, before, strict=True))

    def place(self, values: Sequence[Array]) -> None:
        """Move the leaves to other values."""
        assign_all(zip(self._flat.variables, values, strict=True))

    def back(self) -> None:
        """Put the leaves back to where the run ended."""
        self._flat.assign(self._end)

    def batches(self, count: int) -> Iterator[Sequence[Any]]:
        """Yield nothing: there are no data."""
        return iter(())

    def fail(self) -> None:
        """Move to the point at which the run diverged."""
        if self._failed is not None:
            self._flat.assign(self._failed)

    def record(self, batch: Sequence[Any] | None = None) -> LossRecord:
        """Return the operations of an evaluation at the variables as they are."""
        return recorded(self._evaluations)


def findings_of(
    problem: Problem, log: RunLog, evaluations: Evaluations, failed: Vector | None
) -> tuple[Finding, ...]:
    """Return what was found about a run that is over; nothing where nobody wants to know."""
    if not problem.settings.verdict or log.reason in BY_HAND:
        return ()
    in_python = evaluations.engine == "eager"
    try:
        with undone(problem, [*evaluations.flat.variables, *written_by(evaluations)], in_python=in_python):
            return find(_facts(problem, log, evaluations, SolverProbe(evaluations, failed)))
    except Unsafe as error:
        return find(_facts(problem, log, evaluations, error))


def _facts(problem: Problem, log: RunLog, evaluations: Evaluations, asked: SolverProbe | Unsafe) -> RunFacts:
    steps, losses = log.series[0].thinned()
    return RunFacts(
        **known_of(problem, evaluations.flat.leaves),
        tolerance=0.0,
        plain=not written_by(evaluations) or is_apart(evaluations.traced),
        steps=steps,
        losses=losses,
        first_step=0,
        reason=log.reason,
        divergence=log.divergence,
        rate=None,
        stability=None,
        by_name=True,
        same_loss=True,
        comes_again=True,
        of_data=False,
        steps_per_epoch=None,
        batch=None,
        step_seconds=log.seconds / len(steps) if evaluations.engine == "eager" else 0.0,
        clock=Clock(log.seconds),
        **asked_by(asked),
    )
