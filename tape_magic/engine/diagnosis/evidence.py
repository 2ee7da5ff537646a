"""The evidence of a run: its record, expanded and joined to the user's text."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tape_magic.engine.diagnosis.expansion import CallExpansion
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.loop_expansion import MAX_OPERATIONS
from tape_magic.engine.internals.operations import calls_gradient, key_of, key_of_variable
from tape_magic.engine.internals.xla import is_compiled_by_xla
from tape_magic.engine.program.program import Text
from tape_magic.engine.record.entry import Entry, splice_py_functions
from tape_magic.engine.record.frames import BackwardFrames, Frame
from tape_magic.engine.record.recorder import BYTES_FOR_DIAGNOSIS, Recorder
from tape_magic.engine.values.functions import is_users
from tape_magic.engine.values.tensors import is_tensor, is_variable, tf_variable
from tape_magic.results.reasons import Cause, Reason, Where


@dataclass(frozen=True, eq=False)
class NamedTensors:
    """A target or a source of a derivative, with the name that the report gives it.

    Attributes
    ----------
    name
        ``y``, ``dense/kernel``, or ``∂y/∂x`` where a derivative is differentiated again.
    tensors
        The tensors and variables of the target or source.
    """

    name: str
    tensors: tuple[Any, ...]

    @property
    def keys(self) -> list[int]:
        """The keys of the tensors in the record; for a variable, that of its handle."""
        return [
            key_of_variable(tf_variable(tensor)) if is_variable(tensor) else key_of(tensor)
            for tensor in self.tensors
        ]


class RunEvidence:
    """The record of a run and the text that ran, from which every reason is found.

    Parameters
    ----------
    recorder
        The record of the run, and of the derivatives that were differentiated again.
    text
        The user's code.
    most
        Most operations within calls that are looked at.
    """

    def __init__(self, recorder: Recorder, text: Text, most: int = MAX_OPERATIONS) -> None:
        self.recorder, self.text, self._most = recorder, text, most
        self._decided: list[Entry] = []

    @cached_property
    def flow(self) -> DataFlow:
        """The record with the operations within called functions in place of the calls.

        It is made when the first reason is looked for, so that a derivative that is fine costs nothing.
        """
        self.recorder.byte_limit = BYTES_FOR_DIAGNOSIS
        expansion = CallExpansion(self.recorder, self._graph_frames, self._most)
        for position, entry in splice_py_functions(self.recorder.entries):
            if entry.graph is not None:
                expansion.expand(entry, position)
            else:
                expansion.entries.append(entry)
        self._decided = expansion.decided
        return DataFlow(expansion.entries, self.recorder)

    @cached_property
    def has_xla(self) -> bool:
        """Whether the run called functions that XLA compiles."""
        return any(
            entry.graph is not None and is_compiled_by_xla(entry.type, entry.graph)
            for entry in self.recorder.entries
        )

    def decided_by(self, key: int) -> Entry | None:
        """Return the first conditional of a compiled function that a source flows into."""
        downstream = self.flow.downstream([key])
        given = (one for one in self._decided if not downstream.isdisjoint(one.inputs))
        return next(given, None)

    def keep_target(self, target: NamedTensors) -> None:
        """Keep the tensors of a target, which the recorder has not met if no operation read them."""
        for tensor in target.tensors:
            if is_tensor(tensor):
                self.recorder.keep(tensor)

    # -- lines -------------------------------------------------------------------------------------

    def line_label(self, index: int) -> str:
        """Return the line of an entry, such as ``line 4``, or its type where the line is not known."""
        return self.label_of(self.flow.entries[index])

    def label_of(self, entry: Entry) -> str:
        """Return the same for an entry."""
        where = self.where(entry.frames)
        return entry.type if where is None else line_label_of(where)

    def where(self, frames: Sequence[Frame]) -> Where | None:
        """Return the user's line that an operation was called from; ``None`` where there is none."""
        if not frames:
            return None
        filename, line = frames[0]
        return Where(line, " ".join(linecache.getline(filename, line).split()), self.text.label(filename))

    def _graph_frames(self, operation: Any) -> tuple[Frame, ...]:
        """Return the user's lines in the traceback that TensorFlow keeps of a graph's operation."""
        stack = list(operation.traceback or ())  # of objects that are made anew each time
        frames = [(str(frame.filename), int(frame.lineno)) for frame in stack]
        lines = tuple(frame for frame in reversed(frames) if is_users(frame[0]))
        return BackwardFrames(lines) if any(map(calls_gradient, stack)) else lines


def line_label_of(where: Where) -> str:
    """Return a line as ``line 3``, or ``cell 2, line 3`` where it is in another file."""
    return f"{where.file}, line {where.line}" if where.file else f"line {where.line}"


def at_line(where: Where | None) -> str:
    """Return the part of a sentence that gives the user's line; empty where it is not known."""
    return f", {where}" if where else ""


def too_long_reason(entry: Entry, where: Where | None, before: str = "") -> Reason:
    """Return the reason that names a call which was too long to be looked into."""
    call = str(where) if where else "a compiled function"
    comma = "" if call.endswith(":") else ","  # the line of a loop
    text = f"{before}{call}{comma} which is too long to be looked into ({entry.too_long})"
    return Reason(Cause.UNKNOWN, text, "", "", where)


def unknown_reason(why: str) -> Reason:
    """Return the reason that says why the reason could not be found."""
    return Reason(Cause.UNKNOWN, f"the reason is not known: {why}")
