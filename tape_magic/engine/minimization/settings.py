"""How to minimise, whether the function or the magic asks for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any

from tape_magic.engine.distribution.strategies import WORDS
from tape_magic.engine.program.training import TRAINING
from tape_magic.errors import ArgumentError, closest, shorten

ENGINES = ("auto", "xla", "graph", "eager")
KEEP = ("last", "best")
STRATEGIES = WORDS
DEFAULT_OPTIMIZER = "auto"
STEPS = 1000
PATIENCE = 10
FIND, AUTO = "find", "auto"
"""Words for a rate: look for it and train nothing; find it, and run with it."""

SCHEDULES = ("cosine", "one-cycle", "plateau")
PLATEAU_FACTOR = 0.1
SETTLED_TOL, SETTLED_PATIENCE, SETTLED_STEPS = 1e-6, 100, 100_000
"""The tolerance, its steps, and the most steps of a run by a Keras optimizer that nothing else bounds."""
LOGGED_EVERY = 50
"""A log has the steps that are multiples of this."""

_LARGEST_SEED = 2**32 - 1
"""NumPy's random numbers take no larger seed."""

Check = Callable[[Any], str]
"""A function of a value that returns the end of the sentence that refuses it; empty for a value in range."""


def _whole(least: int, most: int | None = None) -> Check:
    """Return the check of a whole number from `least` up, and up to `most` where there is an upper end."""
    span = f"{least} or more" if most is None else f"from {least} to {most}"
    what = f"give a whole number{', ' if most is None else ' '}{span}."

    def check(value: Any) -> str:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        inside = whole and least <= value and (most is None or value <= most)
        return "" if inside else f"is {shorten(repr(value))}; {what}"

    return check


def _number(fits: Callable[[float], bool], what: str) -> Check:
    """Return the check of a finite number that `fits`; `what` says which number to give."""

    def check(value: Any) -> str:
        try:
            inside = fits(value) and math.isfinite(value)
            shown = f"{value:g}"
        except (TypeError, ValueError):
            inside, shown = False, shorten(repr(value))
        return "" if inside else f"is {shown}; give {what}."

    return check


def _one_of(known: Sequence[str]) -> Check:
    """Return the check of a word among those that are `known`."""

    def check(value: Any) -> str:
        if value in known:
            return ""
        return f"{shorten(repr(value))} is none of {', '.join(known)}{closest(str(value), known)}"

    return check


def _text(value: Any) -> str:
    """Check a folder or a name: some text."""
    return "" if isinstance(value, str) and value.strip() else f"is {shorten(repr(value))}; give a folder."


def _rate(value: Any) -> str:
    """Check a learning rate: a number, a word, or a schedule, which is a function of the step."""
    if isinstance(value, str):
        known = FIND, AUTO
        wrong = f"is {shorten(value)!r}; give a number above 0, find or auto{closest(value, known)}"
        return "" if value in known else wrong
    return "" if callable(value) else _above_zero(value)


def _strategy(value: Any) -> str:
    """Check a strategy: a word, or an object that is looked at once TensorFlow is there."""
    return _one_of(STRATEGIES)(value) if isinstance(value, str) else ""


def _schedule(value: Any) -> str:
    """Check a schedule: a word, or a function of the step."""
    if not isinstance(value, str):
        return "" if callable(value) else f"is {shorten(repr(value))}; give {_SCHEDULE}."
    word, colon, _ = re.sub(r"[_ ]", "-", value.lower()).partition(":")
    if word not in SCHEDULES or (colon and word != "plateau"):
        return f"{shorten(value)!r} is none of {', '.join(SCHEDULES)}{closest(word, SCHEDULES)}"
    if word == "plateau" and not 0 < plateau_factor(value) < 1:
        return f"is {shorten(value)}; give a factor between 0 and 1, such as plateau:0.5."
    return ""


_SCHEDULE = "cosine, one-cycle, plateau, a schedule of Keras's or a function of the step"


def plateau_factor(word: str) -> float:
    """Return the factor of ``plateau:FACTOR``; NaN where it is no number.

    >>> plateau_factor("plateau"), plateau_factor("plateau:0.5")
    (0.1, 0.5)
    """
    _, colon, factor = word.partition(":")
    try:
        return float(factor) if colon else PLATEAU_FACTOR
    except ValueError:
        return math.nan


_above_zero = _number(lambda number: number > 0, "a number above 0")
_not_negative = _number(lambda number: number >= 0, "a number, 0 or more")


def _ranged(check: Check, default: Any = None, called: str = "") -> Any:
    """Return a field that is ``None`` or passes a check; `called` is its name in the middle of a sentence."""
    return field(default=default, metadata={"check": check, "called": called})


@dataclass(frozen=True, eq=False)
class ValidationData:
    """The data of a validation.

    Attributes
    ----------
    data
        Of the same kinds as those of a run.
    names, pattern
        The names that the parts of a batch are bound to, as in :class:`Settings`.
    label
        What messages call the data.
    """

    data: Any
    names: tuple[str, ...]
    pattern: tuple[Any, ...] = ()
    label: str = "the validation data"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to minimise: each range is written here, and checked here only.

    The attributes that are not listed are parameters of :func:`~tape_magic.engine.api.minimize.minimize`.

    Attributes
    ----------
    made_here
        Whether an expression on the magic line made the optimizer, so that nobody else holds it.
    names
        The names that the parts of a batch are bound to.
    pattern
        The same names in tuples, as the parts of a batch nest; empty where they do not.
    sources
        The objects that expressions among the sources gave, by the text of each.
    label
        The name of the data in messages.
    val
        The data of the validation at the end of each epoch; ``None`` for none.
    training
        The name that is true in steps and false in a validation; empty where the program cannot have one.
    remarks
        Sentences for the report.
    verdict
        Whether to look for why the run ended where it did, which takes time at its end.

    Raises :class:`ArgumentError` for a value out of its range, and for values that do not go together.

    Examples
    --------
    >>> Settings(steps=20).step_limit, Settings(time=60.0).step_limit
    (20, None)
    >>> Settings(lr=-0.1)
    Traceback (most recent call last):
    tape_magic.errors.ArgumentError: the learning rate is -0.1; give a number above 0.
    """

    optimizer: Any = DEFAULT_OPTIMIZER
    made_here: bool = False
    lr: float | str | Callable[..., Any] | None = _ranged(_rate, called="the learning rate")  # noqa: RUF009
    schedule: str | Callable[..., Any] | None = _ranged(_schedule, called="the schedule")  # noqa: RUF009
    clip: float | None = _ranged(_above_zero, called="the norm to clip at")
    steps: int | None = _ranged(_whole(0))
    strategy: Any = _ranged(_strategy)  # noqa: RUF009
    engine: str = _ranged(_one_of(ENGINES), "auto", "the engine")
    seed: int | None = _ranged(_whole(0, _LARGEST_SEED), called="the seed")
    tol: float | None = _ranged(_not_negative)
    gtol: float | None = _ranged(_not_negative)
    target: float | None = _ranged(_number(lambda _: True, "a finite loss"), called="the target")
    patience: int | None = _ranged(_whole(1))
    time: float | None = _ranged(_not_negative)
    track: tuple[str, ...] = ()
    bounds: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    keep: str | None = _ranged(_one_of(KEEP))
    resume: bool = False
    checkpoint: str | None = None
    log: str | None = _ranged(_text, called="the log")
    data: Any = None
    names: tuple[str, ...] = ()
    pattern: tuple[Any, ...] = ()
    sources: Mapping[str, Any] = field(default_factory=dict)
    label: str = "the data"
    val: ValidationData | None = None
    training: str = TRAINING
    batch: int | None = _ranged(_whole(1))
    epochs: int | None = _ranged(_whole(1))
    remarks: tuple[str, ...] = ()
    verdict: bool = True

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if "check" in one.metadata and not (value is None and one.default is None):
                wrong = one.metadata["check"](value)
                if wrong:
                    raise ArgumentError(one.name, wrong, one.metadata["called"])
            if "check" in one.metadata and isinstance(value, Integral):
                # NumPy's integers would take their dtypes to TensorFlow, and overflow where Python's do not.
                object.__setattr__(self, one.name, int(value))
        if self.patience is not None and self.tol is None and self.val is None:
            raise ArgumentError(
                "patience",
                "says over how many steps tol looks, and with val, how many epochs go by without a better "
                "one; give a tol as well, such as 1e-6, or val.",
            )
        if self.strategy is not None:
            if self.data is None:
                raise ArgumentError(
                    "strategy", 'shares out the batches of data; on the line, --for "xb, yb in (x, y)".'
                )
            if self.engine not in ("auto", "graph"):
                raise ArgumentError("engine", f"is {self.engine}, and --strategy takes graph: leave it out.")
        if self.data is None and self.val is not None:
            raise ArgumentError("val", 'goes with data; on the line, --for "xb, yb in train".')
        if self.data is None and (self.batch is not None or self.epochs is not None):
            given = "batch" if self.batch is not None else "epochs"
            raise ArgumentError(given, 'goes with data; on the line, --for "xb, yb in train".')

    @property
    def step_limit(self) -> int | None:
        """The largest number of steps; ``None`` where the time or the data end the run."""
        if self.steps is None and self.data is None and self.time is None:
            return SETTLED_STEPS if self.unbounded else STEPS
        return self.steps

    @property
    def keeps_best_step(self) -> bool:
        """Whether the steps themselves keep the best values; with a validation, its epochs do."""
        return self.keep == "best" and self.val is None

    @property
    def unbounded(self) -> bool:
        """Whether nothing is asked for that would end the run."""
        return self.data is None and self.without_end

    @property
    def without_end(self) -> bool:
        """Whether nothing but the data would end the run."""
        ends = (self.steps, self.time, self.target, self.tol, self.gtol)
        return all(end is None for end in ends)
