"""Small pictures of coloured cells as PNG, written with the standard library.

The format: Portable Network Graphics (PNG) Specification, W3C, third edition, sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

Colour = tuple[int, int, int, int]
"""Red, green, blue and opacity, each from 0 to 255."""


def png(indices: np.ndarray[Any, Any], palette: Sequence[Colour]) -> bytes:
    """Return a picture with one pixel for each cell.

    Parameters
    ----------
    indices
        Places in the palette, uint8, of shape (height, width).
    palette
        At most 256 colours.
    """
    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colours = bytes(value for colour in palette for value in colour[:3])
    opacities = bytes(colour[3] for colour in palette)
    # Each line begins with the number of its filter; 0 stands for no filter.
    lines = np.pad(indices.astype(np.uint8), ((0, 0), (1, 0))).tobytes()
    chunks = (
        _chunk(b"IHDR", header),
        _chunk(b"PLTE", colours),
        _chunk(b"tRNS", opacities),
        _chunk(b"IDAT", zlib.compress(lines, 9)),
        _chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
