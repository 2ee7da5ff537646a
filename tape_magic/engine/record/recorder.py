"""`Recorder`: hears every operation of a run."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from tape_magic.engine.internals.graphs import graph_called, py_function_tensors
from tape_magic.engine.internals.operations import (
    WHOLE,
    BackwardFunction,
    argument_at,
    differentiated_by,
    element_count,
    is_eager,
    key_of,
    key_of_variable,
    listening_to_operations,
    newest_key,
    stopped_reader,
)
from tape_magic.engine.record.conversions import Conversions
from tape_magic.engine.record.entry import PY_FUNCTION, CustomBackward, Entry, writes
from tape_magic.engine.record.frames import BackwardFrames, Frame, UserFrames
from tape_magic.engine.record.recomputed import DROPPABLE, Droppable, recompute

MOST_ENTRIES = 200_000
"""A run with more operations than this is not explained: the record would outgrow the computation."""

BYTES_FOR_RECORD = 2**28
"""Most bytes of tensors that are kept from being freed while the run goes on."""

BYTES_FOR_DIAGNOSIS = 2**31
"""Most bytes of tensors that are kept once there is something to explain."""

_SMALL = 1024
"""Tensors of up to so many elements are always kept: there are many of them, and they are no burden."""


class _Heard(NamedTuple):
    """An operation as it was heard, before an entry is made of it.

    Attributes
    ----------
    keys
        The keys of the inputs and of the outputs.
    inputs, outputs
        The tensors; weak references to those that can be recomputed.
    reads
        Arguments that TensorFlow itself turned into a tensor for this operation, each with the place of that
        input. For a variable, that is a read which no callback hears.
    within
        For a ``tf.py_function``, the tensors that its function was given and returned.
    """

    type: str
    attrs: tuple[Any, ...]
    keys: tuple[tuple[int, ...], tuple[int, ...]]
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    frames: tuple[Frame, ...]
    taped: bool
    graph: Any
    reads: tuple[tuple[int, Any], ...]
    within: tuple[list[Any], list[Any]] | None


class Recorder:
    """Hears the operations that run within :meth:`listening`, and keeps their tensors.

    Attributes
    ----------
    tensors
        By key, the tensors that were computed or read, or weak references to them; see :meth:`tensor`.
    start
        A key below those of all tensors that are made during the run.
    conversions
        What left TensorFlow, and what came in.
    complete, paused
        Whether everything was heard, and whether the tapes are stopped; see :meth:`pause`.
    byte_limit
        Most bytes of tensors that are kept.

    >>> recorder = Recorder()                              # doctest: +SKIP
    >>> with recorder.listening():                         # doctest: +SKIP
    ...     y = tf.tanh(tf.constant(1.0))
    >>> [entry.type for entry in recorder.entries]         # doctest: +SKIP
    ['Tanh']
    """

    def __init__(self) -> None:
        self.tensors: dict[int, Any] = {}
        self.start = 0
        self.conversions = Conversions()
        self.complete = True
        self.byte_limit = BYTES_FOR_RECORD
        self.paused = False
        self._entries: list[Entry] = []
        self._heard: list[tuple[Any, ...]] = []  # the fields of `_Heard`, which takes longer to make
        self._made: set[int] = set()
        self._made_by: dict[int, int] = {}
        self._droppable: dict[int, Entry | None] = {}  # by a tensor's key, the entry that computes it again
        self._bytes = self._bytes_heard = 0
        self._stopped = stopped_reader()
        self._frames = UserFrames(self._forward_frames)

    @contextmanager
    def listening(self, frames: tuple[Frame, ...] | None = None) -> Iterator[None]:
        """Hear the operations in the block; `frames`, where given, are noted as the lines of all of them."""
        self.start = self.start or newest_key()
        self._frames.fixed = frames
        operations = listening_to_operations(self._hear, self._hear_custom)
        with operations as heard, self.conversions.listening():
            self.complete = self.complete and heard
            yield
        self._frames.fixed = None

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Note for the block that the tapes do not record."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before

    def forget(self) -> None:
        """Note that the tapes have forgotten everything up to now."""
        for entry in self.entries:
            entry.taped = False

    def close(self) -> None:
        """Let go of all tensors."""
        self._heard.clear()
        self._entries.clear()
        self._droppable.clear()
        self.tensors.clear()

    @property
    def entries(self) -> list[Entry]:
        """The operations that ran, in the order of execution."""
        self._catch_up()
        return self._entries

    def tensor(self, key: int) -> Any:
        """Return a tensor by its key, computed again if it was let go of; ``None`` where it is gone."""
        held = self.tensors.get(key)
        if not isinstance(held, weakref.ref):
            return held
        tensor = held()
        maker = self._droppable.get(key)
        if tensor is None and maker is not None:
            inputs = [self.tensor(each) for each in maker.inputs]
            tensor = recompute(maker.type, maker.attrs or (), inputs)
            if tensor is not None:
                self._keep_as(key, tensor)
        return tensor

    def note(self, entry: Entry) -> None:
        """Append an entry, which need not have been heard."""
        for key in entry.outputs:
            self._made_by[key] = len(self._entries)
        self._entries.append(entry)

    def keep(self, tensor: Any) -> int:
        """Keep a tensor, or a weak reference to it once the limit of bytes is reached; return its key."""
        key = key_of(tensor)
        if key not in self.tensors or isinstance(self.tensors[key], weakref.ref):
            self._keep_as(key, tensor)
        return key

    def _keep_as(self, key: int, tensor: Any) -> None:
        elements = element_count(tensor)
        size = elements * tensor.dtype.size if elements > _SMALL else 0
        if size and self._bytes + size > self.byte_limit:
            self.tensors.setdefault(key, weakref.ref(tensor))
            return
        self._bytes += size
        self.tensors[key] = tensor

    def _hear(
        self,
        op_type: str | bytes,
        inputs: Sequence[Any],
        attrs: tuple[Any, ...],
        outputs: Sequence[Any] | None,
        op_name: str | None = None,
        graph: Any = None,
    ) -> None:
        if graph is not None:
            return
        try:
            self._take(op_type, tuple(inputs), attrs, tuple(outputs or ()), sys._getframe(1))
        except Exception:  # whatever goes wrong here, as with a new TensorFlow, the cell must not fail of it
            self.complete = False

    def _take(
        self,
        op_type: str | bytes,
        inputs: tuple[Any, ...],
        attrs: tuple[Any, ...],
        outputs: tuple[Any, ...],
        frame: Any,
    ) -> None:
        # Called for every operation of the cell: all that can wait until there is something to explain waits,
        # and the private `_id`, `_num_elements` and `_datatype_enum` are read here and not by a function of
        # `internals`. They are methods of TensorFlow 2.21's `EagerTensor`, written in C.
        if len(self._heard) + len(self._entries) >= MOST_ENTRIES:
            self.complete = False
            return
        name = op_type if isinstance(op_type, str) else op_type.decode()
        read_keys = tuple([tensor._id for tensor in inputs])
        made_keys = tuple([tensor._id for tensor in outputs])
        held_in, held_out = inputs, outputs
        droppable = DROPPABLE.get(name)
        if droppable is not None:
            held_in, held_out = _held(droppable, inputs, outputs, self._droppable)
        frames = self._frames.around(frame)
        made, start = self._made, self.start
        reads: tuple[tuple[int, Any], ...] = ()
        if not made.issuperset(read_keys):
            for index, key in enumerate(read_keys):
                if key <= start or key in made:
                    continue
                tensor = inputs[index]
                self._weigh(tensor)
                if tensor._datatype_enum() in WHOLE:  # whole numbers are axes, shapes, indices
                    continue
                argument = argument_at(frame, index)
                if argument is not tensor:
                    reads += ((index, argument),)
                    if not hasattr(argument, "handle"):
                        self.conversions.note_arrival(argument, key, frame)
                elif type(frames) is tuple:
                    # In forward mode, the operations of a tangent read what the operation itself reads next.
                    made.add(key)
        if made_keys:
            made.update(made_keys)
            if name != "ReadVariableOp":  # which shares the variable's memory
                for tensor in held_out:
                    if type(tensor) is not weakref.ref:
                        self._weigh(tensor)
        # Functions have such names (`__inference_…`), and no operation has.
        called = graph_called(frame) if name[:2] == "__" else None
        within = py_function_tensors(attrs) if name == PY_FUNCTION else None
        taped = not (self.paused or self._stopped())
        keys = read_keys, made_keys
        self._heard.append((name, attrs, keys, held_in, held_out, frames, taped, called, reads, within))
        if self._bytes_heard > self.byte_limit - self._bytes:
            self._catch_up()

    def _weigh(self, tensor: Any) -> None:
        elements = tensor._num_elements()
        if elements > _SMALL:
            self._bytes_heard += elements * tensor.dtype.size

    def _catch_up(self) -> None:
        """Make entries of the operations heard so far, and keep their tensors up to the limit of bytes."""
        heard, self._heard, self._bytes_heard = self._heard, [], 0
        for one in heard:
            self._enter(_Heard(*one))

    def _enter(self, heard: _Heard) -> None:
        tensors, (read_keys, made_keys) = self.tensors, heard.keys
        for index, variable in heard.reads:
            key, handle = read_keys[index], key_of_variable(variable)
            if handle and key not in self._made_by:
                tensors.setdefault(handle, variable.handle)
                self.note(Entry("ReadVariableOp", (), (handle,), (key,), heard.frames, heard.taped))
        if heard.type == "ReadVariableOp":
            tensors.update(zip(made_keys, heard.outputs, strict=True))
        for key, tensor in zip((*read_keys, *made_keys), (*heard.inputs, *heard.outputs), strict=True):
            if type(tensor) is weakref.ref:
                tensors.setdefault(key, tensor)
            else:
                self.keep(tensor)
        entry = Entry(heard.type, heard.attrs, read_keys, made_keys, heard.frames, heard.taped, heard.graph)
        if heard.within is not None:
            given, returned = (tuple(map(key_of, tensors)) for tensors in heard.within)
            entry.within = given, returned
        for key in made_keys:
            if key in self._droppable:
                self._droppable[key] = entry
        self.note(entry)

    def _hear_custom(
        self, name: str, outputs: Sequence[Any], inputs: Sequence[Any], backward: BackwardFunction
    ) -> BackwardFunction:
        keys = tuple(key_of(tensor) for tensor in outputs)
        if not keys or not all(map(is_eager, outputs)):
            return backward  # within a function that is traced, tensors are symbolic
        self._catch_up()
        custom = CustomBackward(name, tuple(self.keep(getattr(one, "handle", one)) for one in inputs), keys)
        entry = self._entries[self._made_by[keys[0]]] if keys[0] in self._made_by else None
        if entry is None or entry.graph is None:
            frames = self._frames.around(sys._getframe(2))
            entry = Entry(name, None, custom.inputs, keys, frames)
            for tensor in outputs:
                key = self.keep(tensor)
                if key in self._made_by:
                    self._entries[self._made_by[key]].superseded = True
            self.note(entry)
        entry.custom, entry.taped = custom, not self.paused
        return custom.noting_calls(backward)

    def _forward_frames(self, frame: Any) -> tuple[Frame, ...]:
        """Return the lines of the operation whose gradient a frame of TensorFlow calls."""
        self._catch_up()
        op_type, tensors = differentiated_by(frame)
        made = self._made_by
        lines = (self._entries[made[key]].frames for key in map(key_of, tensors) if key in made)
        found = BackwardFrames(next(filter(None, lines), ()))
        found.of = op_type
        return found


def heard_a_write(recorder: Recorder) -> bool:
    """Return whether an operation of a run changed a variable; this makes no entries."""
    heard = (one[0] for one in recorder._heard)
    return any(map(writes, heard)) or any(writes(entry.type) for entry in recorder._entries)


def bytes_heard(recorder: Recorder) -> int:
    """Return the bytes of the large tensors that a run computed or read; this makes no entries."""
    return recorder._bytes + recorder._bytes_heard


def _held(
    droppable: Droppable, inputs: tuple[Any, ...], outputs: tuple[Any, ...], dropped: dict[int, Entry | None]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the inputs and outputs of an operation, with weak references to those to let go of."""
    if droppable.output:
        (tensor,) = outputs
        if tensor._num_elements() > _SMALL:
            dropped[tensor._id] = None
            outputs = (weakref.ref(tensor),)
    if droppable.input and inputs[0]._id in dropped:
        inputs = (weakref.ref(inputs[0]), *inputs[1:])
    return inputs, outputs
