"""A program that runs in Python at each evaluation, for what cannot be compiled."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.internals.random_state import preserve_random_state
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.process.output import hide_output
from tape_magic.engine.tracing.failures import creates_a_variable, missing_gradients
from tape_magic.engine.tracing.loss import require_scalar
from tape_magic.engine.tracing.traced import Require
from tape_magic.engine.values.places import look_up
from tape_magic.errors import TargetError, closest
from tape_magic.syntax import place

DERIVATIVE_FREE = "nelder-mead, powell and cobyla need none"
"""Advice for SciPy's methods where an operation has no gradient."""


class EagerProgram:
    """Runs a program on its namespace, which then holds what the last run assigned.

    Parameters
    ----------
    problem
        What is minimised.
    require
        Finds the loss, or the residuals, among what was computed.

    Attributes
    ----------
    value
        The value of the program's last expression, from the last run.
    """

    def __init__(self, problem: Problem, require: Require) -> None:
        self._problem, self._require = problem, require
        names, namespace = problem.program.names, problem.namespace
        first = names.reads_first | names.deletes
        # Each run begins with what the names held before, as a compiled evaluation does.
        self._entry = {name: namespace[name] for name in first if name in namespace}
        self._ran = False
        self.value: Any = None

    def bind(self, values: Mapping[str, Any]) -> None:
        """Begin each further run with these values of some names, such as the next batch."""
        self._entry |= values

    def gives_again(self, loss: Any) -> bool:
        """Run once more, with all output hidden, and return whether the loss is the same to the bit.

        The random numbers that it draws are those that the next run draws.
        """
        with hide_output(), preserve_random_state():
            again = self.compute()
        return bool(np.array_equal(again.numpy(), loss.numpy()))

    def start(self, *, gradient: bool) -> Sequence[bool]:
        """Run once to find what is minimised over, and return for each leaf whether it has a gradient.

        The problem is settled and begun afterwards. Without `gradient`, no gradient is taken, and each leaf
        counts.
        """
        import tensorflow as tf

        with tf.GradientTape() as tape:
            self.compute()
        leaves = self._problem.settle(tape.watched_variables())
        self._problem.begin()
        if not gradient:
            return [True] * len(leaves)
        # A tape watches a variable as it is read, unless the variable is not trainable.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for leaf in leaves:
                tape.watch(leaf.value)
            loss = self.compute()
        with missing_gradients(DERIVATIVE_FREE):
            found = tape.gradient(loss, [leaf.value for leaf in leaves])
        return [one is not None for one in found]

    def compute(self) -> Any:
        """Run the program and return its loss or residuals.

        Raises :class:`~tape_magic.engine.tracing.failures.CreatesVariable` where a run after the first
        creates a variable.
        """
        import tensorflow as tf

        def refuse(create: Any, **arguments: Any) -> Any:
            raise _VariableCreated

        namespace = self._problem.namespace
        namespace.update(self._entry)
        # Layers that were not built yet make their variables in the first run.
        scope = tf.variable_creator_scope(refuse) if self._ran else contextlib.nullcontext()
        try:
            with scope:
                self.value = self._problem.program.run(namespace, {})
        except _VariableCreated as error:
            raise creates_a_variable(self._problem.program, error) from None
        self._ran = True
        return self._require(self.value, namespace, self._problem.loss_name)

    def scalars(self, names: Sequence[str]) -> list[Any]:
        """Return further scalars that the last run assigned."""
        namespace = self._problem.namespace
        for name in names:
            base = place(name)[0]
            if base not in namespace:
                raise TargetError(f"the cell never assigns {base}{closest(base, namespace)}")
        return [require_scalar(look_up(name, namespace), name) for name in names]


class _VariableCreated(Exception):
    """The program created a variable after its first run."""
