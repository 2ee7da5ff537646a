"""All rows of a Jacobian at once where TensorFlow can, else one after the other, and why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.process.log import capture_log

# Operations without a vectorised rule become loops or errors, and only the log and the error's text name
# them: https://github.com/tensorflow/tensorflow/issues/33919 is of one. The wording is that of TensorFlow
# 2.21; where another version words it otherwise, the note names the exception instead.
_LOOPED = re.compile(r"Using a while_loop for converting (\w+)")
_RULELESS = re.compile(r"No pfor vectorization defined for (\w+)|^op: \"(\w+)\"", re.MULTILINE)


@dataclass(frozen=True)
class Attempt:
    """The value that was computed, and a sentence for each operation that was not vectorised."""

    value: Any
    notes: tuple[str, ...] = ()


def vectorized(fast: Callable[[], Any], slow: Callable[[], Any]) -> Attempt:
    """Call `fast`, which computes in TensorFlow's vectorised way, or `slow` where `fast` fails.

    A ``LookupError``, for a gradient that is not registered, passes, since `slow` would raise it, too.
    Whatever `slow` raises passes.
    """
    import tensorflow as tf

    # `pfor` switches eager functions off, and on again only if nothing fails (seen in TensorFlow 2.21).
    eagerly = tf.config.functions_run_eagerly()
    with capture_log(details=True) as messages:
        try:
            return Attempt(fast(), _notes(_LOOPED.findall("\n".join(messages))))
        except (LookupError, KeyboardInterrupt):
            raise
        except tf.errors.ResourceExhaustedError:
            notes: tuple[str, ...] = ("computed row by row: all rows at once do not fit into memory",)
        except Exception as error:
            otherwise = f"not vectorised: all rows at once made TensorFlow raise {type(error).__name__}"
            notes = _notes(_culprits(error, messages)) or (otherwise,)
        finally:
            tf.config.run_functions_eagerly(eagerly)
        return Attempt(slow(), notes)


def one_after_another(function: Callable[[Any], Any], elements: Any, kinds: Any = None) -> Any:
    """Return what a function gives for each element, stacked, as ``tf.map_fn`` does.

    `kinds` is the ``tf.TensorSpec``, or the structure of them, that it gives; by default that of an element.
    Whatever the function raises passes, an interrupt among it, and leaves nothing behind.
    """
    import tensorflow as tf

    # An error in the function leaves a caching device in the variable scope of the whole process, where then
    # no scope of a strategy can be entered (seen in TensorFlow 2.21).
    scope = tf.compat.v1.get_variable_scope()
    device = scope.caching_device
    try:
        own = tf.autograph.experimental.do_not_convert(function)  # so that its errors stay what they are
        return tf.map_fn(own, elements, fn_output_signature=kinds)
    finally:
        if scope.caching_device is not device:
            scope.set_caching_device(device)


_FEW = 8
"""The most indices that are quicker to compute one by one than to trace a function for."""


def by_chunks(one: Callable[[Any], Any], count: int, size: int) -> Attempt:
    """Call a function for each index below `count`, vectorised for `size` indices at once.

    Parameters
    ----------
    one
        Returns a tensor, or a list of tensors, for an index, which is a number or a scalar tensor.
    count, size
        The number of indices, at least 1, and the most that are computed together.

    Returns
    -------
    Attempt
        What `one` returns, the tensors of all indices stacked along a new first axis.
    """
    import tensorflow as tf

    def together() -> Any:
        # All chunks have one size, so that they are traced once; the last one repeats the last index.
        each = min(max(size, 1), count)
        compiled = tf.function(lambda indices: tf.vectorized_map(one, indices), autograph=False)
        starts = range(0, count, each)
        parts = [compiled(tf.minimum(tf.range(start, start + each), count - 1)) for start in starts]
        return tf.nest.map_structure(lambda *found: tf.concat(found, axis=0)[:count], *parts)

    def apart() -> Any:
        return tf.nest.map_structure(lambda *found: tf.stack(found), *map(one, range(count)))

    return Attempt(apart()) if count <= _FEW else vectorized(together, apart)


def _notes(operations: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        f"not vectorised: TensorFlow has no rule for {operation}" for operation in dict.fromkeys(operations)
    )


def _culprits(error: BaseException, messages: list[str]) -> list[str]:
    """Return the operations that the log and the exception name."""
    found = _LOOPED.findall("\n".join(messages))
    texts = [*messages, str(error), str(error.__cause__)]
    return found or [first or second for first, second in _RULELESS.findall("\n".join(texts))][:1]
