"""`grad()`: the public function; checks its arguments, calls `differentiate`, and `check` where asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tape_magic.engine.derivatives.differentiate import differentiate
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import RunResult
from tape_magic.engine.internals.loading import load_tensorflow
from tape_magic.engine.program.function import FunctionProgram, as_sources
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.values.sizes import LIMIT
from tape_magic.errors import LineError
from tape_magic.notation import Kind, split
from tape_magic.results.gradients import GradReport

if TYPE_CHECKING:
    from tape_magic.engine.check.check import Silence


def grad(
    fn: Callable[..., Any],
    wrt: Any = None,
    targets: str | Sequence[str] = "",
    *,
    order: int = 1,
    jacobian: bool = False,
    batch_jacobian: bool = False,
    hessian: bool = False,
    jvp: Mapping[str, Any] | None = None,
    hvp: Mapping[str, Any] | None = None,
    zero: bool = False,
    check: bool = False,
    limit: int = LIMIT,
) -> GradReport:
    """Differentiate what a function returns.

    Parameters
    ----------
    fn
        Called once, unless `check` is given. It takes the sources, by name or in their order, or no
        arguments at all when it closes over them. It returns a tensor, or a dict of named ones.
    wrt
        The sources: one, a list, or a dict that names them. A source is a variable, a float or
        complex tensor, a float, an array, a layer, model or ``tf.Module``, or a list, tuple or
        dict of these. Without it: the trainable variables that the function reads.
    targets
        As on the line of ``%%grad``: ``"dy/dx, d2y/dx2"`` or ``["y"]``; empty for the value that
        is returned, which goes by the name ``_``, or for each of the named ones.
    order
        Of the derivative by each source, for targets that name no source.
    jacobian
        Each element of an output by each of a source, of the output's shape and then the source's.
    batch_jacobian
        The same for each row of a batch by itself: of shapes (b, n) and (b, m), one of shape (b, n, m).
    hessian
        All second derivatives, as blocks by the sources: ``report.hessian["x", "a"]``.
    jvp
        Vectors by the names of sources, of their shapes: the product of the Jacobian with them all
        together, in forward mode, of the output's shape.
    hvp
        The same with the Hessian, forward mode over a tape: of the shape of each source.
    zero
        Zeros instead of ``None`` where a target does not depend on a source.
    check
        Compares each derivative with central differences: `fn` is called again, from the state that it
        was called in first, and what its first call left remains. ``report.checks`` has the errors.
    limit
        The largest Jacobian or Hessian that is computed, in bytes.

    Returns
    -------
    GradReport
        A gradient has the shape and dtype of its last source. What is not scalar is summed before
        it is differentiated, as ``tf.GradientTape.gradient`` does; the report's labels say so.

    Raises
    ------
    TapeMagicError
        For a source that has no derivative, a target that is not returned, a vector that does not
        fit its source, a derivative larger than the limit, and a function to be checked that gives
        other results from call to call.

    Examples
    --------
    >>> report = grad(lambda x: {"y": x**3}, {"x": 2.0}, "dy/dx, d2y/dx2")   # doctest: +SKIP
    >>> float(report["dy/dx"]), float(report["d2y/dx2"])                     # doctest: +SKIP
    (12.0, 12.0)
    >>> grad(lambda x: x**3, {"x": 2.0}, jvp={"x": 0.5})["_", "x"].numpy()   # doctest: +SKIP
    6.0
    """
    given = {} if wrt is None else as_sources(wrt)
    asked = {
        Kind.JACOBIAN: jacobian,
        Kind.BATCH_JACOBIAN: batch_jacobian,
        Kind.HESSIAN: hessian,
        Kind.JVP: jvp,
        Kind.HVP: hvp,
    }
    kinds = [kind for kind, wanted in asked.items() if wanted]
    if len(kinds) > 1:
        raise LineError(f"{kinds[0].value} and {kinds[1].value} are different things; call grad twice.")
    return grad_program(
        FunctionProgram(fn, given),
        dict(given),
        check=check,
        words=split(targets) if isinstance(targets, str) else list(targets),
        wrt=tuple(given) or None,
        order=order,
        kind=kinds[0] if kinds else Kind.GRADIENT,
        vectors=dict(jvp or hvp or {}),
        zero=zero,
        limit=limit,
    ).report


def grad_program(
    program: Program,
    namespace: Namespace,
    *,
    check: bool = False,
    silence: Silence = nullcontext,
    **request: Any,
) -> RunResult:
    """Differentiate what a program computes: the call behind :func:`grad` and ``%%grad``.

    Parameters
    ----------
    program, namespace
        A function or a cell, and the names that it reads and assigns.
    check
        Whether each derivative is compared with central differences, for which the program runs again.
    silence
        Makes the context in which the further runs of a check display nothing.
    request
        The attributes of :class:`~tape_magic.engine.derivatives.request.Request`.

    Raises what :func:`grad` raises.
    """
    asked = Request(**request)
    load_tensorflow()
    if not check:
        return differentiate(program, namespace, asked)
    from tape_magic.engine.check.check import checked

    return checked(program, namespace, asked, silence)
