"""The operations within a loop of a graph: all of its rounds, or the few of many that are worth opening."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tape_magic.engine.diagnosis.graph_operations import is_pure
from tape_magic.engine.diagnosis.long_loops import LongLoop, run_loop
from tape_magic.engine.internals.graphs import loop_graphs
from tape_magic.engine.internals.operations import key_of
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.frames import Frame
from tape_magic.engine.record.recorder import Recorder

MAX_OPERATIONS = 20_000
"""Once the calls of a record hold more operations than this, the rest of them stay closed, but for loops.

Of a loop that holds more, a few rounds are opened.
"""

MAX_ROUNDS = 2_000
"""Of a loop of more rounds than this, no more than a few are opened."""

_ROUNDS_AT_FIRST = 100
"""After so many rounds of a loop, it is asked how many there are in all."""


class TooLarge(Exception):
    """A call holds more operations or rounds than are looked at; the message says how many."""


class RunsGraphs(Protocol):
    """What runs the graphs of a loop and keeps their entries."""

    entries: list[Entry]
    count: int
    most: int

    def run_graph(
        self,
        graph: Any,
        inputs: Sequence[int],
        known: dict[int, Any],
        around: tuple[Frame, ...],
        taped: bool,
    ) -> list[int]:
        """Run the operations of a graph; return the keys of its outputs."""
        ...


class LoopExpansion:
    """Puts the operations of its rounds in the place of a loop.

    Parameters
    ----------
    calls
        Runs the graphs, and has the entries.
    recorder
        The record.
    is_unchanged
        Whether nothing assigns a variable, given by the key of its handle, while the loop runs or after it.
    """

    def __init__(self, calls: RunsGraphs, recorder: Recorder, is_unchanged: Callable[[int], bool]) -> None:
        self._calls, self._recorder, self._is_unchanged = calls, recorder, is_unchanged
        self._rounds_open = 1  # of long loops around, among which the operations are shared out

    def run(self, operation: Any, entry: Entry) -> Sequence[int] | None:
        """Run the rounds of a loop; ``None`` where its condition is not known."""
        graphs = loop_graphs(operation)
        if graphs is None:
            return None
        condition_graph, body = graphs
        before, count, loop = len(self._calls.entries), self._calls.count, None
        try:
            state = list(entry.inputs)
            for number in range(MAX_ROUNDS):
                (key,) = self._calls.run_graph(condition_graph, state, {}, entry.frames, entry.taped)
                condition = self._recorder.tensor(key)
                if condition is None:
                    return None
                if not bool(condition):
                    return state[: len(operation.outputs)]
                state = self._calls.run_graph(body, state, {}, entry.frames, entry.taped)
                if number == _ROUNDS_AT_FIRST:
                    loop = self._run_again(operation, body, entry)
                    rounds = 0 if loop is None else loop.rounds
                    left = (self._calls.most - count) / self._rounds_open
                    if rounds * (self._calls.count - count) / number > left:
                        raise TooLarge(f"{rounds:,} rounds")
            raise TooLarge(f"more than {MAX_ROUNDS:,} rounds")
        except TooLarge:
            del self._calls.entries[before:]
            self._calls.count = count
            loop = loop or self._run_again(operation, body, entry)
            if loop is None:
                raise
            return self._open_rounds(loop, body, entry)[: len(operation.outputs)]

    def _run_again(self, operation: Any, body: Any, entry: Entry) -> LongLoop | None:
        """Run a loop as TensorFlow runs it; ``None`` where that cannot be done."""
        tensors = [self._recorder.tensor(key) for key in entry.inputs]
        known = [self._is_unchanged(key) for key in entry.inputs]
        if any(tensor is None for tensor in tensors) or not is_pure(body, known):
            return None
        return run_loop(operation, body, tensors)

    def _open_rounds(self, loop: LongLoop, body: Any, entry: Entry) -> list[int]:
        """Run the few rounds of a long loop that are worth opening, with an entry for those between."""
        state, reached, around = list(entry.inputs), 0, self._rounds_open
        self._rounds_open = around * len(loop.states)
        try:
            for number in sorted(loop.states):
                if number != reached:
                    state = self._pass_rounds(body, state, loop.states[number], number - reached, entry)
                reached = number
                if number < loop.rounds:
                    state = self._calls.run_graph(body, state, {}, entry.frames, entry.taped)
                    reached += 1
        finally:
            self._rounds_open = around
        return state

    def _pass_rounds(
        self, body: Any, state: list[int], after: Sequence[Any], number: int, entry: Entry
    ) -> list[int]:
        """Append an entry for rounds that stay closed; return the keys of the state after them."""
        pairs = zip(body.inputs, body.outputs, strict=True)
        passed = [key_of(given) == key_of(left) for given, left in pairs]
        keys = [
            key if stays else self._recorder.keep(tensor)
            for key, stays, tensor in zip(state, passed, after, strict=True)
        ]
        made = tuple(key for key, stays in zip(keys, passed, strict=True) if not stays)
        size = f"{number:,} rounds"
        self._calls.entries.append(
            Entry("While", None, tuple(state), made, entry.frames, entry.taped, too_long=size)
        )
        return keys
