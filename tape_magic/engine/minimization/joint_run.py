"""A run that all workers of a cluster take part in: who leads it, that all run the same, and when it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

from tape_magic.engine.distribution.cluster import cluster_of
from tape_magic.engine.distribution.together import Together, is_collective
from tape_magic.engine.minimization.control import PAUSE_SECONDS, RunControl
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.process.interrupts import Interrupt
from tape_magic.engine.program.program import Program
from tape_magic.results.minimum import StopReason
from tape_magic.results.steps import Wish

_REASONS = (None, StopReason.TIME, StopReason.STOPPED, StopReason.INTERRUPTED)
_PAUSED = 0.5
"""Between going on and ending: what one worker says in a pause."""


def joint_run(settings: Settings) -> Together | None:
    """Return the run that the workers of a strategy take part in; ``None`` for a run of this process alone.

    Raises :class:`ClusterError` where this process has joined no workers.
    """
    cluster = None if settings.strategy is None else cluster_of(settings.strategy)
    if cluster is None:
        return None
    kept = settings.checkpoint is not None
    return Together(
        cluster,
        "Restart the engines, and go on with --resume --checkpoint."
        if kept
        else "Restart the engines; with --checkpoint, --resume goes on from there.",
    )


def own_settings(settings: Settings, together: Together) -> Settings:
    """Return the settings of this worker: only worker 0 writes a log, and looks for a verdict."""
    return settings if together.leads else replace(settings, log=None, verdict=False)


def line_of(program: Program, loss_name: str | None, over: Sequence[str] | None, settings: Settings) -> str:
    """Return a text that is the same in all workers where these run the same."""
    said = {one.name: getattr(settings, one.name) for one in fields(settings)}
    for name in ("data", "val", "sources", "remarks", "bounds"):
        del said[name]
    plain = {name: value for name, value in said.items() if isinstance(value, int | float | str | tuple)}
    plain["checkpoint"], plain["log"] = settings.checkpoint is not None, settings.log is not None
    plain |= {name: type(value).__name__ for name, value in said.items() if name not in plain}
    return repr((program.source, loss_name, over, sorted(plain.items())))


@contextlib.contextmanager
def telling(together: Together | None) -> Iterator[None]:
    """Have the other workers of a run hear of an error in the block, and end with its line."""
    import tensorflow as tf

    try:
        yield
    except BaseException as error:
        if together is not None:
            if isinstance(error, tf.errors.OpError) and is_collective(error):
                raise together.lost(error) from None
            together.fail(error)
        raise


class JointControl(RunControl):
    """Tells all workers in the same way whether the run is to end; the time is worker 0's.

    Parameters
    ----------
    together
        The run.
    interrupt, wish, on_wait
        As in :class:`RunControl`; of this worker.
    """

    def __init__(self, together: Together, interrupt: Interrupt, *others: Any) -> None:
        super().__init__(interrupt, *others)
        self._together = together
        self._ended: StopReason | None = None

    def __call__(self) -> StopReason | None:
        """Return why all workers end now, or ``None``; all have to come to this call."""
        return self.ends(late=False)

    def ends(self, *, late: bool) -> StopReason | None:
        """Return why all workers end now; worker 0 knows whether it is `late`. A reason stays."""
        while self._ended is None:
            together = self._together
            found = together.agree(self._own(late=late), together.seconds)
            said, together.seconds_of_first = float(found[:, 0].max()), float(found[0, 1])
            if said == _PAUSED:
                self.paused += PAUSE_SECONDS
                time.sleep(PAUSE_SECONDS)
                continue
            self._ended = _REASONS[int(said)]
            break
        return self._ended

    def _own(self, *, late: bool) -> float:
        if self._interrupt.pressed:
            return float(_REASONS.index(StopReason.INTERRUPTED))
        wish = Wish.GO_ON if self._wish is None else self._wish()
        if wish is Wish.STOP:
            return float(_REASONS.index(StopReason.STOPPED))
        if wish is Wish.PAUSE:
            return _PAUSED
        return float(late and self._together.leads)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let an interrupt wait until all workers agree on it."""
        yield
