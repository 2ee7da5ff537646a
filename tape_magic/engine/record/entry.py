"""`Entry`: one operation as remembered; the inside of `tf.py_function` spliced in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tape_magic.engine.record.frames import Frame


@dataclass(slots=True, eq=False)
class Custom:
    """What a tape records as a whole, with a backward function of its own.

    `calls` are the gradients it was given and those that it returned, for each time it was called.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: list[tuple[list[Any], list[Any]]] = field(default_factory=list)


_WRITING = ("Assign", "ResourceApply", "ResourceScatter", "ResourceSparseApply", "ResourceStridedSliceAssign")


def writes(kind: str) -> bool:
    """Whether an operation changes the variable that is its first input."""
    return kind.startswith(_WRITING)


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
    within
        Of ``tf.py_function``: the keys of the tensors that its function was given, and of what it returned.
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
    within: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    @property
    def changes(self) -> int | None:
        """The key of the variable, or of the iterator over data, that it changes."""
        if writes(self.type):
            return self.inputs[0]
        return self.inputs[1] if self.type == "MakeIterator" else None


PY_FUNCTION = "EagerPyFunc"


def with_py_functions_opened(entries: Sequence[Entry]) -> Iterator[tuple[int, Entry]]:
    """The entries of a record with their positions; in place of such a function, what joins its inside."""
    outside = {
        inner: outer
        for entry in entries
        if entry.within is not None
        for inner, outer in zip(entry.within[0], entry.inputs, strict=False)
    }
    for position, entry in enumerate(entries):
        if outside and not outside.keys().isdisjoint(entry.inputs):
            entry = replace(entry, inputs=tuple(outside.get(key, key) for key in entry.inputs))
        if entry.within is None:
            yield position, entry
            continue
        for inner, outer in zip(entry.within[1], entry.outputs, strict=False):
            key = outside.get(inner, inner)  # it may return what it was given
            yield position, Entry("Identity", (), (key,), (outer,), entry.frames, entry.taped)
