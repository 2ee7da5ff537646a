"""``derivative()``, and the same for a program: a compiled function that returns derivatives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tape_magic.engine.derivatives.definition import define
from tape_magic.engine.derivatives.derivative_function import DerivativeFunction
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.internals.loading import load_tensorflow
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.training import trained
from tape_magic.engine.values.sizes import LIMIT
from tape_magic.errors import LineError
from tape_magic.notation import Kind
from tape_magic.syntax import split


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
    """Return a compiled function that returns the derivatives of a function and its value.

    Parameters
    ----------
    fn
        The function, which returns a tensor, or a dict of named tensors. It is called by the result only.
    wrt
        The names of the parameters to differentiate by, as a list or as words; they are the result's
        positional parameters, in this order. By default, the parameters in the denominators of `targets`, or
        else the parameters without a default, or else those whose default holds floating-point numbers.
    targets
        ``"dy/dx, d2y/dx2"`` or ``["y"]`` for a function that returns ``{"y": y}``; empty for the value
        of a function that returns a tensor.
    order, jacobian, batch_jacobian, zero, limit
        The arguments of :func:`~tape_magic.engine.api.grad.grad`.

    Returns
    -------
    DerivativeFunction
        A function that returns a named tuple: the derivatives in the order of the request, then the outputs.
        The other parameters of `fn` that are floats, arrays, tensors or variables are keyword parameters.

    Raises
    ------
    TapeMagicError
        For a name that is no parameter, and for a target that is no derivative.

    Examples
    --------
    >>> f = derivative(lambda x, a=1.0: {"y": a * x**2}, targets="dy/dx")   # doctest: +SKIP
    >>> float(f(3.0).dy_dx), float(f(3.0, a=2.0).y)                         # doctest: +SKIP
    (6.0, 18.0)
    """
    words = split(targets) if isinstance(targets, str) else list(targets)
    names = tuple(split(wrt) if isinstance(wrt, str) else wrt or ()) or None
    if jacobian and batch_jacobian:
        raise LineError("jacobian and batch jacobian are different things; call derivative twice.")
    kind = Kind.JACOBIAN if jacobian else Kind.BATCH_JACOBIAN if batch_jacobian else Kind.GRADIENT
    parameters = _parameters(fn, names or ())
    program = FunctionProgram(fn, parameters)
    known = {name: value for name, value in parameters.items() if value is not inspect.Parameter.empty}
    own = getattr(fn, "__name__", "")
    return derivative_program(
        program,
        known,
        own if own.isidentifier() else "derivative",
        words=words,
        wrt=names,
        order=order,
        kind=kind,
        zero=zero,
        limit=limit,
    )


def derivative_program(
    program: Program, namespace: Namespace, name: str, **request: Any
) -> DerivativeFunction:
    """Return a compiled derivative of a program: the call behind :func:`derivative` and ``%%grad --def``.

    Parameters
    ----------
    program, namespace
        A function or a cell, which is not run, and the values of the names that it reads.
    name
        The name of the function.
    request
        The attributes of :class:`~tape_magic.engine.derivatives.request.Request`.

    Raises the errors of :func:`derivative`.
    """
    checked_request = Request(**request)
    load_tensorflow()
    with trained(program, namespace):
        return define(program, namespace, checked_request, name)


def _parameters(fn: Callable[..., Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the parameters of a function by name, each with its default."""
    try:
        found = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        found = inspect.signature(lambda *args: None).parameters
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    parameters = {name: one.default for name, one in found.items() if one.kind not in several}
    if several & {one.kind for one in found.values()}:
        parameters = {**dict.fromkeys(names, inspect.Parameter.empty), **parameters}
    return parameters
