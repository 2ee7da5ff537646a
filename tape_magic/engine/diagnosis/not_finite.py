"""Why a value or a derivative is not finite: the sentence on the operation that the search found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.diagnosis.cures import cure_for_not_finite
from tape_magic.engine.diagnosis.evidence import (
    NamedTensors,
    RunEvidence,
    at_line,
    too_long_reason,
    unknown_reason,
)
from tape_magic.engine.diagnosis.first_not_finite import FirstNotFinite
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.not_finite_search import NotFiniteSearch, SearchResult
from tape_magic.engine.diagnosis.replay import BackwardReplay, CannotReplay, replay_by_xla
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.record.frames import gradient_of
from tape_magic.engine.values.tensors import is_finite, to_array
from tape_magic.results.reasons import Cause, Reason


class NotFiniteExplainer:
    """Finds the reason for values and derivatives that are infinite or NaN.

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
        flow, recorder = evidence.flow, evidence.recorder
        keys = [source.keys[0] for source in sources]
        try:
            replay = BackwardReplay(flow, recorder, keys, target.keys)
        except (CannotReplay, LookupError) as error:
            return [self._explain_stopped(error)] * len(sources)
        found = _search(flow, replay, keys)
        if evidence.has_xla and any(one.first is None and not one.given for one in found):
            replayed = replay_by_xla(flow, recorder, keys, target.keys)
            found = found if replayed is None else _search(flow, replayed, keys)
        by_entry: dict[int, Reason] = {}
        reasons: list[Reason] = []
        for one, source in zip(found, sources, strict=True):
            if one.first is None:
                closed = None if one.given else self._explain_closed(flow, replay)
                reasons.append(closed or self._explain_given(one.given, source))
                continue
            index = one.first.index
            if index not in by_entry:
                by_entry[index] = self._explain_made(flow, one.first)
            reasons.append(by_entry[index])
        return reasons

    def explain_value(self, target: NamedTensors) -> Reason | None:
        """Return which operation made a target itself infinite or NaN; ``None`` where it is finite.

        For ``y = tf.math.log(x)`` at 0: "y itself is −inf: Log is −inf for 0, line 2: y = tf.math.log(x)".
        """
        pairs = zip(target.keys, target.tensors, strict=True)
        bad = [(key, tensor) for key, tensor in pairs if not is_finite(tensor)]
        if not bad:
            return None
        evidence = self._evidence
        name = "the output" if target.name == "_" else target.name
        key, tensor = bad[0]
        what = f"{name} itself is {_word(tensor)}"
        if not evidence.recorder.complete:
            return Reason(Cause.NOT_FINITE, what)
        flow = evidence.flow
        result = NotFiniteSearch(flow).find_value(key)
        if result.first is not None:
            made = self._explain_made(flow, result.first)
            return Reason(Cause.NOT_FINITE, f"{what}: {made.text}", made.cure, made.operation, made.where)
        given = self._explain_read(result.given)
        if given is None:
            return Reason(Cause.NOT_FINITE, what)
        return Reason(Cause.NOT_FINITE, f"{what}: {given.text}", "", given.operation, given.where)

    # -- an operation that was found ---------------------------------------------------------------

    def _explain_made(self, flow: DataFlow, first: FirstNotFinite) -> Reason:
        """Return the reason where an operation gave inf or NaN for values that were not."""
        evidence, entry = self._evidence, flow.entries[first.index]
        where = evidence.where(entry.frames)
        if entry.too_long:
            return too_long_reason(entry, where, "the reason is not known: it lies in ")
        if first.in_gradient and entry.custom is not None:
            within = self._explain_within(flow, first.index)
            if within is not None:
                return within
        text = where.text if where else ""
        cure = cure_for_not_finite(first, flow, text, lambda index: evidence.label_of(flow.entries[index]))
        return Reason(Cause.NOT_FINITE, f"{_sentence(entry, first)}{at_line(where)}", cure, entry.type, where)

    def _explain_within(self, flow: DataFlow, index: int) -> Reason | None:
        """Return which operation of a function with a custom gradient has the gradient that is not finite.

        So it is in ``tf.recompute_grad``. ``None`` where the function's own operations give a finite one.
        """
        entry = flow.entries[index]
        inside = flow.inside_custom(index)
        if entry.custom is None or inside is None or not entry.custom.calls:
            return None
        given, _ = entry.custom.calls[-1]
        try:
            replay = BackwardReplay(
                inside.flow, self._evidence.recorder, inside.sources, entry.outputs, given
            )
        except (CannotReplay, LookupError):
            return None
        found = (result.first for result in _search(inside.flow, replay, inside.sources))
        first = next((one for one in found if one is not None), None)
        return None if first is None else self._explain_made(inside.flow, first)

    # -- no operation that was found ---------------------------------------------------------------

    def _explain_stopped(self, error: Exception) -> Reason:
        """Return the reason where the backward pass could not be replayed."""
        entry = error.stopped_at if isinstance(error, CannotReplay) else None
        where = self._evidence.where(entry.frames) if entry is not None else None
        if entry is None or where is None:
            return unknown_reason("a value on the way was not kept, or could not be looked into")
        if entry.too_long:
            return too_long_reason(entry, where, "the reason is not known: it may lie in ")
        what = "a custom gradient" if entry.type.startswith("CustomGradient") else "what"
        return unknown_reason(f"{what} could not be looked into, {where}")

    def _explain_closed(self, flow: DataFlow, replay: BackwardReplay) -> Reason | None:
        """Return that the reason may lie in rounds of a loop that stayed closed, if there were such."""
        for entry in (flow.entries[step.index] for step in replay.steps):
            if entry.too_long:
                where = self._evidence.where(entry.frames)
                return too_long_reason(entry, where, "the reason is not known: it may lie in ")
        return None

    def _explain_given(self, keys: Iterable[int], source: NamedTensors) -> Reason:
        """Return the reason where values were not finite before any operation read them."""
        (mine,) = source.keys
        keys = list(dict.fromkeys(keys))
        flow = self._evidence.flow
        for key in keys:
            maker = flow.makers.get(key)
            if key == mine or (maker is not None and mine in maker.inputs):
                return Reason(Cause.NOT_FINITE, f"{source.name} itself is not finite")
        return self._explain_read(keys) or unknown_reason("no operation on the way made it so")

    def _explain_read(self, keys: Iterable[int]) -> Reason | None:
        """Return the line on which the first of some tensors, which were not finite, was read."""
        flow = self._evidence.flow
        for key in keys:
            reader = next((entry for entry in flow.entries if key in entry.inputs), flow.makers.get(key))
            where = self._evidence.where(reader.frames) if reader else None
            if where is not None:
                text = f"a value that is not finite is read, {where}"
                return Reason(Cause.NOT_FINITE, text, "", reader.type if reader else "", where)
        return None


def _search(flow: DataFlow, replay: BackwardReplay, keys: Sequence[int]) -> list[SearchResult]:
    search = NotFiniteSearch(flow, replay.steps)
    return [search.find(key) for key in keys]


def _word(tensor: Any) -> str:
    """Return the first NaN of a tensor in words, or else the first infinity, with its place."""
    array = to_array(tensor)
    places = np.isnan(array) if np.isnan(array).any() else np.isinf(array)
    element = tuple(map(int, np.argwhere(places)[0]))
    number = complex(array[element])
    word = "nan" if np.isnan(number) else "inf" if number.real > 0 else "−inf"
    return f"{word} at [{', '.join(map(str, element))}]" if element else word


def _sentence(entry: Entry, first: FirstNotFinite) -> str:
    """Return the operation, what it gave, for which inputs, and where: ``Log is −inf for 0 at [2]``."""
    result = first.result.replace("-", "−")
    values = " and ".join(f"{value:.4g}".replace("-", "−") for value in first.inputs)
    inputs = f" for {values}" if values else ""
    element = f" at [{', '.join(map(str, first.element))}]" if first.element else ""
    differentiated = gradient_of(entry.frames)
    operation = f"{entry.type}, in the gradient of {differentiated}," if differentiated else entry.type
    if entry.custom is not None:
        operation = f"the custom gradient of {entry.custom.name}"
    elif first.in_gradient or differentiated == entry.type:
        operation = f"the gradient of {entry.type}"
    return f"{operation} is {result}{inputs}{element}"
