"""Why a derivative is ``None``, zero or not finite, from the record of the one run.

Nothing of the user's code runs again: TensorFlow's own operations may, where their values are needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tape_magic.engine.diagnosis import cures
from tape_magic.engine.diagnosis.condition import Condition
from tape_magic.engine.diagnosis.evidence import Evidence, NamedTensors, at, unknown
from tape_magic.engine.diagnosis.missing import Missing
from tape_magic.engine.diagnosis.not_finite import Culprit, Search
from tape_magic.engine.diagnosis.replay import CannotReplay, Replay
from tape_magic.engine.diagnosis.zero import Zeros
from tape_magic.engine.internals.operations import is_registered
from tape_magic.engine.record.entry import PY_FUNCTION, Entry
from tape_magic.engine.record.frames import gradient_of
from tape_magic.results.reasons import Cause, Reason

_INVERTIBLE = "the matrix is singular: add a small multiple of the identity"


class Diagnosis:
    """Reasons for whatever a derivative is like.

    Parameters
    ----------
    evidence
        Of the run.
    """

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._missing = Missing(evidence)
        self._zeros = Zeros(evidence, self._missing)

    def reasons(
        self, target: NamedTensors, sources: Sequence[NamedTensors], values: Sequence[Any]
    ) -> list[Reason | None]:
        """For each source, why the derivative of a target by it is as it is.

        ``None`` where there is nothing to say. `values` are the derivatives, ``None`` among them.
        """
        conditions = [Condition.of(value) for value in values]
        if set(conditions) <= {Condition.REGULAR}:
            return [None] * len(values)
        self._evidence.meet(target)
        bad = [
            source
            for source, condition in zip(sources, conditions, strict=True)
            if condition is Condition.NOT_FINITE
        ]
        not_finite = dict(zip(bad, self._not_finite(target, bad), strict=True))
        found: list[Reason | None] = []
        for source, condition in zip(sources, conditions, strict=True):
            if condition is Condition.MISSING:
                found.append(self.missing(target, source))
            elif condition is Condition.ZERO:
                found.append(self.zero(target, source))
            else:
                found.append(not_finite.get(source))
        return found

    def missing(self, target: NamedTensors, source: NamedTensors) -> Reason:
        """Why there is no derivative of a target by a source that is one tensor or variable."""
        return self._missing.reason(target, source)

    def zero(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Why a derivative that is 0 is so wherever it exists; ``None`` where it may be otherwise."""
        return self._zeros.reason(target, source)

    def left(self, name: str, source: NamedTensors, plain: Reason) -> Reason:
        """Where an output that is no tensor left TensorFlow; what is `plain` where that cannot be told."""
        found = self._evidence.left_by_text(name, source)
        if found is None:
            return plain
        text = f"{plain.text.partition(':')[0]}: {found.text}"
        return Reason(Cause.LEFT, text, found.cure, found.operation, found.where)

    # -- what TensorFlow refused -------------------------------------------------------------------

    def alone(self, target: NamedTensors, source: NamedTensors, refusal: Reason) -> tuple[Any, Reason | None]:
        """The derivative by one source, where TensorFlow refused to give all together.

        `refusal` is what it said. One watched tensor whose way has no gradient spoils the others.
        """
        (key,) = source.keys
        self._evidence.meet(target)
        try:
            value = Replay(self._evidence.flow, self._evidence.recorder, [key], target.keys).gradient(key)
        except LookupError:
            return None, self.refused(target, source, refusal)
        except CannotReplay as error:
            if error.entry is not None and error.entry.type != PY_FUNCTION:
                return None, self._failed(error.entry, refusal)
            return None, self.refused(target, source, refusal)
        return value, self.reasons(target, [source], [value])[0]

    def refused(self, target: NamedTensors, source: NamedTensors, refusal: Reason) -> Reason:
        """Which operation on the way has no gradient, where TensorFlow raised ``LookupError``."""
        (key,) = source.keys
        flow = self._evidence.flow
        for entry in (flow.entries[index] for index in flow.between([key], target.keys)):
            if refusal.cause is not Cause.UNREGISTERED:
                if entry.type == refusal.operation:
                    return self._failed(entry, refusal)
            elif entry.custom is None and not is_registered(entry.type):
                return self._missing.stop(entry, source)
        return refusal

    def _failed(self, entry: Entry, refusal: Reason) -> Reason:
        """An operation whose gradient TensorFlow could not compute from the values that it had."""
        where = self._evidence.where(entry.frames)
        said = refusal.text.rstrip(".")
        cure = _INVERTIBLE if "invertible" in said or "Cholesky" in said else ""
        text = f"the gradient of {entry.type} fails ({said}){at(where)}"
        return Reason(Cause.CUT, text, cure, entry.type, where)

    # -- not finite --------------------------------------------------------------------------------

    def _not_finite(self, target: NamedTensors, sources: Sequence[NamedTensors]) -> list[Reason]:
        """Which operation made the derivatives by some sources infinite or undefined."""
        if not sources:
            return []
        if not self._evidence.recorder.complete:
            return [unknown("not every operation could be followed")] * len(sources)
        keys = [source.keys[0] for source in sources]
        try:
            replay = Replay(self._evidence.flow, self._evidence.recorder, keys, target.keys)
        except (CannotReplay, LookupError):
            return [unknown("a value on the way was not kept, or could not be looked into")] * len(sources)
        search = Search(self._evidence.flow, self._evidence.recorder, replay)
        told: dict[int, Reason] = {}
        found: list[Reason] = []
        for key, source in zip(keys, sources, strict=True):
            result = search.find(key)
            if result.culprit is None:
                found.append(self._given(result.given, source))
                continue
            index = result.culprit.index
            if index not in told:
                told[index] = self._told(result.culprit)
            found.append(told[index])
        return found

    def _told(self, culprit: Culprit) -> Reason:
        entry = self._evidence.flow.entries[culprit.index]
        where = self._evidence.where(entry.frames)
        return Reason(
            Cause.NOT_FINITE,
            f"{_told(entry, culprit)}{at(where)}",
            cures.cure(culprit, self._evidence.flow, where.text if where else "", self._evidence.line),
            entry.type,
            where,
        )

    def _given(self, keys: Iterable[int], source: NamedTensors) -> Reason:
        """Values that were not finite before any operation read them."""
        (mine,) = source.keys
        keys = list(dict.fromkeys(keys))
        entries = self._evidence.flow.entries
        made_by = {key: entry for entry in entries for key in entry.outputs}
        for key in keys:
            maker = made_by.get(key)
            if key == mine or (maker is not None and mine in maker.inputs):
                return Reason(Cause.NOT_FINITE, f"{source.name} itself is not finite")
        for key in keys:
            reader = next((entry for entry in entries if key in entry.inputs), made_by.get(key))
            where = self._evidence.where(reader.frames) if reader else None
            if where is not None:
                text = f"a value that is not finite is read, {where}"
                return Reason(Cause.NOT_FINITE, text, "", reader.type if reader else "", where)
        return unknown("no operation on the way made it so")


def _told(entry: Entry, culprit: Culprit) -> str:
    gives = culprit.gives.replace("-", "−")
    values = " and ".join(f"{value:.4g}".replace("-", "−") for value in culprit.inputs)
    for_ = f" for {values}" if values else ""
    place = f" at [{', '.join(map(str, culprit.place))}]" if culprit.place else ""
    within = gradient_of(entry.frames)
    what = f"{entry.type}, in the gradient of {within}," if within else entry.type
    if culprit.backward or within == entry.type:
        what = f"the gradient of {entry.type}"
    return f"{what} is {gives}{for_}{place}"
