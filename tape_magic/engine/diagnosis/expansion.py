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
    RANDOM,
    VARIABLE_READS,
    GraphOperation,
    eager_function,
    run_heard,
)
from tape_magic.engine.diagnosis.loop_expansion import MAX_OPERATIONS, LoopExpansion, TooLarge
from tape_magic.engine.internals.graphs import (
    branch_graphs,
    converted_from,
    custom_gradient_name,
    function_graph,
    in_order,
    is_recomputed,
)
from tape_magic.engine.internals.operations import key_of
from tape_magic.engine.record.entry import Entry, writes
from tape_magic.engine.record.frames import Frame
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.record.writes import last_writes, operations_of


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
    most
        Most operations that are looked at; calls that hold more stay closed.

    Attributes
    ----------
    entries, count, most
        The entries so far, the number of operations that were looked at, and the most of them.
    decided
        The conditionals of which the branch that was taken stands among the entries.
    """

    def __init__(
        self,
        recorder: Recorder,
        frames_of: Callable[[Any], tuple[Frame, ...]],
        most: int = MAX_OPERATIONS,
    ) -> None:
        self._recorder = recorder
        self._frames_of = frames_of
        self.count, self.most = 0, most
        self._loops = LoopExpansion(self, recorder, self._is_unchanged)
        self.entries: list[Entry] = []
        self.decided: list[Entry] = []
        # The value of a variable at a call is known only if nothing assigns it from there on.
        self._assigned, self._position = last_writes(recorder), 0
        self._pending, self._written = False, set[int]()  # by a call that did not run itself
        self._operations: dict[Any, GraphOperation] = {}
        self._orders: dict[int, tuple[Any, list[Any]]] = {}
        self._unknown_keys = itertools.count(-1, -1)

    def expand(self, entry: Entry, position: int) -> None:
        """Append the operations within a call, or the call itself where it is too large.

        `position` is the call's place in the record.
        """
        self._position, self._pending = position, entry.pending
        before = len(self.entries)
        known = {
            key_of(tensor): self._recorder.tensor(key)
            for tensor, key in zip(entry.graph.outputs, entry.outputs, strict=False)
        }
        try:
            self._orders[id(entry.graph)] = entry.graph, operations_of(entry)
            results = self.run_graph(entry.graph, entry.inputs, known, entry.frames, entry.taped)
            for inner in self.entries[before:]:
                inner.call = entry if inner.operation is not None else None
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

    def run_graph(
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
        operations = self._operations_in_order(graph)
        if len(operations) > self.most:
            raise TooLarge(f"{len(operations):,} operations")
        for operation in operations:
            self.count += 1
            if self.count > self.most:
                raise TooLarge(f"more than {self.most:,} operations")
            assigns = writes(operation.type)
            if not assigns and (not operation.outputs or key_of(operation.outputs[0]) in keys):
                continue
            arguments = tuple(self._key_or_unknown(keys.get(key_of(one))) for one in operation.inputs)
            frames = self._properties(operation).frames or around
            entry = Entry(operation.type, None, arguments, (), frames, taped)
            if assigns:  # recorded, but not done again
                self._written.add(entry.inputs[0])
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
        stateful = operation.op_def.is_stateful and not self._repeatable(operation, entry.inputs)
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
            entry.type, entry.operation = custom, operation
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

    def _repeatable(self, operation: Any, inputs: Sequence[int]) -> bool:
        """Return whether a stateful operation reads a known variable, or draws what nobody drew before."""
        if operation.type in RANDOM:
            return self._pending
        return operation.type in VARIABLE_READS and self._is_unchanged(inputs[0])

    def _is_unchanged(self, key: int) -> bool:
        """Return whether nothing assigns a variable from the call on; if it did not run, nothing before."""
        if self._pending:
            return key not in self._written
        return self._assigned.get(key, -1) < self._position

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
            return self.run_graph(graph, entry.inputs, {}, entry.frames, entry.taped)
        if operation.type in CONDITIONALS:
            return self._run_branch(operation, entry)
        return self._loops.run(operation, entry) if operation.type in LOOPS else None

    def _run_branch(self, operation: Any, entry: Entry) -> Sequence[int] | None:
        """Run the branch that was taken; ``None`` where the condition is not known."""
        condition = self._recorder.tensor(entry.inputs[0])
        graphs = branch_graphs(operation)
        if condition is None or graphs is None:
            return None
        index = int(condition) if operation.type.endswith("Case") else 1 - bool(condition)
        index = index if 0 <= index < len(graphs) else len(graphs) - 1
        self.decided.append(entry)
        found = self.run_graph(graphs[index], entry.inputs[1:], {}, entry.frames, entry.taped)
        return found[: len(operation.outputs)]
