"""`RandomStates`: the random layers and generators that a program reaches, to be seeded anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.walk import Visitor, Walk
from tape_magic.engine.values.introspection import is_a
from tape_magic.engine.values.tensors import tf_variable

_NAME = "seed_generator_state"
"""Keras's name for the variable of a ``SeedGenerator``: the seed, and how many numbers it has given."""


class RandomStates(Visitor):
    """Everything that gives random numbers among what a program leads to.

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
        Walk(self, program, namespace).run()

    def reseed(self, seed: int, more: Iterable[Any] = ()) -> None:
        """Give each state and generator a seed of its own that follows from `seed`.

        `more` are variables, of which the states of a ``SeedGenerator`` are seeded as well.
        """
        variables = [tf_variable(variable) for variable in (*self.states, *filter(_is_state, more))]
        different = {id(variable): variable for variable in variables}
        for number, variable in enumerate(different.values()):
            variable.assign([(seed + number) % 2**31, 0])
        for number, generator in enumerate(self.generators):
            generator.reset_from_seed(seed + number)

    def visit_variable(self, variable: Any) -> None:
        """Take the state of a ``SeedGenerator``."""
        if _is_state(variable):
            self.states.append(variable)

    def visit_object(self, value: Any) -> None:
        """Take a ``tf.random.Generator``."""
        import tensorflow as tf

        if is_a(value, tf.random.Generator):
            self.generators.append(value)


def _is_state(variable: Any) -> bool:
    name: str = variable.name
    return name.rpartition("/")[2].startswith(_NAME)
