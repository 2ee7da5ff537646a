"""Functions and names of another cell than the one that a test runs."""

from __future__ import annotations

import linecache
import math
import zlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

TOTAL = tf.Variable([1.0, 1.0, 1.0])


@tf.custom_gradient
def clipped(v: Any) -> Any:
    return tf.exp(v), lambda upstream: None


def elsewhere(text: str, **names: Any) -> dict[str, Any]:
    """Return what a text defines, as if it had run in another cell: its source can be read."""
    filename = f"<another cell {zlib.crc32(text.encode())}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    home = {"tf": tf, "np": np, "keras": keras, "math": math, "clipped": clipped, "total": TOTAL}
    home |= {"__name__": "__main__", **names}
    exec(compile(text, filename, "exec"), home)
    home.pop("__builtins__")
    home.pop("__name__")
    return home
