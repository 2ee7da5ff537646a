"""Derivatives by a part of an array, ``dy/dw[0]``: that part of the derivative by the whole array.

A part of a variable is a new tensor, from which nothing was computed: no tape can differentiate by it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import RunResult
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.values.places import object_at
from tape_magic.engine.values.tensors import is_tensor, is_variable
from tape_magic.errors import SourceError
from tape_magic.notation import Kind, Target, read_targets
from tape_magic.results.gradients import Derivative
from tape_magic.syntax import place


@dataclass(frozen=True)
class ArrayPart:
    """A part of an array: its name, the place of the array, and the indices that lead to the part."""

    name: str
    whole: str
    indices: tuple[Any, ...]

    def of(self, value: Any) -> Any:
        """Return the part of an array of the whole array's shape."""
        for index in self.indices:
            value = value[index]
        return value

    def row(self, row: Derivative) -> Derivative:
        """Return the row of the derivative by the part, of that by the whole array."""
        import tensorflow as tf

        value = row.value
        if value is not None:
            value = self.of(tf.convert_to_tensor(value))
        shape = self.of(np.broadcast_to(0, row.shape)).shape
        return replace(row, wrt=(self.name,), value=value, shape=shape, source=None, elementwise=False)


class ArrayParts:
    """The parts of arrays that a request names, first derivatives only.

    Parameters
    ----------
    program, namespace
        The program, and the names that it runs on.
    request
        What was asked for.

    Attributes
    ----------
    request
        The same request, with whole arrays in the places of their parts.

    Raises :class:`SourceError` for an index that the array does not have.
    """

    def __init__(self, program: Program, namespace: Namespace, request: Request) -> None:
        self.request = request
        self._parts: dict[str, ArrayPart] = {}
        self._targets: tuple[Target, ...] = ()
        if request.kind is not Kind.GRADIENT or not any("[" in word for word in (*request.words, *self._wrt)):
            return
        targets = read_targets(request.words, {*namespace, *program.names.assigns}.__contains__)
        orders = {target.order or request.order for target in targets} or {request.order}
        if orders != {1}:
            return
        for name in (*(name for target in targets for name in target.wrt), *self._wrt):
            part = None if program.names.assigned_first(place(name)[0]) else _part(name, namespace)
            if part is not None:
                self._parts[name] = part
        self._targets = targets
        whole = [Target(target.name, tuple(map(self._whole, target.wrt))).key for target in targets]
        by = tuple(dict.fromkeys(map(self._whole, self._wrt)))
        self.request = replace(request, words=tuple(dict.fromkeys(whole)), wrt=by or request.wrt)

    @property
    def _wrt(self) -> tuple[str, ...]:
        return tuple(self.request.wrt or ())

    def _whole(self, name: str) -> str:
        return self._parts[name].whole if name in self._parts else name

    def of(self, result: RunResult) -> RunResult:
        """Return a result by whole arrays as one by their parts."""
        if not self._parts:
            return result
        wanted = {name for target in self._targets for name in target.wrt}
        rows: list[Derivative] = []
        structures = dict(result.report.structures)
        bindings = dict(result.bindings)
        for row in result.report.rows:
            parts = [part for part in self._parts.values() if (part.whole,) == row.wrt]
            if not parts or row.wrt[0] in wanted:
                rows.append(row)
            else:
                structures.pop((row.target, row.wrt), None)
            bound = bindings.pop(Target(row.target, row.wrt).binding, None) if parts else None
            if parts and row.wrt[0] in wanted:
                bindings[Target(row.target, row.wrt).binding] = bound
            for part in parts:
                found = part.row(row)
                rows.append(found)
                structures[row.target, found.wrt] = found.value
                target = Target(row.target, found.wrt)
                if target in self._targets:
                    bindings[target.binding] = found.value
        report = replace(result.report, rows=tuple(rows), structures=structures)
        return replace(result, report=report, bindings=bindings)


def _part(name: str, namespace: Mapping[str, Any]) -> ArrayPart | None:
    """Return the part of an array that a place is; ``None`` for any other place."""
    base, tree = place(name)
    indices: list[Any] = []
    while isinstance(tree, ast.Subscript) and base in namespace:
        indices.insert(0, ast.literal_eval(tree.slice))
        tree = tree.value
        try:
            owner = object_at(tree, namespace, name)
        except SourceError:
            continue
        if not (is_tensor(owner) or is_variable(owner) or isinstance(owner, np.ndarray)):
            return None
        part = ArrayPart(name, ast.unparse(tree), tuple(indices))
        shape = tuple(owner.shape)
        try:
            part.of(np.broadcast_to(0, shape))
        except (IndexError, TypeError, ValueError):
            raise SourceError(f"{part.whole} is of shape {shape}, and has no {name}.") from None
        return part
    return None
