"""What the options of a line stand for in the notebook."""

from __future__ import annotations

from typing import Any

from tape_magic.errors import LineError, said, shorten
from tape_magic.magics.line.grad import GradOptions
from tape_magic.magics.line.minimize import MinimizeOptions


def settings(shell: Any, options: MinimizeOptions, remarks: tuple[str, ...]) -> Any:
    """What the line asks for, as the engine takes it."""
    from tape_magic.engine.minimization.settings import Settings

    bounds: dict[str, Any] = {
        name: tuple(
            _evaluated(shell, text, f"--bounds {name}={low}:{high}") if text else None for text in (low, high)
        )
        for name, low, high in options.bounds or ()
    }
    return Settings(
        optimizer=_optimizer(shell, options),
        made_here=not options.optimizer.isidentifier(),
        lr=options.lr,
        steps=options.steps,
        engine=options.engine,
        seed=options.seed,
        tol=options.tol,
        gtol=options.gtol,
        target=options.target,
        patience=options.patience,
        time=options.time,
        track=options.track or (),
        bounds=bounds,
        keep=options.keep,
        resume=options.resume,
        checkpoint=options.checkpoint,
        remarks=remarks,
        **_data(shell, options),
    )


def _data(shell: Any, options: MinimizeOptions) -> dict[str, Any]:
    """The data that the line names, and what a batch of them is bound to."""
    given = {"batch": options.batch, "epochs": options.epochs}
    if options.data is None:
        return given
    names, text = options.data.names, options.data.data
    data = _evaluated(shell, text, f"--for {', '.join(names)} in {text}")
    return {"data": data, "names": names, "label": text, **given}


def _optimizer(shell: Any, options: MinimizeOptions) -> Any:
    """The optimizer that the line means: an object of the notebook before a Keras name or a method."""
    from tape_magic.engine.minimization.optimizers import is_optimizer, is_optimizer_class

    text = options.optimizer
    words = text.split("-")
    known = all(word in shell.user_ns for word in words)
    if len(words) > 1 and all(word.isidentifier() for word in words) and not known:
        return text  # a difference of names that there are not: SciPy's l-bfgs-b, or meant as one
    if text.isidentifier():
        value = shell.user_ns.get(text)
        return value if is_optimizer(value) or is_optimizer_class(value) else text
    return _evaluated(shell, text, f"--optimizer {text}")


def request_arguments(shell: Any, options: GradOptions) -> dict[str, Any]:
    """Return the attributes of a ``Request`` that the line gives, its vectors evaluated in the notebook."""
    flag = f"--{options.kind.value}"
    vectors = {name: _evaluated(shell, text, f"{flag} {name}={text}") for name, text in options.vectors}
    return {
        "words": options.targets,
        "wrt": options.wrt,
        "order": options.order or 1,
        "kind": options.kind,
        "vectors": vectors,
        "vector_names": dict(options.vectors),
        "zero": options.zero,
    }


def _evaluated(shell: Any, text: str, written: str) -> Any:
    """An expression of the notebook. Raises :class:`LineError`, by what was `written` on the line."""
    try:
        return eval(text, shell.user_global_ns, shell.user_ns)
    except Exception as error:
        raise LineError(f"{shorten(written)}: {said(error)}") from None
