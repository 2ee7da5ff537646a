"""The tapes around a program, and the object that the program sees under the name ``tape``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from tape_magic.engine.derivatives.forward_mode import Directions
from tape_magic.engine.internals.operations import watch_sources
from tape_magic.engine.record.recorder import Recorder


class Tapes:
    """The tapes of one run, with the methods of a ``tf.GradientTape``.

    Parameters
    ----------
    gradient_tapes
        The tapes around the program, the innermost first, one for each order of differentiation.
    recorder
        Hears every operation of the run, including operations that the tapes do not record.
    directions
        Forward accumulators, for a product with a vector; they work without a tape or within one.
    """

    def __init__(
        self, gradient_tapes: Iterable[Any], recorder: Recorder, directions: Directions | None = None
    ) -> None:
        self.gradient_tapes = list(gradient_tapes)
        self.recorder, self.directions = recorder, directions
        self._sources: list[Any] = []

    def watch(self, tensor: Any) -> None:
        """Record what is computed from a tensor, or from a structure of tensors."""
        for tape in self.gradient_tapes:
            tape.watch(tensor)

    def watch_source(self, *tensors: Any) -> None:
        """Watch tensors or variables, and watch them again after a reset."""
        self._sources += tensors
        self._watch(tensors)

    def _watch(self, sources: Sequence[Any]) -> None:
        for tape in self.gradient_tapes:
            watch_sources(tape, sources)

    @contextmanager
    def stop_recording(self) -> Iterator[None]:
        """Record nothing within the block: what is computed there counts as constant."""
        with ExitStack() as stack:
            stack.enter_context(self.recorder.pause())
            for tape in self.gradient_tapes:
                stack.enter_context(tape.stop_recording())
            if self.directions is not None:
                stack.enter_context(self.directions.paused())
            yield

    def reset(self) -> None:
        """Forget what was recorded, and watch the sources again."""
        self.recorder.forget()
        for tape in self.gradient_tapes:
            tape.reset()
        self._watch(self._sources)
        if self.directions is not None:
            self.directions.restart()

    def watched_variables(self) -> tuple[Any, ...]:
        """Return the variables watched so far."""
        return tuple(self.gradient_tapes[0].watched_variables()) if self.gradient_tapes else ()

    def close(self) -> None:
        """Let go of everything that was recorded."""
        self.gradient_tapes.clear()
        self.recorder.close()
