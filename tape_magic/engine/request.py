"""What is asked of a program's derivatives, whichever door it came through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tape_magic.errors import LineError
from tape_magic.notation import MAX_ORDER, Kind

LIMIT = 2**30
"""The largest derivative computed without being asked for by a higher limit, in bytes."""


@dataclass(frozen=True)
class Request:
    """Which derivatives of what.

    Attributes
    ----------
    words
        The targets, as :func:`notation.split` gives them.
    wrt
        The names of the sources, where the targets do not say; ``None`` for those that are read.
    order
        For targets that name no source.
    kind
        What is computed.
    vectors
        Of a product, the vector for each source by its name; anything that ``tf.constant`` takes, of
        the source's structure and shape.
    vector_names
        What the user called them.
    zero
        Zeros instead of ``None`` where there is no connection.
    limit
        The largest size of a derivative, in bytes.

    Raises :class:`LineError` for an order out of range.
    """

    words: Sequence[str] = ()
    wrt: Sequence[str] | None = None
    order: int = 1
    kind: Kind = Kind.GRADIENT
    vectors: Mapping[str, Any] = field(default_factory=dict)
    vector_names: Mapping[str, str] = field(default_factory=dict)
    zero: bool = False
    limit: int = LIMIT

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or not 1 <= self.order <= MAX_ORDER:
            raise LineError(f"the order is {self.order!r}; orders 1 to {MAX_ORDER} can be computed.")
