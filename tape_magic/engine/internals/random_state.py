"""Global states of random numbers, saved and restored, so that the user's next draws are what they would be.

Python's ``random`` and NumPy's legacy functions draw from one global state each. TensorFlow's global
generator is a variable, and so is the state of Keras's generator for layers without a seed. TensorFlow's
older functions take a seed for each call from a generator in the eager context, once ``tf.random.set_seed``
was called. The last three are private in TensorFlow 2.21 and Keras 3.15, and are left alone where a version
keeps them elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np


@contextmanager
def preserve_random_state() -> Iterator[None]:
    """Restore every global random state after the block.

    Within the block the numbers drawn differ from time to time, also where a seed was set before. An
    operation with a seed of its own counts its calls inside TensorFlow's runtime, where no function reads the
    count.
    """
    with ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        for variable in _generator_states():
            stack.callback(variable.assign, variable.numpy())
        stack.callback(_replace_seed_generator())
        yield


def tensorflow_seed() -> int | None:
    """Return the seed of `tf.random.set_seed`; ``None`` without one, or where TensorFlow does not tell."""
    try:
        from tensorflow.python.eager import context as eager

        seed = eager.context()._seed
    except (ImportError, AttributeError):
        return None
    return None if seed is None else int(seed)


def seed_restorer() -> Callable[[], None]:
    """Return a function that restores every seed and generator that Keras's `set_random_seed` replaces.

    Neither it nor this function starts TensorFlow.
    """
    stack = ExitStack()
    stack.callback(random.setstate, random.getstate())
    stack.callback(np.random.set_state, np.random.get_state())
    try:
        from tensorflow.python.eager import context as eager

        context = eager.context()
        for name in ("_seed", "_rng"):
            stack.callback(setattr, context, name, getattr(context, name))
    except (ImportError, AttributeError):
        pass
    try:
        from keras.src.backend.common import global_state

        for name in ("global_random_seed", "global_seed_generator"):
            value = global_state.get_global_attribute(name)
            stack.callback(global_state.set_global_attribute, name, value)
    except (ImportError, AttributeError):
        pass
    return stack.close


def _generator_states() -> list[Any]:
    """Return the variables of TensorFlow's and of Keras's global generator, where they exist."""
    found = []
    try:
        from tensorflow.python.ops import stateful_random_ops

        generator = stateful_random_ops.global_generator
        found += [generator.state] if generator is not None else []
    except (ImportError, AttributeError):
        pass
    try:
        from keras.src.backend.common import global_state

        generator = global_state.get_global_attribute("global_seed_generator")
        found += [generator.state.value] if generator is not None else []
    except (ImportError, AttributeError):
        pass
    return found


def _replace_seed_generator() -> Callable[[], None]:
    """Give TensorFlow's older functions their seeds from another generator; return what restores the first.

    With a seed that was given out before, an operation would find the kernel that is cached for that seed,
    and go on where its count stands.
    """
    try:
        from tensorflow.python.eager import context as eager

        context = eager.context()
        seed, generator = context._seed, context._rng
        state = generator.getstate()
    except (ImportError, AttributeError):
        return lambda: None
    source = random.Random()
    source.setstate(state)
    context._rng = random.Random(source.getrandbits(64))
    return partial(_restore_seeds, context, seed, generator, state)


def _restore_seeds(context: Any, seed: Any, generator: Any, state: Any) -> None:
    context._seed, context._rng = seed, generator
    generator.setstate(state)
