"""What an output reads that was computed before its cell, where the texts of the cells before show it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence
from tape_magic.engine.internals.operations import key_of
from tape_magic.engine.static_analysis.earlier_cells import Leads, computed_by
from tape_magic.engine.static_analysis.statements import names_read, stored_outside_functions, syntax_tree
from tape_magic.engine.values.introspection import attributes_of, is_a
from tape_magic.engine.values.leaves import items_of
from tape_magic.engine.values.objects import is_users_own
from tape_magic.engine.values.tensors import is_inexact, is_liftable, is_tensor, to_array
from tape_magic.results.reasons import Where

_MOST_ITEMS = 1000
"""The most items of a list or dict that are looked at."""


def computed_before(evidence: RunEvidence, target: NamedTensors, leads: Leads) -> tuple[str, Where] | None:
    """Return what a target reads that an earlier cell computed from a source, and the line that did.

    A tape follows nothing of that. For ``h = w*2`` in cell 2 and ``y = h**2`` in this one: ``h`` and the line
    of cell 2. ``None`` where no text of an earlier cell shows it.

    Parameters
    ----------
    evidence, target
        The run, and an output of it that does not read the source.
    leads
        Whether a place leads to the source; ``None`` where that is not known.
    """
    cells: Any = evidence.text.namespace.get("In")  # where IPython keeps them
    if not is_a(cells, list) or not all(is_a(cell, str) for cell in cells):
        return None
    for base, name in _read_from_before(evidence, target):
        found = computed_by(base, cells[:-1], leads)  # without this cell
        if found is not None:
            return name, Where(found.line, found.text, f"cell {found.cell}")
    return None


def _read_from_before(evidence: RunEvidence, target: NamedTensors) -> Iterator[tuple[str, str]]:
    """Yield the names, and the places, of the values from before the run that a target is computed of."""
    recorder, flow, text = evidence.recorder, evidence.flow, evidence.text
    upstream = {key for key in flow.upstream(target.keys) if key not in flow.makers}
    before = {key for key in upstream if key <= recorder.start}
    came_in = [tensor for key in upstream - before if (tensor := recorder.tensor(key)) is not None]
    tree = syntax_tree(text.filename, text.lines) if text.filename else None
    named = names_read(tree) - stored_outside_functions(tree) if tree is not None else set()
    for base, value in list(text.namespace.items()):
        if base.startswith("_") or base in ("In", "Out"):
            continue
        for place, item in _items(base, value):
            if is_tensor(item) and is_inexact(item):
                if hasattr(item, "numpy") and key_of(item) in before:
                    yield base, place
            elif base in named and is_liftable(item) and any(_holds(one, item) for one in came_in):
                yield base, place


def _items(base: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield a value with its name, the items of a list, tuple or dict, and the attributes of an object."""
    yield base, value
    if is_a(value, list | tuple | dict):
        for _, (_, item) in zip(range(_MOST_ITEMS), items_of(value), strict=False):
            yield base, item
    elif is_users_own(type(value)):
        for name, item in attributes_of(value).items():
            yield f"{base}.{name}", item


def _holds(tensor: Any, numbers: Any) -> bool:
    """Return whether a tensor has the numbers of a float or an array, in its own precision."""
    array = np.asarray(numbers)
    if tensor.shape != array.shape or not is_inexact(tensor):
        return False
    held = to_array(tensor)
    return bool(np.array_equal(held, array.astype(held.dtype)))
