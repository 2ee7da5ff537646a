"""The norms of the gradients of single examples, and which of them is the largest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False, repr=False)
class ExampleNorms:
    """The norm of the gradient of each example's loss, over the variables of all sources together.

    Attributes
    ----------
    target
        The output's name; ``_`` is the value of the last expression.
    norms
        The norms in the order of the examples, as a float64 array of shape (b,).
    parameters
        The number of elements of the variables that the output depends on.
    """

    target: str
    norms: np.ndarray[Any, Any]
    parameters: int

    @property
    def largest(self) -> int | None:
        """The index of the example with the largest norm; ``None`` where all have the same."""
        return largest(self.norms)

    @property
    def order(self) -> np.ndarray[Any, Any]:
        """The indices of the examples, the largest norm first, before it those that are NaN."""
        return np.argsort(-np.where(np.isnan(self.norms), np.inf, self.norms), kind="stable")

    def __repr__(self) -> str:
        return f"<ExampleNorms: {self.target}, {self.norms.size:,} examples>"


def largest(norms: Any) -> int | None:
    """Return the index of the largest number, of which NaN is the first; ``None`` where all are the same.

    >>> largest([1.0, 3.0, 2.0]), largest([2.0, 2.0])
    (1, None)
    """
    values = np.asarray(norms, np.float64)
    if not values.size or (values == values[0]).all() or np.isnan(values).all():
        return None
    return int(np.argmax(np.where(np.isnan(values), np.inf, values)))
