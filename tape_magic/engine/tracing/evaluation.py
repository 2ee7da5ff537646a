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
    take_key
        Where all workers evaluate together: takes the key of the next call in which they do; else ``None``.
    """

    call: Callable[..., list[list[Any]]]
    connected: tuple[bool, ...]
    dtype: Any
    tracked: int
    elements: int | None = None
    take_key: Callable[[], None] | None = None

    @property
    def is_joint(self) -> bool:
        """Whether all workers evaluate together, so that they have to take the same steps."""
        return self.take_key is not None

    def begin_call(self) -> None:
        """Get ready for a call of a graph that has :attr:`call` in it."""
        if self.take_key is not None:
            self.take_key()
