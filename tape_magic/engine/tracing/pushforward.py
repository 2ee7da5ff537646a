"""Forward mode over a traced graph: its operations again, beside their derivatives along some directions.

``tf.autodiff.ForwardAccumulator`` differentiates while Python runs, and takes a call of a function as one
operation, through whose gradient it differentiates again; that takes minutes for a loop that Python unrolls
(seen in TensorFlow 2.21). Here, each operation is copied into the graph that is being traced, and is followed
by one operation, or few, for each direction. So k directions cost about as much as k further evaluations.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tape_magic.engine.internals.elementwise import ELEMENTWISE
from tape_magic.engine.internals.graphs import (
    BRANCHES,
    CALLING,
    LOOPS,
    branch_graphs,
    copied_operation,
    custom_gradient_name,
    function_graph,
    in_order,
    loop_graphs,
)

_ALL = tuple(range(1000))

_SHAPING = """
    BroadcastTo Cast Cumsum EnsureShape ExpandDims GatherNd GatherV2 Identity MatrixBandPart MatrixDiag
    MatrixDiagPartV3 MatrixDiagV3 Mean Neg Pad Reshape ReverseV2 Roll Slice Snapshot SplitV Squeeze
    StridedSlice Sum TensorListConcatV2 TensorListFromTensor TensorListGetItem TensorListStack Tile Transpose
    Unpack
"""
_LINEAR: Mapping[str, Sequence[int]] = {
    **dict.fromkeys(_SHAPING.split(), (0,)),
    **dict.fromkeys(["Add", "AddV2", "BiasAdd", "Sub", "TensorListPushBack"], (0, 1)),
    **dict.fromkeys(["AddN", "ConcatV2", "IdentityN", "Pack"], _ALL),
    **dict.fromkeys(["Select", "SelectV2"], (1, 2)),
    **dict.fromkeys(["TensorListSetItem", "TensorScatterAdd", "TensorScatterUpdate"], (0, 2)),
    **dict.fromkeys(["Fill", "ScatterNd", "Split"], (1,)),
}
"""Operations that are linear in some inputs together, and which these are; integers among them are not."""

_BILINEAR = frozenset(["BatchMatMulV2", "Conv2D", "Einsum", "MatMul", "Mul"])
"""Operations that are linear in each input."""

_FLAT = frozenset(
    ["Ceil", "Floor", "OnesLike", "PreventGradient", "Rint", "Round", "Sign", "StopGradient", "ZerosLike"]
)
"""Operations whose derivative is zero, or is to be taken as zero."""

_EMPTY_LISTS = frozenset(["EmptyTensorList", "TensorListReserve"])

Tangents = list[Any]
"""A tensor for each of some values, or ``None`` for zero."""


class NoRuleError(Exception):
    """An operation that has no rule here; the message is its type."""


class Pushforward:
    """Evaluates graphs with their derivatives along directions, within a graph that is being traced.

    Parameters
    ----------
    directions
        For each direction, the tangents of variables by the variables' ids, of their shapes and dtypes.
    variables
        All variables that the graphs read, by the ids of their handles.
    """

    def __init__(self, directions: Sequence[Mapping[int, Any]], variables: Mapping[int, Any]) -> None:
        self._directions, self._variables = directions, variables

    def call(
        self, graph: Any, inputs: Sequence[Any], along: Sequence[Tangents], outputs: Sequence[Any]
    ) -> tuple[list[Any], list[Tangents]]:
        """Return some outputs of a graph, and for each direction their tangents.

        Parameters
        ----------
        graph, inputs
            The graph, and a value for each of its inputs.
        along
            For each direction, the tangents of the inputs.
        outputs
            The tensors of the graph to return.

        Raises :class:`NoRuleError`.
        """
        values = dict(zip((one.name for one in graph.inputs), inputs, strict=True))
        tangents = [dict(zip(values, each, strict=True)) for each in along]
        needed = _needed(outputs)
        for operation in in_order(graph):
            if operation.name not in needed or operation.type == "Placeholder":
                continue
            names = [one.name for one in operation.inputs]
            given = [values[name] for name in names]
            made, moved = self._apply(
                operation, given, [[each.get(name) for name in names] for each in tangents]
            )
            results = [one.name for one in operation.outputs]
            values.update(zip(results, made, strict=True))
            for each, more in zip(tangents, moved, strict=True):
                each.update(zip(results, more, strict=True))
        names = [one.name for one in outputs]
        return [values[name] for name in names], [[each.get(name) for name in names] for each in tangents]

    def _apply(
        self, operation: Any, given: list[Any], along: list[Tangents]
    ) -> tuple[list[Any], list[Tangents]]:
        kind = operation.type
        if kind == "ReadVariableOp":
            return self._read(given[0])
        if kind in CALLING or kind in LOOPS or kind in BRANCHES:
            if custom_gradient_name(operation):
                raise NoRuleError(kind)
            if kind in CALLING:
                inner = function_graph(operation)
                if inner is None:
                    raise NoRuleError(kind)
                return self.call(inner, given, along, inner.outputs)
            return (self._loop if kind in LOOPS else self._branch)(operation, given, along)
        if operation.op_def is None or operation.op_def.is_stateful:
            raise NoRuleError(kind)
        made = _copied(operation, given)
        nothing: Tangents = [None] * len(made)
        if kind in _EMPTY_LISTS and operation.get_attr("element_dtype").is_floating:
            # Not by tf.zeros_like, which XLA cannot take of a list that holds nothing yet.
            return made, [_copied(operation, given) for _ in along]
        if kind in _FLAT or not any(_may_move(one) for one in made):
            return made, [nothing for _ in along]
        if any(one is not None for each in along for one in each) and custom_gradient_name(operation):
            raise NoRuleError(kind)
        factors: dict[int, Any] = {}
        return made, [
            nothing if all(one is None for one in each) else _moved(operation, given, made, each, factors)
            for each in along
        ]

    def _read(self, handle: Any) -> tuple[list[Any], list[Tangents]]:
        variable = self._variables.get(id(handle))
        if variable is None:
            raise NoRuleError("ReadVariableOp")
        return [variable.read_value()], [[each.get(id(variable))] for each in self._directions]

    # -- loops and branches ----------------------------------------------------------------------------

    def _loop(
        self, operation: Any, given: list[Any], along: list[Tangents]
    ) -> tuple[list[Any], list[Tangents]]:
        import tensorflow as tf

        graphs = loop_graphs(operation)
        if graphs is None:
            raise NoRuleError(operation.type)
        condition, body = graphs
        names = [one.name for one in body.outputs]
        carried = [index for index, one in enumerate(body.inputs) if one.name != names[index]]
        moving = [self._moving_in_loop(body, given, number, each) for number, each in enumerate(along)]
        places = [(number, index) for number, each in enumerate(moving) for index in carried if index in each]

        def state_of(flat: Sequence[Any]) -> tuple[list[Any], list[Tangents]]:
            values, tangents = list(given), [list(each) for each in along]
            for index, value in zip(carried, flat, strict=False):
                values[index] = value
                for each in tangents:
                    each[index] = None
            for (number, index), tangent in zip(places, flat[len(carried) :], strict=True):
                tangents[number][index] = tangent
            return values, tangents

        def flattened(values: Sequence[Any], tangents: Sequence[Tangents]) -> list[Any]:
            moved = [_or_zero(tangents[number][index], values[index]) for number, index in places]
            return [*(values[index] for index in carried), *moved]

        def goes_on(*flat: Any) -> Any:
            values, _ = state_of(flat)
            (found,), _ = Pushforward((), self._variables).call(condition, values, (), condition.outputs[:1])
            return found

        def rounded(*flat: Any) -> list[Any]:
            return flattened(*self.call(body, *state_of(flat), body.outputs))

        shapes = [body.inputs[index].shape for index in [*carried, *(index for _, index in places)]]
        begin = flattened(given, along)
        return state_of(tf.while_loop(goes_on, rounded, begin, shape_invariants=shapes))

    def _moving_in_loop(self, body: Any, given: Sequence[Any], number: int, tangents: Tangents) -> set[int]:
        """Return the places of the loop's values that have a tangent in some round."""
        moving = {index for index, one in enumerate(tangents) if one is not None}
        while True:
            found = moving | self.moving(body, given, number, moving)
            if found == moving:
                return moving
            moving = found

    def moving(self, graph: Any, given: Sequence[Any], number: int, moving: Collection[int]) -> set[int]:
        """Return the places of a graph's outputs that may have a tangent along a direction."""
        seeded = self._directions[number]
        moved = set()
        for index, one in enumerate(graph.inputs):
            variable = self._variables.get(id(given[index]))
            if index in moving or (variable is not None and id(variable) in seeded):
                moved.add(one.name)
        for operation in graph.get_operations():
            if operation.type not in _FLAT and any(one.name in moved for one in operation.inputs):
                moved.update(one.name for one in operation.outputs if _may_move(one))
        return {index for index, one in enumerate(graph.outputs) if one.name in moved and _may_move(one)}

    def _branch(
        self, operation: Any, given: list[Any], along: list[Tangents]
    ) -> tuple[list[Any], list[Tangents]]:
        import tensorflow as tf

        graphs = branch_graphs(operation)
        if graphs is None:
            raise NoRuleError(operation.type)
        inputs, tangents = given[1:], [each[1:] for each in along]
        places = []
        for number, each in enumerate(tangents):
            moving = {index for index, one in enumerate(each) if one is not None}
            found = set().union(*(self.moving(graph, inputs, number, moving) for graph in graphs))
            places += [(number, index) for index in sorted(found)]

        def branch(graph: Any) -> list[Any]:
            values, moved = self.call(graph, inputs, tangents, graph.outputs)
            return [*values, *(_or_zero(moved[number][index], values[index]) for number, index in places)]

        if operation.type in ("If", "StatelessIf"):
            flat = tf.cond(given[0], *(lambda graph=graph: branch(graph) for graph in graphs))
        else:
            flat = tf.switch_case(given[0], [lambda graph=graph: branch(graph) for graph in graphs])
        count = len(operation.outputs)
        results: list[Tangents] = [[None] * count for _ in along]
        for (number, index), tangent in zip(places, flat[count:], strict=True):
            results[number][index] = tangent
        return list(flat[:count]), results


def passes_gradients(graph: Any, output: Any) -> bool:
    """Return whether a gradient by what moves passes each operation that leads to a tensor of a graph.

    Not where an operation is a graph by itself, or has a gradient that is not known here.
    """
    needed = _needed([output])
    for operation in graph.get_operations():
        if operation.name not in needed or operation.type in ("Placeholder", "ReadVariableOp"):
            continue
        kind, moves = operation.type, any(_may_move(one) for one in operation.outputs)
        known = kind in _LINEAR or kind in _BILINEAR or kind in ELEMENTWISE or kind in _FLAT
        given = bool(operation.inputs) and any(_may_move(one) for one in operation.inputs)
        if kind in CALLING or kind in LOOPS or kind in BRANCHES or custom_gradient_name(operation):
            return False
        if moves and given and not known:
            return False
    return True


def _needed(outputs: Sequence[Any]) -> set[str]:
    """Return the names of the operations that lead to some tensors of a graph."""
    queue, found = [one.op for one in outputs], set()
    while queue:
        operation = queue.pop()
        if operation.name not in found:
            found.add(operation.name)
            queue += [one.op for one in operation.inputs]
    return found


def _may_move(tensor: Any) -> bool:
    return bool(tensor.dtype.is_floating or tensor.dtype.name == "variant")


def _or_zero(tangent: Any, value: Any) -> Any:
    import tensorflow as tf

    return tf.zeros_like(value) if tangent is None else tangent


def _copied(operation: Any, given: Sequence[Any]) -> list[Any]:
    """Return the outputs of the same operation on other inputs."""
    import tensorflow as tf

    made = copied_operation(tf.compat.v1.get_default_graph(), operation, given)
    for new, old in zip(made.outputs, operation.outputs, strict=True):
        if old.dtype.name not in ("variant", "resource"):
            new.set_shape(old.shape)
    return list(made.outputs)


def _moved(
    operation: Any, given: Sequence[Any], made: Sequence[Any], tangents: Tangents, factors: dict[int, Any]
) -> Tangents:
    """Return the tangents of what an operation made; `factors` are kept from direction to direction."""
    import tensorflow as tf

    kind = operation.type
    if kind in ("Add", "AddV2") and None in tangents:
        (one,) = (tangent for tangent in tangents if tangent is not None)
        if one.shape == made[0].shape and one.shape.is_fully_defined():
            return [one]
    if kind in _LINEAR:
        places = [index for index in _LINEAR[kind] if index < len(given) and _may_move(given[index])]
        replaced = list(given)
        for index in places:
            replaced[index] = _or_zero(tangents[index], given[index])
        return _copied(operation, replaced)
    moving = [index for index, one in enumerate(tangents) if one is not None]
    if kind in _BILINEAR:
        terms = [
            _copied(operation, [*given[:index], tangents[index], *given[index + 1 :]])[0] for index in moving
        ]
    elif kind in ELEMENTWISE:
        terms = [tangents[index] * _factor(operation, given, made[0], index, factors) for index in moving]
    else:
        raise NoRuleError(kind)
    return [terms[0] if len(terms) == 1 else tf.add_n(terms)]


def _factor(operation: Any, given: Sequence[Any], made: Any, index: int, factors: dict[int, Any]) -> Any:
    """Return the derivative of each element by the same element of an input, of the output's shape."""
    import tensorflow as tf

    if index not in factors:
        # Tensors of this graph itself, and of the output's shape, so that the gradient sums nothing up.
        spread = [tf.broadcast_to(one, tf.shape(made)) for one in given]
        (factors[index],) = tf.gradients(_copied(operation, spread)[0], spread[index])
    return factors[index]
