"""Errors of the magics in the shell: ours in one line, the user's with the lines of the cell only."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from IPython.core.error import UsageError

from tape_magic.display.content.width import clean
from tape_magic.engine.process.interrupts import undropped
from tape_magic.errors import ArgumentError, TapeMagicError, describe_error, shorten
from tape_magic.magics.cell.cache import CellCache
from tape_magic.magics.cell.cell import Cell, CellSyntaxError
from tape_magic.magics.line.parser import Magic

Method = TypeVar("Method", bound=Callable[..., Any])

_MOST = 1000
"""The most characters of a message: its sentence, and the beginning of a long value."""


@contextmanager
def compiled_cell(shell: Any, body: str, magic: Magic, kept: CellCache) -> Iterator[Cell]:
    """Compile a cell; within the context, its errors show the cell's lines only, and ours are one line.

    After an error of ours, the names that the cell may bind have their values from before. Other names
    are left alone, since another thread may have bound them meanwhile.
    """
    namespace = shell.user_ns
    before = dict(namespace)
    compiled: Cell | None = None

    def is_the_cells(error: Exception) -> bool:
        """Return whether an error is the cell's own, and have such an error show the cell's lines only."""
        if isinstance(error, CellSyntaxError):
            lines = shell.SyntaxTB.structured_traceback(SyntaxError, error.error, [])
            _shown_as(error, lambda: lines)
            return True
        traceback = compiled.own_traceback(error) if compiled else None
        if traceback is not None:
            render = shell.InteractiveTB.structured_traceback
            _shown_as(error, lambda: render(type(error), error, traceback, tb_offset=0))
        return traceback is not None

    with in_one_line(magic, is_the_cells):
        try:
            compiled = Cell(shell, body, magic.name, kept)
            yield compiled
        except TapeMagicError:
            if compiled is not None:
                _put_back(namespace, before, compiled)
            raise


def interruptible(method: Method) -> Method:
    """Have an interrupt of a magic's method end it, and shown in one line.

    It wraps the whole method, since an interrupt can come before the method's first ``with`` is entered.
    """

    @functools.wraps(method)
    def run(*arguments: Any) -> Any:
        try:
            return undropped(lambda: method(*arguments))
        except KeyboardInterrupt as error:
            line = describe_error(error)
            _shown_as(error, lambda: [line])
            raise

    return cast("Method", run)


@contextmanager
def in_one_line(magic: Magic, is_the_users: Callable[[Exception], bool] = lambda _: False) -> Iterator[None]:
    """Show an error of a magic in one line; an error that is the user's own passes."""
    try:
        yield
    except TapeMagicError as error:
        raise _usage_error(error, magic) from None
    except UsageError:
        raise
    except Exception as error:
        if is_the_users(error):
            raise
        if _interrupted(error):
            raise KeyboardInterrupt from None
        # TensorFlow or the system refused what the magic asked of it.
        raise UsageError(_one_line(f"{magic.sign} failed: {describe_error(error)}")) from error


def _put_back(namespace: dict[str, Any], before: dict[str, Any], cell: Cell) -> None:
    """Put the names that a cell may have bound back to their values from before it."""
    names = cell.names
    for name in {*namespace, *before} if cell.may_bind_any else {*names.reads, *names.assigns}:
        if name in before:
            namespace[name] = before[name]
        else:
            namespace.pop(name, None)


def _usage_error(error: TapeMagicError, magic: Magic) -> UsageError:
    """Return one of our errors as IPython's own, which is shown in one line; a subclass has a traceback.

    An argument of the engine is called by the option that gave it.
    """
    if isinstance(error, ArgumentError) and error.name in magic.flags:
        error = error.on_line(magic.flags[error.name])
    return UsageError(_one_line(str(error)))


def _one_line(text: str) -> str:
    """Return a message, which may quote any text of the user's, as one line without control characters."""
    return shorten(clean(text), _MOST)


def _interrupted(error: BaseException | None) -> bool:
    """Return whether an interrupt is in the chain of an error: a library can fail while it is interrupted."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _shown_as(error: BaseException, render: Callable[[], list[str]]) -> None:
    """Have IPython show an exception as `render` gives it, without the frames of this package."""

    def rendered() -> list[str]:
        try:
            return render()
        except KeyboardInterrupt:  # pressed while the cell's lines were being read
            return [describe_error(error)]

    try:
        error._render_traceback_ = rendered  # type: ignore[attr-defined]
    except AttributeError:
        return  # a class with slots takes no attribute, and IPython shows every frame
