"""What the user asks of a run between two chunks: an interrupt, a stop, a pause."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tape_magic.engine.internals.contexts import restore_after_interrupt
from tape_magic.engine.process.interrupts import Interrupt
from tape_magic.results.minimum import StopReason
from tape_magic.results.steps import Step, Wish

PAUSE_SECONDS = 0.02
"""Seconds after which a paused run asks again whether to go on."""

NOTHING_CHANGED = "stopped before the first step; no variable was changed"


class StopRequested(Exception):
    """The user asked a run to end while it worked for a compiler; :class:`RunControl` says why."""


class RunControl:
    """Tells between chunks whether the user wants the run to end, and waits while it is paused.

    Parameters
    ----------
    interrupt
        Set by Ctrl-C and the ■ button.
    wish
        Returns what the display's buttons say; ``None`` where there are none.
    on_wait
        Shows where the run stands while it waits for a compiler.

    Attributes
    ----------
    paused
        The seconds that pauses have taken.
    """

    def __init__(
        self,
        interrupt: Interrupt,
        wish: Callable[[], Wish] | None = None,
        on_wait: Callable[[Step], None] | None = None,
    ) -> None:
        self._interrupt, self._wish, self._on_wait = interrupt, wish, on_wait
        self._said: StopReason | None = None
        self.paused = 0.0

    def __call__(self) -> StopReason | None:
        """Return why the run is to end now, or ``None``; a reason that was given once stays."""
        if self._said is not None and not self._interrupt.pressed:
            return self._said
        began = time.perf_counter()
        waited = False
        while True:
            if self._interrupt.pressed:
                reason: StopReason | None = StopReason.INTERRUPTED
                break
            wish = Wish.GO_ON if self._wish is None else self._wish()
            if wish is not Wish.PAUSE:
                reason = StopReason.STOPPED if wish is Wish.STOP else None
                break
            waited = True
            time.sleep(PAUSE_SECONDS)
        if waited:
            self.paused += time.perf_counter() - began
        self._said = reason
        return reason

    def ends(self, *, late: bool) -> StopReason | None:
        """Return why the run is to end now; where nobody asks for it, since it is `late`."""
        return self() or (StopReason.TIME if late else None)

    def show(self, step: Step) -> None:
        """Show where the run stands, while it waits."""
        if self._on_wait is not None:
            self._on_wait(step)

    def hold(self) -> None:
        """Have interrupts wait, since state is being put back."""
        self._interrupt.waits = True

    def release(self) -> None:
        """Have interrupts raise again."""
        self._interrupt.waits = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first interrupt end the block at once, instead of at the end of a chunk.

        That interrupt, or one from before, raises :class:`StopRequested`.
        """
        try:
            with self.raising():
                yield
        except KeyboardInterrupt:
            if self._interrupt.again:
                raise
            raise StopRequested from None

    @contextmanager
    def before_anything(self) -> Iterator[None]:
        """Let the first interrupt end the block, in which there is nothing yet that a report could show."""
        try:
            with self.raising():
                yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(NOTHING_CHANGED) from None

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Let the first interrupt end the block with a ``KeyboardInterrupt``, where no loop can stop."""
        interrupt = self._interrupt
        with interrupt.raising(), restore_after_interrupt(lambda: interrupt.pressed):
            yield
