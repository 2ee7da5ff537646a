"""The line of ``%%minimize``."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tape_magic.engine.minimization.optimizers import NAMES
from tape_magic.engine.minimization.settings import ENGINES, KEEP, Settings
from tape_magic.errors import LineError, shorten
from tape_magic.magics.line.parser import NAME, QUIET, Magic, Option, place_name
from tape_magic.notation import place, split, unwarned

Bound = tuple[str, str, str]
"""A place, and the expressions of its lower and its upper bound; empty for none."""


@dataclass(frozen=True)
class DataOption:
    """``xb, yb in train``: what each batch is bound to, and the expression of the data."""

    names: tuple[str, ...]
    data: str


def _data(word: str) -> DataOption:
    """``xb, yb in train``. Raises :class:`LineError` for anything else."""
    example = '--for takes "xb, yb in train"'
    try:
        with unwarned():
            (loop,) = ast.parse(f"for {word}: pass").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise LineError(f"{example}, not {shorten(word)!r}.") from None
    if not isinstance(loop, ast.For):
        raise LineError(f"{example}, not {shorten(word)!r}.")
    targets = loop.target.elts if isinstance(loop.target, ast.Tuple | ast.List) else [loop.target]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    if len(names) < len(targets) or len(set(names)) < len(names):
        raise LineError(f"{example}: plain names, each once, not {shorten(ast.unparse(loop.target))!r}.")
    return DataOption(tuple(names), ast.unparse(loop.iter))


def _bounds(word: str) -> tuple[Bound, ...]:
    """``x=0:1, w=0:``. Raises :class:`LineError` for anything else."""
    found: list[Bound] = []
    for part in split(re.sub(r"\s*([=:])\s*", r"\1", word)):
        name, sign, span = part.partition("=")
        low, colon, high = span.partition(":")
        if not sign or not colon or not (low.strip() or high.strip()):
            raise LineError(f'--bounds takes "x=0:1, w=0:", not {shorten(part)!r}.')
        place(name)
        if name in [other for other, _, _ in found]:
            raise LineError(f"--bounds gives two spans for {shorten(name)}.")
        found.append((name, low.strip(), high.strip()))
    return tuple(found)


_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "m": 60.0, "min": 60.0, "h": 3600.0}


def _seconds(word: str) -> float:
    """``30s``, ``5m``, ``1.5h`` or a number of seconds."""
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", word.lower())
    if not match or match[2] not in _UNITS:
        raise ValueError(word)
    return float(match[1]) * _UNITS[match[2]]


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
        that are expressions, `optimizer`, `data` and `bounds`, as the line spells them.
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
            )
        Settings(**self.arguments)  # refuses what is out of its range before anything runs

    @property
    def loss_name(self) -> str | None:
        """The name of the loss; ``None`` for the value of the last expression."""
        return self.loss[0] if self.loss else None


MINIMIZE = Magic(
    "minimize",
    cell=True,
    summary="Minimise the loss that the cell computes, compiled.",
    options=(
        Option(
            "loss", (), "a name that the cell assigns; without it, the last expression", "LOSS", place_name
        ),
        Option(
            "over",
            ("--over",),
            "what to minimise over; without it, the trainable variables that the cell reads",
            "NAME",
            place_name,
            many=True,
        ),
        Option(
            "optimizer",
            ("--optimizer",),
            "a Keras name, a method of SciPy, an optimizer of the notebook, or an expression",
            "NAME|EXPR",
            choices=NAMES,
        ),
        Option("lr", ("--lr",), "learning rate, with an optimizer's name", "RATE", float),
        Option(
            "steps",
            ("--steps",),
            "how many steps at the most (1000; with --for or --time, as many as there are)",
            "N",
            int,
        ),
        Option(
            "tol",
            ("--tol",),
            "stops when the loss has changed by at most T over --patience steps; relative above 1",
            "T",
            float,
        ),
        Option("gtol", ("--gtol",), "stops when the norm of the gradient is at most T", "T", float),
        Option("target", ("--target",), "stops when the loss is at most this", "LOSS", float),
        Option("patience", ("--patience",), "over how many steps --tol looks (10)", "N", int),
        Option("time", ("--time",), "stops after this time: 30s, 5m, 1h", "TIME", _seconds),
        Option("data", ("--for",), 'a batch of the data at each step: "xb, yb in train"', "FOR", _data),
        Option("batch", ("--batch",), "rows in a batch, where the data are arrays", "N", int),
        Option("epochs", ("--epochs",), "how often all of the data (1)", "N", int),
        Option(
            "track",
            ("--track",),
            "further scalars of the cell to record at each step",
            "NAME",
            place_name,
            many=True,
        ),
        Option(
            "bounds",
            ("--bounds",),
            'what the variables stay within: "x=0:1, layer.kernel=0:"',
            "BOUNDS",
            _bounds,
        ),
        Option(
            "keep",
            ("--keep",),
            "leaves the variables as they were last, or at the lowest loss",
            "WHICH",
            choices=KEEP,
        ),
        Option("resume", ("--resume",), "goes on from where the last run of the same cell ended"),
        Option(
            "checkpoint",
            ("--checkpoint",),
            "saves the run into this folder, for --resume after a restart",
            "DIR",
        ),
        Option(
            "seed",
            ("--seed",),
            "seeds the random numbers, so that two runs are the same",
            "N",
            int,
        ),
        Option(
            "engine",
            ("--engine",),
            "what runs the loop; auto takes the fastest that can",
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
)
