"""``grad()``, and the same for a program: derivatives of its outputs, checked where the user asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tape_magic.engine.accumulation.batches import BatchData
from tape_magic.engine.derivatives.differentiate import differentiate
from tape_magic.engine.derivatives.parts import ArrayParts
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import RunResult
from tape_magic.engine.internals.loading import load_tensorflow
from tape_magic.engine.internals.log_level import quiet_log
from tape_magic.engine.program.function import FunctionProgram, as_sources, batch_names
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.training import trained
from tape_magic.engine.values.sizes import LIMIT
from tape_magic.errors import ArgumentError, LineError
from tape_magic.notation import Kind
from tape_magic.results.gradients import GradReport
from tape_magic.syntax import split

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
    laplacian: bool = False,
    divergence: bool = False,
    per_example: bool = False,
    jvp: Mapping[str, Any] | None = None,
    hvp: Mapping[str, Any] | None = None,
    vjp: Mapping[str, Any] | None = None,
    zero: bool = False,
    check: bool = False,
    limit: int = LIMIT,
    data: Any = None,
    batch: int | None = None,
    strategy: Any = None,
) -> GradReport:
    """Differentiate the value of a function.

    Parameters
    ----------
    fn
        The function. It takes the sources, by name or in their order, or no arguments where it closes over
        them. It returns a tensor, or a dict of named tensors. It is called once, unless `check` is true.
    wrt
        The sources: one, a list, or a dict that names them. A source is a variable, a float or
        complex tensor, a float, an array, a layer, model or ``tf.Module``, a ragged or sparse tensor, or a
        list, tuple, dict, dataclass or other object that holds these. By default, the trainable
        variables that the function reads.
    targets
        The derivatives, as on the line of ``%%grad``: ``"dy/dx, d2y/dx2"`` or ``["y"]``. By default, the
        derivatives of each named tensor, or of the returned tensor, whose name is ``_``.
    order
        The order of the derivatives by each source, for targets that name no source.
    jacobian
        Compute the derivatives of each output element by each source element, of the output's shape followed
        by the source's.
    batch_jacobian
        Compute a Jacobian for each row of a batch: for shapes (b, n) and (b, m), one of shape (b, n, m).
    hessian
        Compute all second derivatives, in blocks by the sources: ``report.hessian["x", "a"]``.
    laplacian
        Compute Σ ∂²u/∂xᵢ² of each output by each source, without a Hessian. An output of one number has one,
        over all elements of the source. By a source of shape (n, d), an output of shape (n,) or (n, 1) has
        one for each row, of its own shape; by one of shape (n,), an output of that shape has one for each
        element.
    divergence
        Compute Σ ∂Fᵢ/∂xᵢ of each output by each source of its shape: for shape (d,) one number, for (n, d)
        one for each row, of shape (n,).
    per_example
        Compute the norm of the gradient of each element of an output of shape (b,) or (b, 1), which has the
        losses of b examples. The norms are of shape (b,): ``report["loss", "w"]`` by one variable,
        ``report["loss", "model"]`` over all variables of a model, ``report["loss"]`` over all sources.
        ``report.examples[0].largest`` is the index of the example with the largest.
    jvp
        Vectors by the names of sources, of the sources' shapes: compute the product of the Jacobian with all
        of them together, in forward mode, of the output's shape.
    hvp
        Vectors by the names of sources, of the sources' shapes: compute the product of the Hessian with all
        of them together, forward mode over a tape, of the shape of each source.
    vjp
        Vectors by the names of outputs, of the outputs' shapes: compute the product of each with the Jacobian
        of its output, in reverse mode, of the shape of each source.
    zero
        Return zeros instead of ``None`` where a target does not depend on a source.
    check
        Compare each derivative with central differences: `fn` is called again, from the state before its
        first call, and the state after the first call is put back. ``report.checks`` has the errors, and
        the causes that are known.
    limit
        The largest Jacobian or Hessian that is computed, in bytes.
    data
        What first derivatives of numbers, such as a loss, are accumulated over: arrays with as many rows, a
        ``tf.data.Dataset``, a ``PyDataset``, or whatever gives batches, as in :func:`minimize`. `fn` takes
        the parts of a batch after the sources, and is called once for each part of the data that is
        differentiated at once. Means count by their rows and sums are added up; which of them an output is,
        is told on a few rows, for which `fn` is called three times more. ``report["loss", "w"]`` is then the
        derivative over all rows.
    batch
        The most rows that are differentiated at once, where the data are arrays; by default, all.
    strategy
        ``"mirrored"`` shares each batch out to all GPUs, or else to all logical CPUs; a
        ``tf.distribute.MirroredStrategy`` to its devices.

    Returns
    -------
    GradReport
        The derivatives. A gradient has the shape and dtype of its last source. An output that is not scalar
        is summed before it is differentiated, as by ``tf.GradientTape.gradient``; the labels show the sum.

    Raises
    ------
    TapeMagicError
        For a source that has no derivative, a target that is not returned, a vector that does not
        fit its source, shapes that have no Laplacian or divergence, rows that depend on other rows
        where it is computed row by row, a derivative larger than the limit, a function to be checked that
        gives other results from call to call, and derivatives that cannot be accumulated.

    Examples
    --------
    >>> report = grad(lambda x: {"y": x**3}, {"x": 2.0}, "dy/dx, d2y/dx2")   # doctest: +SKIP
    >>> float(report["dy/dx"]), float(report["d2y/dx2"])                     # doctest: +SKIP
    (12.0, 12.0)
    >>> grad(lambda x: x**3, {"x": 2.0}, jvp={"x": 0.5})["_", "x"].numpy()   # doctest: +SKIP
    6.0
    """
    given = {} if wrt is None else as_sources(wrt)
    flags = {
        Kind.JACOBIAN: jacobian,
        Kind.BATCH_JACOBIAN: batch_jacobian,
        Kind.HESSIAN: hessian,
        Kind.LAPLACIAN: laplacian,
        Kind.DIVERGENCE: divergence,
        Kind.PER_EXAMPLE: per_example,
        Kind.JVP: jvp,
        Kind.HVP: hvp,
        Kind.VJP: vjp,
    }
    kinds = [kind for kind, wanted in flags.items() if wanted]
    if len(kinds) > 1:
        raise LineError(f"{kinds[0].value} and {kinds[1].value} are different things; call grad twice.")
    names = batch_names(fn, given) if data is not None else ()
    return grad_program(
        FunctionProgram(fn, {**given, **dict.fromkeys(names)}),
        dict(given),
        data={"data": data, "names": names} if data is not None else {},
        batch=batch,
        strategy=strategy,
        check=check,
        words=split(targets) if isinstance(targets, str) else list(targets),
        wrt=tuple(given) or None,
        order=order,
        kind=kinds[0] if kinds else Kind.GRADIENT,
        vectors=dict(jvp or hvp or vjp or {}),
        zero=zero,
        limit=limit,
    ).report


def grad_program(
    program: Program,
    namespace: Namespace,
    *,
    check: bool = False,
    silence: Silence = nullcontext,
    data: Mapping[str, Any] = MappingProxyType({}),
    batch: int | None = None,
    strategy: Any = None,
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
        A function that returns a context in which the further runs of a check display nothing.
    data
        The attributes of :class:`~tape_magic.engine.accumulation.batches.BatchData` that say what to read.
    batch, strategy
        Its further attributes.
    request
        The attributes of :class:`~tape_magic.engine.derivatives.request.Request`.

    Raises the errors of :func:`grad`.
    """
    given = _batch_data(data, batch, strategy)
    checked_request = Request(**request, batch_names=() if given is None else given.names)
    if given is not None and check:
        raise LineError("check compares one run with others, and data need several: leave one of them out.")
    load_tensorflow()
    with quiet_log(), trained(program, namespace):
        parts = ArrayParts(program, namespace, checked_request)
        if given is not None:
            from tape_magic.engine.accumulation.accumulate import accumulated

            return parts.of(accumulated(program, namespace, parts.request, given, silence))
        if not check:
            return parts.of(differentiate(program, namespace, parts.request))
        from tape_magic.engine.check.check import checked

        return parts.of(checked(program, namespace, parts.request, silence))


def _batch_data(data: Mapping[str, Any], batch: int | None, strategy: Any) -> BatchData | None:
    """Return what a gradient is accumulated over; ``None`` where there are no data."""
    if data:
        return BatchData(**data, batch=batch, strategy=strategy)
    if strategy is not None:
        raise ArgumentError(
            "strategy", 'shares out the batches of data; on the line, --for "xb, yb in (x, y)".'
        )
    if batch is not None:
        raise ArgumentError("batch", 'goes with data; on the line, --for "xb, yb in train".')
    return None
