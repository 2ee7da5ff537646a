"""The bounds that variables have to stay within."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.minimization import scipy_methods
from tape_magic.engine.minimization.scipy_methods import Method
from tape_magic.engine.program.selection import Selection
from tape_magic.engine.values.leaves import Leaf, leaves_of
from tape_magic.engine.values.places import look_up
from tape_magic.errors import LineError, SourceError, closest

Limits = tuple[Any, Any]
"""The lower and the upper bound of a variable, each an array or ``None``."""


def limits_of(
    bounds: Mapping[str, Limits], selection: Selection, namespace: Mapping[str, Any]
) -> dict[int, Limits]:
    """Return the bounds by the id of the variable that they are for.

    A name may be that of a source, of a variable in the report, or of a place in the namespace that holds
    variables which are minimised over.

    Raises :class:`LineError` for a name that is not minimised over, and for bounds that are no numbers, do
    not fit the variable's shape, or leave nothing between them.
    """
    found: dict[int, Limits] = {}
    for name, (low, high) in bounds.items():
        leaves = leaves_at(name, selection, namespace)
        if not leaves:
            near = closest(name, _named_leaves(selection))
            raise LineError(f"--bounds names {name}, which is not minimised over{near}")
        for leaf in leaves:
            limits = _limit(name, leaf, low), _limit(name, leaf, high)
            if limits[0] is not None and limits[1] is not None and np.any(limits[0] > limits[1]):
                raise LineError(f"--bounds {name}={low}:{high} leaves nothing between them.")
            found[id(leaf.value)] = limits
    return found


def leaves_at(name: str, selection: Selection, namespace: Mapping[str, Any]) -> list[Leaf]:
    """Return the leaves that a name means: of a source, of a variable in the report, or of a place.

    Nothing where none of these is minimised over.
    """
    sources = _named_leaves(selection)
    return sources.get(name) or _at_place(name, sources.values(), namespace)


def _named_leaves(selection: Selection) -> dict[str, list[Leaf]]:
    sources = {source.name: source.leaves for source in selection.sources}
    return sources | {leaf.name: [leaf] for leaves in list(sources.values()) for leaf in leaves}


def limits_of_constraints(
    leaves: Sequence[Leaf], limits: Mapping[int, Limits], method: Method
) -> tuple[dict[int, Limits], list[str]]:
    """Return the bounds of SciPy's method with those that constraints of Keras ask for, and notes on these.

    Keras's optimizers keep a variable's constraint after each step, and SciPy knows nothing of it. One that
    is no bound is refused by :class:`LineError`, and so is any where the method knows no bounds.
    """
    import keras

    found, notes = dict(limits), list[str]()
    for leaf in leaves:
        constraint = getattr(leaf.owner, "constraint", None)
        if constraint is None:
            continue
        name = f"the constraint {_named(constraint)} of {leaf.name}"
        if type(constraint) is not keras.constraints.NonNeg:
            raise LineError(f"{name} is no bound that {method.name} could keep: take a Keras optimizer.")
        if not method.bounds:
            able = scipy_methods.with_bounds(method)
            raise LineError(f"{name} is a bound, and {method.name} knows none; these do: {', '.join(able)}.")
        low, high = found.get(id(leaf.value), (None, None))
        zero = np.zeros([], leaf.value.dtype.as_numpy_dtype)
        found[id(leaf.value)] = zero if low is None else np.maximum(low, zero), high
        notes.append(f"{name} was kept as a bound: 0 or more")
    return found, notes


def _named(constraint: Any) -> str:
    return str(getattr(constraint, "__name__", type(constraint).__name__))


def _at_place(name: str, sources: Iterable[Sequence[Leaf]], namespace: Mapping[str, Any]) -> list[Leaf]:
    """Return the leaves that a place such as ``model.layers[0].kernel`` holds."""
    try:
        held = {id(leaf.value) for leaf in leaves_of(look_up(name, namespace), name)}
    except SourceError:
        return []
    return [leaf for leaves in sources for leaf in leaves if id(leaf.value) in held]


def _limit(name: str, leaf: Leaf, value: Any) -> Any:
    if value is None:
        return None
    try:
        limit = np.asarray(value, leaf.value.dtype.as_numpy_dtype)
        np.broadcast_to(limit, leaf.shape)
    except (TypeError, ValueError):
        raise LineError(
            f"--bounds {name}: {value!r:.40} is no bound for {leaf.name} of shape {leaf.shape}; "
            "give a number, or an array of that shape."
        ) from None
    if np.isnan(limit).any():
        raise LineError(f"--bounds {name}: a bound is NaN; leave it out where there is none.")
    return limit


def project(leaves: Sequence[Leaf], limits: Mapping[int, Limits]) -> list[str]:
    """Move the leaves that are outside to the nearest bound, and return their names."""
    moved = []
    for leaf in leaves:
        low, high = limits.get(id(leaf.value), (None, None))
        value = leaf.value.numpy()
        inside = np.clip(value, low, high) if low is not None or high is not None else value
        if not np.array_equal(inside, value, equal_nan=True):
            leaf.value.assign(inside)
            moved.append(leaf.name)
    return moved
