"""The random numbers that a program draws from no generator of its own, kept for the user's next draws.

Python's ``random`` and NumPy's legacy functions draw from one state each. TensorFlow's global
generator is a variable, and that of Keras, for layers without a seed. TensorFlow's older functions
take their seeds, one for each call, from a generator of the eager context, once
``tf.random.set_seed`` was called. The last three are private, and left alone where they are not found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np


@contextmanager
def kept_random_state() -> Iterator[None]:
    """After this, every global generator draws what it would have drawn without it.

    What is drawn within is different each time, also where a seed was set before. An operation with
    a seed of its own counts its calls within TensorFlow, where nothing reads the count.
    """
    with ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        for variable in _global_variables():
            stack.callback(variable.assign, variable.numpy())
        stack.callback(_context())
        yield


def tensorflow_seed() -> int | None:
    """The seed of `tf.random.set_seed`, None without one or where this TensorFlow does not tell."""
    try:
        from tensorflow.python.eager import context as eager

        seed = eager.context()._seed
    except (ImportError, AttributeError):
        return None
    return None if seed is None else int(seed)


def as_it_was() -> Callable[[], None]:
    """What puts back every seed and generator that Keras's `set_random_seed` replaces; starts nothing."""
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


def _global_variables() -> list[Any]:
    """The state of TensorFlow's global generator and of that of Keras, where they exist."""
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


def _context() -> Callable[[], None]:
    """The seeds of TensorFlow's older functions; a generator apart gives them until they are put back.

    A seed that was given away twice would find the kernel that counted the first time.
    """
    try:
        from tensorflow.python.eager import context as eager

        context = eager.context()
        seed, generator = context._seed, context._rng
        state = generator.getstate()
    except (ImportError, AttributeError):
        return lambda: None
    apart = random.Random()
    apart.setstate(state)
    context._rng = random.Random(apart.getrandbits(64))
    return partial(_put_back, context, seed, generator, state)


def _put_back(context: Any, seed: Any, generator: Any, state: Any) -> None:
    context._seed, context._rng = seed, generator
    generator.setstate(state)
