"""Symbolic tensors in Python objects, and the values that take their places.

Python may keep tensors while a program is traced: in a list, in an object's attribute, in a function's
closure. Nobody can read such a symbolic tensor once the trace is over.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import types
from collections import deque
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import numpy as np

from tape_magic.engine.internals.keras_layers import inner_layers
from tape_magic.engine.values.functions import filled_cells, mentioned_names, unwrapped
from tape_magic.engine.values.introspection import attributes_of, elements_of, is_a, members_of, pairs_of
from tape_magic.engine.values.leaves import rebuilt
from tape_magic.engine.values.ownership import is_own, own_slots
from tape_magic.engine.values.tensors import is_layer, is_tensor, is_variable

Swap = Callable[[Any], Any]

_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None)})


_LEADING: tuple[type, ...] = (
    list,
    dict,
    deque,
    functools.partial,
    types.MethodType,
    types.SimpleNamespace,
)
"""What holds other objects, besides tuples, the user's own objects, and functions."""


def is_symbolic(value: Any) -> bool:
    """Return whether a value is a tensor of a graph, which has to be computed to be read."""
    import tensorflow as tf

    composite = tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices
    return is_a(value, composite) or (is_a(value, tf.Tensor) and tf.is_symbolic_tensor(value))


def graph_of(value: Any) -> Any:
    """Return the graph that a tensor belongs to; ``None`` for one that has its value."""
    import tensorflow as tf

    part = parts_of(value)[0]
    return part.graph if tf.is_symbolic_tensor(part) else None


def parts_of(value: Any) -> list[Any]:
    """Return the dense tensors that a tensor is, or that a ragged or sparse one is made of."""
    import tensorflow as tf

    return list(tf.nest.flatten(value, expand_composites=True))


class ContainerCopies:
    """Copies lists and dicts, for values that are about to be changed in place.

    Attributes
    ----------
    all_of_it
        Whether a :class:`SymbolReplacer` can change nothing but what is copied. It can change more where the
        values lead to an object, a closure, or a list or dict of another class.
    """

    def __init__(self, home: MutableMapping[str, Any]) -> None:
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
            return bool(value.__closure__ or value.__defaults__) or is_own(value, self._home)
        return is_a(value, _LEADING) or is_own(value, self._home)


GONE = object()
"""What a swap returns for a tensor that has no value: nothing takes its place."""


class SymbolReplacer:
    """Puts `swap(tensor)` in the place of each symbolic tensor that values lead to.

    Containers, attributes, closures and the globals that functions mention are changed in place where they
    hold such a tensor; tuples are made anew. Where the swap gives :data:`GONE`, an item of a list is taken
    out, and ``None`` stands in any other place. A library's objects would lead through all of TensorFlow, so
    that only the attributes of those are looked at that the values themselves are.

    Parameters
    ----------
    swap
        A symbolic tensor → what takes its place.
    home
        The notebook's names: what its functions and classes lead to is looked into.

    Attributes
    ----------
    wrote
        Whether anything was changed in place.
    """

    def __init__(self, swap: Swap, home: MutableMapping[str, Any]) -> None:
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

    def swap_within(self, values: Iterable[Any]) -> None:
        """Put tensors in place within some values, and in the attributes of those that are a library's."""
        for value in values:
            self.swapped(value)
            if not (is_tensor(value) or is_variable(value) or is_a(value, type)):
                self._attributes(value)

    def _inside(self, value: Any) -> Any:
        if is_a(value, tuple):
            before = list(elements_of(value))
            items = [self.swapped(item) for item in before]
            if all(new is old for new, old in zip(items, before, strict=True)):
                return value
            return rebuilt(value, [None if item is GONE else item for item in items])
        if is_a(value, list | deque):
            self._each(enumerate(list(elements_of(value))), functools.partial(operator.setitem, value))
            while any(item is GONE for item in elements_of(value)):
                del value[next(index for index, item in enumerate(elements_of(value)) if item is GONE)]
        elif is_a(value, dict):
            if value is not self._home:
                self._each(list(pairs_of(value)), self._writer(functools.partial(operator.setitem, value)))
        elif is_a(value, functools.partial):
            return self._partial(value)
        elif is_a(value, types.MethodType):
            self.swapped(value.__self__)
            self.swapped(value.__func__)
        elif is_a(value, types.FunctionType):
            self._function(value)
        elif is_a(value, np.ndarray):
            if value.dtype.hasobject:
                pairs = list(np.ndenumerate(value))
                self._each(pairs, self._writer(functools.partial(operator.setitem, value)))
        elif is_own(value, self._home):
            if is_a(value, type):
                self._class(value)
            else:
                self._attributes(value)
                for slot in own_slots(type(value), self._home):
                    with contextlib.suppress(AttributeError):  # the slot is empty
                        held = [(slot, slot.__get__(value))]
                        self._each(held, self._writer(lambda slot, new: slot.__set__(value, new)))
                self.swapped(type(value))
        elif is_a(value, types.SimpleNamespace):
            self._attributes(value)
        elif is_layer(value):
            for part in inner_layers(value) or ():
                self.swapped(part)
        elif (function := unwrapped(value)) is not value:
            self.swapped(function)
        return value

    @staticmethod
    def _writer(write: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        return lambda key, new: write(key, None if new is GONE else new)

    def _each(self, items: Any, write: Callable[[Any, Any], None]) -> None:
        for key, item in items:
            new = self.swapped(item)
            if new is not item:
                write(key, new)
                self.wrote = True

    def _attributes(self, value: Any) -> None:
        # Not by setattr, which a frozen dataclass refuses and a tf.Module wraps.
        held = attributes_of(value)
        if is_own(value, self._home) or is_a(value, types.SimpleNamespace):
            self._each(list(held.items()), self._writer(held.__setitem__))
            return
        for name, item in list(held.items()):
            if type(item) not in _PLAIN and is_symbolic(item):
                self._each([(name, item)], self._writer(held.__setitem__))

    def _class(self, kind: type) -> None:
        members = [item for item in members_of(kind).items() if not item[0].startswith("__")]
        self._each(members, self._writer(lambda name, new: type.__setattr__(kind, name, new)))

    def _partial(self, value: functools.partial[Any]) -> Any:
        parts = value.func, value.args, value.keywords
        new = tuple(self.swapped(part) for part in parts)
        if all(part is old for part, old in zip(new, parts, strict=True)):
            return value
        return functools.partial(new[0], *new[1], **new[2])

    def _function(self, function: types.FunctionType) -> None:
        for cell, held in filled_cells(function):
            self._each([(cell, held)], self._writer(lambda cell, new: setattr(cell, "cell_contents", new)))
        defaults = self.swapped(function.__defaults__)
        if defaults is not function.__defaults__:
            function.__defaults__ = defaults
            self.wrote = True
        if is_own(function, self._home):
            self._attributes(function)
            for name in mentioned_names(function.__code__):
                if name in self._home and not is_symbolic(self._home[name]):
                    self.swapped(self._home[name])
