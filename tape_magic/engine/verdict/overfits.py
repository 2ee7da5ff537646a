"""Whether a run fits what its data have by chance: the validation rises while the training loss falls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tape_magic.engine.verdict.facts import Array, RunFacts
from tape_magic.engine.verdict.words import number
from tape_magic.results.epochs import Epochs
from tape_magic.results.findings import Finding, FindingKind
from tape_magic.results.minimum import StopReason

AFTER, PART = 4, 0.1
"""At least so many epochs follow the best one, and this share of all: fewer may be higher by chance."""

RISE, FALL = 0.1, 0.05
"""The validation has risen, and the training loss fallen, by at least these shares: of what they were at the
best validation, or, where that is more, of all that both have passed through."""

SCATTER = 4.0
"""The rise is at least so many times the scatter of the validation from epoch to epoch."""

TREND, LEVEL = 0.5, 0.1
"""Of the pairs of epochs since the best whose validations differ by more than the second share of the rise,
at least three in four have the later one higher; of those of the training loss, lower. This is Goodman and
Kruskal's gamma of the loss and time."""

LAG = 5
"""The scatter is looked for between epochs that are up to so many apart."""

STAYS = 0.7
"""The end has at least this share of the highest rise: what comes down again may yet be better."""

PATIENCE = 5
"""The patience of the cure."""


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find since which epoch a run overfits; nothing where the values from before were put back."""
    if facts.divergence is not None or facts.kept_best or (best := since(facts.epochs)) is None:
        return
    epochs = facts.epochs
    assert epochs is not None
    assert epochs.val_loss is not None
    epoch, ends = int(epochs.epoch[best]), (float(epochs.val_loss[best]), float(epochs.val_loss[-1]))
    losses = float(epochs.loss[best]), float(epochs.loss[-1])
    evidence = {"epoch": epoch, "best": ends[0], "end": ends[1], "loss": losses[0], "loss_end": losses[1]}
    rose, fell = (" to ".join(number(value, 4) for value in pair) for pair in (ends, losses))
    text = (
        f"overfits since epoch {epoch:,}: the validation rose from {rose} while the training loss fell "
        f"from {fell}"
    )
    cure = "--keep best" if facts.reason is StopReason.PATIENCE else f"--keep best --patience {PATIENCE}"
    yield Finding(FindingKind.OVERFITS, text, evidence, None, cure)


def since(epochs: Epochs | None) -> int | None:
    """Return the place of the epoch since which the validation rises; ``None`` where that is not evident."""
    if epochs is None or epochs.val_loss is None or not epochs.whole:
        return None
    known = np.flatnonzero(np.isfinite(epochs.val_loss) & np.isfinite(epochs.loss))
    validation, training = epochs.val_loss[known], epochs.loss[known]
    if len(known) <= AFTER:
        return None
    best = int(np.argmin(validation))
    after, fitted = validation[best:], training[best:]
    if len(after) <= max(AFTER, len(known) * PART):
        return None
    # What a single epoch has may be high or low by chance; of neighbours, the one in the middle is less so.
    last = max(2, len(after) // 4)
    low = float(np.median(validation[max(best - 1, 0) : best + 2]))
    rise = float(np.median(after[-last:])) - low
    fall = float(fitted[0]) - float(np.median(fitted[-last:]))
    passed = float(np.ptp(np.concatenate([validation, training])))
    evident = (
        rise >= RISE * min(abs(float(after[0])), passed)
        and rise >= SCATTER * _scatter(validation)
        and rise >= STAYS * (float(after.max()) - low)
        and fall >= FALL * min(abs(float(fitted[0])), passed)
        and _trend(after, LEVEL * rise) >= TREND
        and _trend(fitted, LEVEL * fall) <= -TREND
    )
    return int(known[best]) if evident else None


def _scatter(values: Array) -> float:
    """Return the standard deviation from a smooth curve, by medians of second differences.

    What wanders from epoch to epoch shows in those of epochs that lie further apart.
    """
    widest = max(1, min(LAG, len(values) // 8))
    second = (values[: -2 * lag] - 2 * values[lag:-lag] + values[2 * lag :] for lag in range(1, widest + 1))
    return max(float(np.median(np.abs(one))) for one in second) / (0.6745 * 6**0.5)


def _trend(values: Array, least: float) -> float:
    """Return the rank correlation with time of values that differ by more than `least`; 0 for a level."""
    differences = (values[None, :] - values[:, None])[np.triu_indices(len(values), 1)]
    signs = np.sign(differences[np.abs(differences) > least])
    return float(signs.mean()) if len(signs) else 0.0
