"""What a program prints, warns of and draws, kept from the user while it runs once more."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def unseen() -> Iterator[None]:
    """Within this, nothing appears that is printed or drawn with pyplot, and no warning."""
    with ExitStack() as stack:
        stack.enter_context(_muted_files())
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(_figures_apart())
        yield


@contextmanager
def _muted_files() -> Iterator[None]:
    """TensorFlow prints past Python: into the null device with it."""
    with ExitStack() as stack:
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
            try:
                stream.flush()
                kept = os.dup(number)
            except (OSError, ValueError, AttributeError):
                continue  # there is no such file
            stack.callback(_put_back, kept, number)
            os.dup2(null, number)
        yield


def _put_back(kept: int, number: int) -> None:
    os.dup2(kept, number)
    os.close(kept)


@contextmanager
def _figures_apart() -> Iterator[None]:
    """Figures of pyplot that are made within are none afterwards; those of before are not drawn into."""
    # Not public, but pyplot itself can only close figures, not put them aside.
    manager = getattr(sys.modules.get("matplotlib._pylab_helpers"), "Gcf", None)
    figures = getattr(manager, "figs", None)
    if not isinstance(figures, OrderedDict):
        yield
        return
    kept = figures.copy()
    figures.clear()
    try:
        yield
    finally:
        manager.destroy_all()  # type: ignore[union-attr]
        figures.update(kept)
