"""The states of random layers and generators, which go on from run to run unless a seed sets them back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.snapshot import Snapshot
from tape_magic.engine.values.introspection import is_a
from tape_magic.engine.values.tensors import tf_variable

_NAME = "seed_generator_state"
"""What Keras calls the variable of a ``SeedGenerator``: the seed, and how many numbers it has given."""


class RandomStates(Snapshot):
    """Whatever gives random numbers among all that a program leads to; no values are kept.

    Attributes
    ----------
    states
        The variables of Keras's ``SeedGenerator``, those within layers too.
    generators
        Each a ``tf.random.Generator``.
    """

    def __init__(self, program: Program, namespace: Namespace) -> None:
        self.states: list[Any] = []
        self.generators: list[Any] = []
        super().__init__(program, namespace, ())

    def set_back(self, seed: int, more: Iterable[Any] = ()) -> None:
        """Let each begin anew, with a seed of its own that follows from `seed`.

        `more` are variables, of which those are set back as well that are the state of a ``SeedGenerator``.
        """
        variables = [tf_variable(variable) for variable in (*self.states, *filter(_is_state, more))]
        different = {id(variable): variable for variable in variables}
        for number, variable in enumerate(different.values()):
            variable.assign([(seed + number) % 2**31, 0])
        for number, generator in enumerate(self.generators):
            generator.reset_from_seed(seed + number)

    def _object(self, value: Any) -> None:
        import tensorflow as tf

        if is_a(value, tf.random.Generator):
            self.generators.append(value)
        else:
            super()._object(value)

    def _variable(self, variable: Any) -> None:
        if _is_state(variable):
            self.states.append(variable)

    def _array(self, array: Any) -> None:
        self._queue += list(array.flat) if array.dtype.hasobject else []


def _is_state(variable: Any) -> bool:
    name: str = variable.name
    return name.rpartition("/")[2].startswith(_NAME)
