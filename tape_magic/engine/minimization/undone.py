"""Evaluations of a run's loss after its end, which leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tape_magic.engine.internals.random_state import preserve_random_state
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.process.output import hide_output
from tape_magic.engine.program.program import Text
from tape_magic.engine.program.snapshot import Snapshot
from tape_magic.engine.static_analysis.lasting import changing_line, lasting_call
from tape_magic.engine.values.tensors import read_all
from tape_magic.engine.verdict.facts import Probe
from tape_magic.results.reasons import Where

LARGEST = 2**28
"""Most bytes of what a program reaches that are copied, so that it can run in Python again."""


class Unsafe(Exception):
    """The program runs in Python, and what it changes cannot be put back.

    The message says what that is; `where` is the line, if it is known.
    """

    def __init__(self, why: str, where: Where | None = None) -> None:
        super().__init__(why)
        self.where = where


def _require_copied(snapshot: Snapshot, text: Text) -> None:
    """Raise :class:`Unsafe` where a snapshot lacks something that a program changes, or is too large."""
    if snapshot.iterators:
        iterator = snapshot.iterators[0]
        found = changing_line(text, iterator)
        if found is None:
            raise Unsafe(f"it changes a {type(iterator).__name__}")
        raise Unsafe(f"line {found[0]} changes {found[1]}", Where(found[0]))
    if snapshot.size > LARGEST:
        raise Unsafe(f"it reaches {snapshot.size / 2**20:,.0f} MiB, which would have to be copied")


@contextmanager
def undone(problem: Problem, variables: Sequence[Any], *, in_python: bool) -> Iterator[None]:
    """Put everything back that evaluations within the block change, and hide what they print.

    Parameters
    ----------
    problem
        What is minimised.
    variables
        What the evaluations move.
    in_python
        Whether the program runs in Python.

    Raises :class:`Unsafe` before anything runs if the program runs in Python, and what it changes cannot be
    put back.
    """
    before = read_all(variables)
    with ExitStack() as stack:
        if in_python:
            if (call := lasting_call(problem.text)) is not None:
                where = Where(call.line, call.text, call.label)
                raise Unsafe(f"{call.place} would happen once more: {call.text}", where)
            names = [*problem.settings.names, *problem.program.names.assigns]
            snapshot = Snapshot(problem.program, problem.namespace, names)
            _require_copied(snapshot, problem.text)
            stack.callback(snapshot.restore)
        stack.callback(lambda: assign_all(zip(variables, before, strict=True)))
        stack.enter_context(hide_output())
        stack.enter_context(preserve_random_state())
        yield


def asked_by(asked: Probe | Unsafe) -> dict[str, Any]:
    """Return the facts of a run on what asks its loss, or on why nothing does."""
    if isinstance(asked, Unsafe):
        return {"probe": None, "unsafe": str(asked), "unsafe_line": asked.where}
    return {"probe": asked}
