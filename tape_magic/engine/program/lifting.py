"""`Lifting`: tensors or variables stand for floats and arrays during a run, which come back after it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.program.program import Namespace
from tape_magic.engine.values.leaves import items_of, rebuilt
from tape_magic.engine.values.objects import is_composite, parts_of_object, put_attribute, with_numbers
from tape_magic.engine.values.places import key_of_part, object_at
from tape_magic.engine.values.tensors import (
    is_inexact,
    is_liftable,
    is_tensor,
    is_variable,
)
from tape_magic.errors import SourceError, a_kind
from tape_magic.syntax import place


def liftable(value: Any) -> bool:
    """Return whether a variable may stand for a value during a run: for a float, an array or a tensor."""
    return is_liftable(value) or (is_tensor(value) and is_inexact(value))


def in_original_type(original: Any, lifted: Any) -> Any:
    """Return the value of `lifted` in the type of `original`, or `original` itself where it never changed."""
    import tensorflow as tf

    if isinstance(original, tuple):
        items = [in_original_type(old, new) for old, new in zip(original, lifted, strict=True)]
        return rebuilt(original, items)
    if not is_variable(lifted):
        return original
    value = lifted.numpy()
    was = original.numpy() if is_tensor(original) else np.asarray(original, value.dtype)
    if np.array_equal(was, value):
        return original
    if is_tensor(original):
        return tf.constant(value)
    if isinstance(original, np.ndarray):
        return np.array(value, original.dtype)  # numpy() returns a scalar for a single number
    return type(original)(value)


Make = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class _Replaced:
    """A lifted value: how to read and write the place where it stands, and what stood there."""

    read: Callable[[], Any]
    write: Callable[[Any], None]
    original: Any
    lifted: Any


class Lifting:
    """Floats and arrays replaced by tensors or variables, in place, until :meth:`give_back`.

    Parameters
    ----------
    namespace
        Where the names live.
    make
        A value → the tensor or variable that stands for it.
    liftable
        Whether a value is lifted; by default floats and arrays are.
    """

    def __init__(
        self, namespace: Namespace, make: Make, liftable: Callable[[Any], bool] = is_liftable
    ) -> None:
        self._namespace = namespace
        self._make = make
        self._liftable = liftable
        self._replaced: list[_Replaced] = []

    def lift(self, name: str) -> None:
        """Lift what stands at a place that :func:`look_up` found."""
        _, tree = place(name)
        value = object_at(tree, self._namespace, name)
        lifted = self.lifted(value)
        if lifted is not value:
            self._put(tree, value, lifted, name)

    def lifted(self, value: Any, within: frozenset[int] = frozenset()) -> Any:
        """Return the value with its floats and arrays lifted, in a new tuple, and in place in all else.

        `within` are the identities of objects that the value stands in.
        """
        if self._liftable(value):
            return self._make(value)
        if isinstance(value, tuple):
            items = [self.lifted(item, within) for item in value]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else rebuilt(value, items)
        if isinstance(value, list | dict):
            for key, item in list(items_of(value)):
                new = self.lifted(item, within)
                if new is not item:
                    self._set_item(value, key, item, new)
            return value
        for attribute, item in parts_of_object(value, within).items():
            if is_composite(value) and self._liftable(item):
                raise SourceError(
                    f"{a_kind(value)} cannot be minimised over: make a variable v of its {attribute}, "
                    f"and the {type(value).__name__} from v in the cell."
                )
            new = self.lifted(item, within | {id(value)})
            if new is not item:
                self._set_attribute(value, attribute, item, new)
        return value

    def record(self, name: str, original: Any, lifted: Any) -> None:
        """Take note of a name that was lifted as the program assigned it."""
        self._remember(
            lambda: self._namespace.get(name), lambda v: self._namespace.update({name: v}), original, lifted
        )

    def made(self, value: Any) -> bool:
        """Return whether an object stands for a lifted value."""
        return any(entry.lifted is value for entry in self._replaced)

    def give_back(
        self, names: Iterable[str] = (), back: Callable[[Any, Any], Any] = lambda original, lifted: original
    ) -> None:
        """Put back(original, lifted) wherever the lifted object still stands; by default the original.

        `names` are further names of the namespace that may hold a lifted object.
        """
        given: dict[int, Any] = {}
        while self._replaced:
            entry = self._replaced.pop()
            given[id(entry.lifted)] = value = back(entry.original, entry.lifted)
            try:
                if entry.read() is entry.lifted:
                    entry.write(value)
            except (LookupError, AttributeError):
                continue  # the program took the slot itself away
        for name in names:
            if id(self._namespace.get(name)) in given:
                self._namespace[name] = given[id(self._namespace[name])]

    def _put(self, tree: ast.expr, original: Any, lifted: Any, name: str) -> None:
        if isinstance(tree, ast.Name):
            self._namespace[tree.id] = lifted
            self.record(tree.id, original, lifted)
            return
        assert isinstance(tree, ast.Attribute | ast.Subscript)
        owner = object_at(tree.value, self._namespace, name)
        key = key_of_part(tree, owner)
        if isinstance(owner, tuple) and key is not None:
            items = list(owner)
            items[key] = lifted
            self._put(tree.value, owner, rebuilt(owner, items), name)
        elif isinstance(tree, ast.Attribute) and is_composite(owner) and is_tensor(lifted):
            self._put(tree.value, owner, with_numbers(owner, tree.attr, lifted), name)
        elif isinstance(tree, ast.Attribute):
            try:
                self._set_attribute(owner, tree.attr, original, lifted)
            except Exception:
                raise SourceError(
                    f"{name} cannot be replaced by a tensor: {tree.attr} is read-only."
                ) from None
        else:
            self._set_item(owner, key, original, lifted)

    def _set_attribute(self, owner: Any, name: str, original: Any, lifted: Any) -> None:
        put_attribute(owner, name, lifted)
        self._remember(
            lambda: getattr(owner, name), lambda v: put_attribute(owner, name, v), original, lifted
        )

    def _set_item(self, owner: Any, key: Any, original: Any, lifted: Any) -> None:
        owner[key] = lifted
        self._remember(lambda: owner[key], lambda v: owner.__setitem__(key, v), original, lifted)

    def _remember(
        self, read: Callable[[], Any], write: Callable[[Any], None], original: Any, lifted: Any
    ) -> None:
        self._replaced.append(_Replaced(read, write, original, lifted))


def constant(value: Any, dtype: str) -> Any:
    """Return a float or array as a tensor of `dtype`, or of the complex dtype of that precision."""
    import tensorflow as tf

    if np.iscomplexobj(value):
        return tf.constant(value, "complex128" if dtype == "float64" else "complex64")
    return tf.constant(value, dtype)
