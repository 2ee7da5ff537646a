"""The graph of a loss with its gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """The graph of a loss with its gradients.

    Attributes
    ----------
    call
        Takes a batch, if there are data. Returns three lists: the loss and the tracked scalars; a dense
        gradient for each leaf that has one; what :meth:`Traced.outputs` takes. Where :meth:`Traced.evaluated`
        made it, `handles` may name handles of other variables, by the ids of those that they stand for.
    connected
        For each leaf, whether it has a gradient.
    dtype
        The dtype of the loss.
    tracked
        How many scalars are tracked.
    elements
        The number of elements of all tensors of the graph together; ``None`` where it is not known.
    """

    call: Callable[..., list[list[Any]]]
    connected: tuple[bool, ...]
    dtype: Any
    tracked: int
    elements: int | None = None
