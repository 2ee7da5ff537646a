"""The record of a run, opened and laid beside the user's text: what any reason is told from."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tape_magic.engine.diagnosis.expansion import Expansion
from tape_magic.engine.diagnosis.flow import Flow
from tape_magic.engine.internals.operations import key_of, key_of_variable
from tape_magic.engine.program.program import Text
from tape_magic.engine.record.entry import splice_py_functions
from tape_magic.engine.record.frames import Frame
from tape_magic.engine.record.recorder import BYTES_FOR_DIAGNOSIS, Recorder
from tape_magic.engine.static_analysis.leaving_tensorflow import leaving
from tape_magic.engine.static_analysis.statements import base_of, read, tree_of
from tape_magic.engine.values.functions import is_users
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.reach import reachable
from tape_magic.engine.values.tensors import is_module, is_tensor, is_variable, tf_variable
from tape_magic.results.reasons import Cause, Reason, Where


@dataclass(frozen=True, eq=False)
class NamedTensors:
    """What was differentiated, or what it was differentiated by.

    Attributes
    ----------
    name
        ``y``, ``dense/kernel``, or ``∂y/∂x`` where a derivative is differentiated again.
    tensors
        Its tensors and variables.
    """

    name: str
    tensors: tuple[Any, ...]

    @property
    def keys(self) -> list[int]:
        """By which the record knows the tensors."""
        return [
            key_of_variable(tf_variable(tensor)) if is_variable(tensor) else key_of(tensor)
            for tensor in self.tensors
        ]


class Evidence:
    """What was heard of a run, and the text of what ran.

    Parameters
    ----------
    recorder
        It heard the run, and the derivatives that were differentiated again.
    text
        The user's code.
    """

    def __init__(self, recorder: Recorder, text: Text) -> None:
        self.recorder, self.text = recorder, text

    @cached_property
    def flow(self) -> Flow:
        """The record, with what ran within the calls of functions."""
        self.recorder.byte_limit = BYTES_FOR_DIAGNOSIS
        expansion = Expansion(self.recorder, self._graph_frames)
        for position, entry in splice_py_functions(self.recorder.entries):
            if entry.graph is not None:
                expansion.expand(entry, position)
            else:
                expansion.entries.append(entry)
        return Flow(expansion.entries, self.recorder)

    def meet(self, target: NamedTensors) -> None:
        """Keep what no operation read, and so was not met."""
        for tensor in target.tensors:
            if is_tensor(tensor):
                self.recorder.keep(tensor)

    def left_by_text(self, target: str, source: NamedTensors) -> Reason | None:
        """Where the user's text takes what is computed from a source out of TensorFlow, if it does."""
        text = self.text
        wanted = "" if target == "_" else target.partition("[")[0].partition(".")[0]
        tree = tree_of(text.filename, text.lines) if text.filename else None
        if tree is None:
            return None
        names = self._leading_to(source, read(tree))
        others = self._others(source, names, tree)
        found = leaving(text.filename, text.lines, text.namespace, names, wanted, others)
        if found is None:
            return None
        label = text.label(found.filename)
        place = f"{label}, line {found.line}" if label else f"line {found.line}"
        where = Where(found.line, linecache.getline(found.filename, found.line).strip(), label)
        return Reason(Cause.LEFT, f"{place} leaves TensorFlow: {found.text}", found.cure, "", where)

    def _leading_to(self, source: NamedTensors, names: Iterable[str]) -> set[str]:
        """Those of some names that hold a source, or lead to it as models and functions do."""
        found, home = {source.name.partition("[")[0].partition(".")[0]}, self.text.namespace
        (mine,) = source.tensors
        for name in names:
            value = home.get(name)
            own = type(value).__module__ == home.get("__name__", "__main__") and hasattr(value, "__dict__")
            held = reachable([value, *(vars(value).values() if own else ())], home)
            if any(_holds(value, mine) for value in held):
                found.add(name)
        return found

    def _others(self, source: NamedTensors, names: set[str], tree: ast.AST) -> set[str]:
        """Expressions of the text that give another variable of a model or layer than the source."""
        (mine,) = source.tensors
        home = self.text.namespace
        models = {name for name in names if is_module(home.get(name))}
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and base_of(node) & models:
                with suppress(Exception):  # it may be any expression
                    value = look_up(ast.unparse(node), home)
                    if is_variable(value) and tf_variable(value) is not mine:
                        found.add(ast.unparse(node))
        return found

    def line(self, index: int) -> str:
        """A short name of the line that the operation at a position came from, or the operation's own."""
        where = self.where(self.flow.entries[index].frames)
        if where is None:
            return self.flow.entries[index].type
        return f"{where.file}, line {where.line}" if where.file else f"line {where.line}"

    def where(self, frames: Sequence[Frame]) -> Where | None:
        """The user's line, if there is one."""
        if not frames:
            return None
        filename, line = frames[0]
        return Where(line, " ".join(linecache.getline(filename, line).split()), self.text.label(filename))

    def _graph_frames(self, operation: Any) -> tuple[Frame, ...]:
        """The user's lines in the traceback that TensorFlow keeps of a graph's operation."""
        frames = [(str(frame.filename), int(frame.lineno)) for frame in operation.traceback or ()]
        return tuple(frame for frame in reversed(frames) if is_users(frame[0]))


def _holds(value: Any, tensor: Any) -> bool:
    """Whether a value is a variable or tensor, or a model or layer that has it among its variables."""
    held = value.trainable_variables if is_module(value) else [value]
    return any((tf_variable(one) if is_variable(one) else one) is tensor for one in held)


def at(where: Where | None) -> str:
    """What follows the name of an operation: the line that it came from, if it is known."""
    return f", {where}" if where else ""


def unknown(why: str) -> Reason:
    """That the reason could not be found, and why not."""
    return Reason(Cause.UNKNOWN, f"the reason is not known: {why}")
