"""The expressions of a line, evaluated in the notebook."""

from __future__ import annotations

from typing import Any

from tape_magic.engine.minimization.settings import DEFAULT_OPTIMIZER, Settings
from tape_magic.errors import LineError, describe_error, shorten
from tape_magic.magics.line.grad import GradOptions
from tape_magic.magics.line.minimize import MinimizeOptions


def minimize_settings(shell: Any, options: MinimizeOptions, remarks: tuple[str, ...]) -> Settings:
    """Return the settings that a line gives, its expressions evaluated; `remarks` are for the report.

    Raises :class:`LineError` for an expression that fails.
    """
    arguments = dict(options.arguments)
    text = arguments.get("optimizer", DEFAULT_OPTIMIZER)
    arguments |= {"optimizer": _optimizer(shell, text), "made_here": not text.isidentifier()}
    if "data" in arguments:
        names, text = arguments["data"].names, arguments["data"].data
        data = _evaluate(shell, text, f"--for {', '.join(names)} in {text}")
        arguments |= {"data": data, "names": names, "label": text}
    arguments["bounds"] = {
        name: tuple(
            _evaluate(shell, text, f"--bounds {name}={low}:{high}") if text else None for text in (low, high)
        )
        for name, low, high in arguments.get("bounds", ())
    }
    return Settings(**arguments, remarks=remarks)


def _optimizer(shell: Any, text: str) -> Any:
    """Return the optimizer that a text means: an object of the notebook before a name of Keras or SciPy."""
    from tape_magic.engine.minimization.optimizers import is_optimizer, is_optimizer_class

    words = text.split("-")
    known = all(word in shell.user_ns for word in words)
    if len(words) > 1 and all(word.isidentifier() for word in words) and not known:
        return text  # SciPy's l-bfgs-b, and no difference of names of the notebook
    if text.isidentifier():
        value = shell.user_ns.get(text)
        return value if is_optimizer(value) or is_optimizer_class(value) else text
    return _evaluate(shell, text, f"--optimizer {text}")


def request_arguments(shell: Any, options: GradOptions) -> dict[str, Any]:
    """Return the arguments of a ``Request`` that a line gives, the vectors of a product evaluated.

    Raises :class:`LineError` for an expression that fails.
    """
    flag = f"--{options.kind.value}"
    vectors = {name: _evaluate(shell, text, f"{flag} {name}={text}") for name, text in options.vectors}
    return {
        "words": options.targets,
        "kind": options.kind,
        "vectors": vectors,
        "vector_names": dict(options.vectors),
        **options.arguments,
    }


def _evaluate(shell: Any, text: str, written: str) -> Any:
    """Return the value of an expression. Raises :class:`LineError`, which quotes what was `written`."""
    try:
        return eval(text, shell.user_global_ns, shell.user_ns)
    except Exception as error:
        raise LineError(f"{shorten(written)}: {describe_error(error)}") from None
