"""Single evaluations beside those that SciPy asks for: where a run stands, and what is recorded there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tape_magic.engine.minimization.scipy_solver.evaluations import Evaluations
from tape_magic.engine.minimization.scipy_solver.vector import Flat, Vector
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.record.loss_record import LossRecord, record_of
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.tracing.loss import require_residuals
from tape_magic.engine.values.tensors import read_all


@contextmanager
def _watching(flat: Flat) -> Iterator[Any]:
    """Record with a tape that watches the leaves and nothing else."""
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for variable in flat.variables:
            tape.watch(variable)
        yield tape


def written_by(evaluations: Evaluations) -> Sequence[Any]:
    """Return the variables that the program's graph assigns itself."""
    return evaluations.traced.written if evaluations.program is None else ()


def recorded(evaluations: Evaluations) -> LossRecord:
    """Return the operations of an evaluation at the variables as they are."""
    if evaluations.program is None:
        return record_of(evaluations.traced.concrete, ())
    recorder = Recorder()
    with recorder.listening(), _watching(evaluations.flat):
        return LossRecord(recorder, evaluations.program.compute())


def at_rest(evaluations: Evaluations, x: Vector) -> tuple[float, Vector | None]:
    """Return the loss and its gradient at a vector, by the functions of the run where they give both.

    For least squares, the loss is half the sum of the squares. What a graph assigns itself is put back. The
    gradient is ``None`` where an operation has none.
    """
    written = written_by(evaluations)
    before = read_all(written)
    try:
        return _loss_and_gradient(evaluations, x)
    finally:
        assign_all(zip(written, before, strict=True))


def _loss_and_gradient(evaluations: Evaluations, x: Vector) -> tuple[float, Vector | None]:
    import tensorflow as tf

    flat, program = evaluations.flat, evaluations.program
    if program is None and "gradient" in evaluations.kinds:
        loss, gradient = evaluations.call("gradient", x)
        return float(loss), gradient
    if program is None and "jacobian" in evaluations.kinds:
        residuals, matrix = evaluations.call("residuals", x), evaluations.call("jacobian", x)
        return float(residuals @ residuals) / 2, residuals @ matrix
    flat.assign(x)
    with _watching(flat) as tape:
        loss = evaluations.traced.values()[0] if program is None else program.compute()
        if evaluations.require is require_residuals:
            loss = 0.5 * tf.reduce_sum(tf.square(tf.cast(loss, tf.float64)))
    try:
        found = tape.gradient(loss, flat.variables, unconnected_gradients="zero")
    except LookupError:
        return float(loss), None
    return float(loss), np.array(flat.joined(found))
