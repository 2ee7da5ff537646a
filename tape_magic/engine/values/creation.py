"""A callback for the variables that TensorFlow makes.

The frames of this module stand between the user's line and TensorFlow. The search for the user's line passes
over this file (:func:`~tape_magic.engine.values.functions.origin_of`), so that nothing else may stand in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def hearing_new_variables(hear: Callable[[Any], None]) -> Iterator[None]:
    """Call `hear` with each ``tf.Variable`` that is made within the block."""
    import tensorflow as tf

    def make(next_creator: Callable[..., Any], **arguments: Any) -> Any:
        variable = next_creator(**arguments)
        hear(variable)
        return variable

    with tf.variable_creator_scope(make):
        yield
