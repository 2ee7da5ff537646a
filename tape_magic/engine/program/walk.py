"""`Walk`: one traversal of everything that a program can reach, and the visitors that it calls.

A program reaches the names that it reads or assigns, and from there the items of containers, the attributes
of the user's objects and classes, the closures and globals of the user's functions, and the variables of
models and optimizers. A walk does not look into a library's objects, and runs no code of the user's.
"""

from __future__ import annotations

import functools
import operator
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.values.functions import filled_cells, mentioned_names, unwrapped
from tape_magic.engine.values.introspection import (
    attributes_of,
    bases_of,
    elements_of,
    has_attributes,
    is_a,
    is_proxy,
    members_of,
    pairs_of,
)
from tape_magic.engine.values.objects import is_namespace
from tape_magic.engine.values.ownership import is_own, own_slots
from tape_magic.engine.values.tensors import is_module, is_tensor, is_variable

PLAIN, OBJECT, CONTAINER, FROZENSET, TUPLE, ARRAY, TENSOR, VARIABLE = range(8)

_KINDS = (
    (PLAIN, (bool, int, float, complex, str, bytes, type(None), np.generic, types.ModuleType)),
    (CONTAINER, (dict, list, set, deque, bytearray)),
    (FROZENSET, (frozenset,)),
    (TUPLE, (tuple,)),
    (ARRAY, (np.ndarray,)),
)

_BUILT_IN = frozenset(map(id, (dict, OrderedDict, defaultdict, list, set, deque, bytearray)))

_PARTS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (types.MethodType, ("__self__", "__func__")),
    (types.BuiltinMethodType, ("__self__",)),
    (functools.partial, ("func", "args", "keywords")),
    (functools.cached_property, ("func",)),
    (property, ("fget", "fset", "fdel")),
    (classmethod, ("__func__",)),
    (staticmethod, ("__func__",)),
)
"""Objects that stand for others, with the attributes that hold these."""

Write = Callable[[Any, Any, Any], None]
"""Puts a value at a key of an owner, as ``operator.setitem`` and ``setattr`` do."""


class Visitor:
    """The methods that a walk calls; a subclass overrides those that it needs, the others do nothing."""

    def visit_variable(self, variable: Any) -> None:
        """Take a ``tf.Variable`` or a Keras variable."""

    def visit_array(self, array: np.ndarray[Any, Any]) -> None:
        """Take a NumPy array."""

    def visit_container(self, container: Any) -> None:
        """Take a list, dict, set, deque or bytearray, or the attributes of a user's object as a dict."""

    def visit_class(self, kind: type) -> None:
        """Take a class of the user's."""

    def visit_fields(self, owner: Any, fields: list[tuple[Any, Any]], write: Write) -> None:
        """Take a closure's cell or an object with slots, and the content of each; `write` puts one back."""

    def visit_global(self, name: str) -> None:
        """Take a global name that a user's function mentions, defined or not."""

    def visit_object(self, value: Any) -> None:
        """Take any other object."""

    def visit_place(self, owner: Any, key: Any, value: Any, write: Write) -> None:
        """Take one place of a tensor, variable, array or tuple; ``write(owner, key, other)`` replaces it."""


class Walk:
    """A traversal that calls a visitor for everything a program leads to, each object once.

    Parameters
    ----------
    visitor
        The visitor to call.
    program, namespace
        Where the walk begins: the names that the program reads or assigns, all names where its text does not
        show them, and the function itself.
    names, values
        Further names and objects to begin from.
    """

    def __init__(
        self,
        visitor: Visitor,
        program: Program,
        namespace: Namespace,
        names: Iterable[str] = (),
        values: Iterable[Any] = (),
    ) -> None:
        self._visitor, self._namespace, self._home = visitor, namespace, program.home(namespace)
        self._known: dict[int, Any] = {}
        self._mentioned: set[str] = set()
        # By the identity of types: a metaclass may refuse to be hashed.
        self._types: list[type] = []
        self._categories: dict[int, int] = {}
        self._plain: set[int] = set()
        self._slots: dict[int, list[types.MemberDescriptorType]] = {}
        self._queue = [*program.roots(), *values]
        own = program.names
        first = list(namespace) if own.opaque else dict.fromkeys([*own.reads, *own.assigns, *names])
        self._follow(namespace, [(name, namespace[name]) for name in first if name in namespace])

    def run(self) -> None:
        """Visit everything, in no particular order."""
        while self._queue:
            self._visit(self._queue.pop())

    def _visit(self, value: Any) -> None:
        category = self._category(value)
        if category == PLAIN or id(value) in self._known:
            return
        self._known[id(value)] = value  # held, so that no other object gets its identity
        if category == CONTAINER:
            self._container(value)
        elif category in (TUPLE, FROZENSET):
            self._queue_all(elements_of(value))
        elif category == ARRAY:
            self._queue_all(value.flat if value.dtype.hasobject else ())
            self._visitor.visit_array(value)
        elif category == VARIABLE:
            self._visitor.visit_variable(value)
        elif category == OBJECT:
            self._object(value)

    def _category(self, value: Any) -> int:
        """Return the category of a value, looked up by its type: there may be a million of one type."""
        kind = type(value)
        if (known := self._categories.get(id(kind))) is not None:
            return known
        category = next((category for category, kinds in _KINDS if is_a(value, kinds)), OBJECT)
        if category == OBJECT:
            category = VARIABLE if is_variable(value) else TENSOR if is_tensor(value) else OBJECT
        if not is_proxy(value) or value.__class__ is kind:
            self._types.append(kind)  # held, so that no other type gets its identity
            self._categories[id(kind)] = category
            if category == PLAIN:
                self._plain.add(id(kind))
        return category

    def _queue_all(self, items: Iterable[Any]) -> None:
        plain = self._plain  # a list of a million numbers would take seconds
        self._queue += [
            item for item in items if id(type(item)) not in plain and self._category(item) != PLAIN
        ]

    def _follow(self, owner: Any, items: Iterable[tuple[Any, Any]], write: Write = operator.setitem) -> None:
        """Queue the items of an owner, and call the visitor for the places among them."""
        plain = self._plain
        for key, item in items:
            if id(type(item)) not in plain and (category := self._category(item)) != PLAIN:
                self._queue.append(item)
                if category >= TUPLE:
                    self._visitor.visit_place(owner, key, item, write)

    def _container(self, value: Any) -> None:
        if value is self._namespace or value is self._home:
            return
        own = id(type(value)) in _BUILT_IN or is_own(value, self._home)
        if own:
            self._visitor.visit_container(value)
        if is_a(value, bytearray):
            return
        pairs = list(pairs_of(value)) if is_a(value, dict) else enumerate(list(elements_of(value)))
        if own and not is_a(value, set):
            self._follow(value, pairs)
        else:  # a library's container keeps accounts of its items, and a set has no places
            self._queue_all(item for _, item in pairs)

    def _object(self, value: Any) -> None:
        function = unwrapped(value)
        if function is not value:
            self._queue.append(function)
            return
        self._queue.append(attributes_of(value).get("__wrapped__"))
        parts = next((names for kind, names in _PARTS if issubclass(type(value), kind)), None)
        if parts is not None:
            self._queue += [object.__getattribute__(value, name) for name in parts]
        elif is_a(value, types.FunctionType):
            self._function(value)
        elif is_a(value, type):
            self._class(value)
        else:
            self._instance(value)

    def _function(self, function: types.FunctionType) -> None:
        if not is_own(function, self._home):
            return
        self._queue += [function.__defaults__, function.__kwdefaults__]
        self._visit(vars(function))
        for cell, held in filled_cells(function):
            if id(cell) not in self._known:
                self._known[id(cell)] = cell
                self._fields(cell, [("cell_contents", held)], setattr)
        for name in mentioned_names(function.__code__):
            if name not in self._mentioned and not name.startswith("__"):
                self._mentioned.add(name)
                self._visitor.visit_global(name)
                if name in self._home:
                    self._follow(self._home, [(name, self._home[name])])

    def _class(self, kind: type) -> None:
        if not is_own(kind, self._home):
            return
        self._visitor.visit_class(kind)
        members = members_of(kind)
        self._queue += [*bases_of(kind), *members.values()]
        self._follow(kind, [item for item in members.items() if not item[0].startswith("__")], setattr)

    def _instance(self, value: Any) -> None:
        self._visitor.visit_object(value)
        self._queue += _variables_of(value)
        if is_own(value, self._home) or is_namespace(value):
            self._queue.append(type(value))
            if not _is_unbuilt(value):
                if has_attributes(type(value)):
                    self._visit(attributes_of(value))
                self._visit_slots(value)

    def _visit_slots(self, value: Any) -> None:
        kind = type(value)
        if id(kind) not in self._slots:
            self._slots[id(kind)] = own_slots(kind, self._home)
        fields = []
        for slot in self._slots[id(kind)]:
            with suppress(AttributeError):  # the slot is empty
                fields.append((slot, slot.__get__(value)))
        if fields:
            self._fields(value, fields, _fill_slot)

    def _fields(self, owner: Any, fields: list[tuple[Any, Any]], write: Write) -> None:
        self._visitor.visit_fields(owner, fields, write)
        self._follow(owner, fields, write)


def _fill_slot(owner: Any, slot: types.MemberDescriptorType, value: Any) -> None:
    slot.__set__(owner, value)


def _variables_of(value: Any) -> list[Any]:
    """Return all variables that a model, an optimizer, a metric or a generator keeps.

    Of what ``tf.saved_model.load`` gives, and of other such objects of TensorFlow's, these are the attributes
    that may lead to variables.
    """
    import keras
    import tensorflow as tf

    if is_a(value, tf.random.Generator | keras.random.SeedGenerator):
        return [value.state]
    if is_module(value) or is_a(value, keras.Metric | keras.Optimizer):
        optimizer = getattr(value, "optimizer", None)
        return [*value.variables, *([optimizer] if is_a(optimizer, keras.Optimizer) else [])]
    if is_a(value, tf.__internal__.tracking.AutoTrackable):
        kinds = (list, tuple, dict, tf.Variable, tf.__internal__.tracking.AutoTrackable)
        return [held for held in attributes_of(value).values() if is_a(held, kinds)]
    return []


def _is_unbuilt(value: Any) -> bool:
    """Return whether a layer has yet to make what it keeps, as it does when it is first called.

    What the program builds stays built: to build it again would give it twice as many variables.
    """
    import keras

    makes = is_a(value, keras.Layer | keras.Metric | keras.Optimizer)
    return makes and attributes_of(value).get("built") is False
