"""The line of ``%%minimize``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tape_magic.engine.minimization.optimizer_names import NAMES
from tape_magic.engine.minimization.settings import (
    AUTO,
    ENGINES,
    FIND,
    KEEP,
    SCHEDULES,
    STRATEGIES,
    Settings,
)
from tape_magic.errors import LineError, shorten
from tape_magic.magics.line import words
from tape_magic.magics.line.meant import COMMON, MEANT_BY_MINIMIZE
from tape_magic.magics.line.option import Completed, Expression, Option
from tape_magic.magics.line.parser import NAME, QUIET, Magic, place_name


@dataclass(frozen=True)
class MinimizeOptions:
    """The line of ``%%minimize``.

    Attributes
    ----------
    loss
        The name of the loss, or nothing for the value of the last expression.
    over
        The places to minimise over, where the line names them.
    name
        The name that the report is bound to, where the line says it.
    quiet
        Whether nothing is shown.
    arguments
        The arguments of :class:`~tape_magic.engine.minimization.settings.Settings` that the line gives; those
        that are expressions, `optimizer`, `data`, `val` and `bounds`, as the line spells them.
    """

    loss: tuple[str, ...] = ()
    over: tuple[str, ...] | None = None
    name: str | None = None
    quiet: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if len(self.loss) > 1:
            raise LineError(
                f"there can be one loss only, not {len(self.loss)}: {shorten(', '.join(self.loss))}"
                f"{_instead(self.loss)}"
            )
        self._check_names()
        if not any(isinstance(value, Expression) for value in self.arguments.values()):
            Settings(**self.arguments)  # refuses what is out of its range before anything runs

    def _check_names(self) -> None:
        """Raise :class:`LineError` where the names of ``--val`` are not those of ``--for``."""
        data, val = self.arguments.get("data"), self.arguments.get("val")
        if data is not None and val is not None and set(data.names) != set(val.names):
            raise LineError(
                f"--val names {', '.join(val.names)}, and --for names {', '.join(data.names)}: "
                "give the same names."
            )

    @property
    def loss_name(self) -> str | None:
        """The name of the loss; ``None`` for the value of the last expression."""
        return self.loss[0] if self.loss else None


NEGATIVE = "to maximise {0}, write neg = -{0} in the cell, and %%minimize neg"


def _instead(loss: tuple[str, ...]) -> str:
    """Return what to write where several words stand for the loss."""
    if loss[0].lower().startswith(("max", "argmax")):
        return f"; {NEGATIVE.format(loss[1])}"
    meant = [MINIMIZE.instead_of(word) for word in loss if not word.lower().startswith(("min", "argmin"))]
    options = [one for one in meant if one.startswith("-")]
    if options:
        return f"; did you mean {options[0]}?"
    return "; write --over before what is minimised over"


MINIMIZE = Magic(
    "minimize",
    cell=True,
    summary="Minimise the loss that the cell computes, compiled.",
    options=(
        Option(
            "loss",
            (),
            "a name that the cell assigns; by default, the last expression",
            "LOSS",
            words.loss,
            names=Completed.OUTPUTS,
        ),
        Option(
            "over",
            ("--over",),
            "sources to minimise over; by default, the trainable variables that the cell reads",
            "NAME",
            words.source,
            many=True,
            names=Completed.SOURCES,
        ),
        Option(
            "optimizer",
            ("--optimizer",),
            'Keras name, lbfgs, SciPy method, EXPR, or one a group: "encoder: sgd 1e-4, head: adam" (auto)',
            "NAME|EXPR",
            choices=NAMES,
            names=Completed.OPTIMIZERS,
            then="--lr",
        ),
        Option(
            "lr",
            ("--lr",),
            "learning rate; find looks for one and trains nothing, auto goes on with it",
            "RATE",
            words.rate,
            choices=(FIND, AUTO),
            evaluated=True,
        ),
        Option(
            "schedule",
            ("--schedule",),
            "course of the rate: cosine, one-cycle, plateau:FACTOR, or an expression for a schedule",
            "NAME|EXPR",
            words.schedule,
            choices=SCHEDULES,
            evaluated=True,
        ),
        Option(
            "clip",
            ("--clip",),
            "scale the gradients down to this norm of all of them, where it is larger",
            "NORM",
            float,
            evaluated=True,
        ),
        Option(
            "steps",
            ("--steps",),
            "most steps (1000; with --for or --time, no limit; with no rule, until the loss has settled)",
            "N",
            int,
            evaluated=True,
        ),
        Option(
            "tol",
            ("--tol",),
            "stop when the loss changes by at most T over --patience steps; relative to losses above 1",
            "T",
            float,
            evaluated=True,
        ),
        Option(
            "gtol", ("--gtol",), "stop when the norm of the gradient is at most T", "T", float, evaluated=True
        ),
        Option("target", ("--target",), "stop when the loss is at most this", "LOSS", float, evaluated=True),
        Option(
            "patience",
            ("--patience",),
            "steps that --tol looks back over (10); with --val, epochs without a better one that end the run",
            "N",
            int,
            evaluated=True,
        ),
        Option(
            "time", ("--time",), "stop after this time: 30s, 5m, 1h", "TIME", words.seconds, evaluated=True
        ),
        Option(
            "data",
            ("--for",),
            'a batch of the data at each step: "xb, yb in train"',
            "FOR",
            words.data,
            names=Completed.FOR,
            phrase=True,
        ),
        Option(
            "val",
            ("--val",),
            'validate at the end of each epoch, over all of the data: "xb, yb in valid"',
            "FOR",
            words.validation,
            names=Completed.FOR,
            phrase=True,
        ),
        Option(
            "batch", ("--batch",), "rows of a batch, where the data are arrays (32)", "N", int, evaluated=True
        ),
        Option("epochs", ("--epochs",), "passes over the data (1)", "N", int, evaluated=True),
        Option(
            "track",
            ("--track",),
            "further scalars of the cell to record at each step",
            "NAME",
            place_name,
            many=True,
            names=Completed.OUTPUTS,
        ),
        Option(
            "bounds",
            ("--bounds",),
            'bounds of the variables: "x=0:1, layer.kernel=0:"',
            "BOUNDS",
            words.bounds,
            names=Completed.SOURCES,
            phrase=True,
        ),
        Option(
            "keep",
            ("--keep",),
            "leave the variables at the last step or at the lowest loss, with --val that of the validation: "
            "last or best (last; diverged: best)",
            "WHICH",
            choices=KEEP,
        ),
        Option("resume", ("--resume",), "continue the last run of the same cell"),
        Option(
            "checkpoint",
            ("--checkpoint",),
            "save the run in this folder, for --resume after a restart",
            "DIR",
        ),
        Option(
            "log",
            ("--log",),
            "log the run every 50 steps: a folder for TensorBoard, mlflow or trackio",
            "DIR|mlflow|trackio",
        ),
        Option(
            "seed",
            ("--seed",),
            "seed of the random numbers, so that two runs are the same",
            "N",
            int,
            evaluated=True,
        ),
        Option(
            "strategy",
            ("--strategy",),
            "share each batch out: mirrored, to this machine's devices, workers, or a tf.distribute strategy",
            "NAME",
            words.strategy,
            choices=STRATEGIES,
            evaluated=True,
        ),
        Option(
            "engine",
            ("--engine",),
            "auto, xla, graph or eager; auto takes the fastest that runs the cell (auto)",
            "NAME",
            choices=ENGINES,
        ),
        NAME,
        QUIET,
    ),
    examples=(
        ("A parabola", "%%minimize y --over x --optimizer sgd --lr 0.01 --steps 1000\ny = a*x**2 + b*x + c"),
        ("A model", "%%minimize --over model --lr 1e-3\ntf.reduce_mean((model(inputs) - targets)**2)"),
        (
            "An optimizer with its settings",
            '%%minimize loss --optimizer "tf.keras.optimizers.SGD(0.01, momentum=0.9)"\n'
            "loss = tf.reduce_sum(w**2)",
        ),
    ),
    options_class=MinimizeOptions,
    meant=MappingProxyType(COMMON | MEANT_BY_MINIMIZE),
    negative=NEGATIVE,
)
