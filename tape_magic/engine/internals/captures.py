"""Calls of a concrete function with other variables than those that it captured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def caller_with_captures(function: Any) -> Callable[[Sequence[Any], Sequence[Any]], Any] | None:
    """Return what calls a concrete function with other captured tensors than its own; ``None`` without a way.

    The callable takes the flat arguments and the captured tensors. The public call always passes the
    function's own ``captured_inputs`` to ``_call_flat``.
    """
    return getattr(function, "_call_flat", None)


def called_with_handles(function: Any, batch: Sequence[Any], handles: Mapping[int, Any]) -> Any:
    """Call a concrete function with other variables than those that it captured.

    `handles` are the handles of the others, by the ids of those that they stand for.

    Raises ``NotImplementedError`` where there is no way, see :func:`caller_with_captures`, and one is needed.
    """
    import tensorflow as tf

    if not handles:
        return function(*batch)
    call = caller_with_captures(function)
    if call is None:
        raise NotImplementedError("this version of TensorFlow calls no graph with other variables")
    flat = tf.nest.flatten(list(batch), expand_composites=True)
    return call(flat, [handles.get(id(one), one) for one in function.captured_inputs])
