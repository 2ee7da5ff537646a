"""What the user asks of a run between two chunks: an interrupt, a stop, a pause."""

from __future__ import annotations

import time
from collections.abc import Callable

from tape_magic.engine.interrupts import Interrupt
from tape_magic.results.minimum import StopReason
from tape_magic.results.steps import Wish

PAUSE_SECONDS = 0.02
"""How often a run that is paused asks whether to go on."""


class Asked:
    """Asked between chunks for a reason to end the run; a pause is waited out here.

    Parameters
    ----------
    interrupt
        Set by Ctrl-C and the ■ button.
    wish
        What the display's buttons say; ``None`` where there are none.

    Attributes
    ----------
    paused
        The seconds that pauses have taken.
    """

    def __init__(self, interrupt: Interrupt, wish: Callable[[], Wish] | None = None) -> None:
        self._interrupt, self._wish = interrupt, wish
        self.paused = 0.0

    def __call__(self) -> StopReason | None:
        """Why the run is to end now, if it is."""
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
        return reason
