"""Keras optimizers: the variables that one is built for, and its schedule of learning rates."""

from __future__ import annotations

from typing import Any


def built_variables(optimizer: Any) -> list[Any]:
    """Return the variables that an optimizer was built for; an empty list where this Keras does not tell.

    The public ``optimizer.variables`` are the optimizer's own (seen in Keras 3.15). With an empty list, a
    fresh copy of the optimizer is made for every run.
    """
    return list(getattr(optimizer, "_trainable_variables", ()))


def copy_exclusions(optimizer: Any, copy: Any) -> None:
    """Have a copy of an optimizer leave the weight decay out where ``exclude_from_weight_decay`` says so.

    It is no part of ``get_config`` (seen in Keras 3.13 and 3.15). Nothing happens where this Keras keeps it
    elsewhere.
    """
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if hasattr(optimizer, name):
            setattr(copy, name, getattr(optimizer, name))
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        copy_exclusions(inner, copy.inner_optimizer)


def learning_rate_schedule(optimizer: Any) -> Any:
    """Return the schedule that an optimizer takes its rate from; ``None`` where there is none, or none told.

    The public ``optimizer.learning_rate`` is the rate of the present step. The notes to TensorFlow 2.11, in
    which that changed, name ``_learning_rate`` as the way to the schedule.
    """
    import keras

    schedule = getattr(optimizer, "_learning_rate", None)
    return schedule if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule) else None
