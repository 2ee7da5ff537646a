"""Keras optimizers side by side, each for its variables, under one schedule and one limit of gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.minimization.schedules import Given, Plateau, Schedule
from tape_magic.engine.minimization.stop_rules import norm
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import tf_variable
from tape_magic.errors import LineError

Build = Callable[[Any, Sequence[Any]], Any]
"""Returns an optimizer, or a copy of it, with its slots for some variables."""


@dataclass(eq=False)
class Part:
    """One Keras optimizer, and what it moves.

    Attributes
    ----------
    optimizer
        The optimizer.
    place
        What the user calls the variables that it moves; empty where it moves all.
    users
        Whether it is the user's own object, which keeps its state from run to run.
    members
        The ids of its variables.
    """

    optimizer: Any
    place: str = ""
    users: bool = False
    members: frozenset[int] = frozenset()

    @property
    def rated(self) -> Any:
        """The optimizer that has the rate: the one that it wraps, if it scales the loss."""
        return getattr(self.optimizer, "inner_optimizer", self.optimizer)

    def moves(self, leaf: Leaf) -> bool:
        """Return whether the optimizer moves a leaf."""
        return not self.place or id(leaf.value) in self.members


class Composite:
    """Keras optimizers side by side.

    Gradients are scaled down first where their norm, of all of them together, is above a limit. Then each
    optimizer is given the rate of the step, and steps.

    Parameters
    ----------
    parts
        The optimizers: one without a place, or several with a place each.
    schedule
        Where the rates come from; ``None`` for those of the optimizers.
    clip
        The limit of the gradients' norm; ``None`` for none.

    Attributes
    ----------
    description
        What a checkpoint has to have in common with a run that goes on from it.
    built
        Whether the optimizers have slots.
    """

    def __init__(
        self, parts: Sequence[Part], schedule: Schedule | None = None, clip: float | None = None
    ) -> None:
        self.parts, self.schedule, self.clip = list(parts), schedule, clip
        self.built = False
        self._bases: list[float] = []
        self._numbers: Any = None
        self._began = 0

    # -- before a run ----------------------------------------------------------------------------------

    def build(self, leaves: Sequence[Leaf], build: Build) -> bool:
        """Build each optimizer for those of the leaves that it moves; return whether one became a copy."""
        import tensorflow as tf

        copied = False
        for part in self.parts:
            owners = [leaf.owner for leaf in leaves if part.moves(leaf)]
            if owners:
                part.optimizer, fresh = build(part.optimizer, owners)
                copied = copied or (fresh and part.users)
        if not self.built and self.schedule is not None:
            self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
            self._length = tf.Variable(1, dtype=tf.int64, trainable=False)  # follows from the settings
            self._numbers = tf.Variable(tf.zeros([len(self.parts)]), trainable=False)
        self.built = True
        return copied

    def adopt(self, other: Composite) -> Composite:
        """Take the optimizers of an earlier run, with their state, and that of its schedule."""
        for part, earlier in zip(self.parts, other.parts, strict=True):
            part.optimizer, part.users = earlier.optimizer, part.users and earlier.users
        mine, theirs = self.schedule, other.schedule
        if isinstance(mine, Plateau) and isinstance(theirs, Plateau):
            for variable, held in zip(mine.variables, theirs.variables, strict=True):
                variable.assign(held)
        return self

    def note_rates(self, rate: float | None = None) -> None:
        """Note the rates of the optimizers, or the one that is given, which the schedule begins with."""
        if self.schedule is not None:
            rates = [part.rated.learning_rate if rate is None else rate for part in self.parts]
            self._bases = [float(one) for one in rates]
            self._numbers.assign(self._bases)

    def begin(self, step: int, length: int) -> None:
        """Begin a run of so many steps at a step."""
        if self.schedule is None:
            return
        self._bases = self._numbers.numpy().tolist()  # those of the run that this one goes on from
        self._length.assign(length)
        self._step.assign(step)
        self._began = step

    def prepare(self, length: int, *, known: bool) -> bool:
        """Make ready for a run of at most so many steps; return whether what was compiled still holds.

        Raises :class:`LineError` where the schedule depends on the length, and that is not `known`.
        """
        schedule = self.schedule
        if schedule is None:
            return True
        if schedule.needs_length and not known:
            raise LineError(
                f"--schedule {schedule.name} depends on the length of the run, which is not known here: "
                "give --steps."
            )
        if not isinstance(schedule, Given):
            return True
        fitted = schedule.fits(length) or not self.built
        schedule.tabulate(length)
        return fitted

    # -- state -----------------------------------------------------------------------------------------

    @property
    def variables(self) -> list[Any]:
        """All state, that of :attr:`first` before the rest."""
        rest = [part for part in self.parts if part.users]
        return [*self.first, *(one for part in rest for one in _variables(part.optimizer))]

    @property
    def first(self) -> list[Any]:
        """The state whose first values begin a run anew: not that of the user's own optimizers."""
        own = [] if self.schedule is None else [self._step, self._numbers, *self.schedule.variables]
        parts = [part for part in self.parts if not part.users]
        return [*own, *(one for part in parts for one in _variables(part.optimizer))]

    @property
    def users(self) -> bool:
        """Whether an optimizer of the user's is among them."""
        return any(part.users for part in self.parts)

    @property
    def description(self) -> str:
        """The classes of the optimizers with their places, and the schedule."""
        each = [f"{part.place}: {type(part.optimizer).__name__}".removeprefix(": ") for part in self.parts]
        return ", ".join(each) + (f" with --schedule {self.schedule.name}" if self.schedule else "")

    @property
    def rates(self) -> list[float]:
        """The rates of the last step."""
        return [float(part.rated.learning_rate) for part in self.parts]

    @property
    def next_rates(self) -> dict[str, float]:
        """The rates of the next step by the places of the optimizers."""
        schedule = self.schedule
        if schedule is None or not self.built:
            return dict(zip((part.place for part in self.parts), self.rates, strict=True))
        step, length = self._step.read_value(), self._length.read_value()
        bases = self._numbers.read_value()
        return {
            part.place: float(schedule.rate(bases[number], step, length))
            for number, part in enumerate(self.parts)
        }

    @property
    def in_words(self) -> list[str]:
        """The sentences of a report on the rates; before :meth:`put_back`."""
        if self.schedule is None or int(self._step) == self._began:
            return []
        length, found = int(self._length), list[str]()
        for part, base, last in zip(self.parts, self._bases, self.rates, strict=True):
            sentence = self.schedule.in_words(base, length, last)
            found.append(f"{part.place}: {sentence}" if part.place else sentence)
        return found

    def put_back(self) -> None:
        """Give the optimizers the rates back that they had before the run."""
        for part, base in zip(self.parts, self._bases, strict=False):
            part.rated.learning_rate = base

    def note(self, metric: float) -> None:
        """Tell a schedule that goes by the loss a metric, at the end of an epoch."""
        if isinstance(self.schedule, Plateau):
            self.schedule.note(metric)

    # -- a step, in TensorFlow ---------------------------------------------------------------------------

    def apply(self, loss: Any, gradients: Sequence[Any], leaves: Sequence[Leaf], place: Any) -> None:
        """Step from where the leaves are; `place` is that of the batch, ``None`` without data."""
        if self.clip is not None:
            gradients = clipped(gradients, self.clip)
        if self.schedule is not None:
            self._set_rates(loss, place)
        for part in self.parts:
            pairs = [pair for pair in zip(gradients, leaves, strict=True) if part.moves(pair[1])]
            if pairs:
                part.optimizer.apply(
                    _scaled_for(part.optimizer, [gradient for gradient, _ in pairs]),
                    [leaf.owner for _, leaf in pairs],
                )

    def _set_rates(self, loss: Any, place: Any) -> None:
        schedule = self.schedule
        assert schedule is not None
        step = self._step.read_value()
        schedule.observe(loss, step, place)
        bases, length = self._numbers.read_value(), self._length.read_value()
        for number, part in enumerate(self.parts):
            part.rated.learning_rate.assign(schedule.rate(bases[number], step, length))
        self._step.assign(step + 1)


def parts_of(optimizer: Any) -> list[Any]:
    """Return the Keras optimizers that an optimizer consists of.

    >>> parts_of("any other object")
    ['any other object']
    """
    return [part.optimizer for part in optimizer.parts] if isinstance(optimizer, Composite) else [optimizer]


def kind_of(optimizer: Any) -> str:
    """Return what a checkpoint has to have in common with a run that goes on from it."""
    return optimizer.description if isinstance(optimizer, Composite) else type(optimizer).__name__


def continued(earlier: Any, wanted: Any) -> Any:
    """Return the optimizer of an earlier run, with the schedule and the clipping that are wanted."""
    if not (isinstance(earlier, Composite) or isinstance(wanted, Composite)):
        return earlier
    if not isinstance(wanted, Composite):
        return earlier.parts[0].optimizer
    return wanted.adopt(earlier if isinstance(earlier, Composite) else Composite([Part(earlier)]))


def set_rate(optimizer: Any, rate: Any) -> None:
    """Give an optimizer another rate than it had, for a run that goes on."""
    if isinstance(optimizer, Composite) and optimizer.schedule is not None:
        optimizer.note_rates(rate)
        return
    for one in parts_of(optimizer):
        getattr(one, "inner_optimizer", one).learning_rate = rate


def note_rates(optimizer: Any) -> Callable[[], None]:
    """Note the rates that a schedule begins with; return what gives them back."""
    if not isinstance(optimizer, Composite):
        return lambda: None
    optimizer.note_rates()
    return optimizer.put_back


def begin_schedule(optimizer: Any, step: int, length: int) -> None:
    """Begin a run of so many steps at a step, for an optimizer that has a schedule."""
    if isinstance(optimizer, Composite):
        optimizer.begin(step, length)


def rates_in_words(optimizer: Any) -> list[str]:
    """Return how the rates went, and give them back, so that a report names the optimizer as it was given."""
    if not isinstance(optimizer, Composite):
        return []
    found = optimizer.in_words
    optimizer.put_back()
    return found


def note(optimizer: Any, metric: float) -> None:
    """Tell a schedule that goes by the loss a metric at the end of an epoch; others go on as they are.

    From then on, that and not the loss of the steps decides when the rate falls.
    """
    if isinstance(optimizer, Composite):
        optimizer.note(metric)


def clipped(gradients: Sequence[Any], limit: float) -> list[Any]:
    """Return gradients, scaled down together where their Euclidean norm is above a limit.

    As ``tf.clip_by_global_norm``; the norm is computed in float32 at least.
    """
    import tensorflow as tf

    size = norm(gradients)
    scale = limit * tf.minimum(1 / size, tf.constant(1 / limit, size.dtype))
    return [gradient * tf.cast(scale, gradient.dtype) for gradient in gradients]


def _variables(optimizer: Any) -> list[Any]:
    return [tf_variable(variable) for variable in optimizer.variables]


def _scaled_for(optimizer: Any, gradients: Sequence[Any]) -> list[Any]:
    """Return the gradients as a Keras optimizer expects them.

    An optimizer that scales the loss divides the gradients by the same factor, so they are multiplied by it.
    """
    import keras
    import tensorflow as tf

    own = type(optimizer).scale_loss is not keras.optimizers.Optimizer.scale_loss
    if not own and optimizer.loss_scale_factor is None:
        return list(gradients)
    return [tf.cast(optimizer.scale_loss(gradient), gradient.dtype) for gradient in gradients]
