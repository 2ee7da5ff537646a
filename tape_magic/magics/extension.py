"""Loading and unloading of the extension: the magics, their completion, the formatters of reports."""

from __future__ import annotations

from typing import Any

from tape_magic.engine.process.native_log import DEFAULT
from tape_magic.magics.completion import install_completion, remove_completion
from tape_magic.magics.first_line import install_first_line, remove_first_line
from tape_magic.magics.line.options import MAGICS
from tape_magic.magics.shell import TapeMagics

# By name, since their modules import NumPy, and loading the extension must not.
_REPORTS = (
    ("tape_magic.results.gradients", "GradReport"),
    ("tape_magic.results.minimum", "MinimizeResult"),
    ("tape_magic.results.devices", "DeviceReport"),
    ("tape_magic.results.doctor", "DoctorReport"),
)


def load(shell: Any) -> None:
    """Register the magics, their completion and the formatters of reports; a second call changes nothing."""
    if isinstance(shell.magics_manager.registry.get(TapeMagics.__name__), TapeMagics):
        return
    magics = TapeMagics(shell=shell)
    if magics.quiet_tensorflow:
        DEFAULT.begin()
    shell.register_magics(magics)
    install_completion(shell)
    if magics.first_line:
        install_first_line(shell)
    formatters = shell.display_formatter.formatters
    for module, name in _REPORTS:
        formatters["text/plain"].for_type_by_name(module, name, _print_text)
        formatters["text/html"].for_type_by_name(module, name, _to_html)


def unload(shell: Any) -> None:
    """Take the magics, their completion and the formatters out of the shell."""
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
    formatters = shell.display_formatter.formatters
    for module, name in _REPORTS:
        for kind in ("text/plain", "text/html"):
            formatters[kind].pop(f"{module}.{name}", None)


def _print_text(report: Any, printer: Any, cycle: bool) -> None:
    from tape_magic.display.describe import describe
    from tape_magic.display.text.encoding import writable
    from tape_magic.display.text.render import to_text

    printer.text(writable(to_text(describe(report))))


def _to_html(report: Any) -> str:
    from tape_magic.display.describe import describe
    from tape_magic.display.html.render import to_html

    return to_html(describe(report))
