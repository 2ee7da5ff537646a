"""Minimise what a program computes: choose the engine, run the loop, report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine import optimizers, side_effects, unconnected
from tape_magic.engine import sources as src
from tape_magic.engine.engines import Engines
from tape_magic.engine.interrupts import deferred_interrupt
from tape_magic.engine.lifting import constant
from tape_magic.engine.loop import State, next_end
from tape_magic.engine.program import FunctionProgram, Namespace, Program, as_sources
from tape_magic.engine.selection import Selection
from tape_magic.engine.settings import DEFAULT_OPTIMIZER, Settings
from tape_magic.errors import SourceError, TargetError, closest
from tape_magic.notation import LAST_EXPRESSION, place
from tape_magic.results.minimum import Divergence, MinimizeResult, Step, StopReason, VariableChange

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
    engine: str = "auto",
    seed: int | None = None,
    on_progress: OnProgress | None = None,
) -> MinimizeResult:
    """Minimise what a function returns, compiled.

    Parameters
    ----------
    loss_fn
        Returns the loss, a real scalar tensor. It takes what is minimised over, by name or in
        order, or no arguments at all when it closes over it.
    variables
        What to minimise over: one source, a list, or a dict that names them. Variables, layers
        and models are changed in place; floats, arrays and tensors are variables during the run,
        and the result holds their ends. Without it: the trainable variables that the function reads.
    optimizer
        A Keras name, optimizer or class.
    steps
        How many steps to apply at the most.
    lr
        The learning rate, with a name or class.
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
    given = {} if variables is None else as_sources(variables)
    program = FunctionProgram(loss_fn, given)
    over = tuple(given) if variables is not None else None
    settings = Settings(optimizer, lr, steps, engine, seed)
    return run(program, dict(given), None, over, settings, on_progress).result


@dataclass(frozen=True)
class Minimized:
    """The report, and the value of the program's last expression at the end."""

    result: MinimizeResult
    value: Any


def run(
    program: Program,
    namespace: Namespace,
    loss_name: str | None,
    over: Sequence[str] | None,
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> Minimized:
    """Minimise a program's loss; what :func:`minimize` and ``%%minimize`` both call.

    What the program assigns is left in `namespace`, at the final values. Raises what
    :func:`minimize` raises.
    """
    minimization = _Minimization(program, namespace, loss_name, over, settings)
    try:
        with deferred_interrupt() as interrupt:
            stream = minimization.steps(lambda: interrupt.pressed)
            for step in stream:
                if on_progress is not None:
                    on_progress(step)
            minimized = minimization.finish()
    finally:
        minimization.close()
    # Pressed in the last chunk, there was nothing left to stop, but the user still meant to.
    if interrupt.pressed:
        raise MinimizeInterrupted(minimized.result)
    return minimized


class _Minimization:
    """One run, from the names on the line to the report."""

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        over: Sequence[str] | None,
        settings: Settings,
    ) -> None:
        self.program, self.namespace, self.settings = program, namespace, settings
        self.limit = settings.step_limit or 0
        self.loss_name = loss_name
        self._check_names(over)
        self.optimizer = optimizers.resolve(settings.optimizer, settings.lr)
        self.selection = Selection(
            program,
            namespace,
            over or (),
            chooses=over is None,
            else_by_name=False,
            make=_variable,
            liftable=_liftable,
        )
        self.notes: list[str] = []
        self.leaves: list[src.Leaf] = []
        self.start_values: list[np.ndarray[Any, Any]] = []
        self.started = time.perf_counter()
        self.compile_seconds = 0.0
        self.reason = StopReason.STEPS
        self.divergence: Divergence | None = None
        self._losses: list[np.ndarray[Any, Any]] = []
        self._state: State
        self._engines = Engines(
            program,
            namespace,
            loss_name,
            self._settle,
            self._optimizer_for,
            asked=settings.engine,
            steps=self.limit,
            seeded=settings.seed is not None,
        )

    def _check_names(self, over: Sequence[str] | None) -> None:
        names = self.program.names
        if self.loss_name is not None and not names.opaque:
            base = place(self.loss_name)[0]
            if base not in names.assigns:
                raise TargetError(f"the cell never assigns {base}{closest(base, names.assigns)}")
        for name in over or ():
            base = place(name)[0]
            if base in names.assigns:
                raise SourceError(
                    f"line {names.assigns[base]} assigns {base}, which is minimised over: "
                    f"move that line to a cell above."
                )

    # -- the run -----------------------------------------------------------------------------------

    def steps(self, interrupted: Callable[[], bool]) -> Generator[Step, None, None]:
        """Where the run stands, after each chunk."""
        self._seed()
        self.selection.lift()
        state = self._engines.start()
        self._note_unconnected(state)
        self._engines.forget()
        self._state = state
        self.compile_seconds = time.perf_counter() - self.started
        self._losses = [np.array([state.loss])]
        best, end, taken = state.loss, min(1, self.limit), 1
        while True:
            yield self._step(state, best)
            if not state.finite:
                self._diverged(state)
                return
            if state.step >= self.limit:
                return
            if interrupted():
                self.reason = StopReason.INTERRUPTED
                return
            chunk_started = time.perf_counter()
            before, (state, losses) = state, self._engines.advance(state, end)
            self._state = state
            self._losses.append(losses)
            best = min(best, np.nanmin(losses, initial=best))
            taken = state.step - before.step
            end = next_end(state, self.limit, taken, time.perf_counter() - chunk_started)

    def _step(self, state: State, best: float) -> Step:
        seconds = time.perf_counter() - self.started
        return Step(state.step, self.limit, state.loss, float(best), seconds, self._engines.engine)

    def _seed(self) -> None:
        if self.settings.seed is not None:
            import keras

            keras.utils.set_random_seed(self.settings.seed)

    def _note_unconnected(self, state: State) -> None:
        """Say what the loss does not depend on, and why; refuse if that is everything."""
        connected = self._engines.loop.connected
        lost = [leaf for leaf, has in zip(self.leaves, connected, strict=True) if not has]
        if not lost:
            return
        shown = self.loss_name or "the loss"
        text = self.program.text(self.namespace)
        said = [
            f"{shown} does not depend on {one.listed}{one.reason and f': {one.reason}'}"
            for one in unconnected.explained(self._engines.record(state), text, self.loss_name, lost)
        ]
        if any(connected):
            self.notes += said
            return
        why = f" ({self._engines.reason})" if self._engines.reason else ""
        raise TargetError(f"{'; '.join(said)}; so there is nothing to minimise{why}.")

    def _settle(self, read: Iterable[Any]) -> list[src.Leaf]:
        """What is minimised over, each variable once, now that it is known which were read."""
        if self.leaves:
            return self.leaves
        self.selection.settle(read)
        by_id = {id(leaf.value): leaf for source in self.selection.sources for leaf in source.leaves}
        for leaf in by_id.values():
            if leaf.value.dtype.is_complex:
                raise SourceError(
                    f"{leaf.name} is {leaf.dtype}, and optimizers step along real numbers: "
                    "minimise over its real and imaginary parts."
                )
        if not by_id:
            raise SourceError(
                "no trainable variable was read: name what to minimise over, for example --over x."
            )
        self.leaves = list(by_id.values())
        self.start_values = [_array(leaf.value) for leaf in self.leaves]
        return self.leaves

    def _optimizer_for(self, leaves: Sequence[src.Leaf]) -> Any:
        optimizer, fresh = optimizers.built_for(self.optimizer, [leaf.owner for leaf in leaves])
        if fresh and optimizers.is_optimizer(self.settings.optimizer):
            note = "the optimizer belongs to other variables; a fresh one with its settings was used"
            if note not in self.notes:
                self.notes.append(note)
        return optimizer

    def _diverged(self, state: State) -> None:
        """Put back the last finite values."""
        self.reason = StopReason.DIVERGED
        lost = not math.isfinite(state.loss)
        self.divergence = Divergence(state.step, "loss" if lost else "gradient", state.loss)
        if lost and state.step > 0:
            self._state = self._engines.loop.step_back(state)
            self._losses[-1] = self._losses[-1][:-1]
        elif lost:
            self._engines.loop.put_back()

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> Minimized:
        """Leave the program's names at the final values, and report."""
        value = self._engines.finish()
        if self._engines.engine != "eager":
            self.notes += side_effects.notes(self.program.text(self.namespace))
        history = np.concatenate(self._losses)
        # The start may be the one value that is not finite: then it is the best there is.
        finite = np.where(np.isfinite(history), history, np.inf) if len(history) > 1 else history
        result = MinimizeResult(
            loss_name=self.loss_name or LAST_EXPRESSION,
            loss=float(history[-1]),
            start_loss=float(history[0]),
            best_loss=float(finite.min()),
            best_step=int(np.argmin(finite)),
            steps=len(history) - 1,
            steps_asked=self.limit,
            reason=self.reason,
            seconds=time.perf_counter() - self.started,
            compile_seconds=self.compile_seconds,
            engine=self._engines.engine,
            engine_reason=self._engines.reason,
            optimizer=optimizers.describe(self.optimizer),
            learning_rate=optimizers.learning_rate(self.optimizer),
            history=history,
            variables=self._changes(),
            divergence=self.divergence,
            notes=tuple(self.notes),
        )
        return Minimized(result, value)

    def _changes(self) -> Mapping[str, VariableChange]:
        gradients = iter(self._state.gradients)
        changes = {}
        for leaf, start, has in zip(
            self.leaves, self.start_values, self._engines.loop.connected, strict=True
        ):
            # In float64, since the squares of half precision overflow.
            norm = float(np.linalg.norm(_array(next(gradients)).astype(np.float64))) if has else None
            changes[leaf.name] = VariableChange(start, _array(leaf.value), norm)
        return changes

    def close(self) -> None:
        """Floats, arrays and tensors come back to the namespace with the values that they reached."""
        self.selection.lifting.give_back(self.program.names.assigns, _given_back)


def _liftable(value: Any) -> bool:
    return src.is_liftable(value) or (src.is_tensor(value) and src.is_inexact(value))


def _variable(value: Any, dtype: str) -> Any:
    """A float, array or tensor as a variable; a tensor keeps its dtype."""
    import tensorflow as tf

    return tf.Variable(value if src.is_tensor(value) else constant(value, dtype))


def _array(value: Any) -> np.ndarray[Any, Any]:
    return np.array(value.numpy())


def _given_back(original: Any, lifted: Any) -> Any:
    """What stood for the original, as the type it was; the original itself if it never changed."""
    import tensorflow as tf

    if isinstance(original, tuple):
        items = [_given_back(old, new) for old, new in zip(original, lifted, strict=True)]
        return src.rebuilt(original, items)
    if not src.is_variable(lifted):
        return original
    value = lifted.numpy()
    was = original.numpy() if src.is_tensor(original) else np.asarray(original, value.dtype)
    if np.array_equal(was, value):
        return original
    if src.is_tensor(original):
        return tf.constant(value)
    if isinstance(original, np.ndarray):
        return np.array(value, original.dtype)  # of a single number, too, which numpy() gives as a scalar
    return type(original)(value)
