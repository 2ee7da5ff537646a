"""The tapes around a program, as the program sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tape_magic.engine.derivatives.forward_mode import Directions
from tape_magic.engine.internals.operations import watch_sources
from tape_magic.engine.record.recorder import Recorder


class Tapes:
    """The tapes around a program, one an order, under the name ``tape``.

    Each method does on all of them what it does on a ``tf.GradientTape``, and the same in forward
    mode, where `directions` takes the place of a tape or goes with one. The `recorder` is told, since it
    hears every operation, those that the tapes do not record among them.
    """

    def __init__(
        self, tapes: Sequence[Any], recorder: Recorder, directions: Directions | None = None
    ) -> None:
        self._tapes = tapes
        self._recorder = recorder
        self._directions = directions
        self._sources: list[Any] = []

    def watch(self, tensor: Any) -> None:
        """Record what is computed from a tensor, or from a structure of them."""
        for tape in self._tapes:
            tape.watch(tensor)

    def watch_source(self, *tensors: Any) -> None:
        """Watch tensors or variables, also after a reset."""
        self._sources += tensors
        self._watch(tensors)

    def _watch(self, sources: Sequence[Any]) -> None:
        for tape in self._tapes:
            watch_sources(tape, sources)

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Within this, nothing is recorded."""
        with ExitStack() as stack:
            stack.enter_context(self._recorder.pause())
            for tape in self._tapes:
                stack.enter_context(tape.stop_recording())
            if self._directions is not None:
                stack.enter_context(self._directions.stopped())
            yield

    def reset(self) -> None:
        """Forget what was recorded; the sources stay watched."""
        self._recorder.forget()
        for tape in self._tapes:
            tape.reset()
        self._watch(self._sources)
        if self._directions is not None:
            self._directions.restart()

    def watched_variables(self) -> tuple[Any, ...]:
        """The variables watched so far."""
        return tuple(self._tapes[0].watched_variables()) if self._tapes else ()
