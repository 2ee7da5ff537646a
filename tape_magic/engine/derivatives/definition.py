"""`define`: the outputs, sources and parameters of a compiled derivative function, as ``--def`` makes it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tape_magic.engine.derivatives.arguments import distinct, parameter_name
from tape_magic.engine.derivatives.derivative_function import Definition, DerivativeFunction
from tape_magic.engine.derivatives.gradients import Gradients
from tape_magic.engine.derivatives.jacobians import BatchJacobians, Jacobians
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.program.program import Namespace, Program, Untraceable
from tape_magic.engine.values.introspection import is_a
from tape_magic.engine.values.leaves import items_of, leaves_of
from tape_magic.engine.values.objects import parts_of_object
from tape_magic.engine.values.places import look_up, undefined
from tape_magic.engine.values.tensors import is_inexact, is_liftable, is_module, is_tensor, is_variable
from tape_magic.errors import LineError, SourceError, TargetError, a_kind, closest, never_assigns
from tape_magic.notation import LAST_EXPRESSION, Kind, Target, read_targets
from tape_magic.syntax import place

_RUNS: Mapping[Kind, type[Gradients]] = {
    Kind.GRADIENT: Gradients,
    Kind.JACOBIAN: Jacobians,
    Kind.BATCH_JACOBIAN: BatchJacobians,
}

_INSTEAD = {
    Kind.HESSIAN: "d2y/dx2 with --jacobian is the same",
    Kind.JVP: "take the product outside of it",
    Kind.HVP: "take the product outside of it",
    Kind.VJP: "have the cell compute tf.reduce_sum(v*y), and differentiate that",
    Kind.LAPLACIAN: "take the trace of what d2u/dx2 with --jacobian gives",
    Kind.DIVERGENCE: "take the trace of what --jacobian or --batch-jacobian gives",
    Kind.PER_EXAMPLE: "take the norms of what --jacobian gives",
}


def define(program: Program, namespace: Namespace, request: Request, name: str) -> DerivativeFunction:
    """Return a compiled function of a program's sources; the program does not run.

    Parameters
    ----------
    program, namespace
        A cell or a function, and the names that it reads; what it reads is kept as it is now.
    request
        Which derivatives the function returns: gradients, Jacobians or batch Jacobians.
    name
        Name of the function.

    Raises :class:`LineError` for another kind and for a program that cannot be compiled,
    :class:`TargetError` for an output that the program does not assign, and :class:`SourceError` for a source
    that cannot be a parameter.
    """
    if request.kind not in _RUNS:
        what = "norms per example"
        if request.kind is not Kind.PER_EXAMPLE:
            what = f"a {request.kind.value.replace('laplacian', 'Laplacian')}"
        raise LineError(f"a compiled function cannot give {what}: {_INSTEAD[request.kind]}.")
    if "tape" in program.names.reads:
        raise LineError("a compiled function has no tape that the cell could use: tf.stop_gradient can be.")
    known = {*namespace, *program.names.reads, *program.names.assigns}
    targets = read_targets(request.words, known.__contains__)
    _refuse_outputs(program, targets)
    by = _sources(program, namespace, targets, request)
    for text in by:
        _refuse_source(program, namespace, text, name)
    try:
        next(program.functions(()), None)
    except Untraceable as error:
        raise LineError(f"the cell cannot be compiled: {error}.") from None
    asked = tuple(
        Target(target.name, wrt)
        for target in targets or (Target(LAST_EXPRESSION),)
        for wrt in ([target.wrt] if target.wrt else [(text,) * request.order for text in request.wrt or by])
    )
    bases = [place(text)[0] for text in by]
    read = [*program.names.reads, *(name for name in program.names.assigns if name in namespace)]
    held = {name: namespace[name] for name in read if name in namespace}
    # A name that the program assigns first is no parameter. Where a branch skips the assignment, the name
    # keeps its value from the notebook.
    given = [name for name in held if name not in bases and not program.names.assigned_first(name)]
    keywords = {name: held[name] for name in given if _is_inexact(held[name])}
    parameters = distinct([*keywords, *map(parameter_name, by)])[len(keywords) :]
    return DerivativeFunction(
        Definition(
            name,
            program,
            _RUNS[request.kind],
            request,
            asked,
            sources=dict(zip(parameters, by, strict=True)),
            keywords=keywords,
            captured={name: value for name, value in held.items() if name not in keywords},
        )
    )


def _refuse_outputs(program: Program, targets: Sequence[Target]) -> None:
    """Raise :class:`TargetError` for a target that the program never assigns, or where there is no output."""
    names = program.names
    for target in targets:
        base = place(target.name)[0]
        if base not in names.assigns and not names.opaque and base != LAST_EXPRESSION:
            raise TargetError(never_assigns(base, names.assigns))
    wants_value = not targets or any(target.name == LAST_EXPRESSION for target in targets)
    if wants_value and LAST_EXPRESSION not in names.assigns and not program.has_value:
        raise TargetError(
            "there is no output to differentiate: name one, for example %%grad y, "
            "or end the cell with an expression."
        )


def _sources(
    program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
) -> list[str]:
    """Return the places to differentiate by: in the order named, or as the program reads them.

    Raises :class:`SourceError` where there is nothing to differentiate by.
    """
    named = [*(text for target in targets for text in target.wrt), *(request.wrt or ())]
    if named and (request.wrt is not None or all(target.wrt for target in targets)):
        return list(dict.fromkeys(named))
    reads = [name for name in program.names.reads if not program.names.assigned_first(name)]
    held = {name: namespace[name] for name in reads if name in namespace}
    found = [name for name in reads if name not in namespace and isinstance(program, FunctionProgram)]
    kinds: tuple[Callable[[Any], bool], ...] = (
        lambda value: is_variable(value) and is_inexact(value) and bool(value.trainable),
        lambda value: is_tensor(value) and is_inexact(value),
        is_liftable,
    )
    for is_one in kinds:
        found = found or [name for name, value in held.items() if is_one(value)]
    if not found:
        raise SourceError(
            "there is nothing to differentiate by: no variable, float tensor, float or array is read; "
            "name a source with --wrt x."
        )
    return list(dict.fromkeys([*named, *found]))


def _refuse_source(program: Program, namespace: Namespace, text: str, called: str) -> None:
    """Raise :class:`SourceError` for a place that cannot be a parameter of the function `called`."""
    names, (base, tree) = program.names, place(text)
    if names.assigned_first(base):
        raise SourceError(
            f"line {names.assigns[base]} assigns {base}, which is a parameter of {called}: "
            "leave out that line."
        )
    if base not in names.reads and not (names.opaque and base in namespace):
        raise SourceError(f"the cell does not read {base}{closest(base, names.reads)}")
    if base not in namespace:
        if not isinstance(tree, ast.Name):
            raise SourceError(undefined(base, namespace))
        return  # a parameter needs no value
    while isinstance(tree, ast.Subscript):
        tree = tree.value
    if not isinstance(tree, ast.Name):
        raise SourceError(
            f"{text} cannot be a parameter of {called}: parameters stand for names, "
            "and for items of lists, tuples and dicts."
        )
    value = look_up(text, namespace)
    if is_module(value):
        raise SourceError(
            f"{text} is {a_kind(value)}, which keeps its own variables: parameters of {called} "
            "stand for variables, tensors, floats and arrays."
        )
    if _holds_objects(value):
        raise SourceError(
            f"{text} is {a_kind(value)}, and parameters of {called} stand for variables, tensors, floats and "
            "arrays, or for lists, tuples and dicts of them."
        )
    leaves_of(value, text, lifted=False)


def _holds_objects(value: Any) -> bool:
    """Return whether a source is an object that stands for its attributes, or holds one."""
    if is_a(value, list | tuple | dict):
        return any(_holds_objects(item) for _, item in items_of(value))
    return bool(parts_of_object(value))


def _is_inexact(value: Any) -> bool:
    """Return whether a value is a float, or an array, tensor or variable of floats or complex numbers."""
    return is_liftable(value) or ((is_variable(value) or is_tensor(value)) and is_inexact(value))
