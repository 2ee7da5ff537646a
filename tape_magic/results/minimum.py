"""The report of ``%%minimize``."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tape_magic.errors import in_one_line
from tape_magic.results import views
from tape_magic.results.epochs import Epochs, shown_means
from tape_magic.results.findings import Finding
from tape_magic.results.summary import Summary, summarize


class StopReason(enum.Enum):
    """The reason why a run ended; the value is the sentence in reports."""

    STEPS = "step limit"
    EPOCHS = "all epochs done"
    TOLERANCE = "the loss has settled (--tol)"
    SETTLED = "the loss has settled"
    GRADIENT = "the gradient is small (--gtol)"
    TARGET = "target reached"
    METHOD_CONVERGED = "the method converged"
    METHOD_FAILED = "the method stopped"
    PATIENCE = "the validation has got no better (--patience)"
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
        """Whether a rule of convergence ended the run; the limit of steps is no such rule."""
        return self in _CONVERGED


_CONVERGED = frozenset(
    {
        StopReason.TOLERANCE,
        StopReason.SETTLED,
        StopReason.GRADIENT,
        StopReason.TARGET,
        StopReason.METHOD_CONVERGED,
        StopReason.PATIENCE,
    }
)

BY_HAND = frozenset({StopReason.INTERRUPTED, StopReason.STOPPED})
"""The reasons that are the user's wish."""


EARLY = "over before XLA would have been ready"
"""The engine's reason of a run that began as a graph and ended as one, which says nothing of the run."""


@dataclass(frozen=True, eq=False)
class VariableChange:
    """The change of one variable over a run.

    Attributes
    ----------
    start, end
        The variable's values before and after the run, NumPy arrays of its shape and dtype. A large `end`
        cannot be written: it shares its memory with the variable until that changes.
    gradient_norm
        The Euclidean norm of the loss's gradient by the variable at the end; ``None`` where the loss does
        not depend on the variable.
    """

    start: np.ndarray[Any, Any]
    end: np.ndarray[Any, Any]
    gradient_norm: float | None

    @cached_property
    def start_summary(self) -> Summary:
        """The summary of the start value."""
        return summarize(self.start)

    @cached_property
    def end_summary(self) -> Summary:
        """The summary of the end value."""
        return summarize(self.end)


@dataclass(frozen=True)
class Divergence:
    """The step at which the loss or a gradient was no longer finite.

    Attributes
    ----------
    step
        The number of steps before it.
    what
        ``loss`` or ``gradient``.
    loss
        The loss at that step.
    cause
        Which data made it so: ``X holds nan in row 13: drop or replace it``; empty where no data did.
    values_of
        The step whose values the variables were put back to.
    """

    step: int
    what: str
    loss: float
    cause: str = ""
    values_of: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class MinimizeResult(views.Shown):
    """The result of a minimisation.

    Attributes
    ----------
    loss_name
        The name of the loss in the cell; ``_`` for the last expression.
    loss, start_loss, best_loss
        The loss at the variables' final values, at the start, and the lowest of the history. Over data,
        where a loss is that of one batch, `loss` and `best_loss` are the last and the lowest mean of
        `epochs`, `start_loss` is the loss of the first batch, and ``history[-1]`` that of the last one at the
        final values; unless each epoch is one batch.
    steps, best_step
        The number of steps, and the step of the lowest loss, or at the end of its epoch. With a validation,
        it is the end of the epoch with the lowest validation loss, and `best_loss` is the mean of that epoch.
    steps_asked
        The limit of steps.
    reason
        The reason why the run ended.
    seconds, compile_seconds
        The time of the whole run, and the part of it that tracing and compiling took.
    validation_seconds
        The part that the validations took.
    engine, engine_reason
        ``xla``, ``graph`` or ``eager``, and the reason why it was not a faster one; may be empty.
    devices
        How many devices shared each batch.
    optimizer
        The optimizer as text, ``SGD(0.01)``.
    optimizer_reason
        Why this optimizer was taken, where none was named; else empty.
    learning_rate
        The optimizer's learning rate; ``None`` for a schedule.
    history, history_steps
        The losses, float64, and the number of steps before each, int64. ``history[k]`` is the loss after k
        steps up to k = 10,000; at most 10,000 later steps are kept, the lowest and highest losses among them.
    variables
        The change of each variable, by its name.
    epochs
        The means over each epoch of the data, of the loss and of what is tracked, and the validation at its
        end; ``None`` without data.
    stretches
        The means over at most 16 equal stretches, while fewer than two epochs are finished; else ``None``.
    tracked, tracked_steps
        The history of each tracked scalar by its name, and its steps.
    divergence
        The step that was not finite, where it ended the run.
    first_step
        The first step of the run: 0, unless it went on from an earlier one.
    kept_best
        Whether the variables were put back to their values at the lowest loss.
    notes
        Further sentences for the user.
    findings
        What was found about the run, the most telling first; the report shows three.

    Examples
    --------
    >>> import tape_magic                                                          # doctest: +SKIP
    >>> result = tape_magic.minimize(lambda x: (x - 1) ** 2, {"x": 0.0}, "sgd")    # doctest: +SKIP
    >>> float(result.history[0]), result.converged                                 # doctest: +SKIP
    (1.0, False)

    Over data, with an epoch for each mean:

    >>> result = tape_magic.minimize(loss, model, data=(x, y), epochs=3)           # doctest: +SKIP
    >>> result.epochs.epoch, result.epochs.loss                                    # doctest: +SKIP
    (array([1, 2, 3]), array([0.912, 0.448, 0.371]))

    With a validation at the end of each epoch:

    >>> more = {"epochs": 9, "patience": 2, "keep": "best"}
    >>> result = tape_magic.minimize(loss, data=(x, y), val=(xv, yv), **more)      # doctest: +SKIP
    >>> result.epochs.val_loss.round(3), result.epochs.best_val, result.reason     # doctest: +SKIP
    (array([0.871, 0.502, 0.513, 0.52 ]), 1, <StopReason.PATIENCE: ...>)
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
    optimizer_reason: str = ""
    notes: tuple[str, ...] = field(default=())
    findings: tuple[Finding, ...] = field(default=())
    epochs: Epochs | None = None
    stretches: Epochs | None = None
    validation_seconds: float = 0.0
    devices: int = 1

    @property
    def converged(self) -> bool:
        """Whether a rule of convergence, a target or the last epoch ended the run, and no fault was found."""
        return (self.reason.converged or self.reason is StopReason.EPOCHS) and not self.faulty

    @property
    def faulty(self) -> bool:
        """Whether something that was found is a fault; a bound that holds a variable is none."""
        return any(finding.kind.fault for finding in self.findings)

    @property
    def means(self) -> Epochs | None:
        """The means that the report's numbers are; ``None`` where they are those of steps."""
        return shown_means(self.epochs)

    @property
    def drawn_means(self) -> Epochs | None:
        """The means that a picture's line goes through; ``None`` where it goes through the steps."""
        return shown_means(self.stretches or self.epochs)

    @property
    def stepless(self) -> bool:
        """Whether the user ended the run before its first step."""
        return self.reason in BY_HAND and self.steps == self.first_step

    @property
    def steps_per_second(self) -> float:
        """The steps per second of the time without compilation; 0 for a run without steps."""
        running = self.seconds - self.compile_seconds - self.validation_seconds
        done = self.steps - self.first_step
        return done / running if done > 0 and running > 0 else 0.0

    def __repr__(self) -> str:
        return (
            f"<MinimizeResult: {self.loss_name} = {self.loss:.7g} after {self.steps:,} steps, "
            f"{self.reason.sentence}>"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain Python values; the history and the variables' values are lists."""
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
            "validation_seconds": self.validation_seconds,
            "engine": self.engine,
            "devices": self.devices,
            "findings": [
                {
                    "kind": finding.kind.name.lower(),
                    "sentence": finding.sentence,
                    "evidence": dict(finding.evidence),
                    "line": None if finding.line is None else str(finding.line),
                    "cure": finding.cure,
                }
                for finding in self.findings
            ],
            "optimizer": self.optimizer,
            "history": self.history.tolist(),
            "history_steps": self.history_steps.tolist(),
            "epochs": None if self.epochs is None else self.epochs.to_dict(),
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
        """Draw the loss over the steps by Matplotlib, into `ax` or a new figure, and return the axes.

        Over data, the line goes through the means of the epochs, above the pale losses of the batches.
        """
        return views.plot_minimum(self, ax)

    def to_frame(self) -> Any:
        """Return a ``pandas.DataFrame`` of the history and the tracked scalars by step; needs pandas.

        Over data, ``minimum.epochs.to_frame()`` has the means by epoch.
        """
        try:
            import pandas
        except ImportError:
            raise in_one_line(ImportError("to_frame() needs pandas: pip install pandas")) from None

        columns = {"loss": (self.history_steps, self.history)}
        columns |= {name: (self.tracked_steps[name], values) for name, values in self.tracked.items()}
        frame = pandas.DataFrame({name: pandas.Series(values, at) for name, (at, values) in columns.items()})
        return frame.rename_axis(index="step")
