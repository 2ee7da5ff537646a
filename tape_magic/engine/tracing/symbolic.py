"""Symbolic tensors in Python objects, and the values that take their places.

Python may keep tensors while a program is traced: in a list, in an object's attribute, in a function's
closure. Nobody can read such a symbolic tensor once the trace is over.
"""

from __future__ import annotations

import functools
import operator
import types
from collections.abc import Callable
from typing import Any

from tape_magic.engine.values.introspection import attributes_of, elements_of, is_a, pairs_of
from tape_magic.engine.values.leaves import rebuilt

Swap = Callable[[Any], Any]

_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})


def is_symbolic(value: Any) -> bool:
    """Return whether a value is a tensor of a graph, which has to be computed to be read."""
    import tensorflow as tf

    composite = tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices
    return is_a(value, composite) or (is_a(value, tf.Tensor) and tf.is_symbolic_tensor(value))


def graph_of(value: Any) -> Any:
    """Return the graph that a tensor belongs to; ``None`` for one that has its value."""
    import tensorflow as tf

    part = tf.nest.flatten(value, expand_composites=True)[0]
    return part.graph if tf.is_symbolic_tensor(part) else None


class ContainerCopies:
    """Copies lists and dicts, for values that are about to be changed in place.

    Attributes
    ----------
    all_of_it
        Whether a :class:`SymbolReplacer` can change nothing but what is copied. It can change more where the
        values lead to an object, a closure, or a list or dict of another class.
    """

    def __init__(self, home: str) -> None:
        self._home = home
        self.all_of_it = True
        self._seen: dict[int, Any] = {}

    def copied(self, value: Any) -> Any:
        """Return a copy of all lists, dicts and tuples within; two references to one list stay so."""
        kind = type(value)
        if kind in _PLAIN or is_symbolic(value):
            return value
        if is_a(value, tuple):
            items = list(elements_of(value))
            copies = [self.copied(item) for item in items]
            same = all(copy is item for copy, item in zip(copies, items, strict=True))
            return value if same else rebuilt(value, copies)
        if kind is not list and kind is not dict:
            self.all_of_it = self.all_of_it and not self._leads_on(value)
            return value
        if id(value) not in self._seen:
            copy: Any = kind()
            self._seen[id(value)] = copy  # before its items, among which it may be itself
            if kind is list:
                copy.extend(self.copied(item) for item in value)
            else:
                copy.update((key, self.copied(item)) for key, item in value.items())
        return self._seen[id(value)]

    def _leads_on(self, value: Any) -> bool:
        if is_a(value, types.FunctionType):
            return bool(value.__closure__ or value.__defaults__)
        return is_a(value, list | dict | functools.partial) or type(value).__module__ == self._home


class SymbolReplacer:
    """Puts `swap(tensor)` in the place of each symbolic tensor that values lead to.

    Lists, dicts, attributes and closures are changed in place where they hold such a tensor; tuples are made
    anew. Attributes are looked into only for objects of the notebook's own classes, since a library's objects
    would lead through all of TensorFlow.

    Attributes
    ----------
    wrote
        Whether anything was changed in place.
    """

    def __init__(self, swap: Swap, home: str) -> None:
        self._swap = swap
        self._home = home
        self.wrote = False
        self._seen: dict[int, Any] = {}

    def swapped(self, value: Any) -> Any:
        """Return the value, or a tuple or tensor in its place."""
        if type(value) in _PLAIN:
            return value
        if is_symbolic(value):
            return self._swap(value)
        if id(value) not in self._seen:
            self._seen[id(value)] = value  # held, so that the id stays its own
            self._seen[id(value)] = self._inside(value)
        return self._seen[id(value)]

    def _inside(self, value: Any) -> Any:
        if is_a(value, tuple):
            before = list(elements_of(value))
            items = [self.swapped(item) for item in before]
            same = all(new is old for new, old in zip(items, before, strict=True))
            return value if same else rebuilt(value, items)
        if is_a(value, list):
            self._each(enumerate(list(elements_of(value))), functools.partial(operator.setitem, value))
        elif is_a(value, dict):
            self._each(list(pairs_of(value)), functools.partial(operator.setitem, value))
        elif is_a(value, functools.partial):
            return self._partial(value)
        elif is_a(value, types.FunctionType):
            self._function(value)
        elif type(value).__module__ == self._home:
            # Not by setattr, which a frozen dataclass refuses and a tf.Module wraps.
            held = attributes_of(value)
            self._each(list(held.items()), held.__setitem__)
        return value

    def _each(self, items: Any, write: Callable[[Any, Any], None]) -> None:
        for key, item in items:
            new = self.swapped(item)
            if new is not item:
                write(key, new)
                self.wrote = True

    def _partial(self, value: functools.partial[Any]) -> Any:
        parts = value.func, value.args, value.keywords
        new = tuple(self.swapped(part) for part in parts)
        if all(part is old for part, old in zip(new, parts, strict=True)):
            return value
        return functools.partial(new[0], *new[1], **new[2])

    def _function(self, function: types.FunctionType) -> None:
        for cell in function.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:  # a name that was never assigned
                continue
            new = self.swapped(held)
            if new is not held:
                cell.cell_contents = new
                self.wrote = True
        defaults = self.swapped(function.__defaults__)
        if defaults is not function.__defaults__:
            function.__defaults__ = defaults
            self.wrote = True
