"""A cell, or a function, as a compiled function of its sources: which parameters it has."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tape_magic.engine import sources as src
from tape_magic.engine.arguments import distinct, parameter_name
from tape_magic.engine.compiled import Definition, DerivativeFunction
from tape_magic.engine.gradients import Gradients
from tape_magic.engine.importing import load_tensorflow
from tape_magic.engine.jacobians import BatchJacobians, Jacobians
from tape_magic.engine.program import FunctionProgram, Namespace, Program, Untraceable
from tape_magic.engine.request import LIMIT, Request
from tape_magic.errors import LineError, SourceError, TargetError, a_kind, closest
from tape_magic.notation import LAST_EXPRESSION, Kind, Target, place, read_targets, split

_RUNS: Mapping[Kind, type[Gradients]] = {
    Kind.GRADIENT: Gradients,
    Kind.JACOBIAN: Jacobians,
    Kind.BATCH_JACOBIAN: BatchJacobians,
}

_INSTEAD = {
    Kind.HESSIAN: "d2y/dx2 with --jacobian is the same",
    Kind.JVP: "take the product outside of it",
    Kind.HVP: "take the product outside of it",
}


def derivative(
    fn: Callable[..., Any],
    wrt: str | Iterable[str] | None = None,
    targets: str | Sequence[str] = "",
    *,
    order: int = 1,
    jacobian: bool = False,
    batch_jacobian: bool = False,
    zero: bool = False,
    limit: int = LIMIT,
) -> DerivativeFunction:
    """A compiled function that returns derivatives of what a function returns, and that itself.

    Parameters
    ----------
    fn
        Returns a tensor, or a dict of named ones. It is not called before the result is.
    wrt
        The names of the parameters to differentiate by, as a list or as words; they are the result's
        positional parameters, in this order. Without it and without a denominator in `targets`:
        those that have no default, or else those whose default is of floating-point numbers.
    targets
        ``"dy/dx, d2y/dx2"`` or ``["y"]`` of a function that returns ``{"y": y}``; empty for the value
        of one that returns a tensor.
    order, jacobian, batch_jacobian, zero, limit
        As in :func:`~tape_magic.engine.tape.grad`.

    Returns
    -------
    DerivativeFunction
        It returns a named tuple: the derivatives in the order asked, then what they are of. The other
        parameters of `fn` that are floats, arrays, tensors or variables are keyword parameters.

    Raises
    ------
    TapeMagicError
        For a name that is no parameter, and for what is no derivative.

    Examples
    --------
    >>> f = derivative(lambda x, a=1.0: {"y": a * x**2}, targets="dy/dx")   # doctest: +SKIP
    >>> float(f(3.0).dy_dx), float(f(3.0, a=2.0).y)                         # doctest: +SKIP
    (6.0, 18.0)
    """
    load_tensorflow()
    words = split(targets) if isinstance(targets, str) else list(targets)
    names = tuple(split(wrt) if isinstance(wrt, str) else wrt or ()) or None
    if jacobian and batch_jacobian:
        raise LineError("jacobian and batch jacobian are different things; call derivative twice.")
    kind = Kind.JACOBIAN if jacobian else Kind.BATCH_JACOBIAN if batch_jacobian else Kind.GRADIENT
    request = Request(words, names, order, kind, zero=zero, limit=limit)
    parameters = _parameters(fn, names or ())
    program = FunctionProgram(fn, parameters)
    known = {name: value for name, value in parameters.items() if value is not inspect.Parameter.empty}
    own = getattr(fn, "__name__", "")
    return define(program, known, request, own if own.isidentifier() else "derivative")


def _parameters(fn: Callable[..., Any], names: Iterable[str]) -> dict[str, Any]:
    """The parameters of a function by name, each with its default."""
    try:
        found = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        found = inspect.signature(lambda *args: None).parameters
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    parameters = {name: one.default for name, one in found.items() if one.kind not in several}
    if several & {one.kind for one in found.values()}:
        parameters = {**dict.fromkeys(names, inspect.Parameter.empty), **parameters}
    return parameters


def define(program: Program, namespace: Namespace, request: Request, name: str) -> DerivativeFunction:
    """A compiled function of a program's sources, without running it.

    What ``--def`` and :func:`derivative` call.

    Raises what :func:`derivative` raises.
    """
    if request.kind not in _RUNS:
        raise LineError(f"a compiled function cannot give a {request.kind.value}: {_INSTEAD[request.kind]}.")
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
    # What the program gives a value itself is no parameter; on a way around that, it is what it was.
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
    names = program.names
    for target in targets:
        base = place(target.name)[0]
        if base not in names.assigns and not names.opaque and base != LAST_EXPRESSION:
            raise TargetError(f"the cell never assigns {base}{closest(base, names.assigns)}")
    wants_value = not targets or any(target.name == LAST_EXPRESSION for target in targets)
    if wants_value and LAST_EXPRESSION not in names.assigns and not program.has_value:
        raise TargetError(
            "there is no output to differentiate: name one, for example %%grad y, "
            "or end the cell with an expression."
        )


def _sources(
    program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
) -> list[str]:
    """The places to differentiate by, in the order named, or those that the program reads."""
    named = [*(text for target in targets for text in target.wrt), *(request.wrt or ())]
    if named and (request.wrt is not None or all(target.wrt for target in targets)):
        return list(dict.fromkeys(named))
    reads = [name for name in program.names.reads if not program.names.assigned_first(name)]
    held = {name: namespace[name] for name in reads if name in namespace}
    found = [name for name in reads if name not in namespace and isinstance(program, FunctionProgram)]
    kinds: tuple[Callable[[Any], bool], ...] = (
        lambda value: src.is_variable(value) and src.is_inexact(value) and bool(value.trainable),
        lambda value: src.is_tensor(value) and src.is_inexact(value),
        src.is_liftable,
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
    """Raise :class:`SourceError` for what cannot be a parameter."""
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
            raise SourceError(f"{base} is not defined{closest(base, namespace)}")
        return  # a parameter needs no value
    while isinstance(tree, ast.Subscript):
        tree = tree.value
    if not isinstance(tree, ast.Name):
        raise SourceError(
            f"{text} cannot be a parameter of {called}: parameters stand for names, "
            "and for items of lists, tuples and dicts."
        )
    value = src.look_up(text, namespace)
    if src.is_module(value):
        raise SourceError(
            f"{text} is {a_kind(value)}, which keeps its own variables: parameters of {called} "
            "stand for variables, tensors, floats and arrays."
        )
    src.leaves(value, text, lifted=False)


def _is_inexact(value: Any) -> bool:
    """A float, or an array, tensor or variable of floating-point or complex numbers."""
    return src.is_liftable(value) or (
        (src.is_variable(value) or src.is_tensor(value)) and src.is_inexact(value)
    )
