"""One trace of a program: what it computes as a graph, and how to read the values out again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tape_magic.engine import sources as src
from tape_magic.engine.program import Namespace, Program, Unpack
from tape_magic.engine.symbolic import Swapper, graph_of
from tape_magic.engine.xla_context import XlaContext
from tape_magic.errors import TargetError, closest
from tape_magic.notation import place


class Traced:
    """A program traced once into a graph.

    Everything compiled calls this one graph, so that the Python in a program runs once, whichever
    engine carries it in the end.

    Parameters
    ----------
    program, namespace
        What is traced, and on what.
    loss_name
        The name of the loss; ``None`` for the last expression.
    for_xla
        Whether XLA is to compile it; it runs as a graph in any case.

    Attributes
    ----------
    variables
        The trainable variables that the graph reads.
    written
        The variables that it assigns itself, such as a counter or the averages of a normalisation.
    """

    def __init__(
        self, program: Program, namespace: Namespace, loss_name: str | None, *, for_xla: bool
    ) -> None:
        self._for_xla = for_xla
        self._loss_name = loss_name
        self._filename = ""
        self._home = str(namespace.get("__name__", "__main__"))
        # What the program may keep tensors in although it does not assign it: log.append(loss).
        self._read = [namespace[name] for name in program.names.reads if name in namespace]
        self._trace(program.traceables(namespace))
        self.variables = tuple(self._concrete.graph.trainable_variables)
        self.written = tuple(_written(self._concrete))

    def _trace(self, traceables: Iterator[tuple[Callable[[], Any], Unpack]]) -> None:
        """Trace the first that TensorFlow can; its complaints about branches and loops lead to the next."""
        function, unpack = next(traceables)
        while True:
            try:
                self._concrete = self._graph_of(function, unpack)
                return
            except (TypeError, ValueError):
                following = next(traceables, None)
                if following is None:
                    raise
                function, unpack = following

    def _graph_of(self, function: Callable[[], Any], unpack: Unpack) -> Any:
        import tensorflow as tf

        code = getattr(getattr(function, "func", function), "__code__", None)
        self._filename = getattr(code, "co_filename", "")
        refused: list[TargetError] = []

        def tensors_of(returned: Any) -> list[Any]:
            value, assigned = unpack(returned)
            assigned = {name: held for name, held in assigned.items() if not _undefined(held)}
            self._kept = value, assigned
            try:
                loss = require_loss(value, assigned, self._loss_name)
            except TargetError as error:
                refused.append(error)
                raise
            self._symbolic = self._found(tf.compat.v1.get_default_graph())
            return [loss, *self._symbolic]

        unconverted = tf.autograph.experimental.do_not_convert(tensors_of)
        context = XlaContext(wanted=self._for_xla)

        def body() -> Any:
            with context:
                return unconverted(function())

        try:
            return tf.function(body, autograph=True).get_concrete_function()
        except Exception:
            if refused:  # AutoGraph has put its own text around the message
                raise refused[0] from None
            raise

    def _found(self, graph: Any) -> list[Any]:
        """The graph's own tensors that the Python of the program kept; those within a loop cannot be read."""
        found: dict[int, Any] = {}

        def note(tensor: Any) -> Any:
            if graph_of(tensor) is graph:
                found[id(tensor)] = tensor
            return tensor

        Swapper(note, self._home).swapped([*self._kept, self._read])
        return list(found.values())

    @property
    def concrete(self) -> Any:
        """The graph as a function of nothing; its first output is the loss."""
        return self._concrete

    def loss(self) -> Any:
        """The loss at the variables' present values; may be called within another graph."""
        return self._concrete()[0]

    def outputs(self, earlier: Iterable[tuple[Any, Any]] = ()) -> tuple[Any, dict[str, Any]]:
        """The last expression's value and what is assigned, at the variables' present values.

        To be called once: values take the tensors' places wherever the program's Python kept them.
        `earlier` are variables that the graph assigns, with their values before it last ran, so that
        it does the same again; they end with what they have now.
        """
        kept = [variable.read_value() for variable in self.written]
        for variable, value in earlier:
            variable.assign(value)
        computed = dict(zip(map(id, self._symbolic), self._concrete()[1:], strict=True))
        for variable, value in zip(self.written, kept, strict=True):
            variable.assign(value)  # this was no further step
        swapper = Swapper(lambda tensor: computed.get(id(tensor), tensor), self._home)
        swapper.swapped(self._read)
        value, assigned = self._kept
        return swapper.swapped(value), swapper.swapped(assigned)

    def operations(self) -> list[Any]:
        """Every operation of the graph, and of the functions that it calls."""
        return _operations(self._concrete.graph)

    def line_of(self, message: str) -> int | None:
        """The line of the program that made the first of its operations that an error names."""
        operations = {operation.name: operation for operation in self._concrete.graph.get_operations()}
        for node in re.findall(r"\{\{node ([^}]+)\}\}", message):
            parts = node.split("/")
            for end in range(len(parts), 0, -1):  # what lies within a loop or a branch goes by its name
                operation = operations.get("/".join(parts[:end]))
                frames = operation.traceback if operation is not None else ()
                lines = [frame.lineno for frame in frames if frame.filename == self._filename]
                if lines:
                    return int(lines[-1])
        return None

    def gradients(self, leaves: Sequence[src.Leaf]) -> tuple[Callable[[], list[Any]], list[bool]]:
        """A graph of the loss and its gradients, and which of the leaves have one.

        The graph gives the loss, then a dense gradient for each leaf that has one.
        """
        import tensorflow as tf

        connected: list[bool] = []

        def evaluate() -> list[Any]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for leaf in leaves:
                    tape.watch(leaf.value)
                loss = self.loss()
            with XlaContext(self._concrete.graph, wanted=self._for_xla):
                found = tape.gradient(loss, [leaf.value for leaf in leaves])
            connected[:] = [gradient is not None for gradient in found]
            # Those of lookups are made dense, and say then no more how long they are.
            return [
                loss,
                *(
                    tf.ensure_shape(tf.convert_to_tensor(gradient), leaf.value.shape)
                    for leaf, gradient in zip(leaves, found, strict=True)
                    if gradient is not None
                ),
            ]

        concrete = tf.function(evaluate, autograph=False).get_concrete_function()
        return concrete, connected


def failure_of_trace(error: BaseException, program: Program) -> str:
    """Why tracing failed, and on which of the user's lines."""
    where = program.line_of(error)
    text = str(error).lower()
    if "numpy" in text:
        why = "calls NumPy on a tensor"
    elif "iterating over" in text or "python `bool`" in text:
        why = "needs the value of a tensor in Python"
    else:
        why = f"cannot be traced ({type(error).__name__})"
    return f"line {where[0]} {why}: {where[1]}" if where else f"it {why}"


def require_loss(value: Any, assigned: Mapping[str, Any], name: str | None) -> Any:
    """The loss among a program's outputs, which must be a real scalar tensor.

    Raises :class:`TargetError` with what it is instead.
    """
    import tensorflow as tf

    loss = value if name is None else _named(assigned, name)
    shown = name or "the last expression"
    if loss is None and name is None:
        raise TargetError("there is no loss: name one, for example %%minimize loss, or end the cell with it.")
    if src.is_variable(loss):
        loss = tf.convert_to_tensor(src.watched(loss))
    if not tf.is_tensor(loss) or not hasattr(loss, "shape"):
        raise TargetError(f"{shown} is a {type(loss).__name__}, not a tensor: compute it with TensorFlow.")
    if not loss.dtype.is_floating:
        raise TargetError(f"{shown} is {loss.dtype.name}, and a loss must be a real number.")
    if loss.shape.rank is None:  # only running it tells, as for what tf.py_function returns
        return tf.ensure_shape(loss, [])
    if loss.shape.rank != 0:
        raise TargetError(
            f"{shown} has shape {loss.shape}; "
            f"reduce it to a scalar, for example tf.reduce_mean({name or 'loss'})."
        )
    return loss


def _named(assigned: Mapping[str, Any], name: str) -> Any:
    base = place(name)[0]
    if base not in assigned:
        raise TargetError(f"the cell never assigns {base}{closest(base, assigned)}")
    return src.look_up(name, assigned)


def _undefined(value: Any) -> bool:
    """AutoGraph's stand-in for a name that only one branch assigns."""
    return type(value).__module__.startswith("tensorflow.python.autograph")


_READING = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"})


def _written(concrete: Any) -> list[Any]:
    """The variables that a graph, or a function that it calls, may assign."""
    captured = concrete.captured_inputs
    inputs = concrete.inputs[len(concrete.inputs) - len(captured) :]
    variables = {id(variable.handle): variable for variable in concrete.graph.variables}
    names = {
        inside.name: variables[id(outside)]
        for inside, outside in zip(inputs, captured, strict=True)
        if id(outside) in variables
    }
    found: dict[int, Any] = {}
    for operation in concrete.graph.get_operations():
        if operation.type in _READING:
            continue
        try:
            only_read = operation.get_attr("_read_only_resource_inputs")
        except ValueError:  # most kinds of operations lack it
            only_read = ()
        for index, tensor in enumerate(operation.inputs):
            if tensor.name in names and index not in only_read:
                found[id(names[tensor.name])] = names[tensor.name]
    return list(found.values())


def _operations(graph: Any) -> list[Any]:
    """The operations of a graph and of the functions in its library."""
    definition = graph.as_graph_def()
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes += function.node_def
    return nodes
