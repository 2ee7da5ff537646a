"""The batches of the last chunks, so that a run over data can repeat their steps.

A pipeline gives each batch once. Kept are references to what the steps took, and no copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 1 << 25
"""About the most bytes of batches that a chunk takes; it takes one at the least."""


@dataclass(frozen=True)
class KeptChunk:
    """The batches of one chunk.

    Attributes
    ----------
    start, end
        The step that took the first of them, and the step after the last.
    batches
        A list of TensorFlow's, a variant scalar, with an optional for each batch.
    """

    start: int
    end: int
    batches: Any

    def batch_of(self, step: int, element_spec: Any) -> Any:
        """Return the optional that a step took; it holds what `element_spec` describes."""
        return batch_at(self.batches, step - self.start, element_spec)


class KeptBatches:
    """The batches of the last chunks, by the steps that took them.

    Attributes
    ----------
    most
        The most steps of a chunk; 0 until the size of a batch is known.

    Examples
    --------
    >>> kept = KeptBatches()
    >>> kept.add(0, 5, first)    # doctest: +SKIP
    >>> kept.add(5, 9, second)   # doctest: +SKIP
    >>> kept.of(6).start         # doctest: +SKIP
    5
    """

    def __init__(self) -> None:
        self._chunks: list[KeptChunk] = []
        self.most = 0

    @property
    def end(self) -> int:
        """The step after the last that took a batch; -1 where none is kept."""
        return self._chunks[-1].end if self._chunks else -1

    def add(self, start: int, end: int, batches: Any) -> None:
        """Keep the batches that the steps from `start` to before `end` took."""
        if end > start:
            self._chunks.append(KeptChunk(start, end, batches))

    def of(self, step: int) -> KeptChunk | None:
        """Return the chunk in which a step took its batch; ``None`` where it is not kept."""
        return next((chunk for chunk in self._chunks if chunk.start <= step < chunk.end), None)

    def forget_before(self, step: int) -> None:
        """Let go of the chunks that ended before a step."""
        self._chunks = [chunk for chunk in self._chunks if chunk.end > step]


def no_batches() -> Any:
    """Return an empty list of TensorFlow's, for :func:`with_batch`."""
    import tensorflow as tf

    anything = tf.constant(-1)
    return tf.raw_ops.EmptyTensorList(
        element_shape=anything, max_num_elements=anything, element_dtype=tf.variant
    )


def with_batch(batches: Any, batch: Any) -> Any:
    """Return a list with one more optional."""
    import tensorflow as tf

    (variant,) = tf.nest.flatten(batch, expand_composites=True)
    return tf.raw_ops.TensorListPushBack(input_handle=batches, tensor=variant)


def batch_at(batches: Any, place: Any, element_spec: Any) -> Any:
    """Return the optional at a place of a list, an int32 scalar; it holds what `element_spec` describes."""
    import tensorflow as tf

    variant = tf.raw_ops.TensorListGetItem(
        input_handle=batches, index=place, element_shape=tf.zeros([0], tf.int32), element_dtype=tf.variant
    )
    return tf.nest.pack_sequence_as(tf.OptionalSpec(element_spec), [variant], expand_composites=True)


def bytes_of_batch(element: Sequence[Any]) -> int:
    """Return about the bytes of a batch, a structure of tensors."""
    import tensorflow as tf

    parts = tf.nest.flatten(element, expand_composites=True)
    return sum(int(part.shape.num_elements() or 0) * max(part.dtype.size, 1) for part in parts)
