"""``TRAINING``: the name by which a program knows whether it is trained, or validated."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.errors import LineError

TRAINING = "TRAINING"
"""The name in a cell. A Python bool, so that Keras and an ``if`` choose their branch once, in the trace."""


class _Binders:
    """Who has bound the name, by the id of the namespace.

    Attributes
    ----------
    lock
        Held while the name is bound or released.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._of: dict[int, list[TrainingName]] = {}

    def of(self, namespace: Namespace) -> list[TrainingName]:
        """Return those that have bound it there."""
        return self._of.get(id(namespace), [])

    def note(self, namespace: Namespace, those: list[TrainingName]) -> None:
        """Note who has bound it there by now."""
        if those:
            self._of[id(namespace)] = those
        else:
            self._of.pop(id(namespace), None)


_BINDERS = _Binders()


class TrainingName:
    """The name that tells a program whether it is trained, while it runs.

    As Python's built-in names, it is hidden by a variable of that name, which stays as it is. Runs in several
    threads share the name where they share the namespace: it stays until the last of them is over.

    Parameters
    ----------
    program, namespace
        The program, and the names that it runs on.
    name
        ``TRAINING`` in a cell; the parameter of a function, or nothing where it has none.
    validates
        Whether it will be false at times.

    Attributes
    ----------
    hidden
        Whether the notebook, or the program itself, has a variable of that name.
    read
        Whether the text of the program mentions the name.
    """

    def __init__(
        self, program: Program, namespace: Namespace, name: str = TRAINING, *, validates: bool = False
    ) -> None:
        self._namespace, self._name, self._validates = namespace, name, validates
        self._thread = threading.get_ident()
        users = name in namespace and not _BINDERS.of(namespace)
        self.hidden = users or name in program.names.assigns
        self.read = name in program.names.reads or name in program.names.assigns

    def bind(self, training: bool) -> None:
        """Give the name its value, until :meth:`release`.

        Raises :class:`LineError` where a run in another thread would see a value that is not meant for it.
        """
        if not self._name or self.hidden:
            return
        with _BINDERS.lock:
            bound = _BINDERS.of(self._namespace)
            others = [one for one in bound if one._thread != self._thread]
            if any(self._validates or one._validates for one in others):
                raise LineError(
                    f"{self._name} is one name for all runs of a notebook, and another one goes on while one "
                    "of them validates: wait until it is over, or leave out --val."
                )
            if self not in bound:
                _BINDERS.note(self._namespace, [*bound, self])
            self._namespace[self._name] = training

    def release(self) -> None:
        """Take the name out of the namespace, unless another run has bound it, too."""
        with _BINDERS.lock:
            bound = _BINDERS.of(self._namespace)
            if self not in bound:
                return
            left = [one for one in bound if one is not self]
            _BINDERS.note(self._namespace, left)
            if left:
                self._namespace[self._name] = True
            else:
                self._namespace.pop(self._name, None)


@contextmanager
def trained(program: Program, namespace: Namespace) -> Iterator[None]:
    """Have ``TRAINING`` be true in the block, for a cell that is differentiated, and no function."""
    name = TrainingName(program, namespace, "" if isinstance(program, FunctionProgram) else TRAINING)
    try:
        name.bind(True)
        yield
    finally:
        name.release()
