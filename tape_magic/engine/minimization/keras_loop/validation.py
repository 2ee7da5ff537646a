"""The validation of a run over data, at the end of each epoch."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.engine.minimization.composite import note
from tape_magic.engine.minimization.control import RunControl, StopRequested
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.data.feed import Feed, is_columns
from tape_magic.engine.minimization.keras_loop.continuation import Continuation, feed_of
from tape_magic.engine.minimization.keras_loop.engines import Engines
from tape_magic.engine.minimization.keras_loop.loop_builder import LoopBuilder
from tape_magic.engine.minimization.keras_loop.protocol import CHUNK_SECONDS, Final, Loop
from tape_magic.engine.minimization.keras_loop.validation_pass import EagerPass, GraphPass, Pass
from tape_magic.engine.minimization.keras_loop.way_back import Position
from tape_magic.engine.minimization.log import RunLog
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.minimization.validation_log import ValidationLog
from tape_magic.engine.process.interrupts import assign_all
from tape_magic.engine.program.program import Untraceable
from tape_magic.engine.program.training import TRAINING
from tape_magic.engine.static_analysis.literal_training import literal_training
from tape_magic.engine.tracing.failures import EngineRefused, compile_failures, trace_failures
from tape_magic.engine.values.copies import kept_copy
from tape_magic.engine.values.tensors import read_all
from tape_magic.errors import LineError, SourceError
from tape_magic.results.minimum import StopReason

_MANY_ROWS, _MANY_TIMES = 100_000, 100
"""A validation of more rows than these, and than so many times those that were trained on, has no end."""


def data_of(
    problem: Problem, log: RunLog, continuation: Continuation
) -> tuple[DataCursor | None, Validation | None]:
    """Return where a run stands in its data, and its validation; ``None`` where it has none."""
    settings = problem.settings
    if settings.data is None:
        return None, None
    feed = feed_of(problem, continuation)
    by_epoch = settings.val is not None and feed.steps_per_epoch is None
    log.over_data(feed.steps_per_epoch)
    if feed.total is not None:
        log.limit = min(feed.total, log.limit)
    cursor = DataCursor(feed, log.first_step, max(log.limit - log.first_step, 0), by_epoch=by_epoch)
    return cursor, None if settings.val is None else Validation(problem, log, cursor)


class Validation:
    """Validates a run at the end of each of its epochs.

    Parameters
    ----------
    problem, log
        What is minimised, over data and with a validation, and what the run records.
    cursor
        The data that are minimised over.

    Raises :class:`LineError` and :class:`SourceError` for data that cannot be validated on.
    """

    def __init__(self, problem: Problem, log: RunLog, cursor: DataCursor) -> None:
        self._problem, self._log, self._cursor = problem, log, cursor
        self._feed = _feed_of(problem, cursor.feed)
        self._pass: Pass | None = None
        self._optimizer: Any = None
        self._reached, self._slice = -1, 1
        log.validation = self.found = ValidationLog(problem.settings.track)
        problem.notes += _notes(problem)

    def begin(self, position: Position, builder: LoopBuilder, engines: Engines, control: RunControl) -> None:
        """Make ready, and validate an epoch that ends where the run begins.

        What cannot be evaluated is refused before the first step. Raises what the trace of a program raises.
        """
        self._optimizer = builder.optimizer
        with suppress(StopRequested):
            self._prepare(builder, engines)
            self.at_end_of_epoch(position, engines, control)

    def _prepare(self, builder: LoopBuilder, engines: Engines) -> None:
        import tensorflow as tf

        val = self._problem.settings.val
        began, first = time.perf_counter(), _first_of(self._feed)
        try:
            self._pass = self._pass_for(builder, engines, first)
        finally:
            engines.compile_seconds += time.perf_counter() - began
        # Each iterator changes what a pipeline shuffles: here are those of the validations before.
        shuffles = val is not None and isinstance(val.data, tf.data.Dataset)
        for _ in range(len(self.found) if shuffles else 0):
            DataCursor(self._feed, count=1)

    def _pass_for(self, builder: LoopBuilder, engines: Engines, first: DataCursor) -> Pass:
        problem, made = self._problem, builder.made
        if engines.engine == "eager" or made is None:
            return EagerPass(problem, engines.loop.moved)
        kept: dict[str, GraphPass] = made.validations
        fitting = [kind for kind, one in kept.items() if one.spec == self._feed.element_spec]
        kind = engines.engine
        if problem.settings.engine == "auto" and not builder.same and fitting:
            kind = fitting[0]  # compiled is worth more than fast
        if kind not in fitting:
            try:
                kept[kind] = self._compiled(kind, engines, first)
            except EngineRefused:
                kept[kind] = self._compiled("graph", engines, first)
            except Untraceable as error:
                raise LineError(f"--val: {error}.") from error
        return kept[kind]

    def _compiled(self, engine: str, engines: Engines, first: DataCursor) -> GraphPass:
        """Return a pass by an engine, compiled for a first batch.

        Raises :class:`EngineRefused` where XLA cannot compile it.
        """
        waiter, jit = engines.waiter, engine == "xla"
        with trace_failures(self._problem.program), waiter.tracing():
            made = GraphPass(self._problem, self._feed, jit=jit)
        waiter.lay_out(lambda: made.lay_out(first), engine)
        if jit and (begun := made.begin_to_compile(first)) is not None:
            waiter.wait(begun, engine)
            with compile_failures(engine, made.line_of):
                begun.check()
        return made

    # -- during the run ------------------------------------------------------------------------------

    def end_of_chunk(self, step: int, limit: int) -> int:
        """Return the step at which a chunk from a step has to end: no later than its epoch."""
        length = self._cursor.feed.steps_per_epoch
        return limit if length is None else min(limit, (step // length + 1) * length)

    def _due(self, position: Position) -> bool:
        """Return whether an epoch ends at a position, and is not validated yet."""
        length, step = self._cursor.feed.steps_per_epoch, position.step
        ends = self._cursor.over if length is None else step % length == 0
        return step > 0 and ends and not self.found.has(step)

    def at_end_of_epoch(self, position: Position, engines: Engines, control: RunControl) -> None:
        """Where an epoch ends, validate, decide whether the run ends by that, and begin the next epoch.

        Where the user ends the run meanwhile, the epoch is not validated here, but first of all by a run that
        goes on from here.
        """
        if self._due(position):
            try:
                self._validate(position, engines, control)
            except StopRequested:
                self._log.reason = control() or StopReason.STOPPED
                return
        if self._is_enough:
            self._log.reason = StopReason.PATIENCE
            return
        if self._cursor.over and self._cursor.epoch is not None and position.step > self._reached:
            self._reached = position.step  # after an epoch without a batch there is no other
            self._cursor.next_epoch()
            self._log.begin_epoch()

    def _validate(self, position: Position, engines: Engines, control: RunControl) -> None:
        settings, cursor = self._problem.settings, self._cursor
        self._log.end_epoch()
        numbers = self._evaluated(position, engines, control)
        length = cursor.feed.steps_per_epoch
        epoch = (cursor.epoch or 0) if length is None else position.step // length - 1
        note(self._optimizer, numbers[0])  # a plateau goes by it
        if self.found.add(epoch, position.step, numbers) and settings.keep == "best":
            self.found.values = [kept_copy(value) for value in read_all(engines.loop.kept)]

    @property
    def _is_enough(self) -> bool:
        """Whether the validation has been without a better one for as many epochs as were asked for."""
        patience = self._problem.settings.patience
        return patience is not None and len(self.found) > 1 and self.found.waited >= patience

    def _evaluated(self, position: Position, engines: Engines, control: RunControl) -> list[float]:
        """Return the mean loss and the means of what is tracked, over all of the data."""
        import tensorflow as tf

        assert self._pass is not None
        began, cursor, more = time.perf_counter(), DataCursor(self._feed), True
        sums = np.zeros(2 + len(self._problem.settings.track))
        shown = replace(self._log.last_step(engines.engine, ""), validating=True)
        try:
            with self._pass.undone():
                while more:
                    more, sums = self._advanced(cursor, sums)
                    self._refuse_endless(int(sums[-1]), position)
                    if control() is not None:
                        raise StopRequested
                    control.show(shown)
                if self._problem.together is not None:
                    sums = self._problem.together.summed(sums)
        except tf.errors.OpError as error:
            if self._feed.failure is not None or "IteratorGetNext" in str(error):
                raise cursor.failure(error) from None
            raise
        finally:
            self.found.seconds += time.perf_counter() - began
        if not sums[-1]:
            raise self._feed.nothing()
        return [float(number) for number in sums[:-1] / sums[-1]]

    def _refuse_endless(self, rows: int, position: Position) -> None:
        """Raise :class:`SourceError` where data of unknown length seem to go on for ever."""
        taken = position.step * (self._cursor.place or (0, 0, 0))[2]
        if self._feed.steps_per_epoch is None and rows > max(_MANY_ROWS, _MANY_TIMES * taken):
            raise SourceError(
                f"--val: {self._feed.label} goes on after {rows:,} rows, and the run has taken {taken:,}: "
                "if it never ends, give a list of some of its batches."
            )

    def _advanced(self, cursor: DataCursor, sums: Any) -> tuple[bool, Any]:
        """Go on for about the time of a chunk; several workers by as many batches as worker 0 takes in it."""
        assert self._pass is not None
        together = self._problem.together
        if together is None or not isinstance(self._pass, GraphPass):
            return self._pass.advance(cursor, sums)
        most = int(together.agree(self._slice)[0, 0])
        began = time.perf_counter()
        found = self._pass.advance(cursor, sums, most)
        pace = (time.perf_counter() - began) / most
        self._slice = max(1, min(4 * most, int(CHUNK_SECONDS / max(pace, 1e-9))))
        return found

    # -- at the end ----------------------------------------------------------------------------------

    def keep_best(self, position: Position, loop: Loop, final: Final) -> Final:
        """Put the values at the best validation back, if that was asked for; return the evaluation there."""
        problem, found = self._problem, self.found
        if problem.settings.keep != "best":
            return final
        if len(found.values) != len(loop.kept):
            problem.notes.append(
                "--keep best goes by the validation at the end of epochs, and there was none"
            )
            return final
        loop.reset()
        assign_all(zip(loop.kept, found.values, strict=True))
        if found.best_step == position.step and self._log.averaged is None:
            return final  # which has counted once more what the program counts itself
        problem.notes = [one for one in problem.notes if "(use_ema)" not in one]
        final = loop.final(counts=False)
        self._log.put_back = found.best_step or 0, float(final.loss)
        return final


def _first_of(feed: Feed) -> DataCursor:
    """Return a cursor over the first batch, which is read only where the length of the data is not known.

    Raises :class:`SourceError` where there is none.
    """
    import tensorflow as tf

    first = DataCursor(feed, count=1)
    try:
        if feed.steps_per_epoch is None and not first.ahead().has_value():
            raise feed.nothing()
    except tf.errors.OpError as error:
        raise first.failure(error) from None
    return first


def _feed_of(problem: Problem, train: Feed) -> Feed:
    """Return the batches of a validation, in the order of the data.

    Raises :class:`LineError` for data without an end, and for another form than that of the data of the run;
    and what :class:`Feed` raises.
    """
    settings, val = problem.settings, problem.settings.val
    assert val is not None
    if train.endless:
        raise LineError(
            f"--val goes by epochs, and {train.label} never ends: give it without repeat(), and --epochs."
        )
    feed = Feed(
        val.data,
        val.names,
        settings.batch if is_columns(val.data, val.names) else None,
        label=val.label,
        floats="float64" if problem.selection.dtype == "float64" else None,
        pattern=val.pattern,
        pipelines=train.pipelines,
        shuffles=False,
    )
    if feed.endless:
        raise LineError(f"--val: {val.label} never ends: leave out repeat(), or take(100) of it.")
    parts = dict(zip(feed.names, feed.element_spec[1], strict=True))
    for name, spec in zip(train.names, train.element_spec[1], strict=True):
        _refuse_unlike(name, spec, parts[name], train.label, val.label)
    return feed


def _refuse_unlike(name: str, spec: Any, own: Any, train: str, val: str) -> None:
    """Raise :class:`SourceError` where a part of a batch has another form than in the data of the run."""
    import tensorflow as tf

    try:
        tf.nest.assert_same_structure(spec, own)
    except (TypeError, ValueError):
        raise SourceError(f"--val: {name} is built otherwise in {val} than in {train}.") from None
    for one, other in zip(tf.nest.flatten(own), tf.nest.flatten(spec), strict=True):
        if one.dtype != other.dtype or not _of_rows(one).is_compatible_with(_of_rows(other)):
            raise SourceError(
                f"--val: {name} is {_form(one)} in {val}, and {_form(other)} in {train}: "
                "prepare both the same way."
            )


def _of_rows(spec: Any) -> Any:
    """Return the shape of a spec, of any number of rows."""
    import tensorflow as tf

    shape = tf.TensorShape(spec.shape)
    return shape if not shape.rank else tf.TensorShape([None]).concatenate(shape[1:])


def _form(spec: Any) -> str:
    """Return dtype and shape of a spec, as in ``float32 of (…, 28, 28)``."""
    shape = _of_rows(spec)
    if shape.rank is None:
        return str(spec.dtype.name)
    sizes = ["…" if size is None else str(size) for size in shape]
    return f"{spec.dtype.name} of ({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


def _notes(problem: Problem) -> list[str]:
    """Return what to say about how the program knows that it is validated."""
    found = [
        f"{place} says training=True, in the validation as well: say training=TRAINING"
        for place in literal_training(problem.text)[:1]
    ]
    if problem.settings.training == TRAINING and problem.training.hidden and problem.training.read:
        found.append(
            f"{TRAINING} is a variable of yours, also in the validation: del {TRAINING} to have ours"
        )
    return found
