"""`FunctionProgram`: a Python function as a program; sources and batches by name."""

from __future__ import annotations

import functools
import inspect
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from tape_magic.engine.program.program import Hooks, Names, Namespace, Text, Unpack
from tape_magic.engine.values.functions import closure_of
from tape_magic.errors import LineError, a_kind

_BY_PLACE = {inspect.Parameter.POSITIONAL_ONLY}
_BY_NAME = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


class FunctionProgram:
    """A Python function as a program: its parameters are the namespace's names.

    A function without parameters closes over what it reads. It returns one value, or a dict of
    named ones.

    Parameters
    ----------
    function, sources
        The function, and what it takes by name.
    switches
        Further parameters of the function, which it always takes by their names.
    """

    has_value = True
    source = None

    def __init__(
        self, function: Callable[..., Any], sources: Mapping[str, Any], switches: Sequence[str] = ()
    ) -> None:
        if not callable(function):
            raise LineError(f"the function is {a_kind(function)}, which cannot be called.")
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # builtins without a signature take any arguments
            parameters = inspect.signature(lambda *args: None).parameters
        self._function = function
        rest = {name: one for name, one in parameters.items() if name not in switches}
        self._in_order, by_name = _matched(rest, tuple(sources))
        self._by_name = (*by_name, *switches)
        self._wants_tape = "tape" in parameters and "tape" not in sources
        self.names = Names(reads=(*sources, *switches), opaque=True)

    def run(self, namespace: Namespace, hooks: Hooks, tape: Any = None) -> Any:
        """Call the function; a dict that it returns is assigned, name by name."""
        extra = {"tape": tape} if self._wants_tape else {}
        outputs = self._function(*self._positional(namespace), **self._keywords(namespace), **extra)
        if not isinstance(outputs, dict):
            return outputs
        _check_names(outputs, "each output, for example {'loss': loss}")
        for name, value in outputs.items():
            namespace[name] = hooks[name](value) if name in hooks else value
        return None

    def traceables(
        self, namespace: Namespace, inputs: Sequence[str] = ()
    ) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """Yield the call itself, which ``tf.function`` can trace."""
        entry = [name for name in (*self._in_order, *self._by_name) if name not in inputs]
        for function, unpack in self.functions((*entry, *inputs)):
            yield functools.partial(function, *(namespace[name] for name in entry)), unpack

    def functions(self, parameters: Sequence[str]) -> Iterator[tuple[Callable[..., Any], Unpack]]:
        """Yield the call itself, as a function of the values of `parameters`."""

        def call(*values: Any) -> Any:
            named = dict(zip(parameters, values, strict=True))
            return self._function(*self._positional(named), **self._keywords(named))

        yield call, lambda outputs: (None, outputs) if isinstance(outputs, dict) else (outputs, {})

    def needs_no_autograph(self, namespace: Namespace) -> bool:
        """Return ``False``: the text of the function is not read."""
        return False

    def text(self, namespace: Namespace) -> Text:
        """Return the function's own lines, in the file that it stands in."""
        function = inspect.unwrap(self._function)
        code = getattr(function, "__code__", None)
        filename, line = (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
        known = {**getattr(function, "__globals__", {}), **closure_of(function), **namespace}
        return Text(
            filename,
            (line, 0),
            lambda other: "" if other == filename else os.path.basename(other),
            known,
        )

    def roots(self) -> list[Any]:
        """Return the function itself, which may close over anything."""
        return [self._function]

    def home(self, namespace: Namespace) -> MutableMapping[str, Any]:
        """Return the names of the module that the function was written in."""
        function = getattr(self._function, "python_function", self._function)
        function = inspect.unwrap(getattr(function, "__func__", function))
        names: MutableMapping[str, Any] = getattr(function, "__globals__", {})
        return names

    def finish(self, namespace: Namespace, assigned: Mapping[str, Any]) -> None:
        """Put the assigned values into `namespace`; a function leaves no other names."""
        namespace.update(assigned)

    def line_of(self, error: BaseException) -> tuple[int, str] | None:
        """Return ``None``: the traceback of a function shows its line."""
        return None

    def _positional(self, namespace: Namespace) -> list[Any]:
        return [namespace[name] for name in self._in_order]

    def _keywords(self, namespace: Namespace) -> dict[str, Any]:
        return {name: namespace[name] for name in self._by_name}


def _matched(
    parameters: Mapping[str, inspect.Parameter], sources: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sources that a function takes in order, and the sources that it takes by name."""
    kinds = {parameter.kind for parameter in parameters.values()}
    if not [name for name in parameters if name != "tape" or name in sources]:
        return (), ()
    keywords = {name for name, parameter in parameters.items() if parameter.kind in _BY_NAME}
    open_ended = inspect.Parameter.VAR_KEYWORD in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds
    missing = {name for name in keywords if parameters[name].default is inspect.Parameter.empty} - {"tape"}
    if not (keywords.issuperset(sources) or (open_ended and missing.issubset(sources))):
        return sources, ()
    # In order as far as can be: an argument by name is past what tf.custom_gradient differentiates.
    places = itertools.takewhile(lambda name: name in sources and name in keywords, parameters)
    first = tuple(n for n in places if parameters[n].kind is not inspect.Parameter.KEYWORD_ONLY)
    return first, tuple(name for name in sources if name not in first)


def _check_names(names: Iterable[Any], what: str) -> None:
    for name in names:
        if not (isinstance(name, str) and name.isidentifier()):
            raise LineError(f"{name!r} is not a name; name {what}.")


def as_sources(value: Any) -> dict[str, Any]:
    """Return the sources that a Python caller gave, by name.

    A dict names its sources itself; a list or tuple is numbered ``x0``, ``x1``; a single source is ``x``.
    """
    if isinstance(value, Mapping):
        _check_names(value, "each source, for example {'x': x}")
        return dict(value)
    if isinstance(value, list | tuple):
        return {f"x{index}": item for index, item in enumerate(value)}
    return {"x": value}


TRAINING_PARAMETER = "training"
"""The parameter of a function that is true in the steps of a minimisation, and false in a validation."""


def takes_training(function: Callable[..., Any], given: Mapping[str, Any]) -> bool:
    """Return whether a function has that parameter, and `given` are no sources of its name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    kind = parameters[TRAINING_PARAMETER].kind if TRAINING_PARAMETER in parameters else None
    return kind in _BY_NAME and TRAINING_PARAMETER not in given


def batch_names(function: Callable[..., Any], given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the parameters that a batch is bound to: all without a default that `given` does not fill.

    ``training`` is none of them.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise LineError("the function does not say its parameters: write one that names the batch.") from None
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind in _BY_NAME | _BY_PLACE
        and not (name == TRAINING_PARAMETER and takes_training(function, given))
    ]
    rest = [name for name in needed if name not in given]
    names = rest if len(rest) == len(needed) - len(given) else needed[len(given) :]
    if not names:
        raise LineError("the function takes no batch: give it a parameter for each part, loss(x, xb, yb).")
    return tuple(names)
