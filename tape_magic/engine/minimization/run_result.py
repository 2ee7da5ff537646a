"""The report of a run, from what it has recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.log import UNLIMITED, RunLog
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.static_analysis import side_effects
from tape_magic.engine.values.copies import lasting_array
from tape_magic.results.epochs import shown_means
from tape_magic.results.findings import Finding
from tape_magic.results.minimum import MinimizeResult, VariableChange


def result_of(
    log: RunLog,
    problem: Problem,
    optimizer: Any,
    gradient_norms: Mapping[int, float],
    *,
    engine: str,
    engine_reason: str,
    compile_seconds: float,
    findings: tuple[Finding, ...] = (),
    devices: int = 1,
) -> MinimizeResult:
    """Return the report of a run.

    Parameters
    ----------
    log, problem
        What the run has recorded, and what it minimised.
    optimizer
        A Keras optimizer, or a method of SciPy.
    gradient_norms
        The Euclidean norm of the last gradient by each leaf, by the id of its variable.
    engine, engine_reason, compile_seconds
        Which engine ran at the end, why it is not a faster one, and how long compiling took.
    findings
        What was found about the run.
    devices
        How many devices evaluated each batch.
    """
    validation, track = log.validation, problem.settings.track
    if validation is not None and validation.note and log.divergence is None:
        problem.notes.append(validation.note)
    if engine != "eager":
        problem.notes += side_effects.notes(problem.text)
    (steps, history), *tracked = [series.thinned() for series in log.series]
    best_step, best_loss = log.lowest
    left = log.averaged if log.put_back is None else log.put_back[1]
    epochs, stretches = log.epochs, None if log.means is None else log.means.read()[1]
    kept_best = log.put_back is not None
    if log.divergence is not None:
        values_of = int(steps[-1]) if log.put_back is None else log.put_back[0]
        log.divergence = replace(log.divergence, values_of=values_of)
        kept_best = values_of == best_step and kept_best
    elif (means := shown_means(epochs)) is not None:
        left = best_loss if kept_best else float(means.loss[-1])
    return MinimizeResult(
        loss_name=problem.shown_name,
        loss=float(history[-1]) if left is None else left,
        start_loss=float(history[0]),
        best_loss=best_loss,
        best_step=best_step,
        steps=int(steps[-1]),
        steps_asked=int(steps[-1]) if log.limit == UNLIMITED else log.limit,
        reason=log.reason,
        seconds=log.seconds,
        compile_seconds=compile_seconds,
        engine=engine,
        engine_reason=engine_reason,
        optimizer=optimizers.describe(optimizer),
        optimizer_reason=log.choice,
        learning_rate=optimizers.learning_rate(optimizer),
        history=history,
        history_steps=steps,
        variables={
            leaf.name: VariableChange(start, lasting_array(leaf.value), gradient_norms.get(id(leaf.value)))
            for leaf, start in zip(problem.leaves, problem.start_values, strict=True)
        },
        tracked={name: values for name, (_, values) in zip(track, tracked, strict=True)},
        tracked_steps={name: at for name, (at, _) in zip(track, tracked, strict=True)},
        divergence=log.divergence,
        kept_best=kept_best,
        first_step=log.first_step,
        notes=tuple(problem.notes),
        findings=findings,
        epochs=epochs,
        stretches=stretches,
        devices=devices,
        validation_seconds=0.0 if validation is None else validation.seconds,
    )
