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
"""How often a run that is paused asks whether to go on."""


class StopRequested(Exception):
    """The user asked a run to end between its chunks; :class:`Asked` goes on to say why."""


class RunControl:
    """Asked between chunks for a reason to end the run; a pause is waited out here.

    Parameters
    ----------
    interrupt
        Set by Ctrl-C and the ■ button.
    wish
        What the display's buttons say; ``None`` where there are none.
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
        """Why the run is to end now, if it is; once there is a reason, it stays."""
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

    def show(self, step: Step) -> None:
        """Where the run stands, while it waits."""
        if self._on_wait is not None:
            self._on_wait(step)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within this, the first interrupt does not wait for the end of a chunk.

        It, and one from before, raises :class:`Stopped`.
        """
        interrupt = self._interrupt
        try:
            with restore_after_interrupt():
                interrupt.at_once = True
                if interrupt.pressed:
                    raise StopRequested
                yield
        except BaseException:
            # A library's tidying up may have made another error of it.
            if interrupt.pressed and not interrupt.again:
                raise StopRequested from None
            raise
        finally:
            interrupt.at_once = False
