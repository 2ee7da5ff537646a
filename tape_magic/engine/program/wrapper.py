"""`ProgramWrapper`: a program around another, for what is done before or after it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from tape_magic.engine.program.program import Hooks, Names, Namespace, Program, Text, Unpack


class ProgramWrapper:
    """A program around another one, to which it leaves whatever a subclass does not override."""

    def __init__(self, program: Program) -> None:
        self._program = program

    @property
    def names(self) -> Names:
        """The names of the program within."""
        return self._program.names

    @property
    def has_value(self) -> bool:
        """Whether the program within may end with an expression."""
        return self._program.has_value

    @property
    def source(self) -> str | None:
        """The text of the program within."""
        return self._program.source

    def run(self, namespace: Namespace, hooks: Hooks, tape: Any = None) -> Any:
        """Run the program within."""
        return self._program.run(namespace, hooks, tape)

    def traceables(
        self, namespace: Namespace, inputs: Sequence[str] = ()
    ) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """Return the traceable functions of the program within."""
        return self._program.traceables(namespace, inputs)

    def functions(self, parameters: Sequence[str]) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """Return the functions of the program within."""
        return self._program.functions(parameters)

    def needs_no_autograph(self, namespace: Namespace) -> bool:
        """Return whether AutoGraph has nothing to convert in the program within."""
        return self._program.needs_no_autograph(namespace)

    def text(self, namespace: Namespace) -> Text:
        """Return the text of the program within."""
        return self._program.text(namespace)

    def roots(self) -> list[Any]:
        """Return the roots of the program within."""
        return self._program.roots()

    def home(self, namespace: Namespace) -> MutableMapping[str, Any]:
        """Return the global names of the program within."""
        return self._program.home(namespace)

    def finish(self, namespace: Namespace, assigned: Mapping[str, Any]) -> None:
        """Finish the program within."""
        self._program.finish(namespace, assigned)

    def line_of(self, error: BaseException) -> tuple[int, str] | None:
        """Return the line of the program within that an exception came from."""
        return self._program.line_of(error)
