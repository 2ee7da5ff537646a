"""A program traced once into a graph, which everything compiled calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tape_magic.engine.internals.captures import called_with_handles
from tape_magic.engine.internals.constants import arrays_captured
from tape_magic.engine.internals.graphs import (
    all_in_variables,
    is_undefined,
    operation_count,
    written_inputs,
)
from tape_magic.engine.internals.xla import XlaContext
from tape_magic.engine.program.program import Namespace, Program, Unpack
from tape_magic.engine.tracing.evaluation import Evaluation
from tape_magic.engine.tracing.kept_tensors import KeptTensors
from tape_magic.engine.tracing.loss import named, require_loss, require_scalar
from tape_magic.engine.tracing.user_lines import UserLines
from tape_magic.engine.values.functions import OWN, origin_of
from tape_magic.engine.values.leaves import Leaf
from tape_magic.errors import TapeMagicError

Require = Callable[[Any, Mapping[str, Any], str | None], Any]
"""Takes the value of a program's last expression, what it assigned, and a name; returns the loss of these."""


class Traced:
    """A program traced once into a graph.

    Everything compiled calls this one graph. So the Python in a program runs once, whichever engine runs the
    graph in the end.

    Parameters
    ----------
    program, namespace
        The program, and the names that it is traced on.
    loss_name
        The name of the loss; ``None`` for the last expression.
    tracked
        Further scalars that the program assigns, by name.
    inputs
        The names that each step binds anew, with a ``tf.TensorSpec`` or a structure of them.
    settle
        Takes the trainable variables that were read, and returns what the loss is differentiated by in the
        same graph; ``None`` where :meth:`evaluation` will be called.
    for_xla
        Whether XLA is to compile the graph, which runs without XLA in any case.
    require
        Finds the loss among what is computed; by default :func:`require_loss`.

    Attributes
    ----------
    variables
        The trainable variables that the graph reads.
    written
        The variables that it assigns itself, such as a counter or the averages of a normalisation.
    size
        How many operations it has; see :func:`operation_count`.
    lines
        The lines of the program that the operations of the graph come from.
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
        self.lines = UserLines(program.text(namespace).filename)
        read = [namespace[name] for name in program.names.reads if name in namespace]
        self._kept = KeptTensors(program.home(namespace), [*read, *program.roots()])
        self._autograph = not program.needs_no_autograph(namespace)
        try:
            self._trace(program.traceables(namespace, tuple(self.inputs)))
        except BaseException:
            self._kept.take_back()
            raise
        self.variables = tuple(self._concrete.graph.trainable_variables)
        self.written = tuple(_written(self._concrete))
        self.size = operation_count(self._concrete.graph)

    def _trace(self, traceables: Iterator[tuple[Callable[..., Any], Unpack]]) -> None:
        """Trace the first function that TensorFlow can trace.

        TensorFlow raises ``TypeError`` or ``ValueError`` for a branch or a loop that it cannot convert; the
        next function is for that.
        """
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
            self.lines.filenames.add(filename)
        refused: list[TapeMagicError] = []

        def tensors_of(returned: Any, tape: Any) -> list[Any]:
            value, assigned = unpack(returned)
            assigned = {name: held for name, held in assigned.items() if not is_undefined(held)}
            try:
                loss = self._require(value, assigned, self._loss_name)
                tracked = [require_scalar(named(assigned, name), name) for name in self._tracked]
                symbolic = self._kept.keep(value, assigned, tf.compat.v1.get_default_graph())
                with tape.stop_recording():
                    gradients = self._differentiated(loss, tape)
            except TapeMagicError as error:
                refused.append(error)
                raise
            return [loss, *tracked, *gradients, *symbolic]

        unconverted = tf.autograph.experimental.do_not_convert(tensors_of)
        context = XlaContext(wanted=self._for_xla)

        def body(*batch: Any) -> Any:
            self._kept.begin(tf.compat.v1.get_default_graph())
            # A tape knows which variables were read before the graph is finished.
            with context, arrays_captured(), tf.GradientTape() as tape:
                return unconverted(function(*batch), tape)

        try:
            return tf.function(body, autograph=self._autograph).get_concrete_function(*self.inputs.values())
        except Exception:
            if refused:  # AutoGraph has put its own text around the message
                raise refused[0] from None
            raise

    def _differentiated(self, loss: Any, tape: Any) -> list[Any]:
        """Return the dense gradients of the loss by what it is minimised over, where there are any.

        The gradients are taken in the graph of the loss itself. The backward part of a call to that graph
        takes some values over as constants, such as the order of a ``tf.reduce_prod``, and XLA would compile
        it anew at each call. A tape leaves out the gradients of inputs that lead to no variable, but it has
        not watched variables that are not trainable; for those there is ``tf.gradients``.
        """
        import tensorflow as tf

        if self._settle is None:
            return []
        watched = tape.watched_variables()
        with tf.init_scope():  # choosing them makes no operations in the graph
            leaves = self._settle(watched)
        values, known = [leaf.value for leaf in leaves], {id(variable) for variable in watched}
        try:
            by_tape = all(id(value) in known for value in values)
            found = tape.gradient(loss, values) if by_tape else tf.gradients(loss, values)
        except LookupError as error:  # raised by evaluated()
            self._missing = error
            return []
        self._connected = tuple(gradient is not None for gradient in found)
        return _dense(leaves, found)

    @property
    def concrete(self) -> Any:
        """The graph as a concrete function of the inputs; its first output is the loss."""
        return self._concrete

    def outputs(self, computed: Sequence[Any]) -> tuple[Any, Mapping[str, Any]]:
        """Return the last expression's value and what is assigned; see :meth:`KeptTensors.outputs`.

        `computed` are the further outputs of an :class:`Evaluation`.
        """
        return self._kept.outputs(computed)

    def left_out(self) -> list[str]:
        """Return a sentence on the tensors that :meth:`outputs` could not compute, if there are any."""
        return self._kept.left_out(self.lines.of)

    @property
    def reusable(self) -> bool:
        """Whether :meth:`outputs` may be called again; see :class:`KeptTensors`."""
        return self._kept.reusable

    def operations(self) -> list[Any]:
        """Return every operation of the graph, and of the functions that it calls."""
        definition = self._concrete.graph.as_graph_def()
        return [*definition.node, *(node for one in definition.library.function for node in one.node_def)]

    @property
    def repeatable(self) -> bool:
        """Whether running the graph again from the same variables gives the same, and does nothing else.

        That holds where the graph keeps and changes nothing but variables.
        """
        import tensorflow as tf

        handles = {id(variable.handle) for variable in self._concrete.graph.variables}
        captured = self._concrete.captured_inputs
        if any(tensor.dtype == tf.resource and id(tensor) not in handles for tensor in captured):
            return False
        return all_in_variables({node.op for node in self.operations()})

    def line_of(self, message: str) -> int | None:
        """Return the program's line that made the first of its operations that an error message names."""
        return self.lines.of_message(self._concrete.graph, message)

    @property
    def branches(self) -> bool:
        """Whether some operations of the graph are conditions or loops."""
        return any(node.op in _BRANCHING for node in self.operations())

    def values(self) -> tuple[Any, list[Any], list[Any]]:
        """Return the loss, the tracked scalars, and what :meth:`outputs` takes, also within another graph."""
        found, front = self._concrete(), 1 + len(self._tracked)
        return found[0], found[1:front], found[front:]

    def backward(self) -> XlaContext:
        """Return a context to differentiate the loss in, more than once if need be."""
        return XlaContext(self._concrete.graph, wanted=self._for_xla)

    def evaluated(self) -> Evaluation:
        """Return the loss with the gradients of the trace.

        Raises ``LookupError`` where the gradient of an operation is not registered.
        """
        if self._missing is not None:
            raise self._missing
        front = 1 + len(self._tracked)
        back = front + sum(self._connected)

        def call(*batch: Any, handles: Mapping[int, Any] | None = None) -> list[list[Any]]:
            outputs = called_with_handles(self._concrete, batch, handles or {})
            return [outputs[:front], outputs[front:back], outputs[back:]]

        dtype = self._concrete.structured_outputs[0].dtype
        return Evaluation(call, self._connected, dtype, front - 1, _elements(self._concrete.graph))

    def evaluation(self, leaves: Sequence[Leaf]) -> Evaluation:
        """Return a graph of the loss, its gradients, and all else that the program computes."""
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
            return [outputs[:front], _dense(leaves, found), outputs[front:]]

        call = tf.function(evaluate, autograph=False).get_concrete_function(*self.inputs.values())
        return Evaluation(call, tuple(connected), self._concrete.structured_outputs[0].dtype, front - 1)


_BRANCHING = frozenset({"If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase"})


def _written(concrete: Any) -> list[Any]:
    """Return the variables that a graph, or a function that it calls, may assign."""
    captured = concrete.captured_inputs
    first = len(concrete.inputs) - len(captured)
    variables = {id(variable.handle): variable for variable in concrete.graph.variables}
    handles = [captured[index - first] for index in written_inputs(concrete.graph) if index >= first]
    return [variables[id(handle)] for handle in handles if id(handle) in variables]


def _elements(graph: Any) -> int | None:
    """Return the number of elements of all tensors in a graph; ``None`` where a shape is not known."""
    tensors = [tensor for node in graph.get_operations() for tensor in node.outputs]
    sizes = [tensor.shape.num_elements() for tensor in tensors]
    return None if None in sizes else sum(sizes)


def _dense(leaves: Sequence[Leaf], gradients: Sequence[Any]) -> list[Any]:
    """Return the gradients that there are as full tensors.

    Gradients of lookups become dense here, and lose their static shape, which is set again.
    """
    import tensorflow as tf

    return [
        tf.ensure_shape(tf.convert_to_tensor(gradient), leaf.value.shape)
        for leaf, gradient in zip(leaves, gradients, strict=True)
        if gradient is not None
    ]
