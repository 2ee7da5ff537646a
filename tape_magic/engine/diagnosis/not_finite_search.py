"""The search for the operation that first turned finite values into infinite or undefined ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tape_magic.engine.diagnosis.first_not_finite import Description, FirstNotFinite, has_nan
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.replay import BackwardStep
from tape_magic.engine.values.tensors import is_finite

_READING = frozenset({"ReadVariableOp", "Const", "Placeholder"})

# A pool of nothing but NaN gives the least finite number: seen in TensorFlow 2.21, and reported in
# https://github.com/tensorflow/tensorflow/issues/54841.
_HIDING_NAN = frozenset({"MaxPool", "MaxPool3D", "MaxPoolV2", "MaxPoolWithArgmax"})


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The result of a search.

    Attributes
    ----------
    first
        The first operation in the order of execution, forward and then backward, or ``None``.
    given
        The keys of tensors that were not finite before any operation read them.
    """

    first: FirstNotFinite | None
    given: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Origin:
    """The origin of values that are not finite.

    Attributes
    ----------
    maker
        The index of the first entry that made such a value of finite ones; ``None`` where none did.
    given
        The keys of tensors that were not finite before any operation read them.
    nan_maker
        The index of the first entry that made NaN of infinite values; ``None`` where none did.
    """

    maker: int | None
    given: frozenset[int]
    nan_maker: int | None = None

    def joined(self, other: _Origin) -> _Origin:
        """Return the common origin of two values."""
        if self is _NO_ORIGIN or self is other:
            return other
        if other is _NO_ORIGIN:
            return self
        return _Origin(
            _first(self.maker, other.maker),
            self.given | other.given,
            _first(self.nan_maker, other.nan_maker),
        )


def _first(*indices: int | None) -> int | None:
    return min((index for index in indices if index is not None), default=None)


_NO_ORIGIN = _Origin(None, frozenset())


@dataclass(frozen=True, eq=False)
class _StepOrigin:
    """The origin of a gradient that one step of the backward pass gave, and that is not finite.

    Attributes
    ----------
    gradients
        The keys of its outputs whose gradients were not finite.
    has_values
        Whether one of its inputs or outputs was not finite.
    makes_nan
        Whether the step gave NaN, and no value or gradient before it was NaN.
    origin
        The origin of those inputs and outputs.
    """

    gradients: list[int]
    has_values: bool
    makes_nan: bool
    origin: _Origin


class NotFiniteSearch:
    """The search for the cause of gradients that are not finite, back through all values that are not.

    Parameters
    ----------
    flow
        The record.
    steps
        The steps of the backward pass over it; none where only values are searched.
    """

    def __init__(self, flow: DataFlow, steps: Sequence[BackwardStep] = ()) -> None:
        self._flow = flow
        self._first_makers: dict[int, int] = {}
        for index, entry in enumerate(flow.entries):
            for key in entry.outputs:  # the operation that computed it, and not the call around that
                self._first_makers.setdefault(key, index)
        self._steps = {step.index: step for step in steps}
        self._described = Description(flow, self._steps)
        # The steps that gave a gradient that is not finite, by the tensor whose gradient it is.
        self._bad_steps: dict[int, list[int]] = {}
        for step in steps:
            for key, found in zip(flow.entries[step.index].inputs, step.input_gradients, strict=False):
                if not is_finite(found):
                    self._bad_steps.setdefault(key, []).append(step.index)
        self._finite: dict[int, bool] = {}
        self._nan: dict[int, bool] = {}
        self._first_readers: dict[int, int] = {}
        self._origins: dict[int, _Origin] = {}
        self._step_origins: dict[int, _StepOrigin] = {}

    def find(self, source: int) -> SearchResult:
        """Return the operation that made the gradient by a source infinite or NaN."""
        steps, nan_steps, origin = self._follow_back(source)
        found = self._made_forward(origin)
        if found is None:
            given = self._sorted_given(origin)
            first = None
            if not any(map(self._is_nan, given)):
                if steps:
                    first = self._described.describe(max(steps), in_gradient=True)
                elif nan_steps:
                    first = self._described.describe(max(nan_steps), in_gradient=True, of_infinity=True)
            found = SearchResult(first, given)
        return found

    def find_value(self, key: int) -> SearchResult:
        """Return the operation that made a tensor infinite or NaN."""
        origin = self._origin(key)
        return self._made_forward(origin) or SearchResult(None, self._sorted_given(origin))

    def _made_forward(self, origin: _Origin) -> SearchResult | None:
        """Return the result where values became infinite or NaN before the backward pass."""
        if origin.maker is not None:
            for key in self._hidden_before(origin.maker):
                origin = origin.joined(self._origin(key))
        given = self._sorted_given(origin)
        # A NaN that was given came before all that was computed from it, although an operation may hide it.
        first_nan = min((self._first_reader(key) for key in given if self._is_nan(key)), default=None)
        if origin.maker is not None:
            hidden = first_nan is not None and first_nan < origin.maker
            return SearchResult(None if hidden else self._described.describe(origin.maker), given)
        if origin.nan_maker is not None and first_nan is None:
            return SearchResult(self._described.describe(origin.nan_maker, of_infinity=True), given)
        return None

    def _sorted_given(self, origin: _Origin) -> tuple[int, ...]:
        """Return the tensors that were not finite before anything read them, those with NaN first."""
        return tuple(sorted(origin.given, key=lambda key: (not self._is_nan(key), self._first_reader(key))))

    # -- the backward pass -------------------------------------------------------------------------

    def _follow_back(self, source: int) -> tuple[list[int], list[int], _Origin]:
        """Follow gradients that are not finite from a source to where they begin.

        Returns the steps that gave one although all that they were given was finite, those that gave NaN of
        infinities, and the origin of the values from which other steps gave one.
        """
        steps: list[int] = []
        nan_steps: list[int] = []
        origin = _NO_ORIGIN
        queue, seen = [source], {source}
        while queue:
            for index in self._bad_steps.get(queue.pop(), ()):
                found = self._step_origin(index)
                origin = origin.joined(found.origin)
                queue += [key for key in found.gradients if key not in seen]
                seen.update(found.gradients)
                if not found.gradients and not found.has_values:
                    steps.append(index)
                elif found.makes_nan:
                    nan_steps.append(index)
        return steps, nan_steps, origin

    def _step_origin(self, index: int) -> _StepOrigin:
        """Return the origin of the gradient that the step through an entry gave."""
        if index not in self._step_origins:
            entry = self._flow.entries[index]
            given = zip(entry.outputs, self._steps[index].output_gradients, strict=True)
            gradients = [key for key, gradient in given if not is_finite(gradient)]
            values = [key for key in (*entry.inputs, *entry.outputs) if not self._is_finite(key)]
            origin = _NO_ORIGIN
            for key in values:
                origin = origin.joined(self._origin(key))
            step = self._steps[index]
            makes_nan = (
                any(map(has_nan, step.input_gradients))
                and not any(map(has_nan, step.output_gradients))
                and not any(map(self._is_nan, values))
            )
            self._step_origins[index] = _StepOrigin(gradients, bool(values), makes_nan, origin)
        return self._step_origins[index]

    # -- the forward pass --------------------------------------------------------------------------

    def _origin(self, key: int) -> _Origin:
        """Return the origin of a value that is not finite.

        The values that it was computed from are worked off first, on a stack of our own: a recursion would be
        as deep as the program is long.
        """
        stack = [] if key in self._origins else [key]
        while stack:
            top = stack[-1]
            index = self._first_makers.get(top)
            entry = None if index is None else self._flow.entries[index]
            if index is None or entry is None or entry.type in _READING:
                self._origins[top] = _Origin(None, frozenset({top}))
                stack.pop()
                continue
            bad = [one for one in entry.inputs if not self._is_finite(one)]
            if top not in self._origins:
                self._origins[top] = _NO_ORIGIN  # until its inputs are worked off
                stack += [one for one in bad if one not in self._origins]
                continue
            stack.pop()
            if not bad and all(self._flow.value(one) is not None for one in entry.inputs):
                self._origins[top] = _Origin(index, frozenset())
            for one in bad:
                self._origins[top] = self._origins[top].joined(self._origins[one])
            if bad and self._is_nan(top) and not any(map(self._is_nan, bad)):
                self._origins[top] = self._origins[top].joined(_Origin(None, frozenset(), index))
        return self._origins[key]

    def _hidden_before(self, index: int) -> list[int]:
        """Return the values before an entry that are not finite, and that a pool turned into finite ones."""
        entries = self._flow.entries
        upstream = self._flow.upstream(entries[index].inputs)
        return [
            entry.inputs[0]
            for entry in entries[:index]
            if entry.type in _HIDING_NAN
            and not upstream.isdisjoint(entry.outputs)
            and self._is_finite(entry.outputs[0])
            and not self._is_finite(entry.inputs[0])
        ]

    def _first_reader(self, key: int) -> int:
        """Return the index of the first entry that reads a tensor."""
        entries = self._flow.entries
        if key not in self._first_readers:
            reading = (index for index, entry in enumerate(entries) if key in entry.inputs)
            self._first_readers[key] = next(reading, len(entries))
        return self._first_readers[key]

    def _is_nan(self, key: int) -> bool:
        if key not in self._nan:
            self._nan[key] = has_nan(self._flow.value(key))
        return self._nan[key]

    def _is_finite(self, key: int) -> bool:
        if key not in self._finite:
            self._finite[key] = is_finite(self._flow.value(key))
        return self._finite[key]
