"""Optimizers for groups of variables: what a mapping of places to optimizers means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.minimization.bounds import leaves_at
from tape_magic.engine.minimization.composite import Composite
from tape_magic.engine.program.selection import Selection
from tape_magic.engine.values.leaves import Leaf
from tape_magic.errors import LineError, a_kind, closest, shorten


@dataclass(frozen=True)
class Group:
    """The optimizer of a group.

    Attributes
    ----------
    optimizer
        A Keras name, an optimizer, or a class of optimizers.
    rate
        The learning rate, for a name or a class; ``None`` for Keras's default.
    made_here
        Whether an expression on the magic line made the optimizer, so that nobody else holds it.
    """

    optimizer: Any
    rate: Any = None
    made_here: bool = False


def groups_of(optimizer: Mapping[Any, Any]) -> dict[str, Group]:
    """Return the groups of a mapping of places to optimizers, or to names with a rate.

    Raises :class:`LineError` for what is no place or no optimizer with its rate.

    >>> groups_of({"w": "sgd 0.1"})
    {'w': Group(optimizer='sgd', rate=0.1, made_here=False)}
    """
    if not optimizer:
        raise LineError('the optimizer is an empty dict: give {"encoder": "sgd 1e-4", "head": "adam"}.')
    found = {}
    for place, given in optimizer.items():
        if not isinstance(place, str):
            raise LineError(f"a group of variables is called by the name of a place, not by {a_kind(place)}.")
        found[place] = given if isinstance(given, Group) else _group(place, given)
    return found


def _group(place: str, given: Any) -> Group:
    if isinstance(given, str):
        given = tuple(given.split())
    if not isinstance(given, tuple):
        return Group(given)
    if len(given) not in (1, 2):
        words = shorten(" ".join(map(str, given)))
        raise LineError(f"{place}: {words!r} is no optimizer with its rate, such as sgd 1e-4.")
    name, *rates = given
    return Group(name, rate_of(place, rates[0]) if rates else None)


def rate_of(place: str, given: Any) -> Any:
    """Return the rate of a group as a float, and a schedule as it is; raise :class:`LineError` for others."""
    if callable(given):
        return given
    try:
        rate = float(given)
    except (TypeError, ValueError):
        rate = float("nan")
    if not 0 < rate < float("inf"):
        raise LineError(f"{place}: the learning rate is {shorten(repr(given))}; give a number above 0.")
    return rate


def assign(
    composite: Composite, leaves: Sequence[Leaf], selection: Selection, namespace: Mapping[str, Any]
) -> None:
    """Tell each optimizer which leaves it moves.

    Raises :class:`LineError` for a place at which nothing is minimised over, for a leaf in two groups, and
    for one in none.
    """
    if not composite.parts[0].place:
        return
    owner: dict[int, str] = {}
    for part in composite.parts:
        known = dict.fromkeys(
            [*(source.name for source in selection.sources), *(leaf.name for leaf in leaves)]
        )
        members = leaves_at(part.place, selection, namespace)
        if not members:
            near = closest(part.place, known)
            raise LineError(f"--optimizer names {part.place}, which is not minimised over{near}")
        for leaf in members:
            other = owner.setdefault(id(leaf.value), part.place)
            if other != part.place:
                raise LineError(
                    f"--optimizer gives {leaf.name} two optimizers, by {other} and by {part.place}: "
                    "name it in one group."
                )
        part.members = frozenset(id(leaf.value) for leaf in members)
    rest = [leaf.name for leaf in leaves if id(leaf.value) not in owner]
    if rest:
        listed = ", ".join(rest[:4]) + (f" and {len(rest) - 4} more" if len(rest) > 4 else "")
        raise LineError(f"--optimizer gives {listed} no optimizer: name all that is minimised over.")
