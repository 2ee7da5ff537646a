"""Minimise what a program computes, by way of a function or of a cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tape_magic.engine.internals.contexts import restore_after_interrupt
from tape_magic.engine.internals.loading import load_tensorflow
from tape_magic.engine.minimization.control import RunControl
from tape_magic.engine.minimization.keras_loop.run import KerasRun
from tape_magic.engine.minimization.log import Minimized
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.reuse import LoopCache
from tape_magic.engine.minimization.scipy_methods import find
from tape_magic.engine.minimization.scipy_solver.run import ScipyRun
from tape_magic.engine.minimization.settings import DEFAULT_OPTIMIZER, Settings
from tape_magic.engine.process.interrupts import deferred_interrupt
from tape_magic.engine.program.function import FunctionProgram, as_sources, batch_names
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.steps import Step, Wish

OnProgress = Callable[[Step], None]


class MinimizeInterrupted(KeyboardInterrupt):
    """The run was interrupted between two steps; :attr:`result` is where it stood."""

    def __init__(self, result: MinimizeResult) -> None:
        super().__init__(f"stopped after {result.steps:,} steps")
        self.result = result


def minimize(
    loss_fn: Callable[..., Any],
    variables: Any = None,
    optimizer: Any = DEFAULT_OPTIMIZER,
    steps: int | None = None,
    *,
    lr: float | None = None,
    tol: float | None = None,
    gtol: float | None = None,
    target: float | None = None,
    patience: int | None = None,
    time: float | None = None,
    track: Sequence[str] = (),
    bounds: Mapping[str, tuple[Any, Any]] | None = None,
    keep: str = "last",
    data: Any = None,
    batch: int | None = None,
    epochs: int | None = None,
    resume: bool = False,
    checkpoint: str | None = None,
    engine: str = "auto",
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> MinimizeResult:
    r"""Minimise what a function returns, compiled.

    Parameters
    ----------
    loss_fn
        Returns the loss, a real scalar tensor; for least squares the residuals, of which the loss is half
        the sum of the squares. It takes what is minimised over, by name or in
        order, or no arguments at all when it closes over it.
    variables
        What to minimise over: one source, a list, or a dict that names them. Variables, layers
        and models are changed in place; floats, arrays and tensors are variables during the run,
        and the result holds their ends. Without it: the trainable variables that the function reads.
    optimizer
        A Keras name, optimizer or class, or a method of SciPy: ``"bfgs"``, ``"trust-krylov"``, and for least
        squares ``"lm"``, ``"trf"`` or ``"dogbox"``. These take `tol` and `gtol` for their own tolerances.
    steps
        How many steps to apply at the most; 1,000 by default.
    lr
        The learning rate, with a name or class.
    tol, patience
        Stop when over the last `patience` steps (10), the largest loss less the smallest is at most
        tol·max(1, \|loss\|).
    gtol
        Stop when the Euclidean norm of all gradients together is at most this.
    target
        Stop when the loss is at most this.
    time
        Stop after so many seconds, compilation included, with the chunk of steps that is running then.
    track
        Further scalars to record at each step: names in the dict that the function then returns, with
        the loss as ``"loss"``.
    bounds
        For names of `variables`, what each step is projected to: ``{"x": (0.0, None)}``; numbers, or arrays
        of the variable's shape.
    keep
        Leave the variables as they were ``"last"``, or at the lowest loss, ``"best"``.
    data
        A ``tf.data.Dataset``, a Keras ``PyDataset``, arrays in a tuple, or whatever gives batches each time
        that it is iterated over. At each step, the function takes the parts of the next batch after what is
        minimised over.
    batch, epochs
        Rows in a batch of arrays (32), and how often all of the data: 1, or until there were `steps`.
    checkpoint
        A folder that the run is saved in, at most every 30 s and at the end.
    resume
        Go on from the checkpoint there, up to `steps` in all; the folder may be empty still.
    engine
        ``"auto"``, ``"xla"``, ``"graph"`` or ``"eager"``.
    seed
        Seeds Python's, NumPy's and TensorFlow's random numbers before the run.
    on_progress
        Called between chunks of steps with where the run stands.

    Returns
    -------
    MinimizeResult
        ``history[k]`` is the loss after k steps. When the loss or a gradient stops being finite,
        the run ends with the last finite values put back.

    Raises
    ------
    TapeMagicError
        For what cannot be minimised, and for an engine that cannot run the function.
    MinimizeInterrupted
        A ``KeyboardInterrupt`` with the result so far, when the user interrupts.

    Examples
    --------
    >>> result = minimize(lambda x: (x - 1) ** 2, {"x": 0.0}, "sgd", lr=0.1)   # doctest: +SKIP
    >>> round(float(result.variables["x"].end), 6)                             # doctest: +SKIP
    1.0
    """
    load_tensorflow()
    given = {} if variables is None else as_sources(variables)
    names = batch_names(loss_fn, given) if data is not None else ()
    program = FunctionProgram(loss_fn, {**given, **dict.fromkeys(names)})
    over = tuple(given) if variables is not None else None
    settings = Settings(
        optimizer,
        lr,
        steps,
        engine,
        seed,
        tol,
        gtol,
        target,
        patience,
        time,
        tuple(track),
        dict(bounds or {}),
        keep,
        resume,
        checkpoint,
        data=data,
        names=names,
        batch=batch,
        epochs=epochs,
    )
    return minimize_program(
        program, dict(given), "loss" if track else None, over, settings, on_progress
    ).result


def new_loop_cache() -> LoopCache:
    """Return an empty cache of compiled loops, which a notebook passes to each :func:`minimize_program`."""
    return LoopCache()


def minimize_program(
    program: Program,
    namespace: Namespace,
    loss_name: str | None,
    over: Sequence[str] | None,
    settings: Settings,
    on_progress: OnProgress | None = None,
    cache: LoopCache | None = None,
    wish: Callable[[], Wish] | None = None,
    on_wait: OnProgress | None = None,
) -> Minimized:
    """Minimise a program's loss; what :func:`minimize` and ``%%minimize`` both call.

    What the program assigns is left in `namespace`, at the final values. Compiled loops wait in `cache` for
    the next run of an unchanged cell. Between chunks, and while a compiler is waited for, `wish` is asked
    whether to go on; of a wait, `on_wait` is told where the run stands. Raises what :func:`minimize` raises.
    """
    problem = Problem(program, namespace, loss_name, over, settings, kept=cache is not None)
    kind = KerasRun if find(settings.optimizer) is None else ScipyRun
    try:
        minimization = kind(problem, cache)
        with restore_after_interrupt(), deferred_interrupt() as interrupt:
            minimized = minimization.run(RunControl(interrupt, wish, on_wait), on_progress)
    finally:
        problem.close()
    # Pressed in the last chunk, there was nothing left to stop, but the user still meant to.
    if interrupt.pressed:
        raise MinimizeInterrupted(minimized.result)
    return minimized
