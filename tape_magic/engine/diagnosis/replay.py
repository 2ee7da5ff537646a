"""The backward pass once more over a record: TensorFlow's own gradient functions, one entry at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.internals.operations import gradients_of
from tape_magic.engine.record.entry import Entry, writes
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.values.tensors import is_finite


class CannotReplay(Exception):
    """A value or a gradient function is missing, so that the pass cannot be replayed.

    Attributes
    ----------
    entry
        The entry whose gradient function raised one of TensorFlow's errors, if that is the cause.
    stopped_at
        The entry that the pass could not be taken through, where it is known.
    """

    def __init__(self, entry: Entry | None = None, stopped_at: Entry | None = None) -> None:
        super().__init__()
        self.entry = entry
        self.stopped_at = stopped_at or entry


@dataclass(frozen=True, eq=False)
class BackwardStep:
    """The step of a backward pass through one entry.

    Attributes
    ----------
    index
        The entry's index in the flow.
    output_gradients
        The gradients of its outputs, which the step was given.
    input_gradients
        The gradients of its inputs, which the step computed.
    """

    index: int
    output_gradients: tuple[Any, ...]
    input_gradients: tuple[Any, ...]


class BackwardReplay:
    """The gradients of some targets by some sources, with each step of the pass.

    Parameters
    ----------
    flow, recorder
        The record.
    sources
        The keys of tensors and of variables' handles.
    targets
        The keys of the tensors whose sum is differentiated.
    given
        The gradients of the targets to begin with; ones where none are given.
    anew
        Whether those are others than the run's, so that custom backward functions have to be called again.

    Attributes
    ----------
    steps
        The steps in the order in which they ran: from the targets back.

    Raises :class:`CannotReplay`, and ``LookupError`` where an operation on the path has no gradient.
    """

    def __init__(
        self,
        flow: DataFlow,
        recorder: Recorder,
        sources: Sequence[int],
        targets: Sequence[int],
        given: Sequence[Any] | None = None,
        *,
        anew: bool = False,
    ) -> None:
        import tensorflow as tf

        self._flow, self._recorder = flow, recorder
        self.steps: list[BackwardStep] = []
        self._gradients: dict[int, Any] = {}
        self._anew = anew
        downstream = flow.downstream(sources)
        for place, key in enumerate(targets):
            gradient = tf.ones_like(self._value(key)) if given is None else given[place]
            if gradient is not None:
                self._accumulate(key, _dense(gradient))
        for index in reversed(flow.between(sources, targets)):
            self._step(index, flow.entries[index], downstream)

    def gradient(self, key: int) -> Any:
        """Return the gradient by a source or a tensor on the path, dense; ``None`` where there is none."""
        return self._gradients.get(key)

    def _value(self, key: int) -> Any:
        tensor = self._recorder.tensor(key)
        if tensor is None:
            raise CannotReplay
        return tensor

    def _step(self, index: int, entry: Entry, downstream: set[int]) -> None:
        """Take the gradients of an entry's outputs to those of its inputs."""
        given = [self._gradients.get(key) for key in entry.outputs]
        if all(gradient is None for gradient in given) or not entry.taped or writes(entry.type):
            return
        found = self._input_gradients(entry, given)
        self.steps.append(BackwardStep(index, tuple(given), tuple(found)))
        for key, gradient in zip(entry.inputs, found, strict=False):
            if gradient is not None and key in downstream:
                self._accumulate(key, _dense(gradient))

    def _input_gradients(self, entry: Entry, given: list[Any]) -> list[Any]:
        import tensorflow as tf

        if entry.custom is not None and not self._anew:
            return self._recorded_gradients(entry)
        if entry.custom is not None:
            return self._gradients_again(entry, given)
        if entry.too_long:
            return self._through_closed_rounds(entry, given)
        inputs = [self._recorder.tensor(key) for key in entry.inputs]
        outputs = [self._recorder.tensor(key) for key in entry.outputs]
        if entry.attrs is None or any(tensor is None for tensor in [*inputs, *outputs]):
            raise CannotReplay(stopped_at=entry)
        filled = [
            tf.zeros_like(output) if gradient is None and _is_inexact(output) else gradient
            for output, gradient in zip(outputs, given, strict=True)
        ]
        try:
            return gradients_of(entry.type, entry.attrs, inputs, outputs, filled)
        except LookupError:
            raise
        except tf.errors.OpError as error:
            raise CannotReplay(entry) from error
        except Exception as error:  # a gradient function that needs more than the operation's own tensors
            raise CannotReplay(stopped_at=entry) from error

    def _through_closed_rounds(self, entry: Entry, given: list[Any]) -> list[Any]:
        """Return NaN for all inputs of rounds that stay closed if a gradient of NaN or infinity arrives.

        It comes out of them in some way or other; what else comes out of them is not known.
        """
        import tensorflow as tf

        inputs = [self._value(key) for key in entry.inputs]
        if all(map(is_finite, given)):
            return [None] * len(inputs)
        nan = float("nan")
        return [
            tf.fill(tf.shape(one), tf.cast(nan, one.dtype)) if _is_inexact(one) else None for one in inputs
        ]

    def _recorded_gradients(self, entry: Entry) -> list[Any]:
        """Return the gradients that a custom backward function gave when the tape called it, once."""
        assert entry.custom is not None
        if len(entry.custom.calls) != 1:
            raise CannotReplay(stopped_at=entry)
        _, found = entry.custom.calls[0]
        by_key = dict(zip(entry.custom.inputs, found, strict=False))
        return [by_key.get(key) for key in entry.inputs]

    def _gradients_again(self, entry: Entry, given: list[Any]) -> list[Any]:
        """Return what a custom backward function gives for other gradients; the user's own runs only once."""
        custom = entry.custom
        assert custom is not None
        if custom.function is None or custom.runs_user_code or any(one is None for one in given):
            raise CannotReplay(stopped_at=entry)
        by_key = dict(zip(entry.outputs, given, strict=True))
        found = custom.function(*(by_key[key] for key in custom.outputs))
        listed = found if isinstance(found, list | tuple) else [found]
        gradients = dict(zip(custom.inputs, listed, strict=False))
        return [gradients.get(key) for key in entry.inputs]

    def _accumulate(self, key: int, gradient: Any) -> None:
        """Add a gradient to those that arrived at a tensor before."""
        import tensorflow as tf

        before = self._gradients.get(key)
        # The gradient of a list of tensors has dtype variant, which AddV2 refuses (TensorFlow 2.21).
        self._gradients[key] = gradient if before is None else tf.add_n([before, gradient])


def replay_by_xla(
    flow: DataFlow, recorder: Recorder, sources: Sequence[int], targets: Sequence[int]
) -> BackwardReplay | None:
    """Return the same as :class:`BackwardReplay`, compiled by XLA; ``None`` where XLA refuses.

    XLA's gradients of single operations differ: that of ``tf.sqrt`` at 0 is NaN where a gradient of 0
    arrives, and 0 without XLA (seen in TensorFlow 2.21).
    """
    import tensorflow as tf

    made: list[BackwardReplay] = []

    def replayed() -> list[Any]:
        made.append(BackwardReplay(flow, recorder, sources, targets))
        return [
            tensor
            for step in made[-1].steps
            for tensor in (*step.output_gradients, *step.input_gradients)
            if tensor is not None
        ]

    try:
        values = iter(tf.function(replayed, jit_compile=True)())
    except Exception:  # XLA has no kernel for some operations, and refuses lists of tensors of unknown size
        return None

    def read(tensors: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(None if tensor is None else next(values) for tensor in tensors)

    made[-1].steps = [
        BackwardStep(step.index, read(step.output_gradients), read(step.input_gradients))
        for step in made[-1].steps
    ]
    return made[-1]


def _is_inexact(tensor: Any) -> bool:
    return bool(tensor.dtype.is_floating or tensor.dtype.is_complex)


def _dense(gradient: Any) -> Any:
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)
