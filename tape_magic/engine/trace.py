"""One trace of a program: what it computes as a graph, and how to read the values out again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tape_magic.engine import sources as src
from tape_magic.engine.program import Namespace, Program
from tape_magic.errors import TargetError, closest
from tape_magic.notation import place


class Traced:
    """A program traced once into a graph.

    Everything compiled calls this one graph, so that the Python in a program runs once, whichever
    engine carries it in the end.

    Attributes
    ----------
    variables
        The trainable variables that the graph reads.
    """

    def __init__(self, program: Program, namespace: Namespace, loss_name: str | None) -> None:
        import tensorflow as tf

        function, unpack = program.traceable(namespace)
        kept: list[tuple[Any, dict[str, Any]]] = []
        refused: list[TargetError] = []

        @tf.autograph.experimental.do_not_convert
        def tensors_of(returned: Any) -> list[Any]:
            value, assigned = unpack(returned)
            assigned = {name: held for name, held in assigned.items() if not _undefined(held)}
            kept.append((value, assigned))
            try:
                loss = require_loss(value, assigned, loss_name)
            except TargetError as error:
                refused.append(error)
                raise
            return [loss, *filter(_symbolic, tf.nest.flatten([value, list(assigned.values())]))]

        def body() -> list[Any]:
            return tensors_of(function())

        try:
            self._concrete = tf.function(body, autograph=True).get_concrete_function()
        except Exception:
            if refused:  # AutoGraph has put its own text around the message
                raise refused[0] from None
            raise
        self._value, self._assigned = kept[-1]
        self.variables = tuple(self._concrete.graph.trainable_variables)

    def loss(self) -> Any:
        """The loss at the variables' present values; may be called within another graph."""
        return self._concrete()[0]

    def outputs(self) -> tuple[Any, dict[str, Any]]:
        """The last expression's value and what is assigned, at the variables' present values."""
        tensors = iter(self._concrete()[1:])
        return _filled(self._value, tensors), _filled(self._assigned, tensors, one_by_one=True)

    def operations(self) -> list[Any]:
        """Every operation of the graph, and of the functions that it calls."""
        return _operations(self._concrete.graph)

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
            found = tape.gradient(loss, [leaf.value for leaf in leaves])
            connected[:] = [gradient is not None for gradient in found]
            return [loss, *(tf.convert_to_tensor(gradient) for gradient in found if gradient is not None)]

        concrete = tf.function(evaluate, autograph=False).get_concrete_function()
        return concrete, connected


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
    if loss.shape.rank != 0:
        raise TargetError(
            f"{shown} has shape {loss.shape}; reduce it to a scalar, for example tf.reduce_mean({name or 'loss'})."
        )
    return loss


def _named(assigned: Mapping[str, Any], name: str) -> Any:
    base = place(name)[0]
    if base not in assigned:
        raise TargetError(f"the cell never assigns {base}{closest(base, assigned)}")
    return src.look_up(name, assigned)


def _symbolic(value: Any) -> bool:
    """What belongs to the graph that is being traced and has to be computed to be read."""
    import tensorflow as tf

    return tf.is_symbolic_tensor(value) or isinstance(value, tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices)


def _undefined(value: Any) -> bool:
    """AutoGraph's stand-in for a name that only one branch assigns."""
    return type(value).__module__.startswith("tensorflow.python.autograph")


def _filled(structure: Any, tensors: Any, *, one_by_one: bool = False) -> Any:
    """The structure with computed tensors in the place of symbolic ones."""
    import tensorflow as tf

    if one_by_one:  # in the order in which they were flattened: nest would sort a dict's keys
        return {name: _filled(held, tensors) for name, held in structure.items()}
    flat = tf.nest.flatten(structure)
    if not any(_symbolic(leaf) for leaf in flat):
        return structure  # the very object, not a copy
    return tf.nest.pack_sequence_as(structure, [next(tensors) if _symbolic(leaf) else leaf for leaf in flat])


def _operations(graph: Any) -> list[Any]:
    """The operations of a graph and of the functions in its library."""
    definition = graph.as_graph_def()
    nodes = list(definition.node)
    for function in definition.library.function:
        nodes += function.node_def
    return nodes
