"""The backward pass once more over a record: TensorFlow's own rules, one operation at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.diagnosis.flow import Flow
from tape_magic.engine.internals.operations import gradients_of
from tape_magic.engine.record.entry import Entry, writes
from tape_magic.engine.record.recorder import Recorder


class CannotReplay(Exception):
    """A value or a rule is missing, so that the pass cannot be followed.

    Attributes
    ----------
    entry
        The one whose rule TensorFlow refused to compute, if that is why.
    """

    def __init__(self, entry: Entry | None = None) -> None:
        super().__init__()
        self.entry = entry


@dataclass(frozen=True, eq=False)
class Passed:
    """What one entry passed on.

    Attributes
    ----------
    index
        The entry's position in the flow.
    given
        The gradients of its outputs.
    found
        The gradients that it gave for its inputs.
    """

    index: int
    given: tuple[Any, ...]
    found: tuple[Any, ...]


class Replay:
    """The gradients of some targets by some sources, with each step of the way.

    Parameters
    ----------
    flow, recorder
        The record.
    sources
        The keys of tensors and of variables' handles.
    targets
        The keys of tensors whose sum is differentiated.

    Attributes
    ----------
    steps
        In the order in which they ran: from the targets back.

    Raises :class:`Unknown`, and ``LookupError`` where an operation on the way has no gradient.
    """

    def __init__(
        self, flow: Flow, recorder: Recorder, sources: Sequence[int], targets: Sequence[int]
    ) -> None:
        self._flow, self._recorder = flow, recorder
        self.steps: list[Passed] = []
        self._gradients: dict[int, Any] = {}
        conducting = flow.after(sources)
        for key in targets:
            self._add(key, self._seed(key))
        for index in reversed(flow.between(sources, targets)):
            self._step(index, flow.entries[index], conducting)

    def gradient(self, key: int) -> Any:
        """The gradient by a source or a tensor on the way, dense; ``None`` where nothing arrived."""
        return self._gradients.get(key)

    def _seed(self, key: int) -> Any:
        import tensorflow as tf

        return tf.ones_like(self._value(key))

    def _value(self, key: int) -> Any:
        tensor = self._recorder.tensor(key)
        if tensor is None:
            raise CannotReplay
        return tensor

    def _step(self, index: int, entry: Entry, conducting: set[int]) -> None:
        given = [self._gradients.get(key) for key in entry.outputs]
        if all(gradient is None for gradient in given) or not entry.taped or writes(entry.type):
            return
        found = self._found(entry, given)
        self.steps.append(Passed(index, tuple(given), tuple(found)))
        for key, gradient in zip(entry.inputs, found, strict=False):
            if gradient is not None and key in conducting:
                self._add(key, _dense(gradient))

    def _found(self, entry: Entry, given: list[Any]) -> list[Any]:
        import tensorflow as tf

        if entry.custom is not None:
            return self._custom(entry)
        if entry.attrs is None:
            raise CannotReplay
        inputs = [self._value(key) for key in entry.inputs]
        outputs = [self._value(key) for key in entry.outputs]
        filled = [
            tf.zeros_like(output) if gradient is None and _inexact(output) else gradient
            for output, gradient in zip(outputs, given, strict=True)
        ]
        try:
            return gradients_of(entry.type, entry.attrs, inputs, outputs, filled)
        except LookupError:
            raise
        except tf.errors.OpError as error:
            raise CannotReplay(entry) from error
        except Exception as error:  # a rule that wants more than the operation's own tensors
            raise CannotReplay from error

    def _custom(self, entry: Entry) -> list[Any]:
        """What the backward function returned when the tape called it."""
        assert entry.custom is not None
        if len(entry.custom.calls) != 1:
            raise CannotReplay
        _, found = entry.custom.calls[0]
        by_key = dict(zip(entry.custom.inputs, found, strict=False))
        return [by_key.get(key) for key in entry.inputs]

    def _add(self, key: int, gradient: Any) -> None:
        import tensorflow as tf

        before = self._gradients.get(key)
        # The gradient of a list of tensors is such a list, for which there is no other addition.
        self._gradients[key] = gradient if before is None else tf.add_n([before, gradient])


def _inexact(tensor: Any) -> bool:
    return bool(tensor.dtype.is_floating or tensor.dtype.is_complex)


def _dense(gradient: Any) -> Any:
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)
