"""`Evaluation`: the graph of the loss with its gradients."""

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
        A batch, if there are data → three lists: the loss and what is tracked; a dense gradient for each leaf
        that has one; what :meth:`Traced.outputs` takes.
    connected
        For each leaf, whether it has a gradient.
    dtype
        Of the loss.
    tracked
        How many scalars are tracked.
    elements
        Of all its tensors together; ``None`` where that is not known.
    """

    call: Callable[..., list[list[Any]]]
    connected: tuple[bool, ...]
    dtype: Any
    tracked: int
    elements: int | None = None
