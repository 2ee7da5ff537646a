"""Large arrays that a trace reads, as inputs of its graph instead of constants in it.

TensorFlow writes an array that a traced function reads into the graph as a constant. The constant is copied
into the definition of each graph that calls this one, into the gradient, and into what XLA compiles: twenty
times and more, for as long as the graph lives (seen in TensorFlow 2.21; the advice of
https://www.tensorflow.org/guide/function is to pass arrays as tensors). A tensor that has its value is an
input of the graph, and there is one copy of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

LEAST_BYTES = 1 << 18
"""Smaller arrays stay constants, which TensorFlow may fold, and in which it sees shapes and indices."""

_BLOCK = 1 << 20
_NUMBERS = "biufc"
_LOCK = threading.Lock()


class _ConstantHook:
    """Stands in for TensorFlow's ``_create_graph_constant`` while any thread captures arrays.

    The function is one for the whole process, hence one hook for all threads, as in ``operations``.
    """

    def __init__(self, made_as: Any) -> None:
        self.made_as = made_as
        self.captures: dict[int, list[_Captures]] = {}

    def __call__(self, value: Any, dtype: Any, shape: Any, *rest: Any, **more: Any) -> Any:
        captures = self.captures.get(threading.get_ident())
        tensor = captures[-1].captured(value, dtype) if captures and shape is None else None
        return self.made_as(value, dtype, shape, *rest, **more) if tensor is None else tensor


class _Captures:
    """The arrays that one trace has read, each with its tensor."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, Any], tuple[Any, Any]] = {}

    def captured(self, value: Any, dtype: Any) -> Any:
        """Return an input of the graph for a large array of numbers; ``None`` for another value."""
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        if not callable(getattr(value, "__array__", None)) or not callable(getattr(graph, "capture", None)):
            return None
        array = np.asarray(value)
        if array.nbytes < LEAST_BYTES or array.dtype.kind not in _NUMBERS:
            return None
        if dtype is not None:
            array = array.astype(tf.as_dtype(dtype).as_numpy_dtype, copy=False)
        key = id(value), array.dtype
        _, tensor = self._made.get(key, (None, None))
        if tensor is None or not _same_bytes(tensor.numpy(), array):
            with tf.init_scope():
                tensor = tf.constant(array)
                # The array may change, also while the trace goes on.
                if np.shares_memory(tensor.numpy(), array):
                    tensor = tf.constant(array.copy())
            self._made[key] = value, tensor
        return graph.capture(tensor)


def _same_bytes(one: Any, other: Any) -> bool:
    """Return whether two arrays hold the same, bit by bit."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    first, second = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one, other))
    return all(
        np.array_equal(first[at : at + _BLOCK], second[at : at + _BLOCK])
        for at in range(0, first.size, _BLOCK)
    )


@contextmanager
def arrays_captured() -> Iterator[None]:
    """Make inputs of the large arrays that graphs of this thread read in the block.

    Each holds what the array held when it was read. Where TensorFlow lacks the private function that makes
    constants, arrays stay constants.
    """
    try:
        from tensorflow.python.framework import ops

        _ = ops._create_graph_constant
    except (ImportError, AttributeError):
        yield
        return
    thread, captures = threading.get_ident(), _Captures()
    with _LOCK:
        found = ops._create_graph_constant
        hook = found if isinstance(found, _ConstantHook) else _ConstantHook(found)
        ops._create_graph_constant = hook
        hook.captures.setdefault(thread, []).append(captures)
    try:
        yield
    finally:
        with _LOCK:
            hook.captures[thread].remove(captures)
            if not hook.captures[thread]:
                del hook.captures[thread]
            if not hook.captures and ops._create_graph_constant is hook:
                ops._create_graph_constant = hook.made_as
