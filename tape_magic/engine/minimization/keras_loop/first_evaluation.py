"""The first evaluation of a program that runs in Python, which shows what is minimised over."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.minimization.eager_program import EagerProgram
from tape_magic.engine.minimization.keras_loop.reached_variables import ReachedVariables
from tape_magic.engine.minimization.mirrored import follow
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.record.loss_record import LossRecord
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.tracing.failures import missing_gradients
from tape_magic.engine.values.leaves import Leaf


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: the loss, the tracked scalars, and a dense gradient for each leaf that has one."""

    loss: Any
    tracked: list[Any]
    gradients: list[Any]


@dataclass(frozen=True)
class FirstEvaluation:
    """The first evaluation of a program, which shows what is minimised over.

    Attributes
    ----------
    evaluated
        The loss and its gradients.
    connected
        For each leaf of the problem, whether it has a gradient.
    leaves
        The leaves that have one.
    written
        The variables that the program assigns itself, each with its value before the evaluation.
    record
        The operations.
    """

    evaluated: Evaluated
    connected: Sequence[bool]
    leaves: Sequence[Leaf]
    written: Sequence[tuple[Any, Any]]
    record: LossRecord


def first_evaluation(problem: Problem, program: EagerProgram, *, within_bounds: bool) -> FirstEvaluation:
    """Run a program once, or as if once, to find what is minimised over.

    Parameters
    ----------
    problem
        What is minimised; settled and begun afterwards.
    program
        The program, bound to a batch if there are data.
    within_bounds
        See :meth:`Problem.begin`.
    """
    import tensorflow as tf

    if problem.leaves:  # a trace that failed has found them
        problem.begin(within_bounds=within_bounds)
    recorder = Recorder()
    reached = ReachedVariables(problem.program, problem.namespace)
    with recorder.listening(), tf.GradientTape() as tape:
        loss, tracked = program.compute(), program.scalars(problem.settings.track)
        # A tape watches a variable as it is read, unless the variable is not trainable.
        read = tape.watched_variables()
        before = [variable.numpy() for variable in read]
    leaves = problem.settle(read)
    problem.note_recorded_steps(recorder)
    problem.begin(within_bounds=within_bounds)
    same = functools.partial(np.array_equal, equal_nan=True)
    moved = not all(map(same, before, [variable.numpy() for variable in read]))
    if moved or any(not getattr(leaf.value, "trainable", True) for leaf in leaves):
        # The state goes back, so that all is as if the program had run once, from within the bounds.
        assign_all(reached.written(recorder, [leaf.value for leaf in leaves] if moved else ()))
        recorder = Recorder()
        with recorder.listening(), watching(leaves) as tape:
            loss, tracked = program.compute(), program.scalars(problem.settings.track)
    gradients = gradients_by(tape, loss, leaves)
    connected = [gradient is not None for gradient in gradients]
    having = [leaf for leaf, has in zip(leaves, connected, strict=True) if has]
    written = list(reached.written(recorder, [leaf.value for leaf in having]))
    for variable, _ in written:
        follow(variable, problem.at_close)
    evaluated = Evaluated(loss, tracked, dense(gradients))
    return FirstEvaluation(evaluated, connected, having, written, LossRecord(recorder, loss))


@contextmanager
def watching(leaves: Sequence[Leaf]) -> Iterator[Any]:
    """Record with a tape that watches the leaves and nothing else."""
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        for leaf in leaves:
            tape.watch(leaf.value)
        yield tape


def gradients_by(tape: Any, loss: Any, leaves: Sequence[Leaf]) -> list[Any]:
    """Return the gradient by each leaf; ``None`` where there is none."""
    with missing_gradients():
        return list(tape.gradient(loss, [leaf.value for leaf in leaves]))


def dense(gradients: Sequence[Any]) -> list[Any]:
    """Return the gradients that there are, those of lookups as full tensors."""
    import tensorflow as tf

    return [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
