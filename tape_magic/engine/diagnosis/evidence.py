"""The evidence of a run: its record, expanded and joined to the user's text."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tape_magic.engine.diagnosis.expansion import CallExpansion
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.internals.graphs import is_compiled_by_xla
from tape_magic.engine.internals.operations import key_of, key_of_variable
from tape_magic.engine.program.program import Text
from tape_magic.engine.record.entry import Entry, splice_py_functions
from tape_magic.engine.record.frames import Frame
from tape_magic.engine.record.recorder import BYTES_FOR_DIAGNOSIS, Recorder
from tape_magic.engine.static_analysis.leaving_tensorflow import first_exit
from tape_magic.engine.static_analysis.statements import base_name, names_read, syntax_tree
from tape_magic.engine.values.functions import is_users
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.reach import reachable
from tape_magic.engine.values.tensors import is_module, is_tensor, is_variable, tf_variable
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
    """

    def __init__(self, recorder: Recorder, text: Text) -> None:
        self.recorder, self.text = recorder, text

    @cached_property
    def flow(self) -> DataFlow:
        """The record with the operations within called functions in place of the calls.

        It is made when the first reason is looked for, so that a derivative that is fine costs nothing.
        """
        self.recorder.byte_limit = BYTES_FOR_DIAGNOSIS
        expansion = CallExpansion(self.recorder, self._graph_frames)
        for position, entry in splice_py_functions(self.recorder.entries):
            if entry.graph is not None:
                expansion.expand(entry, position)
            else:
                expansion.entries.append(entry)
        return DataFlow(expansion.entries, self.recorder)

    @cached_property
    def has_xla(self) -> bool:
        """Whether the run called functions that XLA compiles."""
        return any(
            entry.graph is not None and is_compiled_by_xla(entry.type, entry.graph)
            for entry in self.recorder.entries
        )

    def keep_target(self, target: NamedTensors) -> None:
        """Keep the tensors of a target, which the recorder has not met if no operation read them."""
        for tensor in target.tensors:
            if is_tensor(tensor):
                self.recorder.keep(tensor)

    # -- the user's text ---------------------------------------------------------------------------

    def explain_leaving(self, target: str, source: NamedTensors) -> Reason | None:
        """Return where the user's text takes a value of the source out of TensorFlow, if it does.

        For ``h = np.sin(x)`` on line 3: "line 3 leaves TensorFlow: np.sin(x)", and the cure "use tf.sin".
        """
        text = self.text
        wanted = "" if target == "_" else _first_name(target)
        tree = syntax_tree(text.filename, text.lines) if text.filename else None
        if tree is None:
            return None
        names = self._names_leading_to(source, names_read(tree))
        others = self._other_variables(source, names, tree)
        found = first_exit(text.filename, text.lines, text.namespace, names, wanted, others)
        if found is None:
            return None
        label = text.label(found.filename)
        where = Where(found.line, linecache.getline(found.filename, found.line).strip(), label)
        cause = f"{_line_label(where)} leaves TensorFlow: {found.text}"
        return Reason(Cause.LEFT, cause, found.cure, "", where)

    def _names_leading_to(self, source: NamedTensors, names: Iterable[str]) -> set[str]:
        """Return the names whose objects are the source, or hold it as models and functions do."""
        found, home = {_first_name(source.name)}, self.text.namespace
        (mine,) = source.tensors
        for name in names:
            value = home.get(name)
            own = type(value).__module__ == home.get("__name__", "__main__") and hasattr(value, "__dict__")
            within = reachable([value, *(vars(value).values() if own else ())], home)
            if any(_holds(value, mine) for value in within):
                found.add(name)
        return found

    def _other_variables(self, source: NamedTensors, names: set[str], tree: ast.AST) -> set[str]:
        """Return the expressions that give another variable of a model or layer than the source."""
        (mine,) = source.tensors
        home = self.text.namespace
        models = {name for name in names if is_module(home.get(name))}
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and base_name(node) & models:
                with suppress(Exception):  # an expression of the user's may raise anything
                    value = look_up(ast.unparse(node), home)
                    if is_variable(value) and tf_variable(value) is not mine:
                        found.add(ast.unparse(node))
        return found

    # -- lines -------------------------------------------------------------------------------------

    def line_label(self, index: int) -> str:
        """Return the line of an entry, such as ``line 4``, or its type where the line is not known."""
        return self.label_of(self.flow.entries[index])

    def label_of(self, entry: Entry) -> str:
        """Return the same for an entry."""
        where = self.where(entry.frames)
        return entry.type if where is None else _line_label(where)

    def where(self, frames: Sequence[Frame]) -> Where | None:
        """Return the user's line that an operation was called from; ``None`` where there is none."""
        if not frames:
            return None
        filename, line = frames[0]
        return Where(line, " ".join(linecache.getline(filename, line).split()), self.text.label(filename))

    def _graph_frames(self, operation: Any) -> tuple[Frame, ...]:
        """Return the user's lines in the traceback that TensorFlow keeps of a graph's operation."""
        frames = [(str(frame.filename), int(frame.lineno)) for frame in operation.traceback or ()]
        return tuple(frame for frame in reversed(frames) if is_users(frame[0]))


def _first_name(place: str) -> str:
    """Return the name with which a place begins: ``p`` of ``p['w']``."""
    return place.partition("[")[0].partition(".")[0]


def _holds(value: Any, tensor: Any) -> bool:
    """Return whether a value is a variable or tensor, or a model or layer with that variable."""
    held = value.trainable_variables if is_module(value) else [value]
    return any((tf_variable(one) if is_variable(one) else one) is tensor for one in held)


def _line_label(where: Where) -> str:
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
