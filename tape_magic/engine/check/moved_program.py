"""`MovedProgram`: a program whose sources are moved as it assigns them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from tape_magic.engine.program.program import Hooks, Namespace, Program
from tape_magic.engine.program.wrapper import ProgramWrapper


class MovedProgram(ProgramWrapper):
    """A program whose sources are moved as it assigns them for the last time.

    Parameters
    ----------
    program
        The program within.
    movers
        For each name that is a source, a function of its value and of whether this assignment is the last.
    turns
        How often the run before assigned each name, which tells the last assignment of this run.
    records_all
        Whether the tapes record within ``tape.stop_recording()``, too.

    Attributes
    ----------
    turns
        How often this run assigned each name.
    """

    def __init__(
        self,
        program: Program,
        movers: Mapping[str, Callable[[Any, bool], Any]],
        turns: Mapping[str, int],
        *,
        records_all: bool = False,
    ) -> None:
        super().__init__(program)
        self._movers, self._last, self._records_all = movers, turns, records_all
        self.turns = dict.fromkeys(movers, 0)

    def run(self, namespace: Namespace, hooks: Hooks, tape: Any = None) -> Any:
        """Run the program within, with the sources moved."""
        moving = {base: self._hook(base, hooks.get(base)) for base in self._movers}
        tape = _Unpaused(tape) if self._records_all else tape
        return super().run(namespace, {**hooks, **moving}, tape)

    def _hook(self, base: str, hook: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
        def assigned(value: Any) -> Any:
            self.turns[base] += 1
            value = self._movers[base](value, self.turns[base] == self._last.get(base))
            return value if hook is None else hook(value)

        return assigned


class _Unpaused:
    """A tape that does not stop when the program says so."""

    def __init__(self, tape: Any) -> None:
        self._tape = tape

    def __getattr__(self, name: str) -> Any:
        return nullcontext if name == "stop_recording" else getattr(self._tape, name)
