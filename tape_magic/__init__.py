"""Derivatives and minima in TensorFlow notebooks, one line each.

In a notebook, ``%load_ext tape_magic`` and then ``%%grad``, ``%%minimize`` and ``%tfgpu``. In
Python, :func:`grad`, :func:`derivative`, :func:`minimize` and :func:`devices` do the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


__version__ = "0.1.0"

__all__ = [
    "derivative",
    "devices",
    "grad",
    "load_ipython_extension",
    "minimize",
    "unload_ipython_extension",
]

_FUNCTIONS = ("derivative", "devices", "grad", "minimize")


def __getattr__(name: str) -> Any:
    # Imported late: the engine brings NumPy, and TensorFlow, whose import takes seconds.
    if name in _FUNCTIONS:
        from importlib import import_module

        return getattr(import_module(f"tape_magic.engine.api.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics: IPython calls this on ``%load_ext tape_magic``."""
    from tape_magic.magics.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Put the shell back as it was: IPython calls this on ``%unload_ext tape_magic``."""
    from tape_magic.magics.extension import unload

    unload(shell)
