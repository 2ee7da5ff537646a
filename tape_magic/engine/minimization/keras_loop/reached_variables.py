"""`ReachedVariables`: the variables that a program leads to, with their values before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tape_magic.engine.internals.operations import key_of_variable
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.walk import Visitor, Walk
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.record.writes import last_writes
from tape_magic.engine.values.tensors import read_all, tf_variable


class ReachedVariables(Visitor):
    """The variables that a program leads to, with their values before it runs."""

    def __init__(self, program: Program, namespace: Namespace) -> None:
        self._found: dict[int, Any] = {}
        Walk(self, program, namespace).run()
        self._values = dict(zip(self._found, read_all(self._found.values()), strict=True))

    def written(self, recorder: Recorder, but: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield each variable that a run assigned, except those in `but`, with its value before the run."""
        keys = last_writes(recorder).keys() - {key_of_variable(variable) for variable in but}
        return ((variable, self._values[key]) for key, variable in self._found.items() if key in keys)

    def visit_variable(self, variable: Any) -> None:
        """Take the ``tf.Variable`` of a variable."""
        held = tf_variable(variable)
        if key := key_of_variable(held):
            self._found[key] = held
