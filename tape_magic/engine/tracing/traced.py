"""`Traced`: a program traced once into a graph."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tape_magic.engine.internals.graphs import XlaContext, all_in_variables, is_undefined, written_inputs
from tape_magic.engine.program.program import Namespace, Program, Unpack
from tape_magic.engine.tracing.evaluation import Evaluation
from tape_magic.engine.tracing.loss import named, require_loss, require_scalar
from tape_magic.engine.tracing.symbolic import ContainerCopies, SymbolReplacer, graph_of
from tape_magic.engine.values.functions import OWN, origin_of
from tape_magic.engine.values.leaves import Leaf
from tape_magic.errors import TapeMagicError

Require = Callable[[Any, Mapping[str, Any], str | None], Any]
"""The value of a program's last expression, what it assigned, and a name → the loss of these."""


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
    tracked
        Further scalars that the program assigns, by name.
    inputs
        The names that each step binds anew, with a ``tf.TensorSpec`` or a structure of them.
    settle
        The trainable variables that were read → what the loss is differentiated by, in the same graph;
        ``None`` where :meth:`evaluation` will say.
    for_xla
        Whether XLA is to compile it; it runs as a graph in any case.
    require
        Finds the loss among what is computed; by default :func:`require_loss`.

    Attributes
    ----------
    variables
        The trainable variables that the graph reads.
    written
        The variables that it assigns itself, such as a counter or the averages of a normalisation.
    reusable
        Whether :meth:`outputs` may be asked again: it may not where a tensor was kept in an object, a
        closure, or a list or dict that was there before, in which its value has then taken its place.
    """

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        *,
        tracked: Sequence[str] = (),
        inputs: Mapping[str, Any] | None = None,
        settle: Callable[[Sequence[Any]], Sequence[Leaf]] | None = None,
        for_xla: bool,
        require: Require | None = None,
    ) -> None:
        self._for_xla = for_xla
        self._require = require or require_loss
        self._loss_name, self._tracked = loss_name, tuple(tracked)
        self.inputs: Mapping[str, Any] = inputs or {}
        self._settle = settle
        self._connected: tuple[bool, ...] = ()
        self._missing: LookupError | None = None
        # A cell is traced from a text of its own, which stands in another file than the cell.
        self._filenames = {program.text(namespace).filename}
        self._home = str(namespace.get("__name__", "__main__"))
        # What the program may keep tensors in although it does not assign it: log.append(loss).
        self._read = [namespace[name] for name in program.names.reads if name in namespace]
        self._autograph = not program.is_straight(namespace)
        self._trace(program.traceables(namespace, tuple(self.inputs)))
        self.variables = tuple(self._concrete.graph.trainable_variables)
        self.written = tuple(_written(self._concrete))
        self.reusable = True

    def _trace(self, traceables: Iterator[tuple[Callable[..., Any], Unpack]]) -> None:
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

    def _graph_of(self, function: Callable[..., Any], unpack: Unpack) -> Any:
        import tensorflow as tf

        code = getattr(getattr(function, "func", function), "__code__", None)
        filename = getattr(code, "co_filename", "")
        # A Python function is called by a function of this package, whose lines are not the user's.
        if origin_of(filename) != OWN:
            self._filenames.add(filename)
        refused: list[TapeMagicError] = []

        def tensors_of(returned: Any, tape: Any) -> list[Any]:
            value, assigned = unpack(returned)
            assigned = {name: held for name, held in assigned.items() if not is_undefined(held)}
            self._kept = value, assigned
            try:
                loss = self._require(value, assigned, self._loss_name)
                tracked = [require_scalar(named(assigned, name), name) for name in self._tracked]
                self._symbolic = self._found(tf.compat.v1.get_default_graph())
                with tape.stop_recording():
                    gradients = self._differentiated(loss, tape)
            except TapeMagicError as error:
                refused.append(error)
                raise
            return [loss, *tracked, *gradients, *self._symbolic]

        unconverted = tf.autograph.experimental.do_not_convert(tensors_of)
        context = XlaContext(wanted=self._for_xla)

        def body(*batch: Any) -> Any:
            # The graph itself tells which variables were read, but only when it is finished.
            with context, tf.GradientTape() as tape:
                return unconverted(function(*batch), tape)

        try:
            return tf.function(body, autograph=self._autograph).get_concrete_function(*self.inputs.values())
        except Exception:
            if refused:  # AutoGraph has put its own text around the message
                raise refused[0] from None
            raise

    def _differentiated(self, loss: Any, tape: Any) -> list[Any]:
        """The dense gradients of the loss by what it is minimised over, where there are any.

        They are taken in the graph of the loss itself. Those of a call to it would have XLA compile anew at
        each call what the backward part takes over as constants, such as the order of a ``tf.reduce_prod``.
        The tape knows which inputs of an operation lead to a variable, and leaves out the others' gradients;
        it has not watched what is not trainable.
        """
        import tensorflow as tf

        if self._settle is None:
            return []
        watched = tape.watched_variables()
        with tf.init_scope():  # out of the trace: it looks at the variables' values
            leaves = self._settle(watched)
        values, known = [leaf.value for leaf in leaves], {id(variable) for variable in watched}
        try:
            by_tape = all(id(value) in known for value in values)
            found = tape.gradient(loss, values) if by_tape else tf.gradients(loss, values)
        except LookupError as error:  # said when they are asked for
            self._missing = error
            return []
        self._connected = tuple(gradient is not None for gradient in found)
        # Those of lookups are made dense, and say then no more how long they are.
        return [
            tf.ensure_shape(tf.convert_to_tensor(gradient), leaf.value.shape)
            for leaf, gradient in zip(leaves, found, strict=True)
            if gradient is not None
        ]

    def _found(self, graph: Any) -> list[Any]:
        """The graph's own tensors that the Python of the program kept; those within a loop cannot be read."""
        found: dict[int, Any] = {}

        def note(tensor: Any) -> Any:
            if graph_of(tensor) is graph:
                found[id(tensor)] = tensor
            return tensor

        SymbolReplacer(note, self._home).swapped([*self._kept, self._read])
        return list(found.values())

    @property
    def concrete(self) -> Any:
        """The graph as a function of what is bound anew; its first output is the loss."""
        return self._concrete

    def outputs(self, computed: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
        """The last expression's value and what is assigned, of an :class:`Evaluation`'s further outputs.

        The values take the tensors' places wherever the program's Python kept them.
        """
        values = dict(zip(map(id, self._symbolic), computed, strict=True))
        swapper = SymbolReplacer(lambda tensor: values.get(id(tensor), tensor), self._home)
        swapper.swapped(self._read)
        elsewhere = swapper.wrote
        # Lists and dicts of the program's own are others at each run, as if it had made them anew.
        copies = ContainerCopies(self._home)
        (value, assigned), self._kept = self._kept, copies.copied(self._kept)
        outputs = swapper.swapped(value), {name: swapper.swapped(held) for name, held in assigned.items()}
        self.reusable = not elsewhere and (copies.all_of_it or not swapper.wrote)
        return outputs

    def operations(self) -> list[Any]:
        """Every operation of the graph, and of the functions that it calls."""
        return _operations(self._concrete.graph)

    @property
    def repeatable(self) -> bool:
        """Whether running it again from the same variables gives the same, and does nothing else.

        That is so where all that it keeps and changes are variables.
        """
        import tensorflow as tf

        handles = {id(variable.handle) for variable in self._concrete.graph.variables}
        captured = self._concrete.captured_inputs
        if any(tensor.dtype == tf.resource and id(tensor) not in handles for tensor in captured):
            return False
        return all_in_variables({node.op for node in self.operations()})

    def line_of(self, message: str) -> int | None:
        """The line of the program that made the first of its operations that an error names."""
        operations = {operation.name: operation for operation in self._concrete.graph.get_operations()}
        for node in re.findall(r"\{\{node ([^}]+)\}\}", message):
            parts = node.split("/")
            for end in range(len(parts), 0, -1):  # what lies within a loop or a branch goes by its name
                operation = operations.get("/".join(parts[:end]))
                frames = operation.traceback if operation is not None else ()
                lines = [frame.lineno for frame in frames if frame.filename in self._filenames]
                if lines:
                    return int(lines[-1])
        return None

    @property
    def branches(self) -> bool:
        """Whether some of its operations are conditions or loops."""
        return any(node.op in _BRANCHING for node in self.operations())

    def values(self) -> tuple[Any, list[Any], list[Any]]:
        """The loss, what is tracked, and what :meth:`outputs` takes, at the variables' present values.

        May be called within another graph.
        """
        found, front = self._concrete(), 1 + len(self._tracked)
        return found[0], found[1:front], found[front:]

    def backward(self) -> XlaContext:
        """A context to differentiate the loss in, more than once if need be."""
        return XlaContext(self._concrete.graph, wanted=self._for_xla)

    def evaluated(self) -> Evaluation:
        """The loss, with the gradients of the trace. Raises ``LookupError`` where one is not registered."""
        if self._missing is not None:
            raise self._missing
        front = 1 + len(self._tracked)
        back = front + sum(self._connected)

        def call(*batch: Any) -> list[list[Any]]:
            outputs = self._concrete(*batch)
            return [outputs[:front], outputs[front:back], outputs[back:]]

        dtype = self._concrete.structured_outputs[0].dtype
        return Evaluation(call, self._connected, dtype, front - 1, self._elements())

    def _elements(self) -> int | None:
        """Of all tensors in the graph; ``None`` where a shape is not known."""
        tensors = [tensor for node in self._concrete.graph.get_operations() for tensor in node.outputs]
        sizes = [tensor.shape.num_elements() for tensor in tensors]
        return None if None in sizes else sum(sizes)

    def evaluation(self, leaves: Sequence[Leaf]) -> Evaluation:
        """A graph of the loss, its gradients, and all else that the program computes."""
        import tensorflow as tf

        connected: list[bool] = []
        front = 1 + len(self._tracked)

        def evaluate(*batch: Any) -> list[Any]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for leaf in leaves:
                    tape.watch(leaf.value)
                outputs = self._concrete(*batch)
            with self.backward():
                found = tape.gradient(outputs[0], [leaf.value for leaf in leaves])
            connected[:] = [gradient is not None for gradient in found]
            # Those of lookups are made dense, and say then no more how long they are.
            dense = [
                tf.ensure_shape(tf.convert_to_tensor(gradient), leaf.value.shape)
                for leaf, gradient in zip(leaves, found, strict=True)
                if gradient is not None
            ]
            return [outputs[:front], dense, outputs[front:]]

        call = tf.function(evaluate, autograph=False).get_concrete_function(*self.inputs.values())
        return Evaluation(call, tuple(connected), self._concrete.structured_outputs[0].dtype, front - 1)


_BRANCHING = frozenset({"If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase"})


def _written(concrete: Any) -> list[Any]:
    """The variables that a graph, or a function that it calls, may assign."""
    captured = concrete.captured_inputs
    first = len(concrete.inputs) - len(captured)
    variables = {id(variable.handle): variable for variable in concrete.graph.variables}
    handles = [captured[index - first] for index in written_inputs(concrete.graph) if index >= first]
    return [variables[id(handle)] for handle in handles if id(handle) in variables]


def _operations(graph: Any) -> list[Any]:
    """The operations of a graph and of the functions in its library."""
    definition = graph.as_graph_def()
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes += function.node_def
    return nodes
