"""`Entry`: one operation of a run; the functions of `tf.py_function` joined to the operations around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tape_magic.engine.internals.operations import BackwardFunction
from tape_magic.engine.record.frames import Frame


@dataclass(slots=True, eq=False)
class CustomBackward:
    """A backward function that a tape recorded in place of an operation's own gradient.

    Attributes
    ----------
    name
        TensorFlow's name for it.
    inputs, outputs
        The keys of the tensors that it leads from and to.
    calls
        For each call, the gradients that the function was given, and those that it returned.
    function
        The function itself, once a tape has it.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: list[tuple[list[Any], list[Any]]] = field(default_factory=list)
    function: BackwardFunction | None = None

    @property
    def runs_user_code(self) -> bool:
        """Whether the function is the user's, or calls one of theirs, as far as its closure tells."""
        closure = getattr(self.function, "__closure__", None) or ()
        called = [self.function, *(cell.cell_contents for cell in closure if _is_filled(cell))]
        modules = [str(getattr(one, "__module__", "")) for one in called if callable(one)]
        return not all(name.partition(".")[0] in ("tensorflow", "keras") for name in modules)

    def noting_calls(self, backward: BackwardFunction) -> BackwardFunction:
        """Return a function that calls `backward`, and notes what it was given and returned."""
        self.function = backward

        def noting(*given: Any) -> Any:
            found = backward(*given)
            self.calls.append((list(given), list(found) if isinstance(found, list | tuple) else [found]))
            return found

        return noting


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


_WRITING = ("Assign", "ResourceApply", "ResourceScatter", "ResourceSparseApply", "ResourceStridedSliceAssign")


def writes(kind: str) -> bool:
    """Return whether operations of a type change the variable that is their first input."""
    return kind.startswith(_WRITING)


@dataclass(slots=True, eq=False)
class Entry:
    """One operation that ran.

    Attributes
    ----------
    type
        TensorFlow's name of the operation.
    attrs
        The operation's attributes, names and values in turn; ``None`` where they are not known.
    inputs, outputs
        The keys of its tensors.
    frames
        The user's innermost line that it was called from, if there is one.
    taped
        Whether the tapes recorded it.
    graph, pending
        The graph of the function, if the entry is a call of one; whether that call did not run, so that
        variables are as they were before it.
    custom
        The backward function that a tape used in place of the operation's own.
    superseded
        Whether the tapes know its outputs as those of a later entry, with a custom gradient.
    within
        For a ``tf.py_function``, the keys of the tensors that its function was given, and of those that the
        function returned.
    too_long
        For a call that was not looked into, how long it is: ``more than 2,000 rounds``.
    operation, call
        For an operation with a custom gradient within a function that was called, the graph's operation and
        the entry of the call.
    """

    type: str
    attrs: tuple[Any, ...] | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    frames: tuple[Frame, ...]
    taped: bool = True
    graph: Any = None
    pending: bool = False
    custom: CustomBackward | None = None
    superseded: bool = False
    within: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    too_long: str = ""
    operation: Any = None
    call: Entry | None = None

    @property
    def changes(self) -> int | None:
        """The key of the variable, or of the iterator over data, that the operation changes."""
        if writes(self.type):
            return self.inputs[0]
        return self.inputs[1] if self.type == "MakeIterator" else None


PY_FUNCTION = "EagerPyFunc"


def splice_py_functions(entries: Sequence[Entry]) -> Iterator[tuple[int, Entry]]:
    """Yield the entries of a record with their positions, each ``tf.py_function`` replaced by what it joins.

    The operations within such a function are entries of their own, on tensors with keys of their own. Their
    inputs are renamed to the keys of the tensors outside, and an identity for each output leads back out.
    """
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
            key = outside.get(inner, inner)  # the function may return a tensor that it was given
            yield position, Entry("Identity", (), (key,), (outer,), entry.frames, entry.taped)
