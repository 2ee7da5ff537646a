"""``Request``: the derivatives that are to be computed, validated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tape_magic.engine.values.sizes import LIMIT
from tape_magic.errors import ArgumentError, LineError, shorten
from tape_magic.notation import MAX_ORDER, Kind

_ONLY_ORDERS = {
    Kind.HESSIAN: ((1, 2), "a Hessian holds second derivatives"),
    Kind.HVP: ((1, 2), "a product with a Hessian is of order 2"),
    Kind.JVP: ((1,), "a product with a Jacobian is of order 1; --hvp x=v is the one with a Hessian"),
    Kind.VJP: ((1,), "a product with a Jacobian is of order 1; --hvp x=v is the one with a Hessian"),
    Kind.LAPLACIAN: ((1, 2), "a Laplacian is of second derivatives"),
    Kind.DIVERGENCE: ((1,), "a divergence is of first derivatives"),
    Kind.PER_EXAMPLE: ((1,), "the norms of the examples are those of first derivatives"),
}
"""The orders that a request may name for a kind of one order, and the reason why there is no other."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The derivatives that are to be computed: each range is checked here only.

    Attributes
    ----------
    words
        The targets, as :func:`~tape_magic.notation.split` returns them.
    wrt
        The names of the sources, for targets that name none; ``None`` for the sources that are read.
    order
        The order of the derivatives, for targets that name no source.
    kind
        The kind of the derivatives.
    vectors
        For a product, the vector for each source by its name, or of kind VJP for each output; any value that
        ``tf.constant`` takes, of the structure and shape of what it is for.
    vector_names
        The user's expressions for the vectors, by the same names.
    zero
        Whether to return zeros instead of ``None`` where a target does not depend on a source.
    limit
        The largest size of a Jacobian or Hessian, in bytes.
    batch_names
        The names of a batch, which are no sources unless they are named.

    Raises :class:`ArgumentError` for an order that cannot be computed, and a limit that is no size, and
    :class:`LineError` for an order that the kind does not have.

    Examples
    --------
    >>> Request(words=["y"], order=2, vectors={"x": 1.0}).vector_name("x")
    'v'
    """

    words: Sequence[str] = ()
    wrt: Sequence[str] | None = None
    order: int = 1
    kind: Kind = Kind.GRADIENT
    vectors: Mapping[str, Any] = field(default_factory=dict)
    vector_names: Mapping[str, str] = field(default_factory=dict)
    zero: bool = False
    limit: int = LIMIT
    batch_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or not 1 <= self.order <= MAX_ORDER:
            shown = shorten(repr(self.order))
            raise ArgumentError("order", f"is {shown}; orders 1 to {MAX_ORDER} can be computed.", "the order")
        orders, why = _ONLY_ORDERS.get(self.kind, ((), ""))
        if orders and self.order not in orders:
            raise LineError(f"the order is {self.order}, but {why}.")
        if self.kind is Kind.LAPLACIAN:
            object.__setattr__(self, "order", 2)
        if not isinstance(self.limit, int) or self.limit <= 0:
            raise ArgumentError("limit", f"is {self.limit!r}; it is a number of bytes above 0.", "the limit")

    @property
    def moved(self) -> tuple[str, ...]:
        """The sources that have a vector."""
        return () if self.kind is Kind.VJP else tuple(self.vectors)

    def vector_name(self, name: str) -> str:
        """Return the name of a vector in labels: the user's expression, or ``v``."""
        return self.vector_names.get(name) or ("v" if len(self.vectors) < 2 else f"v_{name}")
