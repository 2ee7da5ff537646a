"""The report of ``%%minimize``, and the steps on the way to it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tape_magic.results import views
from tape_magic.results.summary import Summary, summarize


class StopReason(enum.Enum):
    """Why a run ended; the value is the sentence that reports say."""

    STEPS = "step limit"
    EPOCHS = "all epochs done"
    TOLERANCE = "the loss has settled (--tol)"
    GRADIENT = "the gradient is small (--gtol)"
    TARGET = "target reached"
    METHOD_CONVERGED = "the method converged"
    METHOD_FAILED = "the method stopped"
    TIME = "time is up"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    DIVERGED = "diverged"

    @property
    def sentence(self) -> str:
        """The reason in words."""
        return str(self.value)

    @property
    def converged(self) -> bool:
        """Whether a rule of convergence ended the run; running out of steps is none."""
        return self in _CONVERGED


_CONVERGED = frozenset(
    {StopReason.TOLERANCE, StopReason.GRADIENT, StopReason.TARGET, StopReason.METHOD_CONVERGED}
)


@dataclass(frozen=True, eq=False)
class VariableChange:
    """What a run did to one variable.

    Attributes
    ----------
    start, end
        Its value before and after, NumPy arrays of the variable's shape and dtype.
    gradient_norm
        Euclidean norm of the loss's gradient at the end; ``None`` where the loss does not depend on it.
    """

    start: np.ndarray[Any, Any]
    end: np.ndarray[Any, Any]
    gradient_norm: float | None

    @cached_property
    def start_summary(self) -> Summary:
        """The start in a few numbers."""
        return summarize(self.start)

    @cached_property
    def end_summary(self) -> Summary:
        """The end in a few numbers."""
        return summarize(self.end)


@dataclass(frozen=True)
class Divergence:
    """The step at which something stopped being finite.

    Attributes
    ----------
    step
        Steps applied when it was seen.
    what
        ``loss`` or ``gradient``.
    loss
        The loss there.
    """

    step: int
    what: str
    loss: float


@dataclass(frozen=True, eq=False, repr=False)
class MinimizeResult:
    """How a minimisation went.

    Attributes
    ----------
    loss_name
        The name of the loss in the cell; ``_`` for the last expression.
    loss, start_loss, best_loss
        At the variables as they are left, at the start, and the lowest of the history.
    steps, best_step
        Steps applied, and the step of the lowest loss.
    steps_asked
        The limit that was asked for.
    reason
        Why the run ended.
    seconds, compile_seconds
        Of the whole run, and of it tracing and compiling.
    engine, engine_reason
        ``xla``, ``graph`` or ``eager``, and why it was not a faster one; empty if it was the first choice.
    optimizer
        The optimizer as text, ``SGD(0.01)``.
    learning_rate
        Its learning rate; ``None`` for a schedule.
    history, history_steps
        Losses, float64, and after how many steps each was, int64. ``history[k]`` is the loss after k steps
        up to k = 10,000; of later steps at most 10,000 are kept, the lowest and highest losses among them.
    variables
        Name → start, end and gradient norm.
    tracked, tracked_steps
        For each scalar that was tracked, the same as the history and its steps.
    divergence
        What stopped being finite and where, when that ended the run.
    first_step
        The step that the run began at: 0, unless it went on from an earlier one.
    kept_best
        Whether the variables were put back to where the loss was lowest.
    notes
        What else the user should know, a sentence each.
    """

    loss_name: str
    loss: float
    start_loss: float
    best_loss: float
    best_step: int
    steps: int
    steps_asked: int
    reason: StopReason
    seconds: float
    compile_seconds: float
    engine: str
    engine_reason: str
    optimizer: str
    learning_rate: float | None
    history: np.ndarray[Any, Any]
    history_steps: np.ndarray[Any, Any]
    variables: Mapping[str, VariableChange]
    tracked: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    tracked_steps: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    divergence: Divergence | None = None
    kept_best: bool = False
    first_step: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def converged(self) -> bool:
        """True only when a rule of convergence ended the run."""
        return self.reason.converged

    @property
    def steps_per_second(self) -> float:
        """Over the time that was not compilation; 0 for a run without steps."""
        running = self.seconds - self.compile_seconds
        done = self.steps - self.first_step
        return done / running if done > 0 and running > 0 else 0.0

    def __repr__(self) -> str:
        return (
            f"<MinimizeResult: {self.loss_name} = {self.loss:.7g} after {self.steps:,} steps, "
            f"{self.reason.sentence}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain Python values, the history and the variables' values as lists."""
        return {
            "loss": self.loss,
            "start_loss": self.start_loss,
            "best_loss": self.best_loss,
            "best_step": self.best_step,
            "steps": self.steps,
            "reason": self.reason.name.lower(),
            "converged": self.converged,
            "seconds": self.seconds,
            "compile_seconds": self.compile_seconds,
            "engine": self.engine,
            "optimizer": self.optimizer,
            "history": self.history.tolist(),
            "history_steps": self.history_steps.tolist(),
            "tracked": {name: values.tolist() for name, values in self.tracked.items()},
            "variables": {
                name: {
                    "start": change.start.tolist(),
                    "end": change.end.tolist(),
                    "gradient_norm": change.gradient_norm,
                }
                for name, change in self.variables.items()
            },
        }

    def plot(self, ax: Any = None) -> Any:
        """The loss over the steps, drawn by Matplotlib into `ax` or a new figure; the axes."""
        return views.plot_minimum(self, ax)

    def to_frame(self) -> Any:
        """The history, and what was tracked, as a ``pandas.DataFrame`` indexed by step; needs pandas."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_frame() needs pandas: pip install pandas") from None

        columns = {"loss": (self.history_steps, self.history)}
        columns |= {name: (self.tracked_steps[name], values) for name, values in self.tracked.items()}
        frame = pandas.DataFrame({name: pandas.Series(values, at) for name, (at, values) in columns.items()})
        return frame.rename_axis(index="step")
