"""Each operation of one run with the user's line, so that a derivative can be explained afterwards."""

from __future__ import annotations

import os
import sys
import sysconfig
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tape_magic.engine import op_events

MOST_ENTRIES = 200_000
"""A run with more operations than this is not explained: the record would outgrow the computation."""

ROOM = 2**28
"""Past this many bytes, tensors are not kept from being freed while the run goes on."""

MORE_ROOM = 2**31
"""The same once there is something to explain."""

_SMALL = 1024
_LIBRARY, _USER, _OWN, _BACKPROP = range(4)

Frame = tuple[str, int]
"""A file, as the code object names it, and a line in it."""


@dataclass(slots=True, eq=False)
class Custom:
    """What a tape records as a whole, with a backward function of its own.

    `calls` are the gradients it was given and those that it returned, for each time it was called.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: list[tuple[list[Any], list[Any]]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Entry:
    """One operation that ran.

    Attributes
    ----------
    type
        TensorFlow's name of the operation.
    attrs
        Its attributes, names and values in turn; ``None`` where they are not known.
    inputs, outputs
        The keys of its tensors.
    frames
        The user's innermost line that it was called from, if there is one.
    taped
        Whether the tapes recorded it.
    graph
        The graph of a function that was called.
    custom
        The backward function that a tape used in place of the operation's own.
    superseded
        Whether the tapes know its outputs as those of a later entry, with a custom gradient.
    """

    type: str
    attrs: tuple[Any, ...] | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    frames: tuple[Frame, ...]
    taped: bool = True
    graph: Any = None
    custom: Custom | None = None
    superseded: bool = False


class Recorder:
    """Hears the operations of a run, between :meth:`listening` and its end.

    Attributes
    ----------
    entries
        In the order of execution.
    tensors
        By key: those that were computed or read, or weak references to them.
    start
        The keys of tensors that were made during the run are greater.
    complete
        Whether everything was heard.
    room
        How many bytes of tensors are kept.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.tensors: dict[int, Any] = {}
        self.start = 0
        self.complete = True
        self.room = ROOM
        self.paused = False
        self._made_by: dict[int, int] = {}
        self._kinds: dict[str, int] = {}
        self._bytes = 0
        self._stopped = op_events.stopped_reader()
        self._fixed: tuple[Frame, ...] | None = None

    @contextmanager
    def listening(self, frames: tuple[Frame, ...] | None = None) -> Iterator[None]:
        """Within this, operations are heard; `frames`, where given, are the lines of all of them."""
        import tensorflow as tf

        self.start = self.start or op_events.key_of(tf.constant(0))
        self._fixed = frames
        with op_events.listening(self._hear, self._hear_custom) as heard:
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
        self.entries.clear()
        self.tensors.clear()

    def is_users(self, filename: str) -> bool:
        """Whether a file holds the user's code, and not a library's."""
        return is_users(filename)

    def tensor(self, key: int) -> Any:
        """A tensor by its key, or ``None`` where it is gone."""
        held = self.tensors.get(key)
        return held() if isinstance(held, weakref.ref) else held

    def note(self, entry: Entry) -> None:
        """Take up an entry that was not heard."""
        for key in entry.outputs:
            self._made_by[key] = len(self.entries)
        self.entries.append(entry)

    def keep(self, tensor: Any) -> int:
        """Keep a tensor while there is room, and give its key."""
        key = op_events.key_of(tensor)
        if key not in self.tensors:
            elements = op_events.elements(tensor)
            if elements > _SMALL:  # the small ones are no burden, and there are many of them
                self._bytes += elements * tensor.dtype.size
            full = self._bytes > self.room and elements > _SMALL
            self.tensors[key] = weakref.ref(tensor) if full else tensor
        return key

    def _hear(
        self,
        op_type: str | bytes,
        inputs: Sequence[Any],
        attrs: tuple[Any, ...],
        outputs: Sequence[Any] | None,
        op_name: str | None = None,
        graph: Any = None,
    ) -> None:
        # Called for every operation of the cell: what can wait until there is something to explain, waits.
        if graph is not None:
            return
        try:
            self._take(op_type, inputs, attrs, outputs or (), sys._getframe(1))
        except Exception:  # whatever is wrong with the record, the cell must not fail of it
            self.complete = False

    def _take(
        self,
        op_type: str | bytes,
        inputs: Sequence[Any],
        attrs: tuple[Any, ...],
        outputs: Sequence[Any],
        frame: Any,
    ) -> None:
        number = len(self.entries)
        if number >= MOST_ENTRIES:
            self.complete = False
            return
        frames = self._frames(frame) if self._fixed is None else self._fixed
        tensors = self.tensors
        keys = tuple([tensor._id for tensor in inputs])
        for index, key in enumerate(keys):
            if key not in tensors:
                self._meet(inputs[index], index, frame, frames)
        made = []
        for tensor in outputs:
            key = tensor._id
            made.append(key)
            self._made_by[key] = number
            if tensor._num_elements() <= _SMALL or op_type == "ReadVariableOp":
                tensors[key] = tensor  # a variable's value shares the variable's memory
            else:
                self.keep(tensor)
        if isinstance(op_type, bytes):
            op_type = op_type.decode()
        # No operation's name begins so: it is that of a function.
        called = op_events.graph_called(frame) if op_type.startswith("__") else None
        taped = not self.paused and not self._stopped()
        self.entries.append(Entry(op_type, attrs, keys, tuple(made), frames, taped, called))

    def _hear_custom(
        self, name: str, outputs: Sequence[Any], inputs: Sequence[Any], backward: op_events.Backward
    ) -> op_events.Backward:
        keys = tuple(op_events.key_of(tensor) for tensor in outputs)
        if not keys or not all(hasattr(tensor, "_num_elements") for tensor in outputs):
            return backward  # within a function that is traced, tensors are symbolic
        given = [getattr(tensor, "handle", tensor) for tensor in inputs]
        custom = Custom(name, tuple(self.keep(tensor) for tensor in given), keys)
        entry = self.entries[self._made_by[keys[0]]] if keys[0] in self._made_by else None
        if entry is None or entry.graph is None:
            frames = self._frames(sys._getframe(2)) if self._fixed is None else self._fixed
            entry = Entry(name, None, custom.inputs, keys, frames)
            for tensor in outputs:
                key = self.keep(tensor)
                if key in self._made_by:
                    self.entries[self._made_by[key]].superseded = True
            self.note(entry)
        entry.custom, entry.taped = custom, not self.paused

        def called(*given: Any) -> Any:
            found = backward(*given)
            custom.calls.append((list(given), list(found) if isinstance(found, list | tuple) else [found]))
            return found

        return called

    def _meet(self, tensor: Any, index: int, frame: Any, frames: tuple[Frame, ...]) -> None:
        """A tensor that no operation made: given, a constant, or a variable that TensorFlow read itself."""
        key = self.keep(tensor)
        if key <= self.start:
            return
        variable = _argument(frame, index)
        handle = op_events.key_of_variable(variable)
        if handle:
            self.tensors.setdefault(handle, variable.handle)
            self.note(Entry("ReadVariableOp", (), (handle,), (key,), frames, taped=not self.paused))

    def _frames(self, frame: Any) -> tuple[Frame, ...]:
        """The user's innermost line around a frame, as far as the run goes; of one, or of none."""
        kinds = self._kinds
        while frame is not None:
            code = frame.f_code
            kind = kinds.get(code.co_filename)
            if kind is None:
                kind = kinds[code.co_filename] = _kind(code.co_filename)
            if kind == _USER:
                return ((code.co_filename, frame.f_lineno),)
            if kind == _OWN:
                return ()
            if kind == _BACKPROP and op_events.is_gradient_frame(code):
                return self._forward_frames(frame)
            frame = frame.f_back
        return ()

    def _forward_frames(self, frame: Any) -> tuple[Frame, ...]:
        """Of an operation that a tape runs backward: the line of the one that it is the gradient of."""
        held = frame.f_locals
        for key in map(op_events.key_of, [*(held.get("outputs") or ()), *(held.get("inputs") or ())]):
            if key in self._made_by and self.entries[self._made_by[key]].frames:
                return self.entries[self._made_by[key]].frames
        return ()


def is_users(filename: str) -> bool:
    """Whether a file, as code objects name it, holds the user's code, and not a library's."""
    return _kind(filename) == _USER


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


@lru_cache(maxsize=4096)
def _kind(filename: str) -> int:
    """Whose code a file holds: a library's, the user's, or this package's."""
    if filename.startswith(_own_folder()):
        return _OWN
    if "__autograph_generated_file" in filename or filename.startswith("<frozen"):
        return _LIBRARY
    if not filename.startswith(_library_folders()):
        return _USER
    return _BACKPROP if filename.endswith(os.path.join("eager", "backprop.py")) else _LIBRARY


@lru_cache(maxsize=1)
def _own_folder() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


@lru_cache(maxsize=1)
def _library_folders() -> tuple[str, ...]:
    import keras
    import tensorflow as tf

    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders |= {os.path.dirname(os.path.dirname(module.__file__ or "")) for module in (keras, tf)}
    return tuple(folder + os.sep for folder in folders if folder)
