"""What earlier runs left for this one, and what this one leaves for later ones."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.composite import (
    Composite,
    begin_schedule,
    continued,
    kind_of,
    note_rates,
    parts_of,
    rates_in_words,
    set_rate,
)
from tape_magic.engine.minimization.data.feed import Feed
from tape_magic.engine.minimization.data.pipelines import Pipelines
from tape_magic.engine.minimization.keras_loop.checkpoint import Checkpoints, SavedRun, packed, unpacked
from tape_magic.engine.minimization.keras_loop.compiled_program import CompiledProgram
from tape_magic.engine.minimization.keras_loop.default_optimizer import undecided
from tape_magic.engine.minimization.keras_loop.protocol import Loop
from tape_magic.engine.minimization.keras_loop.way_back import Position
from tape_magic.engine.minimization.log import UNLIMITED, RunLog
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.reuse import LoopCache
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.minimization.steppers import method_name
from tape_magic.engine.minimization.wanted_optimizer import optimizer_of
from tape_magic.errors import LineError


@dataclass(frozen=True, eq=False)
class Trail:
    """The trail of a run in this process, for a run that goes on from it.

    Attributes
    ----------
    saved
        How far the run came.
    optimizer
        The optimizer, with its state.
    lifted
        The variables that stood for floats and arrays.
    values
        Variables with what they held before the last evaluation, where they hold something else by now.
    over
        All variables that were minimised over.
    fresh
        What the optimizer's own variables held at first; empty for an optimizer of the user's.
    """

    saved: SavedRun
    optimizer: Any
    lifted: Sequence[Any]
    values: Sequence[tuple[Any, Any]]
    over: Sequence[Any]
    fresh: Sequence[Any]


def trail_of(saved: SavedRun, problem: Problem, loop: Loop, optimizer: Any, fresh: Sequence[Any]) -> Trail:
    """Return the trail of a run, before the last evaluation and the best step change the variables.

    Parameters
    ----------
    saved
        How far the run came.
    problem, loop, optimizer
        What was minimised, by which loop and optimizer.
    fresh
        See :class:`Trail`.
    """
    over = [leaf.value for leaf in problem.leaves]
    as_they_are = problem.settings.keep != "best" and not optimizers.keeps_averages(optimizer)
    stay = problem.lifted.without(over) if as_they_are else []
    changing = [one for one in loop.kept if not any(one is other for other in stay)]
    values = [(variable, variable.read_value()) for variable in changing]
    return Trail(saved, optimizer, problem.lifted.made, values, over, fresh)


def saved_run(position: Position, problem: Problem, log: RunLog, seed: int) -> SavedRun:
    """Return how far a run came; `seed` is that of the order of the data, 0 without data."""
    return SavedRun(
        position.step,
        seed,
        [tensor.numpy() for tensor in position.memory],
        [np.asarray(tensor) for tensor in position.best],
        log.arrays_before(position.step),
        problem.start_values,
        problem.settings.track,
        [] if log.means is None else log.means.arrays,
        [] if log.validation is None else log.validation.arrays,
    )


class Continuation:
    """Takes up what earlier runs left, and leaves the same for later runs.

    Parameters
    ----------
    problem
        What is minimised; the earlier run's variables for floats and arrays become its own.
    cache
        Where earlier runs of the same program in this process are; ``None`` for a run that leaves nothing.

    Attributes
    ----------
    made
        What an earlier run compiled; ``None`` where nothing fits.
    wanted
        The optimizer that the settings mean; ``None`` where that depends on what is minimised over.
    saved
        How far the run came that this one goes on from; ``None`` for a run that begins anew.
    pipelines
        What was traced for pipelines over the data.

    Raises :class:`LineError` for what is no optimizer, and if there is nothing to go on from; and what
    :class:`Checkpoints` raises.
    """

    def __init__(self, problem: Problem, cache: LoopCache | None) -> None:
        settings = problem.settings
        self._problem, self._cache = problem, cache
        self.made: CompiledProgram | None = None
        if cache is not None and problem.key is not None:
            self.made = cache.get(problem.key)
        self.wanted = _wanted(settings, self.made)
        self._key = ("trail", problem.trail_key) if problem.trail_key is not None else None
        self._checkpoints: Checkpoints | None = None
        self._trail: Trail | None = None
        self._limit = UNLIMITED
        self.saved: SavedRun | None = None
        together = problem.together
        if settings.checkpoint is not None:
            if together is None or together.leads:
                self._checkpoints = Checkpoints(settings.checkpoint, resume=settings.resume)
                self.saved = self._checkpoints.saved
        elif settings.resume:
            found = cache.get(self._key) if cache is not None and self._key is not None else None
            if not isinstance(found, Trail):
                raise _nothing("it has not run, or its text was changed since")
            self._trail, self.saved = found, found.saved
            if self.made is None or self.made.graph.optimizer is not found.optimizer:
                # The loops are those of another run than the one to go on from, with another optimizer.
                self.made, self.wanted = None, _wanted(settings, None)
                problem.lifted.reuse(found.lifted)
        if together is not None and settings.resume:
            self.saved = unpacked(together.bytes_of_first(None if self.saved is None else packed(self.saved)))
        self.pipelines = Pipelines() if self.made is None else self.made.pipelines
        if self.made is not None:
            problem.lifted.reuse(self.made.lifted)

    @property
    def step(self) -> int:
        """The step that the run begins at."""
        return 0 if self.saved is None else self.saved.step

    @property
    def same(self) -> bool:
        """Whether another run, in another process, has to give the same bits."""
        return self._problem.settings.checkpoint is not None

    @property
    def fresh(self) -> Sequence[Any]:
        """The first values of the optimizer's own variables, in the run that this one goes on from."""
        return () if self._trail is None else self._trail.fresh

    @property
    def optimizer(self) -> Any:
        """The optimizer to run with: the earlier run's, or else the wanted one.

        Raises :class:`LineError` if the earlier run's is of another class than the wanted one.
        """
        if self._trail is None:
            return self.wanted
        if self.wanted is None:
            return self._trail.optimizer
        earlier, reused = self._trail.optimizer, self.made is not None
        if list(map(type, parts_of(earlier))) != list(map(type, parts_of(self.wanted))):
            raise _nothing(f"it ran with {kind_of(earlier)}")
        return earlier if reused else continued(earlier, self.wanted)

    def go_on(self, begun: Position, variables: Sequence[Any], optimizer: Any) -> Position:
        """Put back what the earlier run left, and return where it stood.

        Parameters
        ----------
        begun
            The position of a run that begins anew.
        variables, optimizer
            As in :meth:`Checkpoints.attach`.
        """
        self._problem.at_close.callback(note_rates(optimizer))
        position = self._gone_on(begun, variables, optimizer)
        begin_schedule(optimizer, position.step, self._limit)
        return position

    def _gone_on(self, begun: Position, variables: Sequence[Any], optimizer: Any) -> Position:
        if self._checkpoints is not None:
            names = [leaf.name for leaf in self._problem.leaves]
            self._checkpoints.attach(names, variables, optimizer)
        if self._trail is not None:
            here = {id(variable) for variable in variables}
            if not all(id(variable) in here for variable in self._trail.over):
                raise _nothing("it ran over other variables")
            for variable, value in self._trail.values:
                variable.assign(value)
        if self.saved is None:
            return begun
        self._problem.start_values = [np.array(value) for value in self.saved.starts]
        if self._problem.settings.lr is not None:
            set_rate(optimizer, self._problem.settings.lr)
        memory = _fitting(self.saved.memory, begun.memory)
        return Position(self.saved.step, memory, _fitting(self.saved.best, begun.best))

    def settle_length(self, limit: int) -> None:
        """Tell a schedule the most steps of the run.

        Raises :class:`LineError` where the schedule depends on that, and nothing but the time or an unknown
        number of batches ends the run.
        """
        known = limit < UNLIMITED and not self._problem.settings.unbounded
        self._limit = limit
        here = self.made.graph.optimizer if self.made is not None else None
        for optimizer in (self.wanted, here):
            if isinstance(optimizer, Composite) and not optimizer.prepare(limit, known=known):
                self.made = None
        if self.made is None and self.wanted is here is not None:
            self._begin_anew()

    def fitting(self, spec: Any, *, by_epoch: bool) -> CompiledProgram | None:
        """Return what an earlier run compiled; ``None`` where it is not for data of such a spec."""
        if self.made is not None and not self.made.takes(spec, by_epoch=by_epoch):
            self._begin_anew()
        return self.made

    def _begin_anew(self) -> None:
        """Leave what an earlier run compiled, and its optimizer, which belongs to it."""
        self.made, self.wanted = None, _wanted(self._problem.settings, None)
        self.settle_length(self._limit)

    def due(self) -> bool:
        """Return whether it is time to save."""
        return self._checkpoints is not None and self._checkpoints.due()

    def save(self, saved: SavedRun) -> None:
        """Save into the folder, if there is one."""
        if self._checkpoints is not None:
            self._checkpoints.save(saved)

    def leave(self, trail: Trail, made: CompiledProgram | None) -> None:
        """Leave where the run ended, and what it compiled, for later runs in this process.

        An optimizer whose rate followed a schedule is given its own back.
        """
        problem, settings = self._problem, self._problem.settings
        problem.notes += rates_in_words(trail.optimizer)
        if self._checkpoints is not None:
            if settings.resume and self.saved is None:
                problem.notes.append(
                    f"{settings.checkpoint} holds no checkpoint yet: the run began at step 0"
                )
            if self._checkpoints.trouble:
                problem.notes.append(self._checkpoints.trouble)
        if self._cache is None:
            return
        if made is not None and problem.key is not None and made.fits_next_run(problem):
            made.release(problem.lifted.made)
            made.pipelines = self.pipelines
            self._cache.put(problem.key, made, problem.owner)
        if self._key is not None:
            self._cache.put(self._key, trail, problem.owner)


def feed_of(problem: Problem, continuation: Continuation) -> Feed:
    """Return the batches of a run, in the order of the run that it goes on from.

    Raises :class:`LineError` for data without an end where nothing else ends the run, for a method of this
    package over several batches, and what :class:`Feed` raises.
    """
    settings, saved, seed = problem.settings, continuation.saved, problem.settings.seed
    if problem.together is not None and seed is None and saved is None:
        seed = int(problem.together.agree(secrets.randbits(32))[0, 0])
    feed = Feed(
        settings.data,
        settings.names,
        settings.batch,
        # Without a number of epochs, a number of steps says when it is over.
        settings.epochs or (1 if settings.steps is None else 2**31),
        seed if saved is None else saved.seed,
        label=settings.label,
        floats="float64" if problem.selection.dtype == "float64" else None,
        pattern=settings.pattern,
        pipelines=continuation.pipelines,
    )
    if feed.endless and settings.without_end:
        raise LineError(f"{settings.label} never ends: say when to stop, with steps or time.")
    if (name := method_name(continuation.wanted)) and feed.steps_per_epoch != 1:
        raise LineError(
            f"--for goes with Keras optimizers; {name} needs one loss over all of the data at each step: "
            "give the data as one batch."
        )
    return feed


def _wanted(settings: Settings, made: CompiledProgram | None) -> Any:
    """Return the optimizer that the settings mean."""
    # Keras takes several milliseconds to make an optimizer, and one of that name is there already. Besides,
    # 73 kB of each one that was made stay in the process (Keras 3.15 with TensorFlow 2.21).
    if made is not None and isinstance(settings.optimizer, str):
        return made.graph.optimizer
    if undecided(settings):
        return None
    return optimizer_of(settings)


def _nothing(why: str) -> LineError:
    return LineError(
        f"--resume: there is no run of this cell to go on from: {why}; "
        "run it without --resume, or give the --checkpoint of an earlier run."
    )


def _fitting(saved: Sequence[Any], begun: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what was saved, unless the rules are other ones now."""
    import tensorflow as tf

    same = len(saved) == len(begun) and all(
        one.shape == tuple(other.shape) for one, other in zip(saved, begun, strict=True)
    )
    if not same:
        return begun
    return tuple(tf.constant(one, other.dtype) for one, other in zip(saved, begun, strict=True))
