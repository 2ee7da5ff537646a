"""A function for each element, one after another: what it raises leaves nothing of TensorFlow's changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tape_magic.engine.internals.contexts import restore_after_interrupt
from tape_magic.engine.internals.vectorized import one_after_another


def of_each(function: Any, *, compiled: bool) -> Any:
    def all_of() -> Any:
        return one_after_another(function, tf.range(3), tf.TensorSpec([], tf.float64))

    return tf.function(all_of, autograph=False)() if compiled else all_of()


@pytest.mark.parametrize("compiled", [False, True])
def test_the_values_are_stacked(compiled: bool) -> None:
    found = of_each(lambda index: 2.0 * tf.cast(index, tf.float64), compiled=compiled)
    np.testing.assert_array_equal(found.numpy(), [0.0, 2.0, 4.0])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt, ValueError])
def test_an_error_leaves_nothing_behind(error: type[BaseException], compiled: bool) -> None:
    def raising(index: Any) -> Any:
        raise error

    with pytest.raises(error), restore_after_interrupt():
        of_each(raising, compiled=compiled)
    assert tf.executing_eagerly()
    assert tf.compat.v1.get_variable_scope().caching_device is None
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        tf.Variable(1.0)
