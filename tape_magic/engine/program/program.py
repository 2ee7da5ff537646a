"""`Program`, `Names`, `Text`: what a cell and a function have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Namespace = MutableMapping[str, Any]
Hooks = Mapping[str, Callable[[Any], Any]]
Unpack = Callable[[Any], tuple[Any, dict[str, Any]]]
"""What a traced function returned → the value of the last expression, and what is assigned by name."""


DYNAMIC = frozenset({"eval", "exec", "get_ipython", "globals", "locals", "setattr", "vars"})
"""What mentions one of these may bind names that it does not mention."""


@dataclass(frozen=True)
class Names:
    """Which names a program reads and assigns, as its text shows.

    Attributes
    ----------
    reads
        Read from the namespace, in order of appearance.
    assigns
        Assigned, each with the line of its last assignment (0 where there is no line).
    reads_first
        Assigned, but read before: their source is the object on entry.
    opaque
        Whether more may be assigned than the text shows (``exec``, ``from m import *``).
    """

    reads: tuple[str, ...] = ()
    assigns: Mapping[str, int] = field(default_factory=dict)
    reads_first: frozenset[str] = frozenset()
    opaque: bool = False

    @property
    def may_bind_any(self) -> bool:
        """Whether names may be bound that the text does not mention."""
        return self.opaque or not DYNAMIC.isdisjoint(self.reads)

    def assigned_first(self, name: str) -> bool:
        """Whether the program gives `name` a value before it reads it."""
        return name in self.assigns and name not in self.reads_first


@dataclass(frozen=True)
class Text:
    """The user's code, for what only it can tell.

    Attributes
    ----------
    filename
        Of the cell or function, as ``linecache`` knows it; empty where there is none.
    lines
        The first line of the function, and 0; (0, 0) where all of the file counts.
    label
        A file → what a report calls it; empty for the cell or function itself.
    namespace
        What the names in it stand for.
    """

    filename: str
    lines: tuple[int, int]
    label: Callable[[str], str]
    namespace: Mapping[str, Any]


class Untraceable(Exception):
    """The program cannot become a graph, whatever the values; the message says why, and where."""


class Program(Protocol):
    """A computation on a namespace."""

    @property
    def names(self) -> Names:
        """What it reads and assigns."""

    @property
    def has_value(self) -> bool:
        """Whether it may end with an expression, whose value is an output."""

    @property
    def source(self) -> str | None:
        """Its text, if that and what it reads say all of what it does."""

    def run(self, namespace: Namespace, hooks: Hooks, tape: Any = None) -> Any:
        """Compute eagerly, leaving what is assigned in `namespace`; the value of the last expression.

        A name in `hooks` becomes what its hook makes of it, whenever it is assigned. `tape` is what
        the program may call ``tape``.
        """

    def traceables(
        self, namespace: Namespace, inputs: Sequence[str] = ()
    ) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """The same as functions for ``tf.function``, the best first, each with how to read what it returns.

        They take the values of `inputs`, names that are bound anew at each call.

        Leaves `namespace` alone. Raises :class:`Untraceable` when no function does the same.
        """

    def functions(self, parameters: Sequence[str]) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """As :meth:`traceables`, but functions of the values of some names, in that order."""

    def is_straight(self, namespace: Namespace) -> bool:
        """Whether AutoGraph has nothing to convert in it, and in all that it calls, or could not."""

    def text(self, namespace: Namespace) -> Text:
        """Its own code, and how lines elsewhere are called."""

    def roots(self) -> list[Any]:
        """What it reads by way of, besides the names of the namespace."""

    def home(self, namespace: Namespace) -> MutableMapping[str, Any]:
        """The global names of the functions that the user wrote beside it."""

    def finish(self, namespace: Namespace, assigned: Mapping[str, Any]) -> None:
        """Leave in `namespace` what a traced call assigned, as a run would have."""

    def line_of(self, error: BaseException) -> tuple[int, str] | None:
        """Where in the program an exception came from: the line as the user counts it, and its text."""
