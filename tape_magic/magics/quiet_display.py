"""Hides the displays of a cell while a check runs it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core.displaypub import DisplayPublisher

from tape_magic.engine.process.output import OtherThreads


class _OtherThreadsPublisher(DisplayPublisher):
    """Publishes the displays of other threads only."""

    def __init__(self, publisher: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._publisher, self._others = publisher, OtherThreads()

    def publish(self, *args: Any, **named: Any) -> None:
        if self._others.here:
            self._publisher.publish(*args, **named)

    def clear_output(self, wait: bool = False) -> None:
        if self._others.here:
            self._publisher.clear_output(wait)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._publisher, name)


@contextmanager
def no_displays(shell: Any) -> Iterator[None]:
    """Hide the displays of this thread within the context."""
    publisher = shell.display_pub
    shell.display_pub = _OtherThreadsPublisher(publisher)
    try:
        yield
    finally:
        shell.display_pub = publisher
