"""A function's graph run operation by operation, so that what went on within one call can be looked at.

Only operations without side effects run; what the others gave stays unknown, unless the call itself
returned it. Nothing of the user's Python runs again.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.internals.graphs import (
    branch_graphs,
    custom_gradient_name,
    function_graph,
    loop_graphs,
)
from tape_magic.engine.internals.operations import key_of
from tape_magic.engine.record.entry import Entry, writes
from tape_magic.engine.record.frames import Frame
from tape_magic.engine.record.recorder import Recorder, last_writes

MOST_OPERATIONS = 20_000
"""A call with more operations than this is left closed."""

MOST_ROUNDS = 2_000

_unknown = itertools.count(-1, -1)
_CONDITIONALS = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
_LOOPS = frozenset({"While", "StatelessWhile"})
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
_READS = frozenset({"ReadVariableOp", "ResourceGather"})


@dataclass(slots=True, eq=False)
class _Plan:
    """What is the same each time that one operation of a graph runs.

    Attributes
    ----------
    frames
        The user's lines.
    custom
        The name under which a custom gradient stands in for its own, if one does.
    execute
        What runs it eagerly, once that was asked for.
    """

    frames: tuple[Frame, ...]
    custom: str
    execute: Callable[[Sequence[Any]], Any] | None = None


class TooLarge(Exception):
    """The graph has more operations than are looked at."""


class Expansion:
    """The entries of a record with calls replaced by what ran within them.

    Parameters
    ----------
    recorder
        What was heard; tensors that are computed anew are kept in it.
    frames_of
        The user's lines in the traceback of a graph's operation.
    """

    def __init__(self, recorder: Recorder, frames_of: Callable[[Any], tuple[Frame, ...]]) -> None:
        self._recorder = recorder
        self._frames_of = frames_of
        self._count = 0
        self.entries: list[Entry] = []
        # The values that variables had at a call are known only if nothing assigns them from there on.
        self._assigned, self._position = last_writes(recorder), 0
        self._plans: dict[Any, _Plan] = {}

    def expand(self, entry: Entry, position: int) -> None:
        """Append what ran within a call, or the call itself where that cannot be told.

        `position` is that of the call in the record.
        """
        self._position = position
        before = len(self.entries)
        known = {
            key_of(tensor): self._recorder.tensor(key)
            for tensor, key in zip(entry.graph.outputs, entry.outputs, strict=False)
        }
        try:
            results = self._graph(entry.graph, entry.inputs, known, entry.frames, entry.taped)
        except TooLarge:
            del self.entries[before:]
            self.entries.append(entry)
            return
        for key, result in zip(entry.outputs, results, strict=False):
            if key != result:
                self._add(Entry("Identity", (), (result,), (key,), entry.frames, taped=entry.taped))

    def _graph(
        self,
        graph: Any,
        inputs: Sequence[int],
        known: dict[int, Any],
        around: tuple[Frame, ...],
        taped: bool,
    ) -> list[int]:
        """Run a graph on the tensors of some keys; the keys of its outputs."""
        keys = {key_of(inner): key for inner, key in zip(graph.inputs, inputs, strict=False)}
        for operation in graph.get_operations():
            self._count += 1
            if self._count > MOST_OPERATIONS:
                raise TooLarge
            assigns = writes(operation.type)
            if not assigns and (not operation.outputs or key_of(operation.outputs[0]) in keys):
                continue
            arguments = [keys.get(key_of(tensor)) for tensor in operation.inputs]
            frames = self._plan(operation).frames or around
            entry = Entry(
                operation.type,
                None,
                tuple(key if key is not None else next(_unknown) for key in arguments),
                (),
                frames,
                taped,
            )
            if assigns:  # seen, and not done again
                self._add(entry)
                continue
            results = self._operation(operation, entry, known)
            for tensor, result in zip(operation.outputs, results, strict=True):
                keys[key_of(tensor)] = result
        found = [keys.get(key_of(tensor)) for tensor in graph.outputs]
        return [next(_unknown) if key is None else key for key in found]  # the first key of all is 0

    def _operation(self, operation: Any, entry: Entry, known: dict[int, Any]) -> Sequence[int]:
        if operation.type in _CONDITIONALS | _LOOPS | _CALLS:
            found = self._control_flow(operation, entry)
            if found is not None:
                return found
        given = [known.get(key_of(tensor)) for tensor in operation.outputs]
        stateful = operation.op_def.is_stateful and not self._readable(operation, entry.inputs)
        inputs = [self._recorder.tensor(key) for key in entry.inputs]
        custom = self._plan(operation).custom
        if not custom and not stateful and all(tensor is not None for tensor in inputs):
            outputs = self._run(operation, inputs, entry)
            if outputs is not None:
                return outputs
        entry.outputs = tuple(
            next(_unknown) if tensor is None else self._recorder.keep(tensor) for tensor in given
        )
        if custom:  # the values pass unchanged; what the gradient is, only the user's function knows
            entry.type = custom
            entry.outputs = tuple(
                self._copied(tensor) if tensor is not None else next(_unknown) for tensor in inputs
            )[: len(operation.outputs)]
        self._add(entry)
        return entry.outputs

    def _copied(self, tensor: Any) -> int:
        import tensorflow as tf

        return self._recorder.keep(tf.identity(tensor))

    def _readable(self, operation: Any, inputs: Sequence[int]) -> bool:
        return operation.type in _READS and self._assigned.get(inputs[0], -1) < self._position

    def _plan(self, operation: Any) -> _Plan:
        """A loop comes to each of its operations many times."""
        if operation not in self._plans:
            self._plans[operation] = _Plan(self._frames_of(operation), custom_gradient_name(operation))
        return self._plans[operation]

    def _run(self, operation: Any, inputs: Sequence[Any], entry: Entry) -> Sequence[int] | None:
        """Run one operation eagerly; ``None`` where that fails."""
        heard = Recorder()
        heard.start = 1
        try:
            with heard.listening(entry.frames):
                plan = self._plan(operation)
                plan.execute = plan.execute or _executing(operation)
                outputs = plan.execute(inputs)
        except Exception:  # whatever TensorFlow has against it, the diagnosis goes on without
            return None
        flat = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
        keys = tuple(self._recorder.keep(tensor) for tensor in flat)
        last = next((one for one in reversed(heard.entries) if one.type == operation.type), None)
        entry.attrs = last.attrs if last is not None else ()
        entry.outputs = keys
        if operation.type != "Const":
            self._add(entry)
        return keys

    def _control_flow(self, operation: Any, entry: Entry) -> Sequence[int] | None:
        """Go into the branch taken, the rounds, or the function; ``None`` where that is not known."""
        if operation.type in _CALLS:
            graph = function_graph(operation)
            if graph is None:
                return None
            return self._graph(graph, entry.inputs, {}, entry.frames, entry.taped)
        if operation.type in _CONDITIONALS:
            chosen = self._recorder.tensor(entry.inputs[0])
            graphs = branch_graphs(operation)
            if chosen is None or graphs is None:
                return None
            index = int(chosen) if operation.type.endswith("Case") else 1 - bool(chosen)
            index = index if 0 <= index < len(graphs) else len(graphs) - 1
            found = self._graph(graphs[index], entry.inputs[1:], {}, entry.frames, entry.taped)
            return found[: len(operation.outputs)]
        graphs = loop_graphs(operation)
        if graphs is None:
            return None
        condition, body = graphs
        state = list(entry.inputs)
        for _ in range(MOST_ROUNDS):
            (going,) = self._graph(condition, state, {}, entry.frames, entry.taped)
            goes = self._recorder.tensor(going)
            if goes is None:
                return None
            if not bool(goes):
                return state[: len(operation.outputs)]
            state = self._graph(body, state, {}, entry.frames, entry.taped)
        raise TooLarge

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)


def _executing(operation: Any) -> Callable[[Sequence[Any]], Any]:
    """What runs the same operation eagerly, through TensorFlow's public table of them."""
    import tensorflow as tf

    definition = operation.op_def
    counts: dict[str, int | None] = {}
    inferred: set[str] = set()
    for argument in definition.input_arg:
        inferred |= {argument.type_attr, argument.number_attr, argument.type_list_attr}
        if argument.number_attr:
            counts[argument.name] = int(operation.get_attr(argument.number_attr))
        elif argument.type_list_attr:
            counts[argument.name] = len(operation.get_attr(argument.type_list_attr))
        else:
            counts[argument.name] = None
    attributes = {a.name: operation.get_attr(a.name) for a in definition.attr if a.name not in inferred}
    if operation.type == "Const":
        value = tf.make_ndarray(attributes["value"])
        return lambda _: tf.constant(value, attributes["dtype"])
    function = getattr(tf.raw_ops, operation.type)
    # Some arguments have other names in Python: the axis of a sum is its reduction_indices.
    parameters = [name for name in inspect.signature(function).parameters if name != "name"]
    given = [*counts, *attributes]
    free = iter([name for name in parameters if name not in given])
    renamed = {name: name if name in parameters else next(free) for name in given}

    def run(inputs: Sequence[Any]) -> Any:
        queue = iter(inputs)
        arguments = dict(attributes)
        for name, count in counts.items():
            arguments[name] = next(queue) if count is None else list(itertools.islice(queue, count))
        return function(**{renamed[name]: value for name, value in arguments.items()})

    return run
