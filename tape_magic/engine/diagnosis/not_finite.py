"""Why a derivative is not finite: the sentence on the operation that the search found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tape_magic.engine.diagnosis.cures import cure_for_not_finite
from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence, at_line, unknown_reason
from tape_magic.engine.diagnosis.not_finite_search import FirstNotFinite, NotFiniteSearch
from tape_magic.engine.diagnosis.replay import BackwardReplay, CannotReplay
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.frames import gradient_of
from tape_magic.results.reasons import Cause, Reason


class NotFiniteExplainer:
    """Finds the reason for derivatives that are infinite or NaN.

    Parameters
    ----------
    evidence
        The evidence of the run.
    """

    def __init__(self, evidence: RunEvidence) -> None:
        self._evidence = evidence

    def explain(self, target: NamedTensors, sources: Sequence[NamedTensors]) -> list[Reason]:
        """Return which operation made the derivatives of a target by some sources infinite or NaN.

        The backward pass is replayed once for all sources. For ``y = tf.sqrt(x)`` at 0: "the gradient of Sqrt
        is inf for 0, line 2: y = tf.sqrt(x)".
        """
        if not sources:
            return []
        evidence = self._evidence
        if not evidence.recorder.complete:
            return [unknown_reason("not every operation could be followed")] * len(sources)
        keys = [source.keys[0] for source in sources]
        try:
            replay = BackwardReplay(evidence.flow, evidence.recorder, keys, target.keys)
        except (CannotReplay, LookupError):
            why = "a value on the way was not kept, or could not be looked into"
            return [unknown_reason(why)] * len(sources)
        search = NotFiniteSearch(evidence.flow, evidence.recorder, replay)
        by_entry: dict[int, Reason] = {}
        reasons: list[Reason] = []
        for key, source in zip(keys, sources, strict=True):
            found = search.find(key)
            if found.first is None:
                reasons.append(self._explain_given(found.given, source))
                continue
            index = found.first.index
            if index not in by_entry:
                by_entry[index] = self._explain_made(found.first)
            reasons.append(by_entry[index])
        return reasons

    def _explain_made(self, first: FirstNotFinite) -> Reason:
        """Return the reason where an operation gave inf or NaN for finite inputs."""
        entry = self._evidence.flow.entries[first.index]
        where = self._evidence.where(entry.frames)
        text = where.text if where else ""
        cure = cure_for_not_finite(first, self._evidence.flow, text, self._evidence.line_label)
        return Reason(Cause.NOT_FINITE, f"{_sentence(entry, first)}{at_line(where)}", cure, entry.type, where)

    def _explain_given(self, keys: Iterable[int], source: NamedTensors) -> Reason:
        """Return the reason where values were not finite before any operation read them."""
        (mine,) = source.keys
        keys = list(dict.fromkeys(keys))
        flow = self._evidence.flow
        for key in keys:
            maker = flow.makers.get(key)
            if key == mine or (maker is not None and mine in maker.inputs):
                return Reason(Cause.NOT_FINITE, f"{source.name} itself is not finite")
        for key in keys:
            reader = next((entry for entry in flow.entries if key in entry.inputs), flow.makers.get(key))
            where = self._evidence.where(reader.frames) if reader else None
            if where is not None:
                text = f"a value that is not finite is read, {where}"
                return Reason(Cause.NOT_FINITE, text, "", reader.type if reader else "", where)
        return unknown_reason("no operation on the way made it so")


def _sentence(entry: Entry, first: FirstNotFinite) -> str:
    """Return the operation, what it gave, for which inputs, and where: ``Log is −inf for 0 at [2]``."""
    result = first.result.replace("-", "−")
    values = " and ".join(f"{value:.4g}".replace("-", "−") for value in first.inputs)
    inputs = f" for {values}" if values else ""
    element = f" at [{', '.join(map(str, first.element))}]" if first.element else ""
    differentiated = gradient_of(entry.frames)
    operation = f"{entry.type}, in the gradient of {differentiated}," if differentiated else entry.type
    if first.in_gradient or differentiated == entry.type:
        operation = f"the gradient of {entry.type}"
    return f"{operation} is {result}{inputs}{element}"
