"""The range test of ``--lr find``: steps at a rate that grows until the loss blows up, all undone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tape_magic.engine.distribution.together import Together
from tape_magic.engine.internals.keras_optimizers import copy_exclusions
from tape_magic.engine.internals.random_state import preserve_random_state, seed_restorer
from tape_magic.engine.minimization import optimizers, scipy_methods
from tape_magic.engine.minimization.control import RunControl
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.data.feed import Feed
from tape_magic.engine.minimization.fresh_data import fresh_copy
from tape_magic.engine.minimization.keras_loop.run import KerasRun
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.rate_curve import BELOW, choose, rounded
from tape_magic.engine.minimization.settings import AUTO, DEFAULT_OPTIMIZER, FIND, Settings
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.snapshot import Snapshot
from tape_magic.engine.static_analysis.lasting import changing_line, lasting_call
from tape_magic.errors import LineError
from tape_magic.notation import LAST_EXPRESSION
from tape_magic.results.minimum import BY_HAND, StopReason
from tape_magic.results.rates import RangeEnd, RateReport
from tape_magic.results.steps import Step

FIRST, DECADE, MOST = 1e-7, 25, 250
"""The rate of the first step, the steps in which it grows tenfold, and the most steps."""

EARLIER, TESTS = 1e-6, 3
"""Where the loss blows up within the first decade, the next of so many tests begins so many times lower."""

_GROWTH = 10 ** (1 / DECADE)

OnProgress = Callable[[Step], None]
_Array = np.ndarray[Any, Any]


class _BlownUp(Exception):
    """The loss has blown up, so that higher rates need not be tried."""


def is_asked(settings: Settings) -> bool:
    """Return whether a rate is to be found, for itself or for a run."""
    return isinstance(settings.lr, str)


def refuse(settings: Settings) -> None:
    """Raise :class:`LineError` for settings that a range test has no use for."""
    flag = f"--lr {settings.lr}"
    if isinstance(settings.optimizer, Mapping):
        raise LineError(f"{flag} finds one rate, and groups have one each: test one optimizer for all.")
    method = scipy_methods.find(settings.optimizer)
    if method is not None:
        scipy_methods.check_settings(method, settings)
    given = settings.schedule
    if callable(given):
        raise LineError(f"{flag} finds a rate, and the schedule gives its own: leave one of them out.")
    optimizer = "adam" if settings.optimizer == DEFAULT_OPTIMIZER else settings.optimizer
    if settings.lr == AUTO or not optimizers.is_optimizer(optimizer):
        optimizers.resolve(optimizer, 1.0)  # refuses what takes no rate, or has one of its own
    elif optimizers.learning_rate(optimizer) is None:
        kind = type(optimizer).__name__
        raise LineError(f"{flag} finds one rate, and the {kind} has a schedule: give {kind} a number.")
    written = {"resume": settings.resume or None, "checkpoint": settings.checkpoint, "log": settings.log}
    for name, value in written.items() if settings.lr == FIND else ():
        if value is not None:
            raise LineError(f"--lr find trains nothing: leave --{name} out.")


def found_rate(
    program: Program,
    namespace: Namespace,
    loss_name: str | None,
    over: Sequence[str] | None,
    settings: Settings,
    control: RunControl,
    on_progress: OnProgress | None,
    together: Together | None = None,
) -> tuple[RateReport | None, Settings]:
    """Return the report of a range test, and the settings with the rate that it suggests.

    For ``auto``, a run that goes on from a checkpoint has found its rate, and the report is ``None``. Of
    several workers, each sees the same losses.

    Raises :class:`LineError` for settings that do not go with a range test, for a program that does what
    cannot be put back, and where ``auto`` finds no rate; ``KeyboardInterrupt`` after an interrupt.
    """
    refuse(settings)
    goes_on = settings.resume and (settings.checkpoint is None or _saved_in(settings.checkpoint))
    if together is not None:  # worker 0 has the checkpoint
        goes_on = bool(together.agree(goes_on)[0, 0])
    if goes_on:
        return None, replace(settings, lr=None)
    test = RangeTest(program, namespace, loss_name, over, settings, together)
    report = test.run(control, on_progress)
    if control() is StopReason.INTERRUPTED:
        raise KeyboardInterrupt("stopped in the range test; no variable was changed")
    rate, word = report.suggestion, settings.lr
    if word == AUTO and rate is None and report.ended is not RangeEnd.STOPPED:
        low, high = report.rates[0], report.rates[-1]
        raise LineError(
            f"--lr auto: the loss fell at no rate from {low:.1g} to {high:.1g}; --lr find shows the curve."
        )
    remark = f"--lr auto: a range test of {len(report.rates):,} steps found the rate {rate:g}" if rate else ""
    return report, replace(settings, lr=rate, remarks=(*settings.remarks, *([remark] if remark else [])))


def _saved_in(folder: str) -> bool:
    import tensorflow as tf

    return tf.train.latest_checkpoint(str(Path(folder).expanduser())) is not None


class RangeTest:
    """Tries the rates of one program.

    Parameters
    ----------
    program, namespace, loss_name, over, settings
        As in :class:`Problem`, with the rate to be found.
    together
        The run that several workers take part in; ``None`` for a run of this process alone.
    """

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        over: Sequence[str] | None,
        settings: Settings,
        together: Together | None = None,
    ) -> None:
        self._program, self._namespace, self._together = program, namespace, together
        self._loss_name, self._over, self._settings = loss_name, over, settings
        self._engine = self._kind = ""

    def run(self, control: RunControl, on_progress: OnProgress | None) -> RateReport:
        """Try rates, put everything back, and return what was seen.

        Raises :class:`LineError` where the program does what cannot be undone.
        """
        began, first, noisy = time.perf_counter(), FIRST, self._settings.data is not None
        for number in range(1, TESTS + 1):
            rates, losses, ended = self._tried(first, control, on_progress)
            found = choose(losses, noisy=noisy)
            if found.blown is None or found.blown > DECADE or number == TESTS:
                break
            first *= EARLIER
        lowest = None if found.lowest is None else float(rates[found.lowest])
        return RateReport(
            rates=rates,
            losses=losses,
            smoothed=found.smoothed,
            suggestion=None if lowest is None else rounded(lowest / BELOW),
            lowest=lowest,
            ended=ended if found.blown is None else RangeEnd.BLEW_UP,
            loss_name=self._loss_name or LAST_EXPRESSION,
            optimizer=self._kind,
            by_name=not optimizers.is_optimizer(self._settings.optimizer),
            of_data=noisy,
            seconds=time.perf_counter() - began,
            engine=self._engine,
        )

    def _tried(
        self, first: float, control: RunControl, on_progress: OnProgress | None
    ) -> tuple[_Array, _Array, RangeEnd]:
        """Return the rates and the losses of one test, and why it ended, with everything put back."""
        noisy, ended = self._settings.data is not None, RangeEnd.RANGE
        steps, losses = np.zeros(0, np.int64), np.zeros(0)

        def watch(step: Step) -> None:
            nonlocal steps, losses
            steps, losses = step.history
            self._engine = step.engine
            if on_progress is not None:
                on_progress(replace(step, steps=MOST, epochs=0))
            if len(losses) and choose(losses, noisy=noisy).blown is not None:
                raise _BlownUp

        with _undone(self._program, self._namespace, self._settings, control):
            given = self._program, self._namespace, self._loss_name, self._over
            problem = Problem(*given, self._test_settings(first), together=self._together)
            try:
                with control.before_anything():
                    run = KerasRun(problem, None)
                result = run.run(control, watch).result
                self._engine = result.engine
                ended = RangeEnd.STOPPED if result.reason in BY_HAND else ended
                if result.divergence is not None:
                    at = result.divergence.step
                    steps, losses = np.append(steps[steps < at], at), np.append(losses[steps < at], np.inf)
            except _BlownUp:
                pass
            finally:
                if self._together is not None:
                    self._together.over = False  # the next test, or the run, is yet to come
                control.hold()
                problem.close()
                # A layer that was built during the test has no values from before it.
                owned = zip(problem.leaves, problem.start_values, strict=False)
                assign_all((leaf.value, value) for leaf, value in owned)
        taken = steps < MOST  # no step was taken from the last evaluation
        return first * _GROWTH ** steps[taken].astype(float), losses[taken], ended

    def _test_settings(self, first: float) -> Settings:
        """Return the settings of a run whose rate grows from step to step."""
        given = self._settings

        def growing(step: Any) -> Any:
            import tensorflow as tf

            return first * tf.pow(tf.constant(_GROWTH, tf.float64), tf.cast(step, tf.float64))

        optimizer: Any = "adam" if given.optimizer == DEFAULT_OPTIMIZER else given.optimizer
        if optimizers.is_optimizer(optimizer):
            before = optimizer
            optimizer = type(before).from_config(optimizers.settings_of(before))
            copy_exclusions(before, optimizer)
        made = optimizers.resolve(optimizer)
        self._kind = re.sub(r"^(\w+)\([^,)]*(?:, )?", r"\1(", optimizers.describe(made)).removesuffix("()")
        return replace(
            given,
            optimizer=made,
            made_here=True,
            lr=None,
            schedule=growing,
            steps=MOST,
            epochs=None,
            data=fresh_copy(given.data),
            val=None,
            keep="last",
            checkpoint=None,
            log=None,
            resume=False,
            track=(),
            verdict=False,
            tol=None,
            gtol=None,
            target=None,
            patience=None,
            time=None,
        )


@contextmanager
def _undone(
    program: Program, namespace: Namespace, settings: Settings, control: RunControl
) -> Iterator[None]:
    """Put back all that a program changes within the block: variables, names, containers, random numbers.

    Raises :class:`LineError` before anything runs for a program that does what cannot be put back.
    """
    text = program.text(namespace)
    if (call := lasting_call(text)) is not None:
        raise LineError(f"--lr {settings.lr} leaves nothing behind, and {call.place} would: {call.text}.")
    snapshot = _snapshot(program, namespace, settings)
    if any(not layer.built for layer in snapshot.layers if hasattr(layer, "built")):
        _build(program, namespace, settings)
        snapshot = _snapshot(program, namespace, settings)
    if snapshot.iterators:
        found = changing_line(text, snapshot.iterators[0])
        kind = type(snapshot.iterators[0]).__name__
        what = f"line {found[0]} changes {found[1]}" if found else f"the cell changes a {kind}"
        raise LineError(f"--lr {settings.lr} leaves all as it was, and {what}, which cannot be put back.")
    with ExitStack() as stack:
        stack.callback(control.release)
        stack.callback(seed_restorer())
        stack.callback(snapshot.restore)
        stack.enter_context(preserve_random_state())
        stack.callback(control.hold)
        yield


def _snapshot(program: Program, namespace: Namespace, settings: Settings) -> Snapshot:
    names = [*settings.names, *program.names.assigns]
    return Snapshot(program, namespace, names, [settings.data, *settings.sources.values()])


def _build(program: Program, namespace: Namespace, settings: Settings) -> None:
    """Run a program once, so that its layers make their variables, which a run would do just so."""
    names: dict[str, Any] = {}
    if settings.data is not None:
        feed = Feed(
            fresh_copy(settings.data),
            settings.names,
            settings.batch,
            label=settings.label,
            pattern=settings.pattern,
        )
        cursor = DataCursor(feed, count=1, soon=True)
        names = cursor.named(cursor.any())
    program.run({**namespace, **names}, {})
