"""`TracedProgram`: a program as one traced function, which the tapes around it see as one operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tape_magic.engine.derivatives.arguments import distinct, parameter_name
from tape_magic.engine.internals.graphs import is_undefined
from tape_magic.engine.program.program import Hooks, Names, Namespace, Program, Unpack
from tape_magic.engine.program.wrapper import ProgramWrapper
from tape_magic.engine.tracing.failures import failure_of_trace
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.tensors import is_tensor, is_variable, tf_variable
from tape_magic.errors import CompileError, TapeMagicError, TargetError, no_tensor
from tape_magic.notation import LAST_EXPRESSION
from tape_magic.syntax import place

_VALUE_WANTED = ("numpy", "iterating over", "python `bool`", "symbolic", "singleton tf.variable")
"""Words in TensorFlow's messages (2.21) where Python needs a value that a trace does not have."""


class TracedProgram(ProgramWrapper):
    """A program that is traced with AutoGraph when it runs, and whose outputs have identifiers as names.

    Parameters
    ----------
    program
        The program to trace.
    parameters
        Names in the namespace whose values are passed to the program: all that it reads and that have one.
    outputs
        Outputs to leave in the namespace: names, places such as ``out.loss``, or ``_``.
    called
        Name of the compiled function, for messages.

    Attributes
    ----------
    name_of
        The identifier of each output.
    values
        The outputs of the last run, in order.

    A run raises :class:`CompileError` where the program needs a value that a trace does not have, and
    :class:`TargetError` for an output that is no tensor.
    """

    def __init__(
        self, program: Program, parameters: Sequence[str], outputs: Sequence[str], called: str
    ) -> None:
        super().__init__(program)
        self._parameters, self._outputs, self._called = tuple(parameters), tuple(outputs), called
        self.name_of = dict(zip(self._outputs, distinct(map(parameter_name, self._outputs)), strict=True))
        assigns = {name: 0 for name in self.name_of.values() if name != LAST_EXPRESSION}
        self._names = Names(self._parameters, assigns, frozenset(assigns) & set(self._parameters))
        self.values: list[Any] = []
        self._converts = True

    @property
    def names(self) -> Names:
        """Names that the program reads, which are its parameters, and assigns, which are its outputs."""
        return self._names

    def run(self, namespace: Namespace, hooks: Hooks, tape: Any = None) -> Any:
        """Trace the program, and leave its outputs in the namespace as tensors of the trace."""
        values = [namespace[name] for name in self._parameters]
        self._converts = not self._program.needs_no_autograph(namespace)
        self.values = self._traced(self._program.functions(self._parameters), values)
        named = dict(zip(self.name_of.values(), self.values, strict=True))
        value = named.pop(LAST_EXPRESSION, None)
        namespace.update(named)
        return value

    def _traced(
        self, functions: Iterator[tuple[Callable[..., Any], Unpack]], values: Sequence[Any]
    ) -> list[Any]:
        """Return the outputs of the first of some functions that TensorFlow can trace."""
        function, unpack = next(functions)
        while True:
            try:
                return self._graph(function, unpack, values)
            except (TypeError, ValueError, NotImplementedError, AttributeError) as error:
                refusal = self._refusal(error)
                retried = next(functions, None) if isinstance(error, TypeError | ValueError) else None
                if retried is None:
                    raise (refusal or error) from None
                function, unpack = retried

    def _refusal(self, error: Exception) -> CompileError | None:
        """Return an error where Python needed a value that a trace does not have; ``None`` for any other."""
        text = str(error).lower()
        if not any(words in text for words in _VALUE_WANTED):
            return None
        return CompileError(f"{self._called} cannot be compiled: {failure_of_trace(error, self._program)}")

    def _graph(self, function: Callable[..., Any], unpack: Unpack, values: Sequence[Any]) -> list[Any]:
        """Trace a function of some values, and return its outputs as tensors."""
        import tensorflow as tf

        raised: list[Exception] = []

        def collected(returned: Any) -> list[Any]:
            try:
                value, assigned = unpack(returned)
                return [_output(name, value, assigned) for name in self._outputs]
            except TapeMagicError as error:
                raised.append(error)
                raise

        unconverted = tf.autograph.experimental.do_not_convert(collected)

        def body() -> Any:
            try:
                returned = function(*values)
            except Exception as error:
                raised.append(error)
                raise
            return unconverted(returned)

        try:
            return list(tf.function(body, autograph=self._converts)())
        except Exception:
            # AutoGraph adds the user's line to the message; an error that has its line is raised as it was.
            own = bool(raised) and isinstance(raised[0], TapeMagicError)
            if own or (raised and self._program.line_of(raised[0])):
                raise raised[0] from None
            raise


def _output(name: str, value: Any, assigned: Mapping[str, Any]) -> Any:
    """Return an output, with its variables as tensors. Raises :class:`TargetError` for what is no tensor."""
    import tensorflow as tf

    if name == LAST_EXPRESSION and name not in assigned:
        if value is None:
            names = f"; it returns {', '.join(map(str, assigned))}: name one" if assigned else ""
            raise TargetError(f"there is no output to differentiate{names}.")
        held = value
    else:
        base = place(name)[0]
        if base not in assigned or is_undefined(assigned[base]):
            raise TargetError(f"{base} is not assigned on every way through the cell.")
        held = look_up(name, assigned)

    def tensor(item: Any) -> Any:
        if is_variable(item):
            return tf.convert_to_tensor(tf_variable(item))
        if not is_tensor(item):
            shown = "the last expression" if name == LAST_EXPRESSION else name
            raise TargetError(f"{no_tensor(shown, item)}.")
        return item

    return tf.nest.map_structure(tensor, held)
