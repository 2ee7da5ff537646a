"""What may set a derivative apart from differences, as the record of a run shows; and how that is said."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.check.holding import STRAIGHT, SYMMETRIC, Holding
from tape_magic.engine.check.precisions import target_of
from tape_magic.engine.derivatives.run import Run
from tape_magic.engine.diagnosis.evidence import NamedTensors
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.internals.operations import public_name
from tape_magic.engine.record.entry import Entry, writes
from tape_magic.engine.record.writes import last_writes
from tape_magic.results.reasons import Where

Way = tuple[str, str]
"""The names of an output and of a leaf."""


@dataclass(frozen=True)
class Suspect:
    """Operations of one kind, on one line, between a leaf and an output.

    Attributes
    ----------
    kind
        ``operation``, ``write``, ``custom`` or ``pause``.
    where
        The user's line.
    numbers
        Their numbers, as :class:`Holding` counts them.
    name
        The type of the operations, or the name of the function with the custom gradient.
    """

    kind: str
    where: Where
    numbers: frozenset[int]
    name: str = ""

    def __str__(self) -> str:
        """What is said where they are the cause: that is known, since without them the two agree."""
        name = public_name(self.name)
        if self.name == "StopGradient":
            return f"the two agree if what tf.stop_gradient gives is held constant, {self.where}"
        if self.kind == "write":
            return f"a variable's state carries no derivative, {self.where}"
        if self.kind == "pause":
            return f"what is computed within tape.stop_recording() is constant to the tape, {self.where}"
        if self.kind == "custom":
            return f"the custom gradient of {name} is not the derivative of what it computes, {self.where}"
        if self.name in STRAIGHT:
            return f"the gradient of {name} leaves out that it rounds, by design, {self.where}"
        if self.name in SYMMETRIC:
            mirrored = "and a change of one element as one of its mirror image, too"
            return f"the gradient of {name} takes its matrix as symmetric, {mirrored}, {self.where}"
        return f"what {name} gives is constant to the tape, {self.where}"


def suspects(run: Run, outputs: Iterable[str], holding: Holding) -> dict[Way, list[Suspect]]:
    """Return the suspects on each way, from a run within which `holding` counted."""
    flow, found = run.evidence.flow, dict[Way, list[Suspect]]()
    operated = {key: number for number, key in enumerate(holding.operated)}
    customs = {key: number for number, key in enumerate(holding.customized)}
    written = {id(entry): number for number, entry in enumerate(_writing(run.tapes.recorder.entries))}
    pauses = run.program.names.opaque or "stop_recording" in run.program.names.mentions
    for output, target in _targets(run, outputs):
        for leaf in _leaves(run):
            groups: dict[tuple[str, Where, str], set[int]] = {}
            for index in flow.between(leaf.keys, target.keys):
                entry = flow.entries[index]
                where, key = run.evidence.where(entry.frames), next(iter(entry.outputs), None)
                if where is None:
                    continue
                if key in operated:
                    groups.setdefault(("operation", where, entry.type), set()).add(operated[key])
                elif entry.custom is not None and entry.graph is None and key in customs:
                    groups.setdefault(("custom", where, entry.custom.name), set()).add(customs[key])
                elif id(entry) in written:
                    groups.setdefault(("write", where, ""), set()).add(written[id(entry)])
                elif pauses and not entry.taped and not any(kind == "pause" for kind, _, _ in groups):
                    groups["pause", where, ""] = set()
            found[output, leaf.name] = [
                Suspect(kind, where, frozenset(numbers), name)
                for (kind, where, name), numbers in groups.items()
            ]
    return found


def what_leaves_became(run: Run, outputs: Iterable[str]) -> dict[Way, str]:
    """Return a sentence for each leaf that the program assigns before it reads it for an output.

    Its derivative is by the value that was read. To move the variable before the program runs shows
    something else.
    """
    found: dict[Way, str] = {}
    recorder = run.tapes.recorder
    # What the program makes is written as it is made.
    changed = {key for key in last_writes(recorder) if key <= recorder.start}
    leaves = [leaf for leaf in _leaves(run) if not changed.isdisjoint(leaf.keys)]
    for output, target in _targets(run, outputs) if leaves else ():
        reached = _upstream_past_state(run.evidence.flow, target.keys)
        for leaf in leaves:
            sentence = _what_became(run, leaf, reached)
            if sentence:
                found[output, leaf.name] = sentence
    return found


def _what_became(run: Run, leaf: NamedTensors, reached: set[int]) -> str:
    (key,) = leaf.keys
    before, line, wrote = False, None, None
    for entry in run.evidence.flow.entries:
        if entry.changes == key:
            wrote = entry
        elif key in entry.inputs and not reached.isdisjoint(entry.outputs):
            before = before or wrote is None
            line = wrote or line
    if line is None:
        return ""
    where = run.evidence.where(line.frames)
    at = f", {where}" if where else ""
    if before:
        return f"the derivative is by the variable's values before and after together{at}"
    return f"the derivative is by the value that the variable gets in the cell, not by the one before{at}"


def _upstream_past_state(flow: DataFlow, keys: Iterable[int]) -> set[int]:
    """Return what flows into some tensors without passing through the state of a variable."""
    reached = set(keys)
    for entry in reversed(flow.entries):
        if not reached.isdisjoint(entry.outputs):
            reached.update(entry.inputs)
    return reached


def _writing(entries: Iterable[Entry]) -> Iterator[Entry]:
    return (entry for entry in entries if writes(entry.type))


def _targets(run: Run, outputs: Iterable[str]) -> list[tuple[str, NamedTensors]]:
    found: Mapping[str, Any] = {name: target_of(run, name) for name in outputs}
    return [(name, target) for name, target in found.items() if target is not None]


def _leaves(run: Run) -> list[NamedTensors]:
    leaves = (leaf for source in run.selection.sources for leaf in source.leaves)
    return [NamedTensors(leaf.name, (leaf.value,)) for leaf in leaves]
