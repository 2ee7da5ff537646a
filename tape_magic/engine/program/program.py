"""`Program`, `Names`, `Text`: what a cell and a function have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Namespace = MutableMapping[str, Any]
Hooks = Mapping[str, Callable[[Any], Any]]
Unpack = Callable[[Any], tuple[Any, dict[str, Any]]]
"""The outputs of a traced function → the value of the last expression, and the assigned values by name."""


DYNAMIC = frozenset({"eval", "exec", "get_ipython", "globals", "locals", "setattr", "vars"})
"""Functions through which a program may bind names that its text does not show."""

ALWAYS_FLOAT32 = frozenset({"eye", "normal", "one_hot", "ones", "truncated_normal", "uniform", "zeros"})
"""Functions of TensorFlow and Keras that make tensors of float32 where no dtype is given."""

FLOAT32_OF_LITERALS = frozenset({"Variable", "constant", "convert_to_tensor", "fill", "linspace", "range"})
"""Functions that make tensors of float32 of the numbers in a program's text."""


ALWAYS_FLOAT64 = frozenset(
    {"eye", "geomspace", "linspace", "logspace", "normal", "ones", "rand", "randn", "random"}
    | {"standard_normal", "uniform", "zeros"}
)
"""Functions of NumPy that make arrays of float64 where no dtype is given."""

FLOAT64_OF_LITERALS = frozenset({"arange", "array", "asarray", "full"})
"""Functions of NumPy that make arrays of float64 of the numbers in a program's text."""


@dataclass(frozen=True)
class Names:
    """The names that a program reads and assigns, as its text shows.

    Attributes
    ----------
    reads
        Names read from the namespace, in order of appearance.
    assigns
        Names assigned, each with the line of its last assignment (0 where there is no line).
    reads_first
        Names assigned, but read before: the object on entry is their source.
    opaque
        Whether more may be assigned than the text shows (``exec``, ``from m import *``).
    deletes
        Names that ``del`` takes away and nothing assigns after it.
    mentions
        The attributes and short strings in the text.
    operands
        The names that the text may compute with: read elsewhere than to be plotted, printed or counted.
    makes
        The first names of functions, such as ``tf`` of ``tf.zeros``, that would make tensors of float32.
    makes_arrays
        The first names of functions, such as ``np`` of ``np.linspace``, that would make arrays of float64,
        where the text may compute with these.
    """

    reads: tuple[str, ...] = ()
    assigns: Mapping[str, int] = field(default_factory=dict)
    reads_first: frozenset[str] = frozenset()
    opaque: bool = False
    deletes: frozenset[str] = frozenset()
    mentions: frozenset[str] = field(default=frozenset(), repr=False)
    operands: frozenset[str] = field(default=frozenset(), repr=False)
    makes: frozenset[str] = field(default=frozenset(), repr=False)
    makes_arrays: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def may_bind_any(self) -> bool:
        """Whether the program may bind names that its text does not mention."""
        return self.opaque or not DYNAMIC.isdisjoint(self.reads)

    def assigned_first(self, name: str) -> bool:
        """Return whether the program assigns `name` before it reads it."""
        return name in self.assigns and name not in self.reads_first


@dataclass(frozen=True)
class Text:
    """The user's code.

    Attributes
    ----------
    filename
        Of the cell or function, as ``linecache`` knows it; empty where there is none.
    lines
        The first line of the function, and 0; (0, 0) where all of the file counts.
    label
        A file → what a report calls it; empty for the cell or function itself.
    namespace
        The objects that the names in the code stand for.
    """

    filename: str
    lines: tuple[int, int]
    label: Callable[[str], str]
    namespace: Mapping[str, Any]


def names_as_now(namespace: Namespace, names: Iterable[str]) -> Callable[[], None]:
    """Return what gives some names back what they hold now, and takes out those that are not there now."""
    names = tuple(names)
    before = {name: namespace[name] for name in names if name in namespace}

    def give_back() -> None:
        for name in names:
            if name not in before:
                namespace.pop(name, None)
        namespace.update(before)

    return give_back


class Untraceable(Exception):
    """The program cannot become a graph, whatever the values; the message says why, and where."""


class Program(Protocol):
    """A computation on a namespace."""

    @property
    def names(self) -> Names:
        """The names that the program reads and assigns."""

    @property
    def has_value(self) -> bool:
        """Whether the program may end with an expression, whose value is an output."""

    @property
    def source(self) -> str | None:
        """The text of the program, if the text and the values that it reads determine everything it does."""

    def run(self, namespace: Namespace, hooks: Hooks, tape: Any = None) -> Any:
        """Compute eagerly, assign in `namespace`, and return the value of the last expression.

        Whenever a name in `hooks` is assigned, it gets the value that its hook returns. The program sees
        `tape` under the name ``tape``.
        """

    def traceables(
        self, namespace: Namespace, inputs: Sequence[str] = ()
    ) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """Yield functions that ``tf.function`` can trace, the best first, each with how to read its outputs.

        Each function takes the values of `inputs`, names that are bound anew at each call, and leaves
        `namespace` alone. Raises :class:`Untraceable` when no function computes the same.
        """

    def functions(self, parameters: Sequence[str]) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """Yield functions as :meth:`traceables` does, but of the values of `parameters`, in that order."""

    def needs_no_autograph(self, namespace: Namespace) -> bool:
        """Return whether AutoGraph could convert nothing in the program and in all that it calls."""

    def text(self, namespace: Namespace) -> Text:
        """Return the code of the program, with labels for lines elsewhere."""

    def roots(self) -> list[Any]:
        """Return the objects that the program reads through, besides the names of the namespace."""

    def home(self, namespace: Namespace) -> MutableMapping[str, Any]:
        """Return the global names of the functions that the user wrote beside the program."""

    def finish(self, namespace: Namespace, assigned: Mapping[str, Any]) -> None:
        """Put the values that a traced call assigned into `namespace`, as a run would have."""

    def line_of(self, error: BaseException) -> tuple[int, str] | None:
        """Return the program's line that an exception came from, as the user counts lines, and its text."""
