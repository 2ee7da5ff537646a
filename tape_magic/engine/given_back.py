"""What is lifted to variables for a run, and what comes back of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tape_magic.engine import sources as src


def liftable(value: Any) -> bool:
    """Whether a variable stands for it during a run: floats, arrays and tensors."""
    return src.is_liftable(value) or (src.is_tensor(value) and src.is_inexact(value))


def given_back(original: Any, lifted: Any) -> Any:
    """What stood for the original, as the type it was; the original itself if it never changed."""
    import tensorflow as tf

    if isinstance(original, tuple):
        items = [given_back(old, new) for old, new in zip(original, lifted, strict=True)]
        return src.rebuilt(original, items)
    if not src.is_variable(lifted):
        return original
    value = lifted.numpy()
    was = original.numpy() if src.is_tensor(original) else np.asarray(original, value.dtype)
    if np.array_equal(was, value):
        return original
    if src.is_tensor(original):
        return tf.constant(value)
    if isinstance(original, np.ndarray):
        return np.array(value, original.dtype)  # of a single number, too, which numpy() gives as a scalar
    return type(original)(value)
