"""The default size limit, and the refusal of a derivative beyond it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tape_magic.errors import TargetError

LIMIT = 2**30
"""The largest Jacobian or Hessian that is computed unless a higher limit is given, in bytes."""


_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def refuse_above(limit: int, what: str, shapes: Sequence[Sequence[int]], itemsize: int, cure: str) -> None:
    """Raise :class:`TargetError` where arrays of these shapes take more than `limit` bytes together.

    `what` names them in the sentence, and `cure` says what to compute in their place.
    """
    size = sum(math.prod(shape) for shape in shapes) * itemsize
    if size <= limit:
        return
    largest = max(shapes, key=math.prod)
    shape = f"of shape {tuple(largest)}"
    if len(shapes) > 1:
        shape = f"{len(shapes)} arrays, the largest {shape}"
    raise TargetError(
        f"{what} would be {shape}, {in_units(size)}, and the limit is {in_units(limit)}: {cure}, or "
        f"raise the limit with %config TapeMagics.derivative_limit = {size}, or limit={size} in Python."
    )


def in_units(size: int) -> str:
    """Return a number of bytes in the unit that fits.

    >>> in_units(3 * 2**29)
    '1.5 GiB'
    """
    power = min((max(size, 1).bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{size / 1024**power:.4g} {_UNITS[power]}"
