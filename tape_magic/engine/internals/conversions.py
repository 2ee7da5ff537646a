"""Values on their way out of TensorFlow, and numbers on their way in, as this thread computes eagerly.

In TensorFlow 2.20 and 2.21, all of Python's and Keras's conversions of an eager tensor to numbers (`numpy()`,
`float`, `int`, `bool`, `__index__`, `__array__`, `__format__`, `repr`, pickling, `tf.get_static_value`; those
of variables read a tensor first) come to the method `_numpy`. One way out cannot be heard: the buffer
protocol, by which `np.asarray(x)` and the functions of NumPy take an eager tensor, is a slot in C that Python
could replace (from 3.12 on), but never put back. What comes in passes `constant_op.convert_to_eager_tensor`,
but for numbers that an operation is given itself, as in `x * 2.0`: its arguments show them.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

HearExit = Callable[[Any], None]
"""Called with a tensor whose value is about to be taken out of TensorFlow."""

HearArrival = Callable[[Any, Any], None]
"""Called with a value and the tensor that was made of it."""

_Hearers = dict[int, list[Any]]

_LOCK = threading.Lock()


@contextmanager
def listening_to_conversions(hear_exit: HearExit, hear_arrival: HearArrival) -> Iterator[bool]:
    """Call the two for what this thread converts in the block; yield whether that works."""
    try:
        from tensorflow.python.framework import constant_op, ops

        with _LOCK:
            pairs = [
                (_hearers(ops._EagerTensorBase, "_numpy", _noting_exits), hear_exit),
                (_hearers(constant_op, "convert_to_eager_tensor", _noting_arrivals), hear_arrival),
            ]
    except (ImportError, AttributeError):
        yield False
        return
    thread = threading.get_ident()
    try:
        for hearers, hear in pairs:
            hearers[thread] = [*hearers.get(thread, []), hear]
        yield True
    finally:
        for hearers, hear in pairs:
            others = [one for one in hearers.pop(thread, []) if one != hear]
            if others:
                hearers[thread] = others


def _hearers(owner: Any, name: str, noting: Callable[[Any, _Hearers], Any]) -> _Hearers:
    """Return who hears the calls of a function, by thread, once it is replaced by one that tells them.

    It stays replaced, and calls the original alone while nobody listens: Python 3.13 gives up to look up a
    class's methods fast once the class has changed a thousand times.
    """
    found: _Hearers | None = getattr(getattr(owner, name), "hearers", None)
    if found is None:
        found = {}
        replaced = noting(getattr(owner, name), found)
        replaced.hearers = found
        setattr(owner, name, replaced)
    return found


def _noting_exits(original: Callable[[Any], Any], hearers: _Hearers) -> Callable[[Any], Any]:
    @functools.wraps(original)
    def noting(self: Any) -> Any:
        if hearers:
            for hear in hearers.get(threading.get_ident(), ()):
                hear(self)
        return original(self)

    return noting


def _noting_arrivals(original: Callable[..., Any], hearers: _Hearers) -> Callable[..., Any]:
    @functools.wraps(original)
    def noting(value: Any, *more: Any, **named: Any) -> Any:
        tensor = original(value, *more, **named)
        if hearers and tensor is not value:
            for hear in hearers.get(threading.get_ident(), ()):
                hear(value, tensor)
        return tensor

    return noting
