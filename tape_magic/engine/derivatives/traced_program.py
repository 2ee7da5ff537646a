"""A program inside a trace: one operation in the eyes of the tapes around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tape_magic.engine.derivatives.arguments import distinct, parameter_name
from tape_magic.engine.program.program import Hooks, Names, Namespace, Program, Unpack
from tape_magic.engine.program.wrapper import ProgramWrapper
from tape_magic.engine.tracing.failures import failure_of_trace
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.tensors import is_tensor, is_variable, tf_variable
from tape_magic.errors import CompileError, TapeMagicError, TargetError, a_kind
from tape_magic.notation import LAST_EXPRESSION, place

_VALUE_WANTED = ("numpy", "iterating over", "python `bool`", "symbolic", "singleton tf.variable")
"""Of TensorFlow's messages where Python wants what only a run can give."""


class TracedProgram(ProgramWrapper):
    """A program traced with AutoGraph wherever it runs, whose outputs go by identifiers.

    Parameters
    ----------
    program
        What is traced.
    parameters
        The names of the namespace that are passed to it; all that it reads and that is known.
    outputs
        What is left in the namespace: names, places such as ``out.loss``, or ``_``.
    called
        What the compiled function is called, for messages.

    Attributes
    ----------
    name_of
        An output → the name that it goes by.
    values
        The outputs of the last run, in their order.

    A run raises :class:`CompileError` where the program needs a value that a trace has not, and
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
        """What it is passed, and its outputs."""
        return self._names

    def run(self, namespace: Namespace, hooks: Hooks, tape: Any = None) -> Any:
        """Trace the program; the outputs are in the namespace as tensors of the trace."""
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
        """By the first function that TensorFlow can trace; its complaints lead to the next."""
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
        """One line where Python wanted a value that the trace has not; ``None`` for the user's own error."""
        text = str(error).lower()
        if not any(words in text for words in _VALUE_WANTED):
            return None
        return CompileError(f"{self._called} cannot be compiled: {failure_of_trace(error, self._program)}")

    def _graph(self, function: Callable[..., Any], unpack: Unpack, values: Sequence[Any]) -> list[Any]:
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
            # AutoGraph puts a text around the message, which only one without a line needs.
            own = bool(raised) and isinstance(raised[0], TapeMagicError)
            if own or (raised and self._program.line_of(raised[0])):
                raise raised[0] from None
            raise


def _output(name: str, value: Any, assigned: Mapping[str, Any]) -> Any:
    """The tensors that an output consists of. Raises :class:`TargetError` for anything else."""
    import tensorflow as tf

    if name == LAST_EXPRESSION and name not in assigned:
        if value is None:
            names = f"; it returns {', '.join(map(str, assigned))}: name one" if assigned else ""
            raise TargetError(f"there is no output to differentiate{names}.")
        held = value
    else:
        base = place(name)[0]
        if base not in assigned or type(assigned[base]).__module__.startswith("tensorflow.python.autograph"):
            raise TargetError(f"{base} is not assigned on every way through the cell.")
        held = look_up(name, assigned)

    def tensor(item: Any) -> Any:
        if is_variable(item):
            return tf.convert_to_tensor(tf_variable(item))
        if not is_tensor(item):
            shown = "the last expression" if name == LAST_EXPRESSION else name
            raise TargetError(f"{shown} is {a_kind(item)}, not a tensor: compute it with TensorFlow.")
        return item

    return tf.nest.map_structure(tensor, held)
