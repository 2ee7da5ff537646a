"""A minimisation by a Keras optimizer, in the fastest loop that runs it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.compiling import CompileWaiter
from tape_magic.engine.minimization.control import RunControl, StopRequested
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.data.feed import Feed
from tape_magic.engine.minimization.keras_loop.checkpoint import SavedRun
from tape_magic.engine.minimization.keras_loop.compilation import LoopBuilder
from tape_magic.engine.minimization.keras_loop.compiled_program import CompiledProgram
from tape_magic.engine.minimization.keras_loop.continuation import Continuation, Trail
from tape_magic.engine.minimization.keras_loop.engines import Engines
from tape_magic.engine.minimization.keras_loop.protocol import Chunk, Final, LoopOptions, Position, Recorded
from tape_magic.engine.minimization.log import EXACT, Series, norm_of
from tape_magic.engine.minimization.problem import UNLIMITED, Minimization, Minimized
from tape_magic.engine.minimization.reuse import LoopCache
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.minimization.stop_rules import GO, GRADIENT_LOST, LOSS_LOST, REASONS
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.random_states import RandomStates
from tape_magic.engine.values.leaves import Leaf
from tape_magic.errors import LineError
from tape_magic.results.minimum import Divergence, StopReason
from tape_magic.results.steps import Step


class KerasRun(Minimization):
    """One run; the parameters and what is raised are those of :class:`Minimization`."""

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        over: Sequence[str] | None,
        settings: Settings,
        cache: LoopCache | None = None,
    ) -> None:
        super().__init__(program, namespace, loss_name, over, settings, cache)
        text = program.source if cache is not None else None
        key = (text, loss_name, tuple(over or ())) if text is not None else None
        self._continuation = Continuation(settings, cache, key)
        self._goes_on = self._continuation.progress is not None
        self._forget_what_another_run_left()
        self._final: Final
        self._trail: Trail
        self._built: Any = None
        feed = self._feed()
        self._batches = None if feed is None else DataCursor(feed, self._continuation.step)
        self._totals = [] if feed is None or feed.total is None else [feed.total]
        self.limit = min([*self._totals, self.limit])
        same = settings.seed is not None or self._continuation.same
        self._compilation = LoopBuilder(
            program,
            namespace,
            loss_name,
            settings.track,
            self._settle,
            self._optimizer_for,
            self._plan_for,
            lambda optimizer: optimizer is settings.optimizer and not settings.made_here,
            self.limit,
            same,
            self._continuation.fresh,
            self._batches,
            self._fitting(),
        )
        self._engines = Engines(self._compilation, settings.engine, same=same)

    def _forget_what_another_run_left(self) -> None:
        """A run that goes on from another one than that which compiled the loops takes its optimizer."""
        trailed = self._continuation.optimizer
        if trailed is not None and (self._found is None or self._found.optimizer is not trailed):
            self._found = None
            self._lifted = list(self._continuation.lifted)
            self.optimizer = super()._resolved(None)

    def _resolved(self, made: Any) -> Any:
        # Keras takes several milliseconds to make an optimizer, and one by name is there already. Over data,
        # what was made may not fit these.
        if isinstance(self.settings.optimizer, str) and made is not None and self.settings.data is None:
            return made.optimizer
        return super()._resolved(made)

    def _fitting(self) -> CompiledProgram | None:
        """What an earlier run compiled, if it takes batches of the same kind."""
        found = self._found
        if found is None or self._batches is None:
            return found
        same = list(found.traced.inputs.values()) == list(self._batches.feed.element_spec[2])
        return found if same else None

    def _feed(self) -> Feed | None:
        settings = self.settings
        if settings.data is None:
            return None
        # Without a number of epochs, a number of steps says when it is over.
        epochs = settings.epochs or (1 if settings.steps is None else 2**31)
        floats = "float64" if self.selection.dtype == "float64" else None
        feed = Feed(
            settings.data,
            settings.names,
            settings.batch,
            epochs,
            settings.seed if self._continuation.progress is None else self._continuation.progress.seed,
            label=settings.label,
            floats=floats,
        )
        ends = (settings.steps, settings.time, settings.target, settings.tol, settings.gtol)
        if feed.endless and all(end is None for end in ends):
            raise LineError(f"{settings.label} never ends: say when to stop, with steps or time.")
        return feed

    def run(self, asked: RunControl, on_progress: Callable[[Step], None] | None) -> Minimized:
        """All of it, telling `on_progress` where it stands after each chunk."""
        for step in self.steps(asked):
            if on_progress is not None:
                on_progress(self.watched_step(step))
        return self.finish()

    def steps(self, asked: RunControl) -> Generator[Step, None, None]:
        """Where the run stands, after each chunk."""
        self._engines.waiting = CompileWaiter(asked, self._telling(asked))
        position = self._begun()
        self._note_unconnected(self._engines.loop.connected, self._engines.record)
        self._engines.forget()
        if not self._goes_on:
            self._compilation.begin_optimizer()
        position = self._gone_on(position)
        best = float(self._series[0].values.min(initial=math.inf))
        while True:
            over = self._batches is not None and self._batches.over
            if over or position.step >= self.limit or self._told_to_stop(position, asked):
                break
            end = self._engines.plan(position.step, self.limit, EXACT)
            began = position.step
            try:
                chunk = self._engines.advance(position, end)
            except StopRequested:
                continue
            position = chunk.position
            if chunk.verdict != GO:
                position = self._stopped(chunk)
                break
            self._record(chunk)
            if chunk.last < began:
                continue  # the data were over
            best = min(best, float(chunk.series[0].values.min()))
            yield self._step(chunk.last, chunk.loss, best)
            if self._continuation.due():
                self._continuation.save(self._progress(position))
            with contextlib.suppress(StopRequested):
                self._engines.reconsider(position, self.limit)
        if self._batches is not None and (self._batches.over or [position.step] == self._totals):
            self.reason = StopReason.EPOCHS if self.reason is StopReason.STEPS else self.reason
        self._save(position)
        position = self._evaluated(position)
        self._keep_best(position)
        if self.reason is not StopReason.INTERRUPTED:  # whose listener may be the one who pressed
            loss = float(self._final.loss)
            yield self._step(position.step, loss, min(best, loss) if math.isfinite(loss) else loss)

    def _begun(self) -> Position:
        """With all random numbers seeded, and the first loop built."""
        step, seed = self._continuation.step, self.settings.seed
        self._seed(step)
        self.selection.lift()
        if seed is None or self._goes_on:
            return self._engines.start(step)
        states = RandomStates(self.program, self.namespace)
        states.reseed(seed)
        position = self._engines.start(step)
        if self._engines.engine != "eager":
            # The graph tells of more, those of modules that the program calls.
            states.reseed(seed, self._engines.loop.kept)
        return position

    def _told_to_stop(self, position: Position, asked: RunControl) -> bool:
        told, self.paused = asked(), asked.paused
        if told is not None:
            self.reason = told
        elif (
            self.settings.time is not None
            and position.step > self._began  # not before the first steps, however long these took to compile
            and self.seconds >= self.settings.time
        ):
            self.reason = StopReason.TIME
        return self.reason is not StopReason.STEPS

    def _telling(self, asked: RunControl) -> Callable[[str], None]:
        """Tell the display what the run waits for."""

        def tell(engine: str) -> None:
            steps, losses = self._series[0].steps, self._series[0].values
            step = int(steps[-1]) if len(steps) else self._continuation.step
            loss, best = (losses[-1], losses.min()) if len(steps) else (math.nan, math.nan)
            self.paused = asked.paused
            asked.show(replace(self.watched_step(self._step(step, loss, best)), compiling=engine))

        return tell

    def _step(self, step: int, loss: float, best: float) -> Step:
        steps = 0 if self.limit == UNLIMITED else self.limit
        epoch = (0, 0)
        if self._batches is not None and (length := self._batches.feed.steps_per_epoch):
            epoch = min(step, self.limit - 1) // length + 1, -(-self.limit // length)
        compiling = "xla" if self._engines.xla_begun else ""
        return Step(step, steps, loss, best, self.seconds, self._engines.engine, *epoch, compiling=compiling)

    def _record(self, chunk: Chunk) -> None:
        for series, recorded in zip(self._series, chunk.series, strict=True):
            if len(recorded.steps):
                series.drop_from(int(recorded.steps[0]))
                series.extend(recorded.steps, recorded.values)

    def _stopped(self, chunk: Chunk) -> Position:
        """After a chunk that a rule ended: back to the step that the rule speaks of."""
        self.reason = REASONS[chunk.verdict]
        lost = chunk.verdict == LOSS_LOST
        if self.reason is StopReason.DIVERGED:
            self.divergence = Divergence(chunk.last, "loss" if lost else "gradient", chunk.loss)
        return self._back_to(chunk, max(chunk.last - lost, self._began))

    def _back_to(self, chunk: Chunk, step: int) -> Position:
        repeated = self._engines.loop.stopped(chunk, step)
        self._record(repeated)
        for series in self._series:
            series.drop_from(step)
        return Position(step, repeated.position.memory, repeated.position.best)

    def _evaluated(self, position: Position) -> Position:
        """Evaluate where the run ended, which may still be beyond what is finite, or within a rule."""
        self._final = final = self._engines.final()
        rules = self._rules()
        verdict = int(rules.check(position.step, final.loss, final.gradients, position.memory)[0])
        loss = float(final.loss)
        if verdict == LOSS_LOST and self.divergence is None:
            self.reason = StopReason.DIVERGED
            self.divergence = Divergence(position.step, "loss", loss)
            if position.step > self._began:
                nothing = (Recorded(np.zeros(0, np.int64), np.zeros(0)),) * len(self._series)
                chunk = Chunk(position, verdict, nothing, loss, position.step - 1)
                position = self._back_to(chunk, position.step - 1)
                self._save(position)
                self._final = final = self._engines.final()
        elif verdict == GRADIENT_LOST and self.divergence is None:
            self.reason = StopReason.DIVERGED
            self.divergence = Divergence(position.step, "gradient", loss)
        elif verdict != GO and self.reason in (StopReason.STEPS, StopReason.EPOCHS):
            self.reason = REASONS[verdict]
        numbers = [float(number) for number in (final.loss, *final.tracked)]
        for series, number in zip(self._series, numbers, strict=True):
            series.extend(np.array([position.step]), np.array([number]))
        return position

    def _keep_best(self, position: Position) -> None:
        """Put the values at the lowest loss back, if that was asked for and is not where the run ended."""
        if self.settings.keep != "best" or not position.best:
            return
        lowest, *values = position.best
        if not float(lowest) < float(self._final.loss):
            return
        self._kept_best = float(lowest)
        self._engines.reset()
        assign_all(zip(self._engines.loop.kept, values, strict=True))
        self._final = self._engines.final()

    # -- the optimizer, and what the loop does besides --------------------------------------------

    def _optimizer_for(self, leaves: Sequence[Leaf]) -> Any:
        self._built = self._built_for(leaves)
        return self._built

    def _built_for(self, leaves: Sequence[Leaf]) -> Any:
        """For what has a gradient; refuses if that is nothing."""
        if not leaves:
            self._refuse_unconnected(self._engines.reason, self._engines.record)
        wanted = self._continuation.optimizer_for(self.optimizer)
        optimizer, fresh = optimizers.built_for(wanted, [leaf.owner for leaf in leaves])
        if fresh and optimizers.is_optimizer(self.settings.optimizer):
            note = "the optimizer belongs to other variables; a fresh one with its settings was used"
            if note not in self.notes:
                self.notes.append(note)
        return optimizer

    @property
    def _optimizer_in_use(self) -> Any:
        return self._compilation.built_optimizer or self._built

    def _plan_for(self, leaves: Sequence[Leaf]) -> LoopOptions:
        limits = [self._limits.get(id(leaf.value), (None, None)) for leaf in leaves]
        return LoopOptions(
            self._rules(),
            self.settings.keep == "best",
            tuple(low for low, _ in limits),
            tuple(high for _, high in limits),
            careful=not self._compilation.repeatable,
        )

    # -- earlier and later runs ----------------------------------------------------------------------

    def _gone_on(self, begun: Position) -> Position:
        """Where an earlier run left off, if this one goes on from there."""
        loop, progress = self._engines.loop, self._continuation.progress
        names = [leaf.name for leaf in self.leaves]
        position = self._continuation.go_on(begun, names, loop.moved, self._optimizer_in_use)
        self._began = position.step
        if progress is None:
            return position
        self._engines.reset()
        self.start_values = [np.array(value) for value in progress.starts]
        pairs = list(zip(progress.series[::2], progress.series[1::2], strict=True))
        earlier = dict(zip(("", *progress.tracked), pairs, strict=True))
        # What is tracked only now begins now.
        self._series = [Series(*earlier.get(name, ())) for name in ("", *self.settings.track)]
        if self.settings.lr is not None:
            self._optimizer_in_use.learning_rate = self.settings.lr
        if position.step >= self.limit:
            more = "--steps" if self._batches is None or self.settings.steps is not None else "--epochs"
            self.notes.append(f"the run stands at step {position.step:,} already: raise {more} to go on")
        return position

    def _progress(self, position: Position) -> SavedRun:
        return SavedRun(
            position.step,
            self._batches.feed.seed if self._batches is not None else 0,
            [tensor.numpy() for tensor in position.memory],
            [tensor.numpy() for tensor in position.best],
            [array for series in self._series for array in (series.steps, series.values)],
            self.start_values,
            self.settings.track,
        )

    def _save(self, position: Position) -> None:
        """Where the run ended, for a later one."""
        progress = self._progress(position)
        self._continuation.save(progress)
        self._trail = self._trail_of(progress)

    def _trail_of(self, progress: SavedRun) -> Trail:
        """For a later run: what the last evaluation, the best step and the user's floats will hide."""
        kept = self._engines.loop.kept
        stay = [leaf.value for leaf in self.leaves] if self.settings.keep == "last" else []
        stay = [one for one in stay if not any(one is lifted for lifted in self._made_lifted)]
        changing = [one for one in kept if not any(one is other for other in stay)]
        values = [(variable, variable.read_value()) for variable in changing]
        made = self._compilation.made
        over = [leaf.value for leaf in self.leaves]
        fresh = self._continuation.fresh if made is None else made.fresh
        return Trail(progress, self._optimizer_in_use, self._made_lifted, values, over, fresh)

    def _remember(self) -> None:
        """Leave the compiled loops for the next run of the same cell, if they can be used again."""
        made = self._compilation.made
        if self._cache is None or self._key is None or made is None or not made.traced.reusable:
            return
        if self.settings.seed is not None and not made.traced.repeatable:
            return  # what seeds the numbers of an operation is part of the trace
        if self._made_lifted and made.optimizer is self.settings.optimizer and not self.settings.made_here:
            return  # a float is another variable in each run, and the user's optimizer belongs to one
        for loop in [*made.loops.values(), *(loop for loop, _ in made.begun.values())]:
            loop.release()
        made.lifted = self._made_lifted
        own = [leaf.value for leaf in made.leaves if not any(leaf.value is one for one in made.lifted)]
        self._cache.put(self._key, made, own[0] if own else None)

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> Minimized:
        """Leave the program's names at the final values, and report."""
        value = self._engines.finish(self._final)
        self._remember()
        owners = [
            leaf.value for leaf in self.leaves if not any(leaf.value is one for one in self._made_lifted)
        ]
        self._continuation.leave(self._trail, owners[0] if owners else None)
        self.notes += self._continuation.notes
        result = self._report(self._engines, self._engines.compile_seconds, self._gradient_norms())
        return Minimized(result, value)

    def _gradient_norms(self) -> list[float | None]:
        gradients = iter(self._final.gradients)
        return [norm_of(next(gradients)) if has else None for has in self._engines.loop.connected]
