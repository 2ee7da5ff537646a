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
    # Late, since loading the extension must not import TensorFlow, which takes seconds.
    if name in _FUNCTIONS:
        from importlib import import_module

        return getattr(import_module(f"tape_magic.engine.api.{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_ipython_extension(shell: InteractiveShell) -> None:
    """What ``%load_ext tape_magic`` calls."""
    from tape_magic.magics.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """What ``%unload_ext tape_magic`` calls: the shell is as it was before."""
    from tape_magic.magics.extension import unload

    unload(shell)
