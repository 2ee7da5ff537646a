"""What the losses of a range test say about the rate to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

_Array = np.ndarray[Any, Any]

BELOW = 10.0
"""The suggested rate is that of the lowest loss divided by this."""

NEIGHBOURS = 4
"""So many losses on each side are averaged, where each is that of another batch."""

GONE = 2.0
"""A loss above its start by itself, and by so many times what it had fallen, has blown up."""

LEAST = 1e-3
"""The least part of a loss by which it has to fall for a rate to be suggested; over data, it also has to fall
by the scatter of the first losses."""

STILL, SCATTER = 20, 4.0
"""So many losses at the lowest rates tell what the loss of a batch is, and by how much it scatters; a loss
that has blown up is above that by so many times the scatter."""


@dataclass(frozen=True)
class RateChoice:
    """The outcome of a range test.

    Attributes
    ----------
    smoothed
        The losses, smoothed where they scatter.
    lowest
        The place at which these have fallen to the lowest before the loss blew up, but for a thousandth of
        the way; ``None`` where the loss did not fall.
    blown
        The place from which on the loss has blown up; ``None`` where it has not.
    """

    smoothed: _Array
    lowest: int | None
    blown: int | None


def choose(losses: _Array, *, noisy: bool) -> RateChoice:
    """Find the lowest and the last useful loss of a range test.

    Parameters
    ----------
    losses
        The loss before each step, at rates that grow by the same factor from step to step.
    noisy
        Whether each is that of another batch.

    Notes
    -----
    L. N. Smith, "Cyclical learning rates for training neural networks", WACV (2017), section 3.3: rates are
    useful from where the loss begins to fall to where it becomes ragged or rises. As J. Howard and S. Gugger,
    "fastai: A layered API for deep learning", Information 11 (2020), the rate here is a tenth of the one of
    the lowest loss. That one is above what is stable: of gradient descent along a curvature λ, steps at rates
    below 2/λ lower the loss by so much that those above take until about 18/λ to show, where 25 steps raise
    the rate tenfold. A tenth of it is stable.

    >>> choose(np.array([4.0, 3.9, 3.0, 1.0, 0.5, 2.0, 30.0]), noisy=False).lowest
    4
    """
    smoothed = _smooth(losses) if noisy else losses
    start = losses[:STILL][np.isfinite(losses[:STILL])] if noisy else losses[:1]
    if not len(start) or (noisy and len(losses) < STILL and np.isfinite(losses).all()):
        return RateChoice(smoothed, None, None if len(start) else 0)
    first, scatter = float(start.mean()), float(start.std())
    lows = np.minimum.accumulate(smoothed)
    level = first + np.maximum(GONE * (first - lows), abs(first) + SCATTER * scatter)
    gone = smoothed > level
    if noisy:
        gone &= np.append(gone[1:], False)  # one batch alone may be an odd one
    gone |= ~np.isfinite(losses)
    blown = int(np.argmax(gone)) if gone.any() else None
    known = smoothed[:blown]
    if not len(known):
        return RateChoice(smoothed, None, blown)
    low = float(known.min())
    # A loss that has fallen to 0 may stay there at any rate.
    lowest = int(np.argmax(known <= low + LEAST * max(first - low, 0.0)))
    fell = first - low > max(LEAST * abs(first), scatter)
    return RateChoice(smoothed, lowest if fell else None, blown)


def rounded(rate: float) -> float:
    """Return the largest of 1, 2, 3, 5 and 7 times a power of ten that is at most a rate.

    >>> rounded(0.0042), rounded(0.00096), rounded(0.05)
    (0.003, 0.0007, 0.05)
    """
    exponent = int(np.floor(np.log10(rate)))
    each = [float(f"{digit}e{exponent}") for digit in (1, 2, 3, 5, 7)]
    return max((one for one in each if one <= rate), default=each[0])


def _smooth(losses: _Array) -> _Array:
    """Return the mean of each loss and its neighbours, fewer at the ends and beside what is not finite."""
    finite = np.isfinite(losses)
    end = len(losses) if finite.all() else int(np.argmin(finite))
    sums = np.concatenate([[0.0], np.cumsum(losses[:end])])
    at = np.arange(end)
    reach = np.minimum(NEIGHBOURS, np.minimum(at, end - 1 - at))
    means = (sums[at + reach + 1] - sums[at - reach]) / (2 * reach + 1)
    return np.concatenate([means, losses[end:]])
