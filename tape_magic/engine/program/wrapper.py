"""A program around another, for what is to be done before it runs or after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from tape_magic.engine.program.program import Hooks, Names, Namespace, Program, Text, Unpack


class ProgramWrapper:
    """A program around another one; what a subclass does not say is as in there."""

    def __init__(self, program: Program) -> None:
        self._program = program

    @property
    def names(self) -> Names:
        """As in the program within."""
        return self._program.names

    @property
    def has_value(self) -> bool:
        """As in the program within."""
        return self._program.has_value

    @property
    def source(self) -> str | None:
        """As of the program within."""
        return self._program.source

    def run(self, namespace: Namespace, hooks: Hooks, tape: Any = None) -> Any:
        """As the program within."""
        return self._program.run(namespace, hooks, tape)

    def traceables(
        self, namespace: Namespace, inputs: Sequence[str] = ()
    ) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """As the program within."""
        return self._program.traceables(namespace, inputs)

    def functions(self, parameters: Sequence[str]) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """As the program within."""
        return self._program.functions(parameters)

    def is_straight(self, namespace: Namespace) -> bool:
        """As of the program within."""
        return self._program.is_straight(namespace)

    def text(self, namespace: Namespace) -> Text:
        """As in the program within."""
        return self._program.text(namespace)

    def roots(self) -> list[Any]:
        """As of the program within."""
        return self._program.roots()

    def home(self, namespace: Namespace) -> MutableMapping[str, Any]:
        """As of the program within."""
        return self._program.home(namespace)

    def finish(self, namespace: Namespace, assigned: Mapping[str, Any]) -> None:
        """As the program within."""
        self._program.finish(namespace, assigned)

    def line_of(self, error: BaseException) -> tuple[int, str] | None:
        """As in the program within."""
        return self._program.line_of(error)
