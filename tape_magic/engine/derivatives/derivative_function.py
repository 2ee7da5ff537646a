"""`DerivativeFunction`: a program and its derivatives as one compiled function."""

from __future__ import annotations

import inspect
import types
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tape_magic.engine.derivatives.arguments import as_tensors, distinct, put
from tape_magic.engine.derivatives.gradients import Gradients
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.traced_program import TracedProgram
from tape_magic.engine.internals.log_level import quiet_log
from tape_magic.engine.program.lift_dtype import lift_dtype
from tape_magic.engine.program.program import Program
from tape_magic.engine.values.introspection import is_a
from tape_magic.engine.values.leaves import leaves_of
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.tensors import is_tensor, is_variable
from tape_magic.errors import TapeMagicError, TargetError
from tape_magic.notation import LAST_EXPRESSION, Target
from tape_magic.syntax import place


@dataclass(frozen=True)
class Definition:
    """The parts of a compiled function.

    Attributes
    ----------
    name
        Name of the function.
    program
        The program that is compiled.
    run
        The class that takes the derivatives.
    request
        Which derivatives are wanted.
    targets
        The derivatives, each with its sources, in the order of the result.
    sources
        The positional parameters, each with the place that it stands for.
    keywords
        The keyword parameters with their defaults, the values when the function was defined.
    captured
        All other values that the program reads, as they were when the function was defined.
    """

    name: str
    program: Program
    run: type[Gradients]
    request: Request
    targets: tuple[Target, ...]
    sources: Mapping[str, str]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    captured: Mapping[str, Any] = field(default_factory=dict)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that are differentiated, each once."""
        return tuple(dict.fromkeys(target.name for target in self.targets))

    @property
    def fields(self) -> dict[str, str]:
        """Names of the result's fields, derivatives before outputs, each with a description."""
        keys = [_named_target(target).key for target in self.targets]
        names = [_named_target(target).binding for target in self.targets]
        keys += [
            "the value of the last expression" if name == LAST_EXPRESSION else name for name in self.outputs
        ]
        names += ["value" if name == LAST_EXPRESSION else Target(name).binding for name in self.outputs]
        # A named tuple takes no name that begins with an underscore.
        return dict(zip(distinct([name.lstrip("_") or "value" for name in names]), keys, strict=True))


def _named_target(target: Target) -> Target:
    """Return a target as its field shows it: the last expression has no name, as in ``d/dx``."""
    return Target("", target.wrt) if target.name == LAST_EXPRESSION else target


class DerivativeFunction:
    """A compiled function of some sources that returns a named tuple: the derivatives, then the outputs.

    Its arguments are floats, arrays, tensors or variables. It is traced once for each signature, which is the
    shapes, the dtypes and the keywords given; a float becomes a tensor, so that another float is the same
    signature. A tape around a call differentiates the function like any other.

    Calling it raises ``TypeError`` for arguments that do not fit the signature,
    :class:`~tape_magic.errors.SourceError` for an argument that is not made of floating-point numbers, and
    :class:`~tape_magic.errors.CompileError`, with the line, where the program needs a value that does not
    exist while a function is compiled.

    For example, a cell that begins with ``%%grad dy/dx --def f`` and computes ``y = x**2`` makes a function
    ``f`` of ``x``; ``f(3.0)`` returns two tensors, ``dy_dx`` with the value 6.0 and ``y`` with 9.0.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self.__name__ = self.__qualname__ = definition.name
        self.__signature__ = _signature(definition)
        self.__doc__ = _documentation(definition, self.__signature__)
        self._result: Any = namedtuple(definition.name.lstrip("_") or "derivatives", definition.fields)  # type: ignore[misc]
        self._known = {**definition.captured, **definition.keywords}
        self._compiled: Any = None

    def __repr__(self) -> str:
        signature, fields = _signature_text(self.__signature__), ", ".join(self._definition.fields)
        return f"<{self.__name__}{signature} → ({fields})>"

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: D102 - the class says it
        import tensorflow as tf

        __tracebackhide__ = True
        try:
            given = self.__signature__.bind(*arguments, **keywords).arguments
        except TypeError as error:
            raise TypeError(f"{self.__name__}(): {error}") from None
        if self._compiled is None:
            self._compiled = tf.function(self._derivatives_and_outputs, autograph=False)
        try:
            with quiet_log():
                return self._result(*self._compiled(self._tensors(given)))
        except Exception as error:
            raise error.with_traceback(_traceback(self._definition.program, error))  # noqa: B904

    def _tensors(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as tensors, in the dtype that a run of the program would lift them to."""
        places, names = self._definition.sources, self._definition.program.names
        read = {name: value for name, value in self._known.items() if not names.assigned_first(name)}
        kept = {name: value for name, value in read.items() if name not in given or name in places}
        dtype = lift_dtype(self._definition.program, self._known, {**kept, **given}, given.values())
        tensors = {}
        for name, value in given.items():
            structured = isinstance(self._value_at(places.get(name, name)), list | tuple)
            tensors[name] = as_tensors(value, name, dtype, structured=structured)
            leaves_of(tensors[name], name)  # raises where a tensor has no derivative
        return tensors

    def _value_at(self, text: str) -> Any:
        """Return what stood at a place when the function was defined; ``None`` where nothing did."""
        return look_up(text, self._known) if place(text)[0] in self._known else None

    def _derivatives_and_outputs(self, given: Mapping[str, Any]) -> list[Any]:
        """Return the derivatives, then the outputs; this is the function that TensorFlow traces."""
        definition = self._definition
        namespace = dict(self._known)
        for name, value in given.items():
            put(definition.sources.get(name, name), value, namespace)
        inner = TracedProgram(definition.program, list(namespace), definition.outputs, definition.name)
        targets = [Target(inner.name_of[target.name], target.wrt) for target in definition.targets]
        report = definition.run(inner, namespace, targets, definition.request).result().report
        for row in report.rows:
            if row.reason is not None:
                raise TargetError(f"{definition.name} has no {row.key}: {row.reason}")
        return [*(report.structures[target.name, target.wrt] for target in targets), *inner.values]


def _traceback(program: Program, error: BaseException) -> types.TracebackType | None:
    """Return a traceback of the user's line alone, without TensorFlow's frames; ``None`` without a line."""
    where = None if isinstance(error, TapeMagicError) else program.line_of(error)
    if where is None:
        return None
    raising = compile("\n" * (where[0] - 1) + "raise error", program.text({}).filename, "exec")
    try:
        exec(raising, {"error": error.with_traceback(None)})
    except BaseException as raised:
        traceback = raised.__traceback__
        return None if traceback is None else traceback.tb_next
    return None


def _signature(definition: Definition) -> inspect.Signature:
    """Return the signature: a positional parameter for each source, and the keywords with their defaults."""
    kind = inspect.Parameter
    return inspect.Signature(
        [
            *(kind(name, kind.POSITIONAL_OR_KEYWORD) for name in definition.sources),
            *(kind(name, kind.KEYWORD_ONLY, default=value) for name, value in definition.keywords.items()),
        ]
    )


def _signature_text(signature: inspect.Signature) -> str:
    """Return a signature in one line, with large defaults abbreviated."""
    words: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            words.append(parameter.name)
        else:
            words += [*([] if "*" in words else ["*"]), f"{parameter.name}={_value_text(parameter.default)}"]
    return f"({', '.join(words)})"


def _value_text(value: Any) -> str:
    """Return a default in a few characters, such as ``0.5`` or ``<array 3×2>``."""
    if not (is_variable(value) or is_tensor(value) or isinstance(value, np.ndarray)):
        return float.__repr__(value) if is_a(value, float) else repr(value)
    kind = "variable" if is_variable(value) else "array" if isinstance(value, np.ndarray) else "tensor"
    shown = "×".join(map(str, value.shape)) if len(value.shape) else f"{np.asarray(value)[()]:g}"
    return shown if kind == "tensor" and not len(value.shape) else f"<{kind} {shown}>"


def _documentation(definition: Definition, signature: inspect.Signature) -> str:
    """Return the docstring of a compiled function."""
    lines = [f"{definition.name}{_signature_text(signature)}", ""]
    lines += ["Derivatives and what they are of, compiled.", "", "Parameters", "----------"]
    for name, text in definition.sources.items():
        lines += [name, f"    In the place of {text}: a float, an array, a tensor, or a variable's value."]
    for name, value in definition.keywords.items():
        when = (
            "the variable itself, at its value when the function is called"
            if is_variable(value)
            else f"{_value_text(value)}, its value when the function was defined"
        )
        lines += [name, f"    By default {when}."]
    lines += ["", "What else is read is as it was when the function was defined.", "", "Returns", "-------"]
    for name, what in definition.fields.items():
        lines += [name, f"    {what}"]
    return "\n".join(lines)
