"""The operations within the calls of a record: a function's graph, run operation by operation.

Only operations without side effects run. The results of the others stay unknown, unless the call itself
returned them. Nothing of the user's Python runs again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from tape_magic.engine.diagnosis.graph_operations import (
    CALLS,
    CONDITIONALS,
    LOOPS,
    VARIABLE_READS,
    GraphOperation,
    eager_function,
    in_order,
    is_pure,
    run_heard,
)
from tape_magic.engine.diagnosis.long_loops import LongLoop, run_loop
from tape_magic.engine.internals.graphs import (
    branch_graphs,
    converted_from,
    custom_gradient_name,
    function_graph,
    is_recomputed,
    loop_graphs,
)
from tape_magic.engine.internals.operations import key_of
from tape_magic.engine.record.entry import Entry, writes
from tape_magic.engine.record.frames import Frame
from tape_magic.engine.record.recorder import Recorder, last_writes

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


class CallExpansion:
    """The entries of a record with the operations within called functions in place of the calls.

    A call of ``tf.function(lambda v: tf.sqrt(v) * 2.0)`` becomes the entries ``Sqrt`` and ``Mul``, and an
    ``Identity`` that gives the result the key of the call's output.

    Parameters
    ----------
    recorder
        The record. It keeps the tensors that are computed here.
    frames_of
        Gives the user's lines in the traceback of a graph's operation.

    Attributes
    ----------
    entries
        The entries so far.
    """

    def __init__(self, recorder: Recorder, frames_of: Callable[[Any], tuple[Frame, ...]]) -> None:
        self._recorder = recorder
        self._frames_of = frames_of
        self._count = 0
        self._rounds_open = 1  # of long loops around, among which the operations are shared out
        self.entries: list[Entry] = []
        # The value of a variable at a call is known only if nothing assigns it from there on.
        self._assigned, self._position = last_writes(recorder), 0
        self._operations: dict[Any, GraphOperation] = {}
        self._orders: dict[int, tuple[Any, list[Any]]] = {}
        self._unknown_keys = itertools.count(-1, -1)

    def expand(self, entry: Entry, position: int) -> None:
        """Append the operations within a call, or the call itself where it is too large.

        `position` is the call's place in the record.
        """
        self._position = position
        before = len(self.entries)
        known = {
            key_of(tensor): self._recorder.tensor(key)
            for tensor, key in zip(entry.graph.outputs, entry.outputs, strict=False)
        }
        try:
            results = self._run_graph(entry.graph, entry.inputs, known, entry.frames, entry.taped)
        except TooLarge as error:
            del self.entries[before:]
            entry.too_long = str(error)
            self.entries.append(entry)
            return
        for key, result in zip(entry.outputs, results, strict=False):
            if key != result:
                identity = Entry("Identity", (), (result,), (key,), entry.frames, taped=entry.taped)
                self.entries.append(identity)

    # -- graphs ------------------------------------------------------------------------------------

    def _run_graph(
        self,
        graph: Any,
        inputs: Sequence[int],
        known: dict[int, Any],
        around: tuple[Frame, ...],
        taped: bool,
    ) -> list[int]:
        """Run the operations of a graph; return the keys of its outputs.

        Parameters
        ----------
        graph, inputs
            The graph, and the keys of the tensors that it is run on.
        known
            The tensors that the call returned, by the keys of the graph's symbolic outputs.
        around
            The user's lines of the call, for operations that have none of their own.
        taped
            Whether a tape recorded the call.
        """
        keys = {key_of(inner): key for inner, key in zip(graph.inputs, inputs, strict=False)}
        for operation in self._operations_in_order(graph):
            self._count += 1
            if self._count > MAX_OPERATIONS:
                raise TooLarge(f"more than {MAX_OPERATIONS:,} operations")
            assigns = writes(operation.type)
            if not assigns and (not operation.outputs or key_of(operation.outputs[0]) in keys):
                continue
            arguments = tuple(self._key_or_unknown(keys.get(key_of(one))) for one in operation.inputs)
            frames = self._properties(operation).frames or around
            entry = Entry(operation.type, None, arguments, (), frames, taped)
            if assigns:  # recorded, but not done again
                self.entries.append(entry)
                continue
            results = self._run_operation(operation, entry, known)
            for tensor, result in zip(operation.outputs, results, strict=True):
                keys[key_of(tensor)] = result
        return [self._key_or_unknown(keys.get(key_of(tensor))) for tensor in graph.outputs]

    def _operations_in_order(self, graph: Any) -> list[Any]:
        """Return the operations of a graph, each behind those that it reads from."""
        if id(graph) not in self._orders:
            self._orders[id(graph)] = graph, in_order(graph)  # the graph, so that its identity stays taken
        return self._orders[id(graph)][1]

    def _key_or_unknown(self, key: int | None) -> int:
        """Return a key, or a new one that no tensor has; the first tensor of a process has the key 0."""
        return next(self._unknown_keys) if key is None else key

    # -- operations --------------------------------------------------------------------------------

    def _run_operation(self, operation: Any, entry: Entry, known: dict[int, Any]) -> Sequence[int]:
        """Run one operation of a graph if its inputs are known; return the keys of its outputs."""
        found = self._run_control_flow(operation, entry)
        if found is not None:
            return found
        stateful = operation.op_def.is_stateful and not self._reads_known_variable(operation, entry.inputs)
        inputs = [self._recorder.tensor(key) for key in entry.inputs]
        custom = self._properties(operation).custom_gradient
        if not custom and not stateful and all(tensor is not None for tensor in inputs):
            outputs = self._run_eagerly(operation, inputs, entry)
            if outputs is not None:
                return outputs
        if custom and is_recomputed(custom):  # an identity, behind the operations of the function
            outputs = tuple(map(self._keep_copy, inputs))[: len(operation.outputs)]
            self.entries += [
                Entry("Identity", (), (key,), (output,), entry.frames, entry.taped)
                for key, output in zip(entry.inputs, outputs, strict=False)
            ]
            return outputs
        if custom:  # an identity of values; only the user's function knows its gradient
            entry.type = custom
            entry.outputs = tuple(map(self._keep_copy, inputs))[: len(operation.outputs)]
        else:
            given = [known.get(key_of(tensor)) for tensor in operation.outputs]
            entry.outputs = tuple(
                self._key_or_unknown(None if tensor is None else self._recorder.keep(tensor))
                for tensor in given
            )
        self.entries.append(entry)
        return entry.outputs

    def _run_eagerly(self, operation: Any, inputs: Sequence[Any], entry: Entry) -> Sequence[int] | None:
        """Run one operation on tensors; return the keys of its outputs, ``None`` where it fails."""
        properties = self._properties(operation)
        try:
            if properties.attrs is None:
                properties.run = eager_function(operation)
                outputs, properties.attrs = run_heard(operation.type, properties.run, inputs)
            else:
                assert properties.run is not None
                outputs = properties.run(inputs)
        except Exception:  # without its value, the diagnosis goes on
            return None
        flat = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        keys = tuple(self._recorder.keep(tensor) for tensor in flat)
        entry.attrs = properties.attrs
        entry.outputs = keys
        if operation.type != "Const":
            self.entries.append(entry)
        return keys

    def _keep_copy(self, tensor: Any) -> int:
        """Keep a copy of a tensor under a key of its own, or give an unknown key for ``None``."""
        import tensorflow as tf

        return self._key_or_unknown(None if tensor is None else self._recorder.keep(tf.identity(tensor)))

    def _reads_known_variable(self, operation: Any, inputs: Sequence[int]) -> bool:
        """Return whether an operation reads a variable that is not assigned from the call on."""
        return operation.type in VARIABLE_READS and self._assigned.get(inputs[0], -1) < self._position

    def _properties(self, operation: Any) -> GraphOperation:
        """Return the properties of an operation, which a loop comes to many times."""
        if operation not in self._operations:
            self._operations[operation] = GraphOperation(
                self._frames_of(converted_from(operation)), custom_gradient_name(operation)
            )
        return self._operations[operation]

    # -- control flow ------------------------------------------------------------------------------

    def _run_control_flow(self, operation: Any, entry: Entry) -> Sequence[int] | None:
        """Run the graphs of a call, branch or loop.

        ``None`` for another operation, for an unknown choice, and where TensorFlow does not give the graphs.
        """
        if operation.type in CALLS:
            graph = function_graph(operation)
            if graph is None:
                return None
            return self._run_graph(graph, entry.inputs, {}, entry.frames, entry.taped)
        if operation.type in CONDITIONALS:
            return self._run_branch(operation, entry)
        return self._run_loop(operation, entry) if operation.type in LOOPS else None

    def _run_branch(self, operation: Any, entry: Entry) -> Sequence[int] | None:
        """Run the branch that was taken; ``None`` where the condition is not known."""
        condition = self._recorder.tensor(entry.inputs[0])
        graphs = branch_graphs(operation)
        if condition is None or graphs is None:
            return None
        index = int(condition) if operation.type.endswith("Case") else 1 - bool(condition)
        index = index if 0 <= index < len(graphs) else len(graphs) - 1
        found = self._run_graph(graphs[index], entry.inputs[1:], {}, entry.frames, entry.taped)
        return found[: len(operation.outputs)]

    def _run_loop(self, operation: Any, entry: Entry) -> Sequence[int] | None:
        """Run the rounds of a loop; ``None`` where its condition is not known."""
        graphs = loop_graphs(operation)
        if graphs is None:
            return None
        condition_graph, body = graphs
        before, count, loop = len(self.entries), self._count, None
        try:
            state = list(entry.inputs)
            for number in range(MAX_ROUNDS):
                (key,) = self._run_graph(condition_graph, state, {}, entry.frames, entry.taped)
                condition = self._recorder.tensor(key)
                if condition is None:
                    return None
                if not bool(condition):
                    return state[: len(operation.outputs)]
                state = self._run_graph(body, state, {}, entry.frames, entry.taped)
                if number == _ROUNDS_AT_FIRST:
                    loop = self._run_again(operation, body, entry)
                    rounds = 0 if loop is None else loop.rounds
                    left = (MAX_OPERATIONS - count) / self._rounds_open
                    if rounds * (self._count - count) / number > left:
                        raise TooLarge(f"{rounds:,} rounds")
            raise TooLarge(f"more than {MAX_ROUNDS:,} rounds")
        except TooLarge:
            del self.entries[before:]
            self._count = count
            loop = loop or self._run_again(operation, body, entry)
            if loop is None:
                raise
            return self._open_rounds(loop, body, entry)[: len(operation.outputs)]

    def _run_again(self, operation: Any, body: Any, entry: Entry) -> LongLoop | None:
        """Run a loop as TensorFlow runs it; ``None`` where that cannot be done."""
        tensors = [self._recorder.tensor(key) for key in entry.inputs]
        known = [self._assigned.get(key, -1) < self._position for key in entry.inputs]
        if any(tensor is None for tensor in tensors) or not is_pure(body, known):
            return None
        return run_loop(operation, body, tensors)

    def _open_rounds(self, loop: LongLoop, body: Any, entry: Entry) -> list[int]:
        """Run the few rounds of a long loop that are worth opening, with an entry for those between."""
        state, reached, around = list(entry.inputs), 0, self._rounds_open
        self._rounds_open = around * len(loop.states)
        for number in sorted(loop.states):
            if number != reached:
                state = self._pass_rounds(body, state, loop.states[number], number - reached, entry)
            reached = number
            if number < loop.rounds:
                state = self._run_graph(body, state, {}, entry.frames, entry.taped)
                reached += 1
        self._rounds_open = around
        return state

    def _pass_rounds(
        self, body: Any, state: list[int], after: Sequence[Any], number: int, entry: Entry
    ) -> list[int]:
        """Append an entry for rounds that stay closed; return the keys of the state after them."""
        passed = [
            key_of(given) == key_of(left) for given, left in zip(body.inputs, body.outputs, strict=True)
        ]
        keys = [
            key if stays else self._recorder.keep(tensor)
            for key, stays, tensor in zip(state, passed, after, strict=True)
        ]
        made = tuple(key for key, stays in zip(keys, passed, strict=True) if not stays)
        size = f"{number:,} rounds"
        self.entries.append(
            Entry("While", None, tuple(state), made, entry.frames, entry.taped, too_long=size)
        )
        return keys
