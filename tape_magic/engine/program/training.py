"""``TRAINING``: the name by which a program knows whether it is trained, or validated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.program.program import Namespace, Program

TRAINING = "TRAINING"
"""The name in a cell. A Python bool, so that Keras and an ``if`` choose their branch once, in the trace."""


class TrainingName:
    """The name that tells a program whether it is trained, while it runs.

    As Python's built-in names, it is hidden by a variable of that name, which stays as it is.

    Parameters
    ----------
    program, namespace
        The program, and the names that it runs on.
    name
        ``TRAINING`` in a cell; the parameter of a function, or nothing where it has none.

    Attributes
    ----------
    hidden
        Whether the notebook, or the program itself, has a variable of that name.
    read
        Whether the text of the program mentions the name.
    """

    def __init__(self, program: Program, namespace: Namespace, name: str = TRAINING) -> None:
        self._namespace, self._name = namespace, name
        self.hidden = name in namespace or name in program.names.assigns
        self.read = name in program.names.reads or name in program.names.assigns
        self._bound = False

    def bind(self, training: bool) -> None:
        """Give the name its value, until :meth:`release`."""
        if self._name and not self.hidden:
            self._bound = True
            self._namespace[self._name] = training

    def release(self) -> None:
        """Take the name out of the namespace."""
        if self._bound:
            self._namespace.pop(self._name, None)
            self._bound = False


@contextmanager
def trained(program: Program, namespace: Namespace) -> Iterator[None]:
    """Have ``TRAINING`` be true in the block, for a cell that is differentiated, and no function."""
    name = TrainingName(program, namespace, "" if isinstance(program, FunctionProgram) else TRAINING)
    try:
        name.bind(True)
        yield
    finally:
        name.release()
