"""The loss, the residuals and the tracked scalars among what a program computes, or a clear refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.tensors import is_variable, tf_variable
from tape_magic.errors import NoTensor, TargetError, a_kind, never_assigns, no_tensor
from tape_magic.syntax import place


def require_loss(value: Any, assigned: Mapping[str, Any], name: str | None) -> Any:
    """Return the loss among a program's outputs.

    Parameters
    ----------
    value, assigned
        The value of the program's last expression, and what it assigned by name.
    name
        The name of the loss; ``None`` for the last expression.

    Raises :class:`TargetError` where it is no real scalar tensor, and says what it is instead.
    """
    import tensorflow as tf

    loss, shown = _require_real(value, assigned, name), name or "the last expression"
    if loss.shape.rank is None:  # only a run tells, as for the outputs of tf.py_function
        return tf.ensure_shape(loss, [])
    if loss.shape.rank != 0:
        raise TargetError(
            f"{shown} has shape {loss.shape}; "
            f"reduce it to a scalar, for example tf.reduce_mean({name or 'loss'})."
        )
    return loss


def require_residuals(value: Any, assigned: Mapping[str, Any], name: str | None) -> Any:
    """Return the residuals among a program's outputs; the parameters are those of :func:`require_loss`.

    Raises :class:`TargetError` where they are no real tensor of rank 1 or more, and says what they are.
    """
    residuals, shown = _require_real(value, assigned, name), name or "the last expression"
    if residuals.shape.rank == 0:
        raise TargetError(
            f"{shown} is a scalar, and least squares take the residuals, whose squares they sum: "
            "leave them apart, for example predicted - observed, or take another optimizer, such as bfgs."
        )
    return residuals


def _require_real(value: Any, assigned: Mapping[str, Any], name: str | None) -> Any:
    import tensorflow as tf

    loss = value if name is None else named(assigned, name)
    shown = name or "the last expression"
    if loss is None and name is None:
        raise TargetError("there is no loss: name one, for example %%minimize loss, or end the cell with it.")
    if is_variable(loss):
        loss = tf.convert_to_tensor(tf_variable(loss))
    if not tf.is_tensor(loss) or not hasattr(loss, "shape"):
        raise NoTensor(f"{no_tensor(shown, loss)}.")
    if not loss.dtype.is_floating:
        raise TargetError(f"{shown} is {loss.dtype.name}, and a loss must be a real number.")
    return loss


def require_scalar(value: Any, name: str) -> Any:
    """Return a value to track as a real scalar tensor.

    Raises :class:`TargetError` where it is none, and says what it is instead.
    """
    import tensorflow as tf

    if is_variable(value):
        value = tf_variable(value)
    if isinstance(value, bool | str) or (not hasattr(value, "shape") and not isinstance(value, int | float)):
        raise TargetError(f"--track {name}: it is {a_kind(value)}, and a real scalar can be tracked.")
    value = tf.convert_to_tensor(value)
    if value.dtype.is_complex or not (value.dtype.is_floating or value.dtype.is_integer):
        raise TargetError(f"--track {name}: it is {value.dtype.name}, and a real scalar can be tracked.")
    if value.shape.rank != 0:
        raise TargetError(f"--track {name}: it has shape {value.shape}; reduce it to a scalar.")
    return value


def named(assigned: Mapping[str, Any], name: str) -> Any:
    """Return what was assigned at a place. Raises :class:`TargetError` if nothing was."""
    base = place(name)[0]
    if base not in assigned:
        raise TargetError(never_assigns(base, assigned))
    return look_up(name, assigned)
