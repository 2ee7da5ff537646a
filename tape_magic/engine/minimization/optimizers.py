"""Finds the Keras optimizer, or the method of SciPy, that a name or an object means."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Sequence
from typing import Any

from tape_magic.engine.internals.keras_optimizers import (
    built_variables,
    copy_exclusions,
    learning_rate_schedule,
)
from tape_magic.engine.minimization import scipy_methods
from tape_magic.engine.minimization.composite import Composite, parts_of
from tape_magic.engine.minimization.optimizer_names import MEANT
from tape_magic.engine.minimization.schedules import Given
from tape_magic.engine.minimization.steppers import METHODS, method_name
from tape_magic.errors import LineError, a_kind, closest


@functools.cache
def keras_names() -> dict[str, type]:
    """Return every optimizer that Keras ships, by its lower-case name."""
    import keras

    found = {}
    for name in dir(keras.optimizers):
        member = getattr(keras.optimizers, name)
        if not is_optimizer_class(member) or member is keras.optimizers.Optimizer:  # the abstract one
            continue
        # LossScaleOptimizer and MultiOptimizer wrap other optimizers, and have no rate of their own.
        if "learning_rate" in inspect.signature(member).parameters:
            found[name.lower()] = member
    return found


def is_optimizer_class(value: Any) -> bool:
    """Return whether a value is a class of Keras optimizers, such as the user's own."""
    import keras

    return isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer)


def is_schedule(value: Any) -> bool:
    """Return whether a value is a schedule of learning rates."""
    import keras

    return isinstance(value, keras.optimizers.schedules.LearningRateSchedule)


def is_optimizer(value: Any) -> bool:
    """Return whether a value is a Keras optimizer."""
    import keras

    return isinstance(value, keras.optimizers.Optimizer)


def resolve(optimizer: Any, lr: Any = None) -> Any:
    """Return the Keras optimizer, the method of this package, or the ``Method`` of SciPy, that is meant.

    Parameters
    ----------
    optimizer
        A Keras name such as ``"adam"``, an optimizer, a class of optimizers, ``"lbfgs"``, or a method of
        SciPy.
    lr
        The learning rate or a schedule, for a Keras name or a class; without it, Keras's default.

    Raises
    ------
    LineError
        For an unknown name, with the closest one; for a rate beside an optimizer that has its own.

    Examples
    --------
    >>> describe(resolve("sgd", 0.1))                       # doctest: +SKIP
    'SGD(0.1)'
    """
    _require_tensorflow()
    method = scipy_methods.find(optimizer)
    if method is not None:
        scipy_methods.require_scipy(method)
        return method
    if callable(lr) and not is_schedule(lr):
        raise LineError(f"the learning rate is {a_kind(lr)}; give a number, or a schedule of Keras's.")
    if is_optimizer(optimizer):
        if lr is not None:
            raise LineError(
                f"--lr goes with an optimizer's name; {describe(optimizer)} has a rate of its own: "
                "leave one of them out."
            )
        return optimizer
    if isinstance(optimizer, str):
        known = keras_names()
        names = [*known, *METHODS, *scipy_methods.NAMES]
        plain = re.sub(r"[-_ ]", "", optimizer).lower().removesuffix("optimizer")
        if plain in METHODS:
            if lr is not None:
                raise LineError(
                    f"--lr goes with Keras optimizers; {plain} finds its own step lengths: leave --lr out."
                )
            return METHODS[plain]()
        if plain not in known:
            near = f"; did you mean {MEANT[plain]}?" if plain in MEANT else closest(optimizer, names)
            raise LineError(f"unknown optimizer {optimizer!r}{near or '; give a name such as adam or bfgs'}")
        optimizer = known[plain]
    if not is_optimizer_class(optimizer):
        raise LineError(
            f"the optimizer is {a_kind(optimizer)}; give a Keras optimizer or a name such as adam."
        )
    try:
        return optimizer() if lr is None else optimizer(learning_rate=lr)
    except TypeError as error:
        name, given = optimizer.__name__, "nothing" if lr is None else "a learning rate"
        raise LineError(
            f"{name} cannot be made from {given} alone ({error}): give one that is made, {name}(…)."
        ) from None


def _require_tensorflow() -> None:
    import keras

    backend = keras.config.backend()
    if backend != "tensorflow":
        raise LineError(
            f"Keras runs on {backend} here: set the environment variable KERAS_BACKEND to tensorflow "
            "before TensorFlow is imported, and restart the kernel."
        )


def built_for(optimizer: Any, variables: Sequence[Any]) -> tuple[Any, bool]:
    """Return the optimizer with its slots for the variables, and whether it had to be a fresh copy.

    Keras ties an optimizer to the variables of its first use; for other variables, a copy with the same
    settings takes its place.
    """
    if method_name(optimizer):
        if not optimizer.built or not optimizer.fits(variables):
            optimizer = type(optimizer)()
            optimizer.build(variables)
        return optimizer, False
    fresh = optimizer.built and not _fits(optimizer, variables)
    if fresh:
        try:
            given, optimizer = optimizer, type(optimizer).from_config(settings_of(optimizer))
            copy_exclusions(given, optimizer)
        except Exception as error:  # a class of the user's own, whose get_config leaves something out
            name = type(optimizer).__name__
            raise LineError(
                f"the optimizer belongs to other variables, and a copy of it cannot be made ({error}): "
                f"give a new {name}(…)."
            ) from None
    if not optimizer.built:
        if type(optimizer).__name__ == "Muon":
            _give_paths(variables)
        optimizer.build(list(variables))
    return optimizer, fresh


def keeps_averages(optimizer: Any) -> bool:
    """Return whether an optimizer, or one within it, averages the variables over the steps."""
    inner = (getattr(one, "inner_optimizer", one) for one in parts_of(optimizer))
    return any(getattr(one, "use_ema", False) for one in inner)


def leave_averages(optimizer: Any, variables: Sequence[Any]) -> bool:
    """Give variables their averages, as ``fit`` does at its end; return whether there are any.

    An optimizer that scales the loss takes no step while the gradients are not finite, and has none then.
    """
    found = [_leave_averages(one, variables) for one in parts_of(optimizer)]
    return any(found)


def _leave_averages(optimizer: Any, variables: Sequence[Any]) -> bool:
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not keeps_averages(optimizer) or not int(inner.variables[0]):  # the number of steps
        return False
    # It takes the variables that it was built for, which may be more, or fewer.
    optimizer.finalize_variable_values(built_variables(inner) or list(variables))
    return True


def _give_paths(variables: Sequence[Any]) -> None:
    """Give TensorFlow's variables the attribute ``path``, which Muon reads and only Keras's have."""
    for variable in variables:
        if not hasattr(variable, "path"):
            variable.path = variable.name


def _fits(optimizer: Any, variables: Sequence[Any]) -> bool:
    known = {id(variable) for variable in built_variables(optimizer)}
    return all(id(variable) in known for variable in variables)


def settings_of(optimizer: Any) -> dict[str, Any]:
    """Return what an optimizer is made from, with its schedule as an object.

    Keras would ask the schedule for its own settings, which a class of the user's need not have.
    """
    schedule = learning_rate_schedule(optimizer)
    if schedule is None:
        config: dict[str, Any] = optimizer.get_config()
        return config
    vars(schedule)["get_config"] = dict  # Keras calls it in any case
    try:
        return {**optimizer.get_config(), "learning_rate": schedule}
    finally:
        del vars(schedule)["get_config"]


def learning_rate(optimizer: Any) -> float | None:
    """Return the rate, if it is one number; ``None`` for a schedule, groups, and SciPy's methods."""
    if isinstance(optimizer, scipy_methods.Method) or method_name(optimizer):
        return None
    if isinstance(optimizer, Composite):
        one = optimizer.schedule is None and len(optimizer.parts) == 1
        return learning_rate(optimizer.parts[0].optimizer) if one else None
    wrapped = getattr(optimizer, "inner_optimizer", None)
    rate = settings_of(optimizer if wrapped is None else wrapped).get("learning_rate")
    return float(rate) if isinstance(rate, float) else None


def current_rates(optimizer: Any) -> dict[str, float]:
    """Return the rates of the next step, of a schedule too, each by the place of its group, ``""`` for all.

    Methods that have no rate have none.
    """
    if isinstance(optimizer, Composite):
        return optimizer.next_rates
    if not is_optimizer(optimizer):
        return {}
    return {"": float(getattr(optimizer, "inner_optimizer", optimizer).learning_rate)}


def stability(optimizer: Any) -> float | None:
    """Return the number c: steps along a direction of curvature λ are stable below the rate c/λ.

    It is 2 for gradient descent, 2(1 + β) with momentum β and (2 + 2β)/(1 + 2β) with Nesterov's: where the
    roots of the recursion on ½λx² leave the unit circle. ``None`` for optimizers that scale their steps.
    """
    import keras

    if type(optimizer) is not keras.optimizers.SGD:
        return None
    config = settings_of(optimizer)
    changed = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "gradient_accumulation_steps")
    if any(config.get(key) for key in changed):
        return None
    momentum = float(config["momentum"])
    wide = 2 * (1 + momentum)
    return wide / (1 + 2 * momentum) if config["nesterov"] else wide


def decays(optimizer: Any) -> bool:
    """Return whether an optimizer makes the variables smaller besides following the gradient."""
    if isinstance(optimizer, scipy_methods.Method) or method_name(optimizer):
        return False
    if isinstance(optimizer, Composite):
        return any(map(decays, parts_of(optimizer)))
    config = settings_of(getattr(optimizer, "inner_optimizer", optimizer))
    ways = "weight_decay", "l1_regularization_strength", "l2_regularization_strength"
    return any(config.get(way) for way in ways)


def describe(optimizer: Any, rate: str = "") -> str:
    """Return class, rate, and the settings that are no defaults: ``SGD(0.01, momentum=0.9)``.

    `rate` stands for the optimizer's own.
    """
    if isinstance(optimizer, scipy_methods.Method) or method_name(optimizer):
        return str(optimizer.description)
    if isinstance(optimizer, Composite):
        schedule = optimizer.schedule
        rate = schedule.name if isinstance(schedule, Given) else ""
        pairs = [(part.place, describe(part.optimizer, rate)) for part in optimizer.parts]
        named = [f"{place}: {text}" if place else text for place, text in pairs]
        named += [schedule.name] if schedule is not None and not rate else []
        return ", ".join([*named, *([f"clipped at {optimizer.clip:.4g}"] if optimizer.clip else [])])
    wrapped = getattr(optimizer, "inner_optimizer", None)
    if is_optimizer(wrapped):
        return f"{type(optimizer).__name__}({describe(wrapped, rate)})"
    config = settings_of(optimizer)
    number = learning_rate(optimizer)
    shown = [rate or ("schedule" if number is None else f"{number:.4g}")]
    defaults = _defaults(type(optimizer))
    for key, value in config.items():
        # Keras stores an absent setting as None, or as an empty list.
        default = defaults.get(key, value)
        if (
            key not in ("learning_rate", "name")
            and value != default
            and not (default is None and value == [])
        ):
            shown.append(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value!r}")
    return f"{type(optimizer).__name__}({', '.join(shown)})"


def _defaults(kind: type) -> dict[str, Any]:
    """Return the defaults of the parameters of a class and of its bases."""
    found: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        if "__init__" in vars(one):
            parameters = inspect.signature(vars(one)["__init__"]).parameters.values()
            found |= {one.name: one.default for one in parameters if one.default is not one.empty}
    return found
