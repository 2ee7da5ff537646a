"""The facts of a run by a Keras optimizer, for the verdict."""

from __future__ import annotations

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.keras_loop.engines import Engines
from tape_magic.engine.minimization.keras_loop.loop_builder import LoopBuilder
from tape_magic.engine.minimization.keras_loop.probe import Failure, LoopProbe
from tape_magic.engine.minimization.log import RunLog
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.undone import Unsafe, asked_by, known_of, undone
from tape_magic.engine.tracing.apart import is_apart
from tape_magic.engine.verdict.facts import Clock, RunFacts
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
    if problem.together is not None and failure is None:
        # Steps need the other workers, who are done by then. Where a run diverged, evaluations are enough.
        return find(_facts(problem, log, builder, engines, cursor, Unsafe("it runs on several workers")))
    probe = LoopProbe(engines.loop, builder.optimizer, cursor, failure)
    try:
        with undone(problem, engines.loop.moved, in_python=engines.engine == "eager"):
            return find(_facts(problem, log, builder, engines, cursor, probe))
    except Unsafe as error:
        return find(_facts(problem, log, builder, engines, cursor, error))


def _facts(
    problem: Problem,
    log: RunLog,
    builder: LoopBuilder,
    engines: Engines,
    cursor: DataCursor | None,
    asked: LoopProbe | Unsafe,
) -> RunFacts:
    taken = log.series[0].steps[-1] - log.first_step
    validating = 0.0 if log.validation is None else log.validation.seconds
    running = log.seconds - engines.compile_seconds - validating
    steps, losses = log.series[0].thinned()
    loop, traced = engines.loop, None if builder.made is None else builder.made.graph.traced
    again = traced is not None and traced.repeatable
    apart = traced is not None and again and is_apart(traced)
    plain = (
        (len(loop.kept) == len(loop.leaves) or apart)
        and not optimizers.decays(builder.optimizer)
        and not any(getattr(leaf.owner, "constraint", None) for leaf in loop.leaves)
    )
    return RunFacts(
        **known_of(problem, loop.leaves),
        tolerance=loop.options.rules.tol or 0.0,
        plain=plain,
        steps=steps,
        losses=losses,
        first_step=log.first_step,
        reason=log.reason,
        divergence=log.divergence,
        rate=optimizers.learning_rate(builder.optimizer) if log.averaged is None else None,
        stability=optimizers.stability(builder.optimizer),
        by_name=isinstance(problem.settings.optimizer, str),
        same_loss=builder.same_loss or apart,
        comes_again=builder.same_loss or again,
        of_data=cursor is not None,
        steps_per_epoch=log.steps_per_epoch,
        batch=None if cursor is None else cursor.feed.batch,
        epochs=log.epochs,
        kept_best=log.put_back is not None,
        step_seconds=running / max(1, taken) if engines.engine == "eager" else 0.0,
        **asked_by(asked),
        walker=None if isinstance(asked, Unsafe) or problem.together is not None else asked,
        clock=Clock(log.seconds),
    )
