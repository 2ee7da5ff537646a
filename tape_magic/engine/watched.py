"""A step with what a display shows besides, at next to no cost where nobody looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tape_magic.engine import sources as src
from tape_magic.engine.history import Series
from tape_magic.results.steps import Step

SMALL, SHOWN = 12, 8
"""A display shows the variables of so few elements, and of these so many."""


def array_of(value: Any) -> np.ndarray[Any, Any]:
    """A copy of what a tensor or variable holds."""
    return np.array(value.numpy())


def norm_of(value: Any) -> float:
    """The Euclidean norm, in float64, since the squares of half precision overflow."""
    array = array_of(value).astype(np.float64)
    with np.errstate(over="ignore"):
        # By NumPy's own sum: for so little, BLAS would wake its threads.
        norm = math.sqrt(np.square(array).sum())
    if 1e-140 < norm < math.inf or not array.size:
        return norm
    # Scaled, since the squares of large numbers are infinite and those of small ones zero.
    largest = float(np.abs(array).max())
    return largest * math.sqrt(np.square(array / largest).sum()) if 0 < largest < math.inf else largest


def watched(
    step: Step,
    loss_name: str,
    first_step: int,
    series: Sequence[Series],
    names: Sequence[str],
    leaves: Sequence[src.Leaf],
) -> Step:
    """The step with the history, the last value of what is tracked, and a way to read the variables."""
    loss, *tracked = series
    small = [leaf for leaf in leaves if math.prod(leaf.shape) <= SMALL][:SHOWN]
    return replace(
        step,
        loss_name=loss_name,
        first_step=first_step,
        tracked={name: float(one.values[-1]) for name, one in zip(names, tracked, strict=True) if len(one)},
        more_variables=len(leaves) - len(small),
        read_history=lambda: (loss.steps, loss.values),
        read_variables=lambda: {leaf.name: array_of(leaf.value) for leaf in small},
    )
