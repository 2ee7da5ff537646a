"""`LossRecord`: the operations of one evaluation of a loss."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.recorder import Recorder


@dataclass(frozen=True, eq=False)
class LossRecord:
    """One evaluation of a loss.

    Attributes
    ----------
    recorder
        The operations.
    loss
        The loss, a tensor; of a graph that was not run, one that stands for it.
    """

    recorder: Recorder
    loss: Any


def record_of(concrete: Any, batch: Sequence[Any] | None = None) -> LossRecord:
    """Return the record of a graph, without running it.

    Whoever looks into the record has the operations run one by one, from the variables as they are then.

    Parameters
    ----------
    concrete
        A concrete function whose first output is the loss, and whose captured inputs are its last ones.
    batch
        The inputs that are not captured, in structures of tensors; ``None`` where their values are not known.
    """
    import tensorflow as tf

    recorder = Recorder()
    recorder.start = sys.maxsize  # nothing in a graph was computed outside TensorFlow
    stand_in = tf.zeros([], concrete.graph.outputs[0].dtype)
    captured = [recorder.keep(tensor) for tensor in concrete.captured_inputs]
    count = len(concrete.graph.inputs) - len(captured)
    given = [-index - 1 - sys.maxsize for index in range(count)]
    if batch is not None:
        given = [recorder.keep(tensor) for tensor in tf.nest.flatten(list(batch), expand_composites=True)]
    outputs = (recorder.keep(stand_in),)
    recorder.note(Entry("Call", None, (*given, *captured), outputs, (), graph=concrete.graph, pending=True))
    return LossRecord(recorder, stand_in)
