"""Schedules of the learning rate: from the step, the run's length, or the losses to the rate of a step."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tape_magic.engine.minimization.settings import plateau_factor
from tape_magic.errors import LineError, describe_error

RISE, DECAY, LEAST = 0.45, 0.1, 1e-3
"""The share of a cycle in which the rate rises, and in which it falls again; the part of the highest rate
that it begins with and comes back to; and the part that it ends with."""

PATIENCE, MIN_DELTA, STRETCH = 10, 1e-4, 10
"""After so many epochs without a loss lower by so much, a plateau's rate falls; without data, a stretch of so
many steps counts as an epoch, and the loss has to be lower by that share of the best."""

_NONE = sys.float_info.max
"""Stands for the best loss before there is any: state that is not finite would be taken for a divergence."""

LARGEST_TABLE = 10**6
"""The most steps for which a function is called that TensorFlow cannot compute."""


class Schedule(Protocol):
    """Gives the rate of a step.

    Attributes
    ----------
    name
        What reports call it, and what a checkpoint has to have in common with a run that goes on from it.
    needs_length
        Whether the rate depends on the length of the run.
    variables
        Its state.
    """

    name: str
    needs_length: bool
    variables: Sequence[Any]

    def rate(self, base: Any, step: Any, length: Any) -> Any:
        """Return the rate of a step, a float32 scalar.

        Parameters
        ----------
        base
            The rate of the optimizer, float32 scalar.
        step, length
            The steps before this one, and the steps of the run, int64 scalars.
        """

    def observe(self, loss: Any, step: Any, place: Any) -> None:
        """Take note of the loss of a step before its rate is asked for.

        `place` has the epoch of its batch, the place in it, and the rows; ``None`` without data.
        """

    def in_words(self, base: float, length: int, last: float) -> str:
        """Return the sentence of a report; `last` is the rate of the last step."""


class _Stateless:
    """A schedule without state, which needs no losses."""

    variables: Sequence[Any] = ()

    def observe(self, loss: Any, step: Any, place: Any) -> None:
        """Do nothing."""


class Cosine(_Stateless):
    """Half of a cosine, from the rate of the optimizer at the first step to 0 after the last.

    The rate is base·(1 + cos(π·step/length))/2, without restarts: I. Loshchilov and F. Hutter, "SGDR:
    Stochastic gradient descent with warm restarts", ICLR (2017). It equals
    ``keras.optimizers.schedules.CosineDecay(base, length)``.

    >>> float(Cosine().rate(0.5, 250, 1000))                                   # doctest: +SKIP
    0.42677671
    """

    name, needs_length = "cosine", True

    def rate(self, base: Any, step: Any, length: Any) -> Any:
        """Return the rate of a step."""
        import tensorflow as tf

        whole = tf.cast(length, tf.float32)
        share = tf.minimum(tf.cast(step, tf.float32), whole) / whole
        return base * (0.5 * (1.0 + tf.cos(tf.constant(math.pi, tf.float32) * share)))

    def in_words(self, base: float, length: int, last: float) -> str:
        """Return the sentence of a report."""
        return f"the rate followed a cosine from {base:.4g} to 0 over {length:,} steps{_ended(last)}"


class OneCycle(_Stateless):
    """One cycle: the rate rises to that of the optimizer, falls back, and then far below.

    It rises linearly from a tenth over 45 % of the run, falls as long to a tenth again, and over the rest to
    a thousandth: L. N. Smith, "A disciplined approach to neural network hyper-parameters: Part 1",
    arXiv:1803.09820 (2018), section 4.2, whose cycle is a bit shorter than the run, and after which the rate
    goes on to fall by some orders of magnitude. The momentum stays as it is.

    >>> [float(OneCycle().rate(1.0, step, 100)) for step in (0, 45, 90, 100)]  # doctest: +SKIP
    [0.1, 1.0, 0.1, 0.001]
    """

    name, needs_length = "one-cycle", True

    def rate(self, base: Any, step: Any, length: Any) -> Any:
        """Return the rate of a step."""
        import tensorflow as tf

        share = tf.cast(tf.minimum(step, length), tf.float64) / tf.cast(length, tf.float64)
        peak = tf.abs(share - RISE) / RISE
        cycle = 1 - (1 - DECAY) * peak
        after = DECAY + (LEAST - DECAY) * (share - 2 * RISE) / (1 - 2 * RISE)
        part = tf.where(share <= 2 * RISE, cycle, after)
        return tf.cast(tf.cast(base, tf.float64) * part, tf.float32)

    def in_words(self, base: float, length: int, last: float) -> str:
        """Return the sentence of a report."""
        return (
            f"the rate followed one cycle over {length:,} steps: from {DECAY * base:.4g} up to {base:.4g}, "
            f"back, and down to {LEAST * base:.4g}{_ended(last)}"
        )


class Plateau:
    """Lowers the rate by a factor where the loss does not fall.

    As ``keras.callbacks.ReduceLROnPlateau`` does by default: after 10 epochs in a row without a mean loss
    that is lower than the lowest before by more than 0.0001. Without data, 10 steps count as an epoch, and
    the loss has to be lower by 0.0001 of the lowest before. Means are taken over the rows of an epoch, in
    float64.

    Once :meth:`note` is told a metric, such as a loss over validation data, only that counts.

    Parameters
    ----------
    factor
        What the rate is multiplied by, between 0 and 1.

    >>> plateau = Plateau(0.5)                                                 # doctest: +SKIP
    >>> for epoch in range(12): plateau.note(1.0)                              # doctest: +SKIP
    >>> float(plateau.rate(0.1, 0, 0))                                         # doctest: +SKIP
    0.05
    """

    needs_length = False

    def __init__(self, factor: float) -> None:
        import tensorflow as tf

        self._factor, self._patience = factor, ""
        self.name = f"plateau:{factor:g}"
        # The best mean, epochs since then, how often the rate was lowered; the sum of the epoch that goes on,
        # its rows, its number; and whether a metric was told.
        begin = [_NONE, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0]
        self._memory = tf.Variable(tf.constant(begin, tf.float64), trainable=False)
        self.variables: Sequence[Any] = [self._memory]

    def rate(self, base: Any, step: Any, length: Any) -> Any:
        """Return the rate of a step."""
        import tensorflow as tf

        part = tf.pow(tf.constant(self._factor, tf.float64), self._memory.read_value()[2])
        return tf.cast(tf.cast(base, tf.float64) * part, tf.float32)

    def observe(self, loss: Any, step: Any, place: Any) -> None:
        """Add the loss of a step to its epoch, and judge the epoch before where that is over."""
        import tensorflow as tf

        if not self._patience:  # a look at the loss after the run has no place
            self._patience = f"{PATIENCE * STRETCH} steps" if place is None else f"{PATIENCE} epochs"
        *judged, total, rows, epoch, told = tf.unstack(self._memory.read_value())
        here = tf.cast(step // STRETCH if place is None else place[0], tf.float64)
        weight = tf.constant(1.0, tf.float64) if place is None else tf.cast(place[2], tf.float64)
        over = tf.not_equal(here, epoch)
        counts = over & (rows > 0) & tf.equal(told, 0.0)
        mean = total / tf.maximum(rows, 1.0)
        after = self._judged(mean, judged, relative=place is None)
        judged = [tf.where(counts, new, old) for new, old in zip(after, judged, strict=True)]
        total = tf.where(over, tf.zeros_like(total), total) + weight * tf.cast(loss, tf.float64)
        rows = tf.where(over, tf.zeros_like(rows), rows) + weight
        self._memory.assign(tf.stack([*judged, total, rows, here, told]))

    def note(self, metric: float) -> None:
        """Judge a metric at the end of an epoch; from then on, the losses of steps do not count."""
        import tensorflow as tf

        *judged, total, rows, epoch, _ = tf.unstack(self._memory.read_value())
        judged = self._judged(tf.constant(metric, tf.float64), judged, relative=False)
        self._memory.assign(tf.stack([*judged, total, rows, epoch, tf.ones_like(total)]))

    def _judged(self, mean: Any, judged: Sequence[Any], *, relative: bool) -> list[Any]:
        """Return the best mean, the epochs since then, and how often the rate was lowered."""
        import tensorflow as tf

        best, waited, lowered = judged
        least = tf.where(best < _NONE, tf.abs(best), 0.0) if relative else 1.0
        better = mean < best - MIN_DELTA * least
        waited = tf.where(better, tf.zeros_like(waited), waited + 1)
        lower = waited >= PATIENCE
        return [
            tf.where(better, mean, best),
            tf.where(lower, tf.zeros_like(waited), waited),
            lowered + tf.cast(lower, tf.float64),
        ]

    def in_words(self, base: float, length: int, last: float) -> str:
        """Return the sentence of a report."""
        times = int(self._memory[2])
        if not times:
            return f"the rate stayed at {base:.4g}: no {self._patience} in a row were without a lower loss"
        often = {1: "once", 2: "twice"}.get(times, f"{times:,} times")
        return (
            f"the rate was lowered {often} by {self._factor:g} after {self._patience} without a lower loss, "
            f"from {base:.4g} to {last:.4g}"
        )


class Given(_Stateless):
    """A schedule of Keras's, or a function of the step.

    A function is given the number of steps before this one as a float32 scalar tensor. One that TensorFlow
    cannot compute, since it calls ``math.exp``, is called for each step of the run before it begins.

    Parameters
    ----------
    schedule
        The object or function. It gives the rate itself.
    """

    needs_length = False

    def __init__(self, schedule: Any) -> None:
        import keras
        import tensorflow as tf

        self.schedule = schedule
        self._table: Any = None
        of_keras = isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule)
        kind = type(schedule).__name__ if of_keras else getattr(schedule, "__name__", "a function")
        self.name = "a function of the step" if kind == "<lambda>" else kind
        self._traced: Any = None
        self._failure: Exception | None = None
        try:
            dtype = tf.int64 if of_keras else tf.float32
            self._traced = tf.function(lambda step: _scalar(schedule(tf.cast(step, dtype))))
            first = self._traced(tf.constant(0, tf.int64))
        except Exception as error:
            self._failure, self._traced = error, None
            self.needs_length = True
            first = self._called(0)
        if not math.isfinite(float(first)) or float(first) < 0:
            raise LineError(
                f"--schedule: {self.name} gives {float(first):g} at step 0; give rates of 0 or more."
            )

    def _called(self, step: int) -> float:
        try:
            return float(self.schedule(step))
        except Exception as error:
            what = describe_error(error)
            raise LineError(f"--schedule: {self.name} fails at step {step}: {what}.") from None

    def fits(self, length: int) -> bool:
        """Return whether the rates of a run of this length are known, or can be computed in the run."""
        return self._failure is None or (self._table is not None and self._table.shape[0] >= length)

    def tabulate(self, length: int) -> None:
        """Call a function that TensorFlow cannot compute for each step of a run."""
        import tensorflow as tf

        if self._failure is None or self.fits(length):
            return
        if length > LARGEST_TABLE:
            raise LineError(
                f"--schedule: TensorFlow cannot compute {self.name} ({describe_error(self._failure)}), and "
                "the run is too long to call it for each step before: use tf functions, or lower --steps."
            )
        rates = [self._called(step) for step in range(length)]
        self._table = tf.Variable(tf.constant(rates or [0.0], tf.float32), trainable=False)

    def rate(self, base: Any, step: Any, length: Any) -> Any:
        """Return the rate of a step."""
        import tensorflow as tf

        if self._traced is not None:
            return self._traced(tf.cast(step, tf.int64))
        last = tf.cast(tf.shape(self._table)[0] - 1, tf.int64)
        return tf.gather(self._table.read_value(), tf.minimum(tf.cast(step, tf.int64), last))

    def in_words(self, base: float, length: int, last: float) -> str:
        """Return the sentence of a report."""
        return f"the rate followed {self.name}{_ended(last)}"


def _scalar(value: Any) -> Any:
    import tensorflow as tf

    return tf.cast(tf.reshape(value, []), tf.float32)


def _ended(last: float) -> str:
    return f"; at the last step it was {last:.4g}"


KINDS: dict[str, Callable[[], Schedule]] = {"cosine": Cosine, "one-cycle": OneCycle}


def schedule_of(given: Any) -> Schedule | None:
    """Return the schedule that a setting means, one that passed the checks of the settings.

    >>> schedule_of("one-cycle").name
    'one-cycle'
    """
    if given is None:
        return None
    if not isinstance(given, str):
        return Given(given)
    kind: Callable[[], Schedule] | None = KINDS.get(re.sub(r"[_ ]", "-", given.lower()))
    if kind is not None:
        return kind()
    return Plateau(plateau_factor(given))
