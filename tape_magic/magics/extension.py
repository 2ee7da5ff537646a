"""Loading and unloading of the extension: the magics, their completion, the first line of cells."""

from __future__ import annotations

from typing import Any

from tape_magic.engine.process.native_log import DEFAULT
from tape_magic.magics.completion import install_completion, remove_completion
from tape_magic.magics.first_line import install_first_line, remove_first_line
from tape_magic.magics.line.options import MAGICS
from tape_magic.magics.shell import TapeMagics


def load(shell: Any) -> None:
    """Register the magics, their completion and the first line of cells; a second call changes nothing."""
    if isinstance(shell.magics_manager.registry.get(TapeMagics.__name__), TapeMagics):
        return
    magics = TapeMagics(shell=shell)
    if magics.quiet_tensorflow:
        DEFAULT.begin()
    shell.register_magics(magics)
    install_completion(shell)
    if magics.first_line:
        install_first_line(shell)


def unload(shell: Any) -> None:
    """Take the magics, their completion and the first line out of the shell."""
    manager = shell.magics_manager
    registered = manager.registry.pop(TapeMagics.__name__, None)
    if registered is None:
        return
    registered.stop_watching()
    DEFAULT.end()
    for magic in MAGICS:
        manager.magics["cell" if magic.cell else "line"].pop(magic.name, None)
    if registered in shell.configurables:
        shell.configurables.remove(registered)
    remove_completion(shell)
    remove_first_line(shell)
