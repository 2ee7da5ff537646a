"""The graph of a loss with its gradients."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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
    joint
        Where all workers evaluate together: makes a context for a call in which they do; else ``None``.
    """

    call: Callable[..., list[list[Any]]]
    connected: tuple[bool, ...]
    dtype: Any
    tracked: int
    elements: int | None = None
    joint: Callable[[], AbstractContextManager[None]] | None = None

    @property
    def is_joint(self) -> bool:
        """Whether all workers evaluate together, so that they have to take the same steps."""
        return self.joint is not None

    def one_call(self) -> AbstractContextManager[None]:
        """Return a context for a call of a graph that has :attr:`call` in it."""
        return nullcontext() if self.joint is None else self.joint()
