"""Cures: the clauses that say what to write instead.

The cures for values that leave TensorFlow stand with the calls that do it, in
:mod:`~tape_magic.engine.static_analysis.leaving_calls`; those for single operations, such as a logarithm at
0, in :mod:`~tape_magic.engine.diagnosis.singular_points`.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Sequence

from tape_magic.engine.diagnosis.first_not_finite import FirstNotFinite
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.singular import EPSILON, Singular
from tape_magic.engine.diagnosis.singular_points import cure_at_singular_point
from tape_magic.engine.record.frames import Frame
from tape_magic.engine.static_analysis.statements import syntax_tree
from tape_magic.results.reasons import Where

_HALF_EPSILON = "1e-4"
"""In float16, where 1e-12 is 0."""

_SAFE = {"Acos": "0.0", "Asin": "0.0", "Atanh": "0.0", "Erfinv": "0.0", "Acosh": "2.0", "Ndtri": "0.5"}
"""An argument at which an operation has a derivative; 1 for all others."""

_SAFE_EXPRESSIONS = {
    "Sqrt": "tf.sqrt({})",
    "Log": "tf.math.log({})",
    "Pow": "{}**p",
    "RealDiv": "1 / {}",
    "Reciprocal": "1 / {}",
}

CURE_FOR_METRIC = "a metric only counts: compute the loss of the tensors themselves"
"""What to do about a loss that is the result of a metric."""

_NEW = "{}_new"
"""What a cure calls a tensor in place of a variable."""

_ASSIGNMENTS = {
    "AssignAddVariableOp": "{0} + …",
    "AssignSubVariableOp": "{0} - …",
    "AssignVariableOp": "…",
    "ResourceStridedSliceAssign": "tf.tensor_scatter_nd_update({0}, indices, values)",
    "ResourceScatterUpdate": "tf.tensor_scatter_nd_update({0}, indices, values)",
    "ResourceScatterNdUpdate": "tf.tensor_scatter_nd_update({0}, indices, values)",
    "ResourceScatterAdd": "tf.tensor_scatter_nd_add({0}, indices, values)",
    "ResourceScatterNdAdd": "tf.tensor_scatter_nd_add({0}, indices, values)",
}
"""An operation that changes a variable → an expression that computes a new tensor from its name."""


# -- a variable that is assigned ---------------------------------------------------------------------------


def cure_for_assignment(kind: str, where: Where | None, frames: Sequence[Frame] = ()) -> str:
    """Return how to write an assignment to a variable so that it carries a derivative.

    Parameters
    ----------
    kind
        The operation that assigns: for ``AssignAddVariableOp`` on the line ``v.assign_add(x)``, the cure is
        "compute a new tensor, v_new = v + …".
    where
        The user's line, if it is known.
    frames
        The same as a file and a line, which tell of loops around it. Where the name is that of a loop, the
        tensors of all rounds are wanted, and the cure is "keep the new tensors in a list, new.append(…)";
        in any other loop, the new tensor goes on from round to round.
    """
    text = where.text if where else ""
    if kind == "AssignVariableOp" and "Variable(" in text:
        return "leave out tf.Variable()"
    if ".update_state(" in text:
        return CURE_FOR_METRIC
    if ".apply_gradients(" in text:
        return "write the step out, w_new = w - rate*gradient, and use that"
    name = re.search(r"([^\W\d]\w*)(\[.*?\])?\.(assign|scatter)", text)
    if kind not in _ASSIGNMENTS or name is None:
        return "compute a new tensor"
    variable = name.group(1)
    loops = _loops_around(*frames[0]) if frames else []
    if any(_goes_over(loop, variable) for loop in loops):
        return "keep the new tensors in a list, new.append(…), and use that"
    new, expression = _NEW.format(variable), _ASSIGNMENTS[kind]
    reads_itself = "{0}" in expression or re.search(rf"\b{variable}\b", text[name.end() :])
    if loops and reads_itself:
        return (
            f"compute a new tensor: {new} = {variable} before the loop, "
            f"{new} = {expression.format(new)} in it, and {new} wherever {variable} is read"
        )
    computed = expression.format(variable)
    return f"compute a new tensor, {computed if computed.startswith('tf.') else f'{new} = {computed}'}"


def _loops_around(filename: str, line: int) -> list[ast.For | ast.While]:
    tree = syntax_tree(filename, (0, 0))
    loops = (node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While)) if tree else ()
    return [loop for loop in loops if loop.lineno <= line <= (loop.end_lineno or loop.lineno)]


def _goes_over(loop: ast.For | ast.While, name: str) -> bool:
    """Return whether a loop goes over values that it calls by a name."""
    parts = ast.walk(loop.target) if isinstance(loop, ast.For) else ()
    return any(isinstance(part, ast.Name) and part.id == name for part in parts)


# -- a value that is not finite ----------------------------------------------------------------------------


def cure_for_not_finite(
    first: FirstNotFinite, flow: DataFlow, text: str, line_label: Callable[[int], str]
) -> str:
    """Return what to write in place of an operation that gave inf or NaN; empty where no cure is known.

    For ``tf.sqrt(x)`` at 0: "the slope of a square root is infinite at 0: add a little, tf.sqrt(x + 1e-12)".

    Parameters
    ----------
    first, flow
        The operation, as :class:`~tape_magic.engine.diagnosis.not_finite_search.NotFiniteSearch` found it,
        and the flow that it stands in.
    text
        The user's line.
    line_label
        Gives the line of an entry by its index: ``line 4``.
    """
    singular = Singular(first, flow, text)
    # tf.where takes the derivatives of both branches: https://github.com/tensorflow/tensorflow/issues/38349.
    if first.unselected_by is not None:
        return (
            f"tf.where ({line_label(first.unselected_by)}) takes the other branch there, but differentiates "
            f"both: choose a safe argument first, {_with_safe_argument(singular.kind)}"
        )
    if first.of_infinity:
        return _cure_for_infinity(singular)
    found = cure_at_singular_point(singular)
    if first.dtype != "float16":
        return found
    if _overflows_in_half_precision(singular, found):
        return "float16 ends at 65504: compute it in float32"
    return found.replace(EPSILON, _HALF_EPSILON)


def _with_safe_argument(kind: str) -> str:
    safe = f"tf.where(ok, x, {_SAFE.get(kind, '1.0')})"
    return _SAFE_EXPRESSIONS.get(kind, "{}").format(safe)


def _cure_for_infinity(singular: Singular) -> str:
    """Return what to do about an infinity of which an operation made NaN."""
    first = singular.first
    infinite = next((value for value in first.inputs if math.isinf(value)), None)
    if infinite is None:
        return ""
    sign = "−" if infinite < 0 else ""
    large = f"{sign}{'1e4' if first.dtype == 'float16' else '1e9'}"
    if singular.entry.type in ("Softmax", "LogSoftmax"):
        return f"a row of nothing but −inf has no softmax: leave one element in it, or mask with {large}"
    return f"take a large number such as {large} in place of {sign}inf"


def _overflows_in_half_precision(singular: Singular, found: str) -> bool:
    """Return whether finite numbers gave one beyond float16 that float32 holds."""
    first = singular.first
    quotient = singular.entry.type == "RealDiv" and len(first.inputs) == 2 and first.inputs[1] != 0
    if first.result == "nan" or (found and not quotient and not found.startswith("it overflows")):
        return False
    try:
        return abs(_computed(singular.entry.type, first.inputs)) < 3e38
    except (OverflowError, ZeroDivisionError):
        return False


def _computed(kind: str, inputs: Sequence[float]) -> float:
    """Return what an operation gives, in Python's own numbers; 0 where that is not known."""
    if kind == "Exp" and inputs:
        return math.exp(inputs[0])
    if kind == "Pow" and len(inputs) == 2:
        return math.pow(*inputs)
    if kind == "RealDiv" and len(inputs) == 2:
        return inputs[0] / inputs[1]
    return 0.0
