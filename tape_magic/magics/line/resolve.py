"""The expressions of a line, evaluated in the notebook."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import keyword
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tape_magic.engine.minimization.settings import DEFAULT_OPTIMIZER, Settings, ValidationData
from tape_magic.errors import LineError, closest, closest_of, describe_error, shorten
from tape_magic.magics.line.grad import GRAD, GradOptions
from tape_magic.magics.line.minimize import MINIMIZE, MinimizeOptions
from tape_magic.magics.line.option import Expression
from tape_magic.magics.line.parser import Magic
from tape_magic.magics.line.words import DataOption
from tape_magic.syntax import place, split, unbracketed


def minimize_settings(shell: Any, options: MinimizeOptions, remarks: tuple[str, ...]) -> Settings:
    """Return the settings that a line gives, its expressions evaluated; `remarks` are for the report.

    Raises :class:`LineError` for an expression that fails.
    """
    arguments = resolved(shell, MINIMIZE, options.arguments)
    text = arguments.get("optimizer", DEFAULT_OPTIMIZER)
    arguments |= {"optimizer": _optimizer(shell, text), "made_here": not text.isidentifier()}
    if "data" in arguments:
        arguments |= _data(shell, arguments["data"])
    if "val" in arguments:
        arguments["val"] = ValidationData(**_data(shell, arguments["val"], "--val"))
    arguments["bounds"] = {
        name: tuple(
            _evaluate(shell, text, f"--bounds {name}={low}:{high}") if text else None for text in (low, high)
        )
        for name, low, high in arguments.get("bounds", ())
    }
    sources = {text: _source(shell, text) for text in options.over or () if not _is_place(text)}
    return Settings(**arguments, sources=sources, remarks=remarks, verdict=not options.quiet)


def resolved(shell: Any, magic: Magic, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that a line of a magic gives, with the values of those that are expressions.

    Raises :class:`LineError` for an expression that fails.
    """
    return {
        name: _value(shell, magic, name, given) if isinstance(given, Expression) else given
        for name, given in arguments.items()
    }


def _value(shell: Any, magic: Magic, name: str, given: Expression) -> Any:
    """Return the value of an expression that stands for an option's value, as a number where it is one."""
    flag = magic.flags[name]
    (option,) = (one for one in magic.options if one.name == name)
    meant = given.text in option.choices or closest(given.text, option.choices)
    if meant and given.text not in shell.user_ns:
        return given.text  # the engine says which words there are
    names = _KerasNames(shell.user_ns) if name in ("lr", "schedule") else None
    if name == "workers" and not _names_of(given.text) & set(shell.user_ns):
        return given.text  # the engine says what an address is
    value = _evaluate(shell, given.text, f"{flag} {given.text}", names)
    if hasattr(value, "numpy") and not callable(value):  # a tensor or a variable
        value = value.numpy()
    if hasattr(value, "item") and getattr(value, "size", 0) == 1:
        value = value.item()
    whole = option.convert is int and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def _names_of(text: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(text, mode="eval")) if isinstance(node, ast.Name)}


def _data(shell: Any, option: DataOption, flag: str = "--for") -> dict[str, Any]:
    """Return the data of ``--for`` as arguments. Raises :class:`LineError` where there are none."""
    text, written = option.data, f"{flag} {', '.join(option.names)} in {option.data}"

    def anew() -> Any:
        return _evaluate(shell, text, written)

    data = anew()
    if data is None:
        raise LineError(
            f"{flag}: {shorten(text)} is None, and no data; "
            "a function that makes the data has to return them."
        )
    calls = any(isinstance(node, ast.Call) for node in ast.walk(ast.parse(text, mode="eval")))
    nested = any(isinstance(part, tuple) for part in option.pattern)
    return {
        # What can be read only once is made anew for each epoch.
        "data": anew if calls and isinstance(data, Iterator) else data,
        "names": option.names,
        "pattern": option.pattern if nested else (),
        "label": text,
    }


def _is_place(text: str) -> bool:
    try:
        place(text)
    except LineError:
        return False
    return True


def _source(shell: Any, text: str) -> Any:
    """Return the variables that an expression of ``--over`` gives."""
    return _evaluate(shell, text, f"--over {text}")


def _optimizer(shell: Any, text: str) -> Any:
    """Return the optimizer that a text means: an object of the notebook before a name of Keras or SciPy."""
    from tape_magic.engine.minimization.optimizers import is_optimizer, is_optimizer_class, keras_names

    with_rate = re.fullmatch(r"([a-z]+)[\s:=,]+(\d*\.?\d+(?:e[-+]?\d+)?)", text.lower())
    if with_rate and with_rate[1] not in shell.user_ns and with_rate[1] in keras_names():
        raise LineError(f"--optimizer takes one value: write --optimizer {with_rate[1]} --lr {with_rate[2]}")
    if parts := _groups(text):
        return {place: _group(shell, place, given) for place, given in parts.items()}
    words = re.split(r"[-\s]+", text.strip())
    names = all(word.isidentifier() and not keyword.iskeyword(word) for word in words)
    if len(words) > 1 and names and not all(word in shell.user_ns for word in words):
        return text  # SciPy's l-bfgs-b, and no difference of names of the notebook
    if text.isidentifier():
        value = shell.user_ns.get(text)
        return value if is_optimizer(value) or is_optimizer_class(value) else text
    try:
        return _evaluate(shell, text, f"--optimizer {text}", _KerasNames(shell.user_ns))
    except LineError as error:
        meant = "" if "; did you mean" in str(error) else _keras_meant(text)
        if meant:
            raise LineError(f"{shorten(str(error), 160)}{meant}") from None
        raise


def _keras_meant(text: str) -> str:
    """Return the end of a sentence, with the call of Keras's that is meant by another one; empty for others.

    ``torch.optim.Adam([w], lr=0.1)`` and ``tf.train.AdamOptimizer(0.1)`` are ``Adam(…)``.
    """
    from tape_magic.engine.minimization.optimizers import keras_names

    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    callee = call.func if isinstance(call, ast.Call) else call
    name = getattr(callee, "attr", getattr(callee, "id", ""))
    kind = keras_names().get(name.lower().removesuffix("optimizer"))
    if kind is None or not isinstance(call, ast.Call):
        return f"; did you mean {kind.__name__}?" if kind else ""
    own = [each for each in inspect.signature(kind).parameters if each != "kwargs"]
    arguments = [ast.unparse(one) for one in call.args if not isinstance(one, ast.List | ast.Call)]
    for given in call.keywords:
        word = given.arg or ""
        near = "learning_rate" if MINIMIZE.instead_of(word) == "--lr" else closest_of(word, own)
        if not near:
            return f"; {kind.__name__} takes {', '.join(own[:_MOST_LISTED])}"
        arguments.append(f"{near}={ast.unparse(given.value)}")
    meant = f"{kind.__name__}({', '.join(arguments)})"
    return "" if meant == text else f"; did you mean {shorten(meant)}?"


_MOST_LISTED = 6


def _groups(text: str) -> dict[str, str]:
    """Return the parts of ``encoder: sgd 1e-4, head: adam`` by their places; nothing for another text.

    Raises :class:`LineError` for a part without a place or without an optimizer.
    """
    outside = list(unbracketed(text))
    if text.lstrip().startswith("lambda") or not any(text[at] == ":" for at in outside):
        return {}
    ends = [*(at for at in outside if text[at] == ","), len(text)]
    found: dict[str, str] = {}
    for begin, end in zip([-1, *ends], ends, strict=False):
        part = text[begin + 1 : end].strip()
        if not part:
            continue
        name, colon, given = _parted(part)
        if not colon or not name or not given:
            raise LineError(f'--optimizer takes "encoder: sgd 1e-4, head: adam", not {shorten(part)!r}.')
        place(name)
        if name in found:
            raise LineError(f"--optimizer gives {shorten(name)} two optimizers.")
        found[name] = given
    return found


def _parted(part: str) -> tuple[str, str, str]:
    """Return what stands before the first colon that no bracket holds, the colon, and what follows."""
    at = next((at for at in unbracketed(part) if part[at] == ":"), None)
    return (part, "", "") if at is None else (part[:at].strip(), ":", part[at + 1 :].strip())


def _group(shell: Any, name: str, text: str) -> Any:
    """Return the optimizer of a group, and the rate that stands behind its name."""
    from tape_magic.engine.minimization.optimizer_groups import Group, rate_of

    words = split(text)
    if len(words) > 2:
        raise LineError(f'--optimizer takes "{name}: sgd 1e-4", not {shorten(f"{name}: {text}")!r}.')
    if len(words) == 2:
        try:
            rate = float(words[1])
        except ValueError:
            rate = _evaluate(shell, words[1], f"--optimizer {name}: {text}")
        return Group(_optimizer(shell, words[0]), rate_of(name, rate), made_here=True)
    return Group(_optimizer(shell, text), made_here=not text.isidentifier())


class _KerasNames(dict[str, Any]):
    """The names of a notebook, and for those that it lacks Keras's optimizers: ``adam(0.1)``."""

    def __missing__(self, name: str) -> Any:
        from tape_magic.engine.minimization.optimizers import keras_names

        if name not in vars(builtins) and name.lower() in keras_names():
            return keras_names()[name.lower()]
        if name in _MODULES and name not in vars(builtins):
            return importlib.import_module(_MODULES[name])
        raise KeyError(name)

    @property
    def candidates(self) -> list[str]:
        """The names that an expression for an optimizer or a rate may mean."""
        from tape_magic.engine.minimization.optimizers import keras_names

        return [*self, *(kind.__name__ for kind in keras_names().values())]


_MODULES = {
    "keras": "keras",
    "tf": "tensorflow",
    "tensorflow": "tensorflow",
    "optimizers": "keras.optimizers",
    "schedules": "keras.optimizers.schedules",
}
"""The names of modules that an expression may use though the notebook has not imported them."""


def request_arguments(shell: Any, options: GradOptions) -> dict[str, Any]:
    """Return the arguments of ``grad_program`` that a line gives, with its expressions evaluated.

    Raises :class:`LineError` for an expression that fails.
    """
    flag = f"--{options.kind.value}"
    vectors = {name: _evaluate(shell, text, f"{flag} {name}={text}") for name, text in options.vectors}
    accumulated = {} if options.data is None else {"data": _data(shell, options.data)}
    given = {"batch": options.batch, "strategy": options.strategy}
    accumulated |= resolved(shell, GRAD, {name: value for name, value in given.items() if value is not None})
    return {
        "words": options.targets,
        "kind": options.kind,
        "vectors": vectors,
        "vector_names": dict(options.vectors),
        **options.arguments,
        **accumulated,
    }


def _evaluate(shell: Any, text: str, written: str, names: dict[str, Any] | None = None) -> Any:
    """Return the value of an expression. Raises :class:`LineError`, which quotes what was `written`.

    `names` are to be used instead of the notebook's.
    """
    try:
        return eval(text, shell.user_global_ns, shell.user_ns if names is None else names)
    except NameError as error:
        known = names.candidates if isinstance(names, _KerasNames) else list(shell.user_ns)
        known = [each for each in known if each not in shell.user_ns_hidden]
        name = error.name or ""
        near = closest(name, known) if len(name) > 2 else ""
        raise LineError(f"{shorten(written)}: {describe_error(error)}{near}") from None
    except Exception as error:
        raise LineError(f"{shorten(written)}: {describe_error(error)}") from None
