"""Keras optimizers: the variables that one is built for, and its schedule of learning rates."""

from __future__ import annotations

from typing import Any


def built_variables(optimizer: Any) -> list[Any]:
    """Return the variables that an optimizer was built for; an empty list where this Keras does not tell.

    The public ``optimizer.variables`` are the optimizer's own (seen in Keras 3.15). With an empty list, a
    fresh copy of the optimizer is made for every run.
    """
    return list(getattr(optimizer, "_trainable_variables", ()))


def learning_rate_schedule(optimizer: Any) -> Any:
    """Return the schedule that an optimizer takes its rate from; ``None`` where there is none, or none told.

    The public ``optimizer.learning_rate`` is the rate of the present step. The notes to TensorFlow 2.11, in
    which that changed, name ``_learning_rate`` as the way to the schedule.
    """
    import keras

    schedule = getattr(optimizer, "_learning_rate", None)
    return schedule if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule) else None
