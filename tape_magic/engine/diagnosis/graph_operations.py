"""The operations of graphs: their order, and each run by itself."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tape_magic.engine.internals.graphs import branch_graphs, function_graph, loop_graphs
from tape_magic.engine.internals.operations import key_of, listening_to_operations
from tape_magic.engine.record.frames import Frame

CONDITIONALS = frozenset({"If", "StatelessIf", "Case", "StatelessCase"})
LOOPS = frozenset({"While", "StatelessWhile"})
CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
RANDOM = frozenset(
    {
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "TruncatedNormal",
    }
)
"""Stateful operations that draw random numbers, and leave nothing behind that a program can read."""

VARIABLE_READS = frozenset({"ReadVariableOp", "ResourceGather"})


@dataclass(slots=True, eq=False)
class GraphOperation:
    """The properties of an operation in a graph, found once for all rounds of a loop.

    Attributes
    ----------
    frames
        The user's lines.
    custom_gradient
        The name of the custom gradient that a tape uses for the operation; empty for none.
    run
        A function that runs the operation eagerly; ``None`` until it is needed.
    attrs
        The operation's attributes as an entry has them; ``None`` until it has run.
    """

    frames: tuple[Frame, ...]
    custom_gradient: str
    run: Callable[[Sequence[Any]], Any] | None = None
    attrs: tuple[Any, ...] | None = None


def is_pure(graph: Any, known: Sequence[bool]) -> bool:
    """Return whether a graph changes nothing, and reads only variables whose values are known.

    `known` says for each of the graph's inputs whether it may be read.
    """
    readable = {key_of(inner) for inner, one in zip(graph.inputs, known, strict=False) if one}
    for operation in graph.get_operations():
        if not operation.op_def.is_stateful:
            continue
        inputs = [key_of(tensor) in readable for tensor in operation.inputs]
        if operation.type in VARIABLE_READS:
            if not inputs[0]:
                return False
            continue
        given = inputs[1:] if operation.type in CONDITIONALS else inputs
        graphs = _graphs_of(operation)
        if not graphs or not all(inner is not None and is_pure(inner, given) for inner in graphs):
            return False
    return True


def _graphs_of(operation: Any) -> tuple[Any, ...]:
    """Return the graphs that an operation runs; none for one that runs no graphs, or hides them."""
    if operation.type in CALLS:
        return (function_graph(operation),)
    if operation.type in CONDITIONALS:
        return branch_graphs(operation) or ()
    return (loop_graphs(operation) or ()) if operation.type in LOOPS else ()


def run_heard(
    kind: str, run: Callable[[Sequence[Any]], Any], inputs: Sequence[Any]
) -> tuple[Any, tuple[Any, ...]]:
    """Run an operation of a kind; return its outputs, and its attributes as they were heard."""
    heard: list[tuple[Any, ...]] = []

    def hear(op_type: str | bytes, _: Any, attrs: tuple[Any, ...], *__: Any) -> None:
        if (op_type if isinstance(op_type, str) else op_type.decode()) == kind:
            heard.append(attrs)

    with listening_to_operations(hear, lambda *recorded: recorded[-1]):
        outputs = run(inputs)
    return outputs, heard[-1] if heard else ()


def eager_function(operation: Any) -> Callable[[Sequence[Any]], Any]:
    """Return a function that runs an operation of a graph eagerly, through ``tf.raw_ops``."""
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
    # Some arguments have other names in Python: the input reduction_indices of Sum is called axis there, in
    # TensorFlow 2.21 too. They stand in the same order.
    parameters = _parameters(function)
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


@lru_cache(maxsize=1024)
def _parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "name"]
