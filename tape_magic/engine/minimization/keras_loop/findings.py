"""The facts of a run by a Keras optimizer, for the verdict."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.engines import Engines
from tape_magic.engine.minimization.keras_loop.loop_builder import LoopBuilder
from tape_magic.engine.minimization.keras_loop.probe import Failure, LoopProbe, Unsafe
from tape_magic.engine.minimization.log import RunLog
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.verdict.facts import Clock, Probe, RunFacts
from tape_magic.engine.verdict.verdict import find
from tape_magic.results.findings import Finding
from tape_magic.results.minimum import BY_HAND


def findings_of(
    problem: Problem,
    log: RunLog,
    builder: LoopBuilder,
    engines: Engines,
    cursor: DataCursor | None,
    failure: Failure | None,
) -> tuple[Finding, ...]:
    """Return what was found about a run that is over; nothing where nobody wants to know.

    Parameters
    ----------
    problem, log, builder, engines, cursor
        Those of the run.
    failure
        Where it diverged; ``None`` where it did not.
    """
    if not problem.settings.verdict or log.reason in BY_HAND:
        return ()
    in_python = engines.engine == "eager"
    probe = LoopProbe(problem, engines.loop, builder.optimizer, cursor, failure, in_python=in_python)
    with ExitStack() as stack:
        asked: Probe | None = None
        with suppress(Unsafe):
            asked = stack.enter_context(probe)
        return find(_facts(problem, log, builder, engines, cursor, asked))
    return ()


def _facts(
    problem: Problem,
    log: RunLog,
    builder: LoopBuilder,
    engines: Engines,
    cursor: DataCursor | None,
    probe: Probe | None,
) -> RunFacts:
    loop, optimizer = engines.loop, builder.optimizer
    starts = {id(leaf.value): start for leaf, start in zip(problem.leaves, problem.start_values, strict=True)}
    steps, losses = log.series[0].thinned()
    return RunFacts(
        text=problem.text,
        loss_name=problem.loss_name,
        leaves=loop.leaves,
        lower=loop.options.lower,
        upper=loop.options.upper,
        starts=[starts[id(leaf.value)] for leaf in loop.leaves],
        steps=steps,
        losses=losses,
        first_step=log.first_step,
        step_limit=problem.settings.step_limit,
        reason=log.reason,
        divergence=log.divergence,
        optimizer=type(optimizer).__name__,
        rate=optimizers.learning_rate(optimizer),
        momentum=float(getattr(optimizer, "momentum", 0.0) or 0.0),
        of_data=cursor is not None,
        batch_rows=_rows(cursor),
        steps_per_epoch=log.steps_per_epoch,
        repeatable=not loop.options.careful,
        probe=probe,
        clock=Clock(log.seconds),
    )


def _rows(cursor: DataCursor | None) -> int | None:
    """Return how many rows the batches have; ``None`` without data, and where that is not known."""
    import tensorflow as tf

    if cursor is None or cursor.last is None:
        return None
    parts: list[Any] = tf.nest.flatten(list(cursor.last))
    sizes = {part.shape[0] for part in parts if getattr(part, "shape", None) and part.shape.rank}
    return sizes.pop() if len(sizes) == 1 else None
