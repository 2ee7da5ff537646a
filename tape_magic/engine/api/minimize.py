"""``minimize()``, and the same for a program: a Keras optimizer or a SciPy method, compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tape_magic.engine.distribution.cluster import cluster_of
from tape_magic.engine.internals.contexts import restore_after_interrupt
from tape_magic.engine.internals.loading import load_tensorflow
from tape_magic.engine.internals.log_level import quiet_log
from tape_magic.engine.minimization.control import RunControl
from tape_magic.engine.minimization.joint_run import JointControl, joint_run, line_of, own_settings, telling
from tape_magic.engine.minimization.keras_loop.range_test import found_rate
from tape_magic.engine.minimization.keras_loop.run import KerasRun
from tape_magic.engine.minimization.log import Minimized
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.refusals import named_nothing
from tape_magic.engine.minimization.reuse import LoopCache, cache_of
from tape_magic.engine.minimization.scipy_methods import find
from tape_magic.engine.minimization.scipy_solver.run import ScipyRun
from tape_magic.engine.minimization.settings import DEFAULT_OPTIMIZER, FIND, Settings, ValidationData
from tape_magic.engine.process.interrupts import deferred_interrupt
from tape_magic.engine.program.function import (
    TRAINING_PARAMETER,
    FunctionProgram,
    as_sources,
    batch_names,
    takes_training,
)
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.values.reach import reachable
from tape_magic.engine.values.tensors import is_module, is_variable, tf_variable
from tape_magic.errors import NoTensor
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.steps import Step, Wish

OnProgress = Callable[[Step], None]


class MinimizeInterrupted(KeyboardInterrupt):
    """An interrupt of a run between two steps; :attr:`result` is the result so far."""

    def __init__(self, result: MinimizeResult) -> None:
        super().__init__(
            "stopped before the first step"
            if result.stepless
            else f"stopped after {result.steps:,} step{'' if result.steps == 1 else 's'}"
        )
        self.result = result


def minimize(
    loss_fn: Callable[..., Any],
    variables: Any = None,
    optimizer: Any = DEFAULT_OPTIMIZER,
    steps: int | None = None,
    *,
    lr: Any = None,
    schedule: Any = None,
    clip: float | None = None,
    tol: float | None = None,
    gtol: float | None = None,
    target: float | None = None,
    patience: int | None = None,
    time: float | None = None,
    track: Sequence[str] = (),
    bounds: Mapping[str, tuple[Any, Any]] | None = None,
    keep: str | None = None,
    data: Any = None,
    batch: int | None = None,
    epochs: int | None = None,
    val: Any = None,
    resume: bool = False,
    checkpoint: str | None = None,
    log: str | None = None,
    strategy: Any = None,
    engine: str = "auto",
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> MinimizeResult:
    r"""Minimise the value of a function, compiled.

    Parameters
    ----------
    loss_fn
        The function. It returns the loss, a real scalar tensor; for least squares the residuals, and the loss
        is half the sum of their squares. It takes the variables, by name or in their order, or no
        arguments where it closes over them.
    variables
        The sources to minimise over: one, a list, or a dict that names them. Variables, layers
        and models are changed in place; floats, arrays and tensors are variables during the run,
        and the result holds their final values. By default, the trainable variables that the function reads.
    optimizer
        By default L-BFGS for plain variables, floats and arrays if the loss is the same each time, else Adam.
        A dict gives each group of variables an optimizer: ``{"encoder": "sgd 1e-4", "head": "adam"}``.
        A Keras name, optimizer or class, ``"lbfgs"``, or a SciPy method: ``"bfgs"``, ``"trust-krylov"``, and
        for least squares ``"lm"``, ``"trf"`` or ``"dogbox"``. SciPy methods take `tol` and `gtol` for
        tolerances of their own.
    steps
        The most steps; 1,000 by default, and no limit where `data` or `time` is given. Without any rule, the
        run ends once its method has converged, or the loss has changed by at most 10⁻⁶ over 100 steps.
    lr
        The learning rate or a schedule, for an optimizer given by its name or class. With ``"find"``, nothing
        is minimised: a range test tries rates, puts everything back, and its
        :class:`~tape_magic.results.rates.RateReport` is returned; ``"auto"`` goes on with the rate found.
    schedule
        How the rate goes on from there: ``"cosine"``, to 0 over the run; ``"one-cycle"``, up from a tenth of
        it, back, and far below; ``"plateau"``, or ``"plateau:0.5"`` with another factor than 0.1, lower after
        10 epochs without a lower loss, or 100 steps without data. A Keras schedule, or a function of the
        step, gives the rate itself.
    clip
        The largest Euclidean norm of all gradients together; they are scaled down to it before each step.
    tol, patience
        Stop when the largest loss of the last `patience` steps (10) exceeds the smallest by at most
        tol·max(1, \|loss\|). With `val`, `patience` is instead the number of epochs without a lower
        validation loss after which the run ends.
    gtol
        Stop when the Euclidean norm of all gradients together is at most this.
    target
        Stop when the loss is at most this.
    time
        Stop after this many seconds, compilation included, at the end of the running chunk of steps.
    track
        The names of further scalars to record at each step. The function then returns a dict with these
        names, and with the loss as ``"loss"``.
    bounds
        For names of `variables`, the lower and the upper bound that each step is projected to:
        ``{"x": (0.0, None)}``; numbers, or arrays of the variable's shape.
    keep
        Leave the variables at the ``"last"`` step, or at the lowest loss, ``"best"``; over data, that is the
        end of the epoch with the lowest mean, or with the lowest validation loss. Without it, at the last
        step, and after a divergence at the lowest loss.
    data
        A ``tf.data.Dataset``, a Keras ``PyDataset``, a tuple of arrays, or an iterable that gives its batches
        each time. At each step, the function takes the parts of the next batch after the variables.
    batch, epochs
        The rows in a batch of arrays (32), and the passes over the data: 1, or as many as `steps` need.
    val
        Data of the same kinds, shapes and dtypes as `data`. At the end of each epoch, the loss and what is
        tracked are computed over all of them, each batch weighed by its rows, and nothing is changed by that.
        A parameter ``training`` of the function is then ``False``, and ``True`` in steps.
    checkpoint
        A folder to save the run in, at most every 30 s and at the end.
    resume
        Continue from the checkpoint in that folder, up to `steps` in all; the folder may still be empty.
    log
        A folder for TensorBoard, ``"mlflow"`` or ``"trackio"``: where the loss, what is tracked, the learning
        rate, and the Euclidean norm of the gradient by each variable are logged every 50 steps, and the means
        of epochs at their ends. A SciPy method has neither rates nor norms there.
    strategy
        ``"mirrored"`` shares each batch out to all GPUs, or else to all logical CPUs; a
        ``tf.distribute.MirroredStrategy`` to its devices; ``"workers"`` to the processes that
        ``devices(workers=…)`` has joined, all of which make the same call. `batch` stays the rows of a step.
    engine
        ``"auto"``, ``"xla"``, ``"graph"`` or ``"eager"``.
    seed
        The seed of Python's, NumPy's and TensorFlow's random numbers for the run.
    on_progress
        A function that is called between chunks of steps with the state of the run.

    Returns
    -------
    MinimizeResult
        The result; ``history[k]`` is the loss after k steps. When the loss or a gradient is no longer
        finite, the run ends, and the last finite values are put back.

    Raises
    ------
    TapeMagicError
        For an argument out of its range, a loss that cannot be minimised, and an engine that cannot run it.
    MinimizeInterrupted
        A ``KeyboardInterrupt`` with the result so far, after an interrupt of the user's.

    Notes
    -----
    What is compiled lives as long as the first variable that the function reaches, or else as the function
    itself. The next call uses it again if the function's code, what it reads, and the settings are the same.

    Examples
    --------
    >>> result = minimize(lambda x: (x - 1) ** 2, {"x": 0.0}, "sgd", lr=0.1)   # doctest: +SKIP
    >>> round(float(result.variables["x"].end), 6)                             # doctest: +SKIP
    1.0
    """
    load_tensorflow()
    given = {} if variables is None else as_sources(variables)
    names = batch_names(loss_fn, given) if data is not None else ()
    training = TRAINING_PARAMETER if takes_training(loss_fn, given) else ""
    program = FunctionProgram(loss_fn, {**given, **dict.fromkeys(names)}, (training,) if training else ())
    over = tuple(given) if variables is not None else None
    settings = Settings(
        optimizer=optimizer,
        lr=lr,
        schedule=schedule,
        clip=clip,
        steps=steps,
        strategy=strategy,
        engine=engine,
        seed=seed,
        tol=tol,
        gtol=gtol,
        target=target,
        patience=patience,
        time=time,
        track=tuple(track),
        bounds=dict(bounds or {}),
        keep=keep,
        resume=resume,
        checkpoint=checkpoint,
        log=log,
        data=data,
        names=names,
        batch=batch,
        epochs=epochs,
        val=None if val is None else ValidationData(val, names),
        training=training,
    )
    name, cache = "loss" if track else None, _cache_for(program, given)
    done = minimize_program(program, dict(given), name, over, settings, on_progress, cache)
    result: MinimizeResult = done.result
    return result


def _cache_for(program: Program, given: Mapping[str, Any]) -> LoopCache | None:
    """Return the compiled loops of earlier calls, which live as long as the first variable that is reached.

    Without a variable, they live as long as the function.
    """
    (function,) = program.roots()
    reached = reachable([*given.values(), function], program.home(dict(given)))
    variables = (value.trainable_variables if is_module(value) else [value] for value in reached)
    first = next((one for several in variables for one in several if is_variable(one)), None)
    return cache_of([function] if first is None else [tf_variable(first), function])


def new_loop_cache() -> LoopCache:
    """Return an empty cache of compiled loops, which a notebook passes to each :func:`minimize_program`."""
    return LoopCache()


def follows(settings: Settings) -> bool:
    """Return whether another worker shows the run of these settings."""
    cluster = None if settings.strategy is None else cluster_of(settings.strategy)
    return cluster is not None and cluster.index > 0


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
    """Minimise a program's loss: the call behind :func:`minimize` and ``%%minimize``.

    Parameters
    ----------
    program, namespace
        A function or a cell, and the names that it reads; the names that it assigns are left there, at the
        final values.
    loss_name
        The name of the loss; ``None`` for the value of the program.
    over
        The places to minimise over; ``None`` for the trainable variables that the program reads.
    settings
        The arguments of :func:`minimize`, in their ranges.
    on_progress, on_wait
        Functions that are called with the state of the run, between chunks and while a compiler works.
    cache
        The compiled loops of earlier runs, for the next run of an unchanged cell.
    wish
        A function that is called between chunks and while a compiler works, and says whether to go on.

    Raises the errors of :func:`minimize`.
    """
    kind = KerasRun if find(settings.optimizer) is None else ScipyRun
    with quiet_log(), deferred_interrupt() as interrupt:
        together = joint_run(settings)
        control = RunControl(interrupt, wish, on_wait)
        if together is not None:
            control = JointControl(together, interrupt, wish, on_wait)
            with restore_after_interrupt(), control.before_anything():
                together.begin(line_of(program, loss_name, over, settings))
            settings = own_settings(settings, together)
        with telling(together):
            if isinstance(settings.lr, str):
                word, arguments = settings.lr, (program, namespace, loss_name, over, settings)
                with restore_after_interrupt():
                    report, settings = found_rate(*arguments, control, on_progress, together)
                if word == FIND:
                    return Minimized(report, None)
            problem = Problem(
                program, namespace, loss_name, over, settings, kept=cache is not None, together=together
            )
            try:
                with restore_after_interrupt():
                    with control.before_anything():  # TensorFlow makes data ready, and may drop an interrupt
                        minimization = kind(problem, cache)
                    minimized = minimization.run(control, on_progress)
            except NoTensor:
                if refusal := named_nothing(program, namespace, over):
                    raise refusal from None
                raise
            finally:
                interrupt.waits = True
                problem.close()
    # An interrupt in the last chunk or later stops no step, but it must still stop Run All.
    if interrupt.pressed:
        raise MinimizeInterrupted(minimized.result)
    return minimized
