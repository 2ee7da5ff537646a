"""`Snapshot`: the state of everything that a program can reach, at one moment, to be restored."""

from __future__ import annotations

import functools
import operator
import random
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.program.program import DYNAMIC, Namespace, Program
from tape_magic.engine.program.walk import Visitor, Walk, Write
from tape_magic.engine.values.introspection import elements_of, is_a, members_of, pairs_of
from tape_magic.engine.values.ownership import is_own
from tape_magic.engine.values.tensors import is_layer, is_loss, is_variable, tf_variable

_NOTHING = object()


@dataclass(frozen=True, eq=False)
class Slot:
    """A place where a tensor, a variable, an array, or a tuple that may hold one stands."""

    value: Any
    write: Callable[[Any], None]


class Snapshot(Visitor):
    """The state of everything that a program leads to.

    Parameters
    ----------
    program, namespace
        The program, and the names that it runs on. A snapshot keeps the names that the program may bind, and
        follows the names that it reads.
    names, values
        Further names and objects to follow.

    Attributes
    ----------
    slots
        The places of tensors, variables and arrays.
    values
        Variables and arrays with their values, by identity.
    layers
        Keras layers, models and losses.
    iterators
        Iterators of libraries, which cannot be put back.
    """

    def __init__(
        self, program: Program, namespace: Namespace, names: Iterable[str], values: Iterable[Any] = ()
    ) -> None:
        self.slots: list[Slot] = []
        self.values: dict[int, tuple[Any, Any]] = {}
        self.layers: list[Any] = []
        self.iterators: list[Any] = []
        self._namespace, self._home = namespace, program.home(namespace)
        self._own = program.names
        self._names = {*self._own.reads, *self._own.assigns, *names}
        self._globals: set[str] = set()
        self._restore_names = _restorer_of_names(namespace, self._may_bind)
        self._restorers: dict[Hashable, Callable[[], None]] = {}
        Walk(self, program, namespace, names, values).run()

    @property
    def size(self) -> int:
        """Bytes of the values that the snapshot keeps."""
        return sum(int(np.prod(value.shape)) * _item_size(value) for _, value in self.values.values())

    def names_changed_in(self, later: Snapshot) -> list[str]:
        """Return the names of the variables that have other values in a later snapshot."""
        after = {key: value for key, (_, value) in later.values.items()}
        return [
            str(one.name)
            for key, (one, value) in self.values.items()
            if is_variable(one) and key in after and not np.array_equal(value, after[key])
        ]

    def restore(self, beside: Snapshot | None = None) -> None:
        """Put everything back, and what only `beside` knows as it was in that snapshot."""
        also = {} if beside is None else beside._restorers
        failure: BaseException | None = None
        for restore in (self._restore_names, *{**also, **self._restorers}.values()):
            try:
                restore()
            except BaseException as error:  # the rest is restored all the same
                failure = failure or error
        if failure is not None:
            raise failure

    def _may_bind(self, name: str) -> bool:
        """Return whether the program may bind a name; another thread binds the others."""
        if self._own.may_bind_any or not self._globals.isdisjoint(DYNAMIC):
            return True
        return name in self._names or name in self._globals

    def visit_variable(self, variable: Any) -> None:
        """Keep the value of a variable."""
        import tensorflow as tf

        held = tf_variable(variable)
        if is_a(held, tf.Variable):  # Keras gives something else while it casts
            value = tf.identity(held)
            self.values[id(variable)] = variable, value
            self._restorers[id(held)] = lambda: held.assign(value)

    def visit_array(self, array: np.ndarray[Any, Any]) -> None:
        """Keep the elements of an array that can be written."""
        if array.flags.writeable:
            value = array.copy()
            self.values[id(array)] = array, value
            self._restorers[id(array)] = lambda: array.__setitem__(..., value)

    def visit_container(self, container: Any) -> None:
        """Keep the items of a container, and their order."""
        if is_a(container, dict):
            restore = functools.partial(_restore_mapping, container, _copied(container))
        else:
            restore = functools.partial(_restore_items, container, _items(container))
        self._restorers[id(container)] = restore

    def visit_class(self, kind: type) -> None:
        """Keep the attributes of a class."""
        items = {name: value for name, value in members_of(kind).items() if not name.startswith("__")}

        def restore() -> None:
            for name, value in items.items():
                if members_of(kind).get(name) is not value:
                    setattr(kind, name, value)

        self._restorers[id(kind)] = restore

    def visit_fields(self, owner: Any, fields: list[tuple[Any, Any]], write: Write) -> None:
        """Keep the content of a cell or of slots."""
        # A generator of the user's may have slots beside its state.
        self._restorers[id(owner), "fields"] = functools.partial(_restore_fields, owner, fields, write)

    def visit_global(self, name: str) -> None:
        """Keep a global, or its absence."""
        self._globals.add(name)
        if self._home is not self._namespace:
            self._restorers[name] = _restorer_of_global(self._home, name)

    def visit_object(self, value: Any) -> None:
        """Keep the state of a random generator; take note of layers and iterators."""
        restore = _restorer_of_generator(value)
        if restore is not None:
            self._restorers[id(value)] = restore
        elif is_layer(value) or is_loss(value):
            self.layers.append(value)
        elif not is_own(value, self._home) and is_a(value, Iterator):
            self.iterators.append(value)

    def visit_place(self, owner: Any, key: Any, value: Any, write: Write) -> None:
        """Take note of a place that another value may take."""
        self.slots.append(Slot(value, functools.partial(write, owner, key)))


def _copied(mapping: Any) -> dict[Any, Any]:
    """Return the items of a dict in their order, past its own methods.

    ``dict.copy`` asks no key for its hash, but calls the methods of a subclass that defines ``__iter__``.
    """
    plain = type(mapping).__iter__ is dict.__iter__
    return dict.copy(mapping) if plain else dict(pairs_of(mapping))


def _restore_mapping(mapping: Any, kept: dict[Any, Any]) -> None:
    now = mapping if type(mapping) is dict else _copied(mapping)
    if not (_same(now, kept) and _same(now.values(), kept.values())):
        mapping.clear()
        mapping.update(kept)


def _restore_items(container: Any, kept: Collection[Any]) -> None:
    if not _same(_items(container), kept):
        container.clear()
        container.update(kept) if is_a(container, set) else container.extend(kept)


def _restore_fields(owner: Any, fields: list[tuple[Any, Any]], write: Write) -> None:
    for key, value in fields:
        write(owner, key, value)


def _items(container: Any) -> Collection[Any]:
    return bytes(container) if is_a(container, bytearray) else list(elements_of(container))


def _same(some: Collection[Any], others: Collection[Any]) -> bool:
    """Return whether two collections hold the same objects in the same order; equal ones are not enough."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _restorer_of_global(home: MutableMapping[str, Any], name: str) -> Callable[[], None]:
    if name in home:
        return functools.partial(home.__setitem__, name, home[name])
    return functools.partial(home.pop, name, None)


def _restorer_of_names(
    namespace: MutableMapping[str, Any], may_bind: Callable[[str], bool]
) -> Callable[[], None]:
    """Return a function that puts the names that may be bound back as they are now, in their order."""
    items = dict(namespace)

    def restore() -> None:
        # Only what differs: front ends and threads read the namespace too.
        for name in list(namespace):
            if name not in items and may_bind(name):
                namespace.pop(name, None)
        for name, value in items.items():
            if namespace.get(name, _NOTHING) is not value and may_bind(name):
                namespace[name] = value
        there = list(namespace)
        if [name for name in there if name in items] != [name for name in items if name in there]:
            for name in [name for name in items if name in namespace]:
                namespace[name] = namespace.pop(name)

    return restore


def _restorer_of_generator(value: Any) -> Callable[[], None] | None:
    """Return a function that puts a generator of random numbers back, ``None`` for any other object."""
    if is_a(value, random.Random):
        return functools.partial(value.setstate, value.getstate())
    if is_a(value, np.random.RandomState):
        return functools.partial(value.set_state, value.get_state())
    if is_a(value, np.random.Generator | np.random.BitGenerator):
        bits = value.bit_generator if is_a(value, np.random.Generator) else value
        return functools.partial(setattr, bits, "state", bits.state)
    return None


def _item_size(value: Any) -> int:
    return int(value.itemsize if is_a(value, np.ndarray) else max(value.dtype.size, 1))
