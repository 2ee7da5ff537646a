"""Whether data that are not finite made the loss or a gradient of a run so, and which row of them.

The program is run again by itself, at the finite values that a run went back to: with the data as they are,
with 0 in the place of all numbers in them that are not finite, and with one of the arrays, or one row of it,
as it is. An array is named only if it alone makes the difference: data that a program masks are not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tape_magic.engine.internals.random_state import preserve_random_state
from tape_magic.engine.minimization.bad_numbers import BadArray, bad_numbers, is_frame, replaced
from tape_magic.engine.minimization.problem import Problem
from tape_magic.engine.process.output import hide_output
from tape_magic.engine.program.snapshot import Snapshot
from tape_magic.engine.program.walk import Visitor, Walk, Write
from tape_magic.engine.tracing.traced import Require
from tape_magic.engine.values.functions import closure_of
from tape_magic.engine.values.introspection import attributes_of, is_a
from tape_magic.engine.values.leaves import item_name, items_of
from tape_magic.engine.values.tensors import is_finite

MOST = 6
"""The most arrays that are looked at, and the most rows of one."""

SECONDS = 5.0
"""Seconds that one run of the program may take for it to be run once more."""

_UNNAMED = "an array that the loss reads"

LARGEST = 2**30
"""The most bytes of the program's state that are copied."""

Located = Callable[[Sequence[int]], tuple[Sequence[int], str]]
"""Takes rows of a batch; returns their numbers in the data, and what these are rows of."""


@dataclass(frozen=True)
class TakenBatch:
    """The batch of a step: its parts by the names that they are bound to, and where its rows come from."""

    parts: Mapping[str, Any]
    located: Located


def cause_in_data(
    problem: Problem,
    require: Require,
    what: str,
    batch: TakenBatch | None = None,
    ready: Callable[[], Any] | None = None,
) -> str:
    """Return which data made the loss or a gradient infinite or NaN; empty where none did.

    Parameters
    ----------
    problem
        What is minimised, open, with finite values in the variables.
    require
        Finds the loss, or the residuals, among what the program computes.
    what
        ``loss`` or ``gradient``: what was not finite.
    batch
        The batch of the step; ``None`` without data.
    ready
        Called before the program runs, where there are such data.
    """
    places = _places(problem, batch)
    found = _arrays_in(places)
    if not found or len(found) > MOST:
        return ""
    if ready is not None:
        ready()
    try:
        return _Trials(problem, require, what, places, found).cause(batch)
    except Exception:  # the program's own, of a run that it does not take
        return ""


@dataclass(frozen=True)
class _Place:
    """A place that a program reads data from; `of_batch` is the name that a batch is bound to, or empty."""

    label: str
    value: Any
    write: Callable[[Any], None]
    of_batch: str = ""


class _Trials:
    """Runs of the program with some of the numbers that are not finite, the others replaced by 0.

    Parameters
    ----------
    problem, require, what
        As in :func:`cause_in_data`.
    places, found
        Where the program reads data from, and the arrays there that hold such numbers.
    """

    def __init__(
        self,
        problem: Problem,
        require: Require,
        what: str,
        places: Sequence[_Place],
        found: Mapping[int, BadArray],
    ) -> None:
        self._problem, self._require, self._what = problem, require, what
        self._places, self._found = places, found

    def cause(self, batch: TakenBatch | None) -> str:
        """Return the sentence on the first array that alone makes the difference; empty where none does."""
        problem = self._problem
        names = [*problem.settings.names, *problem.program.names.assigns]
        before = Snapshot(problem.program, problem.namespace, names, [leaf.value for leaf in problem.leaves])
        if before.iterators or before.size > LARGEST:
            return ""
        clean = {key: one.cleaned() for key, one in self._found.items()}
        trial = partial(self._is_finite, before)
        with hide_output(), preserve_random_state():
            try:
                started = time.perf_counter()
                if trial({}) or time.perf_counter() - started > SECONDS or not trial(clean):
                    return ""
                for key, one in self._found.items():
                    others = {other: value for other, value in clean.items() if other != key}
                    if not trial(others):
                        return _sentence(one, self._rows_alone(one, key, others, trial), batch)
            finally:
                for place in self._places:
                    place.write(place.value)
                before.restore()
        return ""

    def _rows_alone(
        self, one: BadArray, key: int, others: Mapping[int, Any], trial: Callable[[Mapping[int, Any]], bool]
    ) -> list[int]:
        """Return the rows of an array, from the first on that alone makes the difference."""
        rows: list[int] = one.rows.tolist()
        if len(rows) < 2:
            return rows
        for index, row in enumerate(rows[:MOST]):
            if not trial({**others, key: one.cleaned([row])}):
                return rows[index:]
        return rows

    def _is_finite(self, before: Snapshot, values: Mapping[int, Any]) -> bool:
        """Return whether all is finite with other values for some arrays, given by identity."""
        import tensorflow as tf

        problem = self._problem
        before.restore()
        for place in self._places:
            place.write(replaced(place.value, values))
        variables = [leaf.value for leaf in problem.leaves]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            if self._what == "gradient":
                tape.watch(variables)
            value = problem.program.run(problem.namespace, {})
            loss = self._require(value, problem.namespace, problem.loss_name)
        if not is_finite(loss):
            return False
        gradients = tape.gradient(loss, variables) if self._what == "gradient" else []
        return all(is_finite(tf.convert_to_tensor(one)) for one in gradients if one is not None)


def _sentence(one: BadArray, rows: Sequence[int], batch: TakenBatch | None) -> str:
    if not rows:
        return f"{one.label} is {one.word(rows)}: drop or replace it"
    word, end = one.word(rows), "drop or replace it" if len(rows) == 1 else "drop or replace them"
    if one.of_batch and batch is not None:
        numbers, where = batch.located(rows)
        holds = "holds" if len(rows) == 1 else "hold"
        return f"{_in_words(numbers)} of {where} {holds} {word} ({one.label}): {end}"
    return f"{one.label} holds {word} in {_in_words(rows)}: {end}"


def _in_words(rows: Sequence[int]) -> str:
    return f"row {rows[0]}" + (f" and {len(rows) - 1:,} more" if len(rows) > 1 else "")


# -- where a program reads data from -----------------------------------------------------------------------


class _DataPlaces(Visitor):
    """The places of arrays, tensors and tuples that a program leads to, and the globals that it mentions."""

    def __init__(self) -> None:
        self.places: list[tuple[Any, Any, Any, Write]] = []
        self.mentioned: list[str] = []

    def visit_place(self, owner: Any, key: Any, value: Any, write: Write) -> None:
        """Take a place that another value may take."""
        self.places.append((owner, key, value, write))

    def visit_global(self, name: str) -> None:
        """Take the name of a global."""
        self.mentioned.append(name)


def _places(problem: Problem, batch: TakenBatch | None) -> list[_Place]:
    """Return the places that a program reads data from; those of a batch come first."""
    program, namespace = problem.program, problem.namespace
    home = program.home(namespace)
    visitor = _DataPlaces()
    Walk(visitor, program, namespace).run()
    bound = {} if batch is None else batch.parts
    found = [
        _Place(name, value, partial(namespace.__setitem__, name), of_batch=name)
        for name, value in bound.items()
    ]
    label = partial(_label_of, problem)
    for owner, key, value, write in visitor.places:
        named = owner is namespace or owner is home
        if not (named and (key in bound or program.names.assigned_first(key))):
            found.append(_Place(label(owner, key), value, partial(write, owner, key)))
    # Lists of numbers and data frames are no places for a walk.
    for name in dict.fromkeys([*program.names.reads, *visitor.mentioned]):
        holder = namespace if name in namespace else home
        if name not in bound and name in holder and (is_a(holder[name], list) or is_frame(holder[name])):
            found.append(_Place(name, holder[name], partial(holder.__setitem__, name)))
    return found


def _label_of(problem: Problem, owner: Any, key: Any) -> str:
    """Return what the user calls a place."""
    program, namespace = problem.program, problem.namespace
    home = program.home(namespace)
    if owner is namespace or owner is home:
        return str(key)
    known = {**home, **{name: held for one in program.roots() for name, held in closure_of(one).items()}}
    for name, held in {**known, **namespace}.items():
        if held is owner:
            return f"{name}.{key}" if is_a(held, type) else f"{name}[{key!r}]"
        if attributes_of(held) is owner:
            return f"{name}.{key}"
    if key == "cell_contents":
        value = owner.cell_contents
        return next((name for name, held in known.items() if held is value), _UNNAMED)
    return _UNNAMED


def _arrays_in(places: Sequence[_Place]) -> dict[int, BadArray]:
    """Return by identity the arrays at some places that hold numbers which are not finite."""
    found: dict[int, BadArray] = {}

    def look(value: Any, label: str, of_batch: str) -> None:
        if id(value) in found:
            return
        bad = bad_numbers(value)
        if bad is not None:
            if bad.any():
                found[id(value)] = BadArray(label, value, bad, of_batch)
        elif is_a(value, tuple | list | dict):
            for key, item in items_of(value):
                look(item, item_name(value, label, key), of_batch)

    for place in places:
        look(place.value, place.label, place.of_batch)
    return found
