"""How to minimise, whichever door it came through."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tape_magic.errors import LineError, closest

ENGINES = ("auto", "xla", "graph", "eager")
KEEP = ("last", "best")
DEFAULT_OPTIMIZER = "adam"
STEPS = 1000
PATIENCE = 10


@dataclass(frozen=True)
class Settings:
    """How to minimise; the attributes are parameters of :func:`~tape_magic.engine.api.minimize.minimize`.

    `made_here` says that an optimizer was made by an expression on the line, so that nobody else has it.
    `names` are what a batch of the data is bound to, and `label` is what messages call the data;
    `remarks` are for the report.

    Raises :class:`LineError` for what is out of its range, and for what does not go together.
    """

    optimizer: Any = DEFAULT_OPTIMIZER
    made_here: bool = field(default=False, kw_only=True)
    lr: float | None = None
    steps: int | None = None
    engine: str = "auto"
    seed: int | None = None
    tol: float | None = None
    gtol: float | None = None
    target: float | None = None
    patience: int | None = None
    time: float | None = None
    track: tuple[str, ...] = ()
    bounds: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    keep: str = "last"
    resume: bool = False
    checkpoint: str | None = None
    data: Any = None
    names: tuple[str, ...] = ()
    label: str = "the data"
    batch: int | None = None
    epochs: int | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise LineError(f"unknown engine {self.engine!r}{closest(self.engine, ENGINES)}")
        if self.keep not in KEEP:
            raise LineError(f"keep is {self.keep!r}; it can be last or best.")
        for name, least in (("steps", 0), ("patience", 1), ("batch", 1), ("epochs", 1)):
            self._check_whole(name, least)
        if self.lr is not None and not (self.lr > 0 and math.isfinite(self.lr)):
            raise LineError(f"the learning rate is {self.lr:g}; give a number above 0.")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise LineError(f"the seed is {self.seed}; give a whole number from 0 to 4294967295.")
        for name in ("tol", "gtol", "time"):
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise LineError(f"{name} is {value:g}; give a number, 0 or more.")
        if self.target is not None and not math.isfinite(self.target):
            raise LineError(f"the target is {self.target:g}; give a finite loss.")
        if self.patience is not None and self.tol is None:
            raise LineError("patience says over how many steps tol looks; give a tol as well, such as 1e-6.")
        if self.data is None and (self.batch is not None or self.epochs is not None):
            given = "batch" if self.batch is not None else "epochs"
            raise LineError(f'{given} goes with data; on the line, --for "xb, yb in train".')

    def _check_whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise LineError(f"{name} is {value!r}; give a whole number, {least} or more.")

    @property
    def step_limit(self) -> int | None:
        """How many steps at the most; ``None`` for as many as there is time for, or batches."""
        if self.steps is None and self.data is None and self.time is None:
            return STEPS
        return self.steps
