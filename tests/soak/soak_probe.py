"""What the soak looks at within its kernel, between two cells; imported there by name.

Nothing here is in the user's namespace, so ``%reset -f`` does not take it away.
"""

from __future__ import annotations

import builtins
import json
import logging
import os
import re
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

# What IPython itself keeps in the namespace.
_OWN = re.compile(r"_+|_i+|_i?\d+|_[dio]h|_exit_code|In|Out|exit|quit|open|get_ipython|__\w+__")

_held: dict[str, Any] = {}
_after: dict[str, Any] = {}


def arm(shell: Any) -> None:
    """Have each cell's end noted before the kernel puts its own handler of interrupts back."""

    def note() -> None:
        _after["interrupts"] = signal.getsignal(signal.SIGINT) is signal.default_int_handler

    shell.events.register("post_execute", note)


def look(shell: Any, check: str) -> str:
    """All that a cell could have left behind, the memory, and whether an expression holds, as JSON."""
    names = {name: value for name, value in shell.user_ns.items() if not _OWN.fullmatch(name)}
    changed = sorted(name for name in {*names, *_held} if names.get(name) is not _held.get(name))
    _held.clear()
    _held.update(names)
    return json.dumps(
        {
            "changed": changed,
            "steps": _steps(names),
            "holds": _holds(check, names),
            "state": {**_after, **_process(), **_shell(shell), **_tensorflow(), "widgets": _widgets()},
            "threads": sorted(thread.name for thread in threading.enumerate()),
            "files": _open_files(),
            "memory": _memory(),
        }
    )


def _holds(check: str, names: dict[str, Any]) -> str:
    """Empty if the expression is true of the user's names, else what is wrong."""
    try:
        return "" if not check or eval(check, dict(names)) else check
    except Exception as error:
        return f"{check}: {type(error).__name__}: {error}"


def _steps(names: dict[str, Any]) -> list[float]:
    """How many steps each number of u, v and w has taken: each step takes all of them down by 2⁻²⁰."""
    found: list[float] = []
    for name in ("u", "v", "w"):
        value = names.get(name)
        if value is not None:
            numbers = [value] if isinstance(value, float) else value.numpy().ravel().tolist()
            found += [-number * 2.0**20 for number in numbers]
    return found


def _process() -> dict[str, Any]:
    import numpy

    loggers = [logging.getLogger(name) for name in ("", "tensorflow", "absl", "keras", "py.warnings")]
    return {
        "streams": [id(sys.stdout), id(sys.stderr), id(builtins.print)],
        "hooks": [id(sys.displayhook), id(sys.excepthook), id(warnings.showwarning)],
        "logging": [[len(one.handlers), len(one.filters), one.level, one.disabled] for one in loggers],
        "numpy": str(numpy.geterr()),
        "folder": os.getcwd(),
        "tracing": [sys.gettrace() is None, sys.getprofile() is None],
    }


def _shell(shell: Any) -> dict[str, Any]:
    hooks = shell.strdispatchers.get("complete_command")
    formatters = shell.display_formatter.formatters
    ours = {
        kind: sum("tape_magic" in str(key) for key in [*one.type_printers, *one.deferred_printers])
        for kind, one in formatters.items()
    }
    return {
        "magics": [name for kind in ("line", "cell") for name in sorted(shell.magics_manager.magics[kind])],
        "configurables": len(shell.configurables),
        "formatters": ours,
        "matchers": len(getattr(shell.Completer, "custom_matchers", [])),
        "commands": {str(key): len(list(chain)) for key, chain in (hooks.strs if hooks else {}).items()},
        "events": {name: len(found) for name, found in shell.events.callbacks.items()},
        "transformers": [len(shell.input_transformers_cleanup), len(shell.input_transformers_post)],
        "trees": len(shell.ast_transformers),
        "exceptions": str(shell.custom_exceptions),
    }


def _tensorflow() -> dict[str, Any]:
    import tensorflow as tf
    from tensorflow.python.eager import context, record
    from tensorflow.python.framework import ops

    found = context.context()
    return {
        "listeners": len(found.op_callbacks),
        "record": f"{record.record_operation.__module__}.{record.record_operation.__qualname__}",
        "recording": record.could_possibly_record(),
        "eager": [tf.executing_eagerly(), tf.config.functions_run_eagerly(), ops.inside_function()],
        "device": found.device_name or "",
    }


def _widgets() -> int:
    """How many widgets are open."""
    module = sys.modules.get("ipywidgets.widgets.widget")
    if module is None:
        return 0
    instances = getattr(module, "_instances", None)
    return len(module.Widget.widgets if instances is None else instances)


def _open_files() -> list[str]:
    """The files that the process has open, devices, sockets and pipes apart."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:  # the folder that is being read
            continue
        if target.startswith("/") and not target.startswith(("/dev/", "/proc/")):
            found.append(target)
    return sorted(found)


def _memory() -> int:
    """The resident memory, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
