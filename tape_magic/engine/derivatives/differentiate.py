"""`differentiate`: the class for each kind of derivative, and the call that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tape_magic.engine.derivatives.examples import ExampleGradients
from tape_magic.engine.derivatives.gradients import Gradients
from tape_magic.engine.derivatives.hessians import Hessians
from tape_magic.engine.derivatives.jacobians import BatchJacobians, Jacobians
from tape_magic.engine.derivatives.products import HessianProducts, JacobianProducts
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import Run, RunResult
from tape_magic.engine.derivatives.traces import Divergences, Laplacians
from tape_magic.engine.derivatives.vector_products import VectorProducts
from tape_magic.engine.internals.contexts import restore_after_interrupt
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.errors import TargetError, never_assigns
from tape_magic.notation import LAST_EXPRESSION, Kind, Target, read_targets
from tape_magic.syntax import place

_RUNS: Mapping[Kind, Callable[[Program, Namespace, Sequence[Target], Request], Run]] = {
    Kind.GRADIENT: Gradients,
    Kind.JACOBIAN: Jacobians,
    Kind.BATCH_JACOBIAN: BatchJacobians,
    Kind.HESSIAN: Hessians,
    Kind.JVP: JacobianProducts,
    Kind.HVP: HessianProducts,
    Kind.VJP: VectorProducts,
    Kind.LAPLACIAN: Laplacians,
    Kind.DIVERGENCE: Divergences,
    Kind.PER_EXAMPLE: ExampleGradients,
}


def differentiate(
    program: Program, namespace: Namespace, request: Request, look: Callable[[Run], None] | None = None
) -> RunResult:
    """Run a program once under tapes and differentiate its outputs.

    Parameters
    ----------
    program
        A cell or a function.
    namespace
        The names that the program reads and assigns. Floats and arrays that stood as tensors during the run
        are back in it when this returns, and when it raises.
    request
        Which derivatives are wanted.
    look
        Called with the run once it has ended, while its record is still there.

    Raises :class:`TapeMagicError` for a request that cannot be fulfilled. An exception of the program passes.
    """
    names = program.names
    targets = read_targets(request.words, {*namespace, *names.assigns}.__contains__)
    for target in targets:
        base = place(target.name)[0]
        if base not in names.assigns and not names.opaque and base != LAST_EXPRESSION:
            raise TargetError(never_assigns(base, names.assigns))
    with restore_after_interrupt():
        return _RUNS[request.kind](program, namespace, targets, request).result(look)
