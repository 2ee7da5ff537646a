"""The optimizer that the settings of a run mean: with a schedule, with clipping, or one for each group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.composite import Composite, Part
from tape_magic.engine.minimization.optimizer_groups import Group, groups_of
from tape_magic.engine.minimization.schedules import Given, Schedule, schedule_of
from tape_magic.engine.minimization.scipy_methods import Method
from tape_magic.engine.minimization.settings import DEFAULT_OPTIMIZER, Settings
from tape_magic.engine.minimization.steppers import method_name
from tape_magic.errors import LineError


def optimizer_of(settings: Settings) -> Any:
    """Return the optimizer that settings mean, with their schedule, their clipping and their groups.

    Raises :class:`LineError` for what :func:`resolve` refuses, and for what does not go together.
    """
    grouped = isinstance(settings.optimizer, Mapping)
    if not grouped:
        optimizer = "adam" if settings.optimizer == DEFAULT_OPTIMIZER else settings.optimizer
        single = optimizers.resolve(optimizer, settings.lr)
        if settings.schedule is None and settings.clip is None:
            return single
        if method_name(single) or isinstance(single, Method):
            given = "--clip" if settings.schedule is None else "--schedule"
            raise LineError(
                f"{given} goes with Keras optimizers; {single.description} finds its own step lengths: "
                f"leave {given} out."
            )
        parts = [Part(single, users=optimizers.is_optimizer(optimizer) and not settings.made_here)]
    else:
        parts = [_part(place, group, settings.lr) for place, group in groups_of(settings.optimizer).items()]
    schedule = schedule_of(settings.schedule)
    if schedule is not None:
        for part in parts:
            _require_a_number(part, schedule)
    if isinstance(schedule, Given) and (grouped or settings.lr is not None):
        what = (
            "the rates of all groups: give each optimizer its own" if grouped else "the rate: leave --lr out"
        )
        raise LineError(f"--schedule {schedule.name} itself gives {what}.")
    return Composite(parts, schedule, settings.clip)


def _part(place: str, group: Group, lr: Any) -> Part:
    """Return the optimizer of a group. Raises :class:`LineError` for one that is no optimizer of Keras's."""
    if lr is not None:
        raise LineError(f"--lr goes with one optimizer; write the rate of each group: {place}: sgd 0.01.")
    try:
        found = optimizers.resolve(group.optimizer, group.rate)
    except LineError as error:
        raise LineError(f"{place}: {error}") from None
    if method_name(found) or isinstance(found, Method):
        raise LineError(
            f"{place}: {found.description} moves all variables at once; groups take Keras optimizers."
        )
    return Part(found, place, users=optimizers.is_optimizer(group.optimizer) and not group.made_here)


def _require_a_number(part: Part, schedule: Schedule) -> None:
    """Raise :class:`LineError` for an optimizer whose rate is a schedule or a function already."""
    if optimizers.learning_rate(part.optimizer) is None:
        name = f"{part.place}: " if part.place else ""
        raise LineError(
            f"{name}{type(part.optimizer).__name__} has a schedule already: leave it or --schedule "
            f"{schedule.name} out."
        )
