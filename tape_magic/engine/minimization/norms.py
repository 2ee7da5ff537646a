"""Norms of variables and of a model's layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.values.leaves import Leaf

_Array = np.ndarray[Any, Any]

MOST_ELEMENTS = 1 << 22
"""The most elements of all layers together that are read at each look at a run."""


def layers_of(leaves: Iterable[Leaf], most: int) -> dict[str, list[Leaf]]:
    """Return the leaves of the first layers of models, by the paths of the layers.

    There are none where they are too large to be read again and again.
    """
    layers: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        if leaf.of_model:
            layers.setdefault(leaf.name.rpartition("/")[0] or leaf.name, []).append(leaf)
    first = dict(list(layers.items())[:most])
    elements = sum(math.prod(leaf.shape) for some in first.values() for leaf in some)
    return first if elements <= MOST_ELEMENTS else {}


def norms_of(layers: Mapping[str, Sequence[Leaf]]) -> dict[str, float]:
    """Return the Euclidean norm of all weights of each layer together."""
    return {name: math.hypot(*(norm_of(leaf.value) for leaf in leaves)) for name, leaves in layers.items()}


def norm_of(value: Any) -> float:
    """Return the Euclidean norm, in float64, since the squares of half precision overflow."""
    flat = np.asarray(value.numpy()).reshape(-1)
    pieces = [flat[at : at + _PIECE] for at in range(0, flat.size, _PIECE)]
    norm = math.sqrt(_sum_of_squares(pieces, 1.0))
    if 1e-140 < norm < math.inf or not flat.size:
        return norm
    # The squares of large numbers are infinite, and those of small ones zero: scale first.
    largest = float(np.max([np.abs(piece.astype(np.float64)).max() for piece in pieces]))
    return largest * math.sqrt(_sum_of_squares(pieces, largest)) if 0 < largest < math.inf else largest


_PIECE = 1 << 16


def _sum_of_squares(pieces: Sequence[_Array], scale: float) -> float:
    with np.errstate(over="ignore"):
        # NumPy's own sum, since BLAS would wake its threads for so little.
        return float(sum(np.square(piece.astype(np.float64) / scale).sum() for piece in pieces))
