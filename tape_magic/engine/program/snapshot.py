"""What a program can reach and change, and the state of it at one moment, to be put back.

Reached is what the program names, what containers among that hold, what the user's functions and
classes name in turn, and the variables of models. Libraries' own objects are not looked into.
"""

from __future__ import annotations

import functools
import inspect
import operator
import random
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.program.program import DYNAMIC, Program
from tape_magic.engine.values.functions import unwrapped
from tape_magic.engine.values.introspection import attributes_of, elements_of, is_a, pairs_of
from tape_magic.engine.values.tensors import is_layer, is_module, is_tensor, is_variable, tf_variable

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, types.ModuleType)

_NOTHING = object()

Write = Callable[[Any], None]


@dataclass(frozen=True, eq=False)
class Slot:
    """Where a tensor, variable, array, or a tuple that may hold one stands."""

    value: Any
    write: Write


class Snapshot:
    """The state of all that a program leads to.

    Parameters
    ----------
    program, namespace
        What runs, and on what. The names that it may bind are kept, and only those that it reads are
        followed.
    names
        More names to follow.

    Attributes
    ----------
    slots
        The places of tensors, variables and arrays.
    values
        Variables and arrays with their values, by identity.
    layers
        Keras layers and models.
    iterators
        What gives something else each time, and cannot be put back.
    """

    def __init__(self, program: Program, namespace: MutableMapping[str, Any], names: Iterable[str]) -> None:
        self.slots: list[Slot] = []
        self.values: dict[int, tuple[Any, Any]] = {}
        self.layers: list[Any] = []
        self.iterators: list[Any] = []
        self._namespace, self._home = namespace, program.home(namespace)
        self._module = str(self._home.get("__name__", "__main__"))
        self._known: dict[int, Any] = {}
        self._globals: set[str] = set()
        self._names = _names(namespace, self._may_bind)
        self._back: dict[int, Callable[[], None]] = {}
        self._queue = list(program.roots())
        self._own = own = program.names
        self._own_names = {*own.reads, *own.assigns, *names}
        for name in namespace if own.opaque else dict.fromkeys([*own.reads, *own.assigns, *names]):
            if name in namespace:
                self._slot(namespace[name], functools.partial(namespace.__setitem__, name))
        while self._queue:
            self._visit(self._queue.pop())

    @property
    def size(self) -> int:
        """What it keeps, in bytes."""
        return sum(int(np.prod(value.shape)) * _item_size(value) for _, value in self.values.values())

    def restore(self, beside: Snapshot | None = None) -> None:
        """Put everything back, and what only another snapshot knows as it was in that one."""
        also = {} if beside is None else {k: b for k, b in beside._back.items() if k not in self._back}
        with ExitStack() as stack:  # goes on where one of them fails, and raises in the end
            for put_back in (*self._back.values(), *also.values(), self._names):
                stack.callback(put_back)

    def _may_bind(self, name: str) -> bool:
        """Whether the program may bind a name; all others are another thread's affair."""
        if self._own.may_bind_any or not self._globals.isdisjoint(DYNAMIC):
            return True
        return name in self._own_names or name in self._globals

    # -- the walk ----------------------------------------------------------------------------------

    def _visit(self, value: Any) -> None:
        if is_a(value, _PLAIN) or id(value) in self._known:
            return
        self._known[id(value)] = value  # held, so that the identity stays its own
        if is_variable(value):
            self._variable(value)
        elif is_a(value, np.ndarray):
            self._array(value)
        elif is_a(value, tuple | frozenset):
            self._queue += elements_of(value)
        elif is_a(value, dict | list | set | deque | bytearray):
            self._container(value)
        elif not is_tensor(value):
            self._object(value)

    def _container(self, value: Any) -> None:
        kind = type(value)
        plain = kind in (dict, OrderedDict, defaultdict, list, set, deque, bytearray)
        if not (plain or kind.__module__ == self._module):  # a library's own keeps accounts of its items
            self._queue += _items(value)
        elif is_a(value, dict):
            self._mapping(value)
        elif is_a(value, set):
            self._keep(value, set(elements_of(value)))
            self._queue += elements_of(value)
        else:
            self._keep(value, _items(value))
            for index, item in enumerate(_items(value)):
                if not is_a(item, _PLAIN):  # a list of a million numbers would take seconds
                    self._slot(item, functools.partial(operator.setitem, value, index))

    def _keep(self, value: Any, items: Any) -> None:
        """Put the items of a container back where they are others, or stand elsewhere."""

        def put_back() -> None:
            same = set(_items(value)) == items if is_a(value, set) else _same(_items(value), items)
            if not same:
                value.clear()
                value.update(items) if is_a(value, set) else value.extend(items)

        self._back[id(value)] = put_back

    def _mapping(self, mapping: dict[Any, Any]) -> None:
        if mapping is self._namespace or mapping is self._home:
            return
        items = list(pairs_of(mapping))

        def put_back() -> None:
            now = list(pairs_of(mapping))
            if not _same([part for item in now for part in item], [part for item in items for part in item]):
                mapping.clear()
                mapping.update(items)

        self._back[id(mapping)] = put_back
        self._known[id(mapping)] = mapping
        for key, item in items:
            self._slot(item, functools.partial(operator.setitem, mapping, key))

    def _object(self, value: Any) -> None:
        function = unwrapped(value)
        self._queue.append(inspect.getattr_static(function, "__wrapped__", None))
        if is_a(function, functools.partial):
            self._queue += [function.func, function.args, function.keywords]
        elif is_a(function, types.MethodType):
            self._queue += [function.__self__, function.__func__]
        elif is_a(function, types.FunctionType):
            self._function(function)
        elif is_a(function, type):
            self._class(function)
        elif (put_back := _generator(function)) is not None:
            self._back[id(function)] = put_back
        else:
            self._queue += _variables_of(function)
            self.layers += [function] if is_layer(function) else []
            if type(function).__module__ == self._module:
                self._queue.append(type(function))
                # A layer that the program builds keeps what it has made: to build it again would double it.
                if _is_built(function):
                    self._mapping(attributes_of(function))
            elif is_a(function, Iterator):
                self.iterators.append(function)

    def _variable(self, variable: Any) -> None:
        import tensorflow as tf

        held = tf_variable(variable)
        if is_a(held, tf.Variable):  # Keras gives something else while it casts
            value = tf.identity(held)
            self.values[id(variable)] = variable, value
            self._back[id(held)] = lambda: held.assign(value)

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        if array.dtype.hasobject:
            self._queue += list(array.flat)
        if array.flags.writeable:
            value = array.copy()
            self.values[id(array)] = array, value
            self._back[id(array)] = lambda: array.__setitem__(..., value)

    def _function(self, function: types.FunctionType) -> None:
        if function.__globals__ is not self._home:
            return
        self._queue += [function.__defaults__, function.__kwdefaults__]
        self._mapping(vars(function))
        for cell in function.__closure__ or ():
            self._cell(cell)
        codes = [function.__code__]
        while codes:
            code = codes.pop()
            codes += [constant for constant in code.co_consts if is_a(constant, types.CodeType)]
            for name in code.co_names:
                self._global(name)

    def _cell(self, cell: types.CellType) -> None:
        try:
            held = cell.cell_contents
        except ValueError:  # a name that the enclosing function has not assigned yet
            return
        write = functools.partial(setattr, cell, "cell_contents")
        self._back[id(cell)] = functools.partial(write, held)
        self._known[id(cell)] = cell
        self._slot(held, write)

    def _global(self, name: str) -> None:
        """A name of the user's module that a function mentions: what it holds, or that there is none."""
        home = self._home
        if name in self._globals or name.startswith("__"):
            return
        self._globals.add(name)
        if home is not self._namespace:
            put_back = _name(home, name)
            self._back[id(put_back)] = put_back
        if name in home:
            self._slot(home[name], functools.partial(home.__setitem__, name))

    def _class(self, kind: type) -> None:
        """A class of the user's, whose attributes may change, and whose methods name things."""
        if kind.__module__ != self._module:
            return
        items = {name: value for name, value in vars(kind).items() if not name.startswith("__")}
        self._queue += [*kind.__bases__, *vars(kind).values()]

        def put_back() -> None:
            for name, value in items.items():
                if vars(kind).get(name) is not value:
                    setattr(kind, name, value)

        self._back[id(kind)] = put_back
        for name, value in items.items():
            self._slot(value, functools.partial(setattr, kind, name))

    def _slot(self, value: Any, write: Write) -> None:
        if is_a(value, tuple | np.ndarray) or is_tensor(value) or is_variable(value):
            self.slots.append(Slot(value, write))
        self._queue.append(value)


def _items(value: Any) -> list[Any]:
    """What a container keeps; of a dict without the keys."""
    if is_a(value, dict):
        return [item for _, item in pairs_of(value)]
    return list(value if is_a(value, bytearray) else elements_of(value))


def _same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


def _name(home: MutableMapping[str, Any], name: str) -> Callable[[], None]:
    there, held = name in home, home.get(name)

    def put_back() -> None:
        if there:
            home[name] = held
        else:
            home.pop(name, None)

    return put_back


def _names(namespace: MutableMapping[str, Any], may_bind: Callable[[str], bool]) -> Callable[[], None]:
    """What puts those names of a namespace that may be bound back as they are now, and in their order."""
    items = dict(namespace)

    def put_back() -> None:
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

    return put_back


def _variables_of(value: Any) -> list[Any]:
    """All variables that a model, an optimizer, a metric or a generator keeps."""
    import keras
    import tensorflow as tf

    if is_a(value, tf.random.Generator | keras.random.SeedGenerator):
        return [value.state]
    if is_module(value) or is_a(value, keras.Metric | keras.Optimizer):
        optimizer = getattr(value, "optimizer", None)
        return [*value.variables, *([optimizer] if is_a(optimizer, keras.Optimizer) else [])]
    return []


def _is_built(value: Any) -> bool:
    """Whether it has made what it is made of, as layers do when they are first called."""
    return attributes_of(value).get("built", True) is not False


def _generator(value: Any) -> Callable[[], None] | None:
    """What puts a generator of random numbers back."""
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
