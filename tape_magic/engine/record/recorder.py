"""`Recorder`: hears every operation of a run; which variables it wrote."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from tape_magic.engine.internals.graphs import (
    READING_OPERATIONS,
    graph_called,
    is_handle,
    within_py_function,
    written_inputs,
)
from tape_magic.engine.internals.operations import (
    BackwardFunction,
    element_count,
    key_of,
    key_of_variable,
    listening_to_operations,
    newest_key,
    stopped_reader,
)
from tape_magic.engine.record.entry import PY_FUNCTION, Custom, Entry
from tape_magic.engine.record.frames import BackwardFrames, Frame, UserFrames
from tape_magic.engine.record.recomputed import PASSING, Passing, computed_again

MOST_ENTRIES = 200_000
"""A run with more operations than this is not explained: the record would outgrow the computation."""

ROOM = 2**28
"""Past this many bytes, tensors are not kept from being freed while the run goes on."""

MORE_ROOM = 2**31
"""The same once there is something to explain."""

_SMALL = 1024

_WHOLE = frozenset({3, 9})
"""TensorFlow's numbers of int32 and int64."""


class _Heard(NamedTuple):
    """An operation as it was heard, before anything is made of it.

    The tensors are weak references where they are only ``recomputed``, and come with their
    keys. `reads` are the arguments for which an input was made just then, each by the place of that input: of
    a variable, TensorFlow has read the value itself.
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
    """Hears the operations of a run, between :meth:`listening` and its end.

    Attributes
    ----------
    tensors
        By key: those that were computed or read, or weak references to them; see :meth:`tensor`.
    start
        The keys of tensors that were made during the run are greater.
    complete
        Whether everything was heard.
    room
        How many bytes of tensors are kept.
    """

    def __init__(self) -> None:
        self.tensors: dict[int, Any] = {}
        self.start = 0
        self.complete = True
        self.room = ROOM
        self.paused = False
        self._entries: list[Entry] = []
        self._heard: list[tuple[Any, ...]] = []  # each as a _Heard has it, which takes longer to make
        self._newest = 0
        self._made_by: dict[int, int] = {}
        self._passing: dict[int, Entry | None] = {}  # by the keys of tensors, what made each
        self._bytes = self._bytes_heard = 0
        self._stopped = stopped_reader()
        self._frames = UserFrames(self._forward_frames)
        self._fixed: tuple[Frame, ...] | None = None

    @contextmanager
    def listening(self, frames: tuple[Frame, ...] | None = None) -> Iterator[None]:
        """Within this, operations are heard; `frames`, where given, are the lines of all of them."""
        self.start = self.start or newest_key()
        self._newest = max(self._newest, self.start)
        self._fixed = frames
        with listening_to_operations(self._hear, self._hear_custom) as heard:
            self.complete = self.complete and heard
            yield
        self._fixed = None

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Within this, the tapes do not record."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before

    def forget(self) -> None:
        """The tapes forget everything before."""
        for entry in self.entries:
            entry.taped = False

    def close(self) -> None:
        """Let go of all tensors."""
        self._heard.clear()
        self._entries.clear()
        self._passing.clear()
        self.tensors.clear()

    @property
    def entries(self) -> list[Entry]:
        """What ran, in the order of execution."""
        self._catch_up()
        return self._entries

    def tensor(self, key: int) -> Any:
        """A tensor by its key, computed again if it was only passing, or ``None`` where it is gone."""
        held = self.tensors.get(key)
        if not isinstance(held, weakref.ref):
            return held
        tensor = held()
        maker = self._passing.get(key)
        if tensor is None and maker is not None:
            inputs = [self.tensor(each) for each in maker.inputs]
            tensor = computed_again(maker.type, maker.attrs or (), inputs)
            if tensor is not None:
                self._keep_as(key, tensor)
        return tensor

    def note(self, entry: Entry) -> None:
        """Take up an entry that was not heard."""
        for key in entry.outputs:
            self._made_by[key] = len(self._entries)
        self._entries.append(entry)

    def keep(self, tensor: Any) -> int:
        """Keep a tensor while there is room, and give its key."""
        key = key_of(tensor)
        if key not in self.tensors or isinstance(self.tensors[key], weakref.ref):
            self._keep_as(key, tensor)
        return key

    def _keep_as(self, key: int, tensor: Any) -> None:
        elements = element_count(tensor)
        # The small ones are no burden, and there are many of them.
        size = elements * tensor.dtype.size if elements > _SMALL else 0
        if size and self._bytes + size > self.room:
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
        except Exception:  # whatever is wrong with the record, the cell must not fail of it
            self.complete = False

    def _take(
        self,
        op_type: str | bytes,
        inputs: tuple[Any, ...],
        attrs: tuple[Any, ...],
        outputs: tuple[Any, ...],
        frame: Any,
    ) -> None:
        # Called for every operation of the cell: what can wait until there is something to explain, waits.
        if len(self._heard) + len(self._entries) >= MOST_ENTRIES:
            self.complete = False
            return
        name = op_type if isinstance(op_type, str) else op_type.decode()
        read_keys = tuple([tensor._id for tensor in inputs])
        made_keys = tuple([tensor._id for tensor in outputs])
        held_in, held_out = inputs, outputs
        passing = PASSING.get(name)
        if passing is not None:
            held_in, held_out = self._held(passing, inputs, outputs)
        newest = self._newest
        reads: tuple[tuple[int, Any], ...] = ()
        if read_keys and max(read_keys) > newest:
            for index, key in enumerate(read_keys):
                if key > newest:
                    self._weigh(inputs[index])
                    if inputs[index]._datatype_enum() not in _WHOLE:  # an axis, a shape or a place
                        reads += ((index, _argument(frame, index)),)
        if made_keys:
            self._newest = max(newest, *made_keys)
            if name != "ReadVariableOp":  # which shares the variable's memory
                for tensor in held_out:
                    if type(tensor) is not weakref.ref:
                        self._weigh(tensor)
        frames = self._frames.around(frame) if self._fixed is None else self._fixed
        # No operation's name begins so: it is that of a function.
        called = graph_called(frame) if name[:2] == "__" else None
        within = within_py_function(attrs) if name == PY_FUNCTION else None
        taped = not (self.paused or self._stopped())
        keys = read_keys, made_keys
        self._heard.append((name, attrs, keys, held_in, held_out, frames, taped, called, reads, within))
        if self._bytes_heard > self.room - self._bytes:
            self._catch_up()

    def _weigh(self, tensor: Any) -> None:
        elements = tensor._num_elements()
        if elements > _SMALL:
            self._bytes_heard += elements * tensor.dtype.size

    def _held(
        self, passing: Passing, inputs: tuple[Any, ...], outputs: tuple[Any, ...]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The inputs and outputs of an operation, weak references where they are only passing."""
        if passing.output:
            (tensor,) = outputs
            if tensor._num_elements() > _SMALL:
                self._passing[tensor._id] = None
                outputs = (weakref.ref(tensor),)
        if passing.input and inputs[0]._id in self._passing:
            inputs = (weakref.ref(inputs[0]), *inputs[1:])
        return inputs, outputs

    def _catch_up(self) -> None:
        """Make entries of what was heard; tensors are then kept while there is room."""
        heard, self._heard, self._bytes_heard = self._heard, [], 0
        for one in heard:
            self._enter(_Heard(*one))

    def _enter(self, heard: _Heard) -> None:
        tensors, (read_keys, made_keys) = self.tensors, heard.keys
        for index, variable in heard.reads:
            key, handle = read_keys[index], key_of_variable(variable)
            if handle and key not in tensors:
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
            if key in self._passing:
                self._passing[key] = entry
        self.note(entry)

    def _hear_custom(
        self, name: str, outputs: Sequence[Any], inputs: Sequence[Any], backward: BackwardFunction
    ) -> BackwardFunction:
        keys = tuple(key_of(tensor) for tensor in outputs)
        if not keys or not all(hasattr(tensor, "_num_elements") for tensor in outputs):
            return backward  # within a function that is traced, tensors are symbolic
        self._catch_up()
        given = [getattr(tensor, "handle", tensor) for tensor in inputs]
        custom = Custom(name, tuple(self.keep(tensor) for tensor in given), keys)
        entry = self._entries[self._made_by[keys[0]]] if keys[0] in self._made_by else None
        if entry is None or entry.graph is None:
            frames = self._frames.around(sys._getframe(2)) if self._fixed is None else self._fixed
            entry = Entry(name, None, custom.inputs, keys, frames)
            for tensor in outputs:
                key = self.keep(tensor)
                if key in self._made_by:
                    self._entries[self._made_by[key]].superseded = True
            self.note(entry)
        entry.custom, entry.taped = custom, not self.paused

        def called(*given: Any) -> Any:
            found = backward(*given)
            custom.calls.append((list(given), list(found) if isinstance(found, list | tuple) else [found]))
            return found

        return called

    def _forward_frames(self, frame: Any) -> tuple[Frame, ...]:
        """Of an operation that a tape runs backward: the line of the one that it is the gradient of."""
        self._catch_up()
        held = frame.f_locals
        found = BackwardFrames(self._frames_of_forward(held))
        found.of = str(held.get("op_name", ""))
        return found

    def _frames_of_forward(self, held: Mapping[str, Any]) -> tuple[Frame, ...]:
        for key in map(key_of, [*(held.get("outputs") or ()), *(held.get("inputs") or ())]):
            if key in self._made_by and self._entries[self._made_by[key]].frames:
                return self._entries[self._made_by[key]].frames
        return ()


def _argument(frame: Any, index: int) -> Any:
    """The argument that stands for an input, in the frame of one of TensorFlow's generated functions."""
    code = frame.f_code
    if not os.path.basename(code.co_filename).startswith("gen_"):
        return None
    held = frame.f_locals
    flat: list[Any] = []
    for name in code.co_varnames[: code.co_argcount]:
        value = held.get(name)
        flat += value if isinstance(value, list | tuple) else [value]
    return flat[index] if index < len(flat) else None


def last_writes(recorder: Recorder) -> dict[int, int]:
    """The keys of the handles through which a run may have assigned, with the position where it last did."""
    found: dict[int, int] = {}
    for position, entry in enumerate(recorder.entries):
        if entry.graph is not None:
            keys = [entry.inputs[index] for index in written_inputs(entry.graph)]
        elif entry.type not in READING_OPERATIONS:
            keys = [key for key in entry.inputs if is_handle(recorder.tensor(key))]
        else:
            continue
        found.update(dict.fromkeys(keys, position))
    return found
