"""`Leaf`: the variables and tensors inside a source; structures rebuilt around them.

A *place* is a name, dotted or subscripted (``layer.kernel``, ``p['w']``). The *leaves* of the object there
are the variables and tensors inside it, if it is a list, dict or model, or an object that stands for its
attributes. Floats and arrays become leaves when they are lifted for a run
(:mod:`tape_magic.engine.program.lifting`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from tape_magic.engine.values.introspection import elements_of, is_a, pairs_of
from tape_magic.engine.values.objects import TRACKING, parts_of_object, rebuilt_object
from tape_magic.engine.values.refusals import source_refusal
from tape_magic.engine.values.tensors import (
    is_inexact,
    is_layer,
    is_liftable,
    is_module,
    is_tensor,
    is_variable,
    tf_variable,
)
from tape_magic.errors import SourceError


@dataclass(frozen=True, eq=False)
class Leaf:
    """One variable or tensor to differentiate by.

    Attributes
    ----------
    name
        ``x``, ``p['w']``, or a model's variable by its path, ``dense/kernel``.
    value
        The ``tf.Variable`` or ``tf.Tensor`` that a tape watches.
    owner
        The user's object; differs from `value` for a Keras variable.
    of_model
        Whether the leaf came out of a model, layer or module.
    """

    name: str
    value: Any
    owner: Any
    of_model: bool = False

    def renamed(self, name: str) -> Leaf:
        """Return the leaf under another name."""
        return replace(self, name=name)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Static shape; unknown sizes count as 0."""
        return tuple(size or 0 for size in self.value.shape)

    @property
    def dtype(self) -> str:
        """The name of the dtype, such as ``float32``."""
        return str(self.value.dtype.name)


def leaves_of(value: Any, name: str, *, lifted: bool = True) -> list[Leaf]:
    """Return the leaves of a source in their order.

    Raises :class:`SourceError` for anything in the source that has no derivative; of an object, only what has
    one counts. With `lifted` false, floats and arrays are allowed: they will be lifted, and count as no
    leaves yet.
    """
    return list(_leaves(value, name, frozenset(), lifted))


def _leaves(value: Any, name: str, within: frozenset[int], lifted: bool) -> Iterator[Leaf]:
    """Yield the leaves of a value, which stands `within` some objects, given by their identities."""
    if (is_variable(value) or is_tensor(value)) and is_inexact(value):
        yield Leaf(name, tf_variable(value) if is_variable(value) else value, value)
    elif is_a(value, list | tuple | dict):
        for key, item in items_of(value):
            yield from _leaves(item, item_name(value, name, key), within, lifted)
    elif is_module(value) and (found := module_leaves(value)):
        yield from found
    elif parts := parts_of_object(value, within):
        for attribute, item in parts.items():
            yield from _leaves(item, f"{name}.{attribute}", within | {id(value)}, lifted)
    elif not (within or is_module(value) or (is_liftable(value) and not lifted)):
        raise SourceError(source_refusal(value, name))


def items_of(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of key and item of a dict, of index and item of a list or tuple."""
    return pairs_of(value) if is_a(value, dict) else enumerate(elements_of(value))


def item_name(value: Any, name: str, key: Any) -> str:
    """Return the place of an item of a dict, list or tuple: ``p['w']``, ``p[0]``, or ``p.w`` for a field."""
    fields = getattr(type(value), "_fields", None) if is_a(value, tuple) else None
    return f"{name}[{key!r}]" if fields is None else f"{name}.{fields[key]}"


def is_unbuilt(value: Any, within: frozenset[int] = frozenset()) -> bool:
    """Return whether a layer or module in a source makes its variables when it is first called.

    `within` are the identities of objects that the value stands in.
    """
    if is_a(value, list | tuple | dict):
        return any(is_unbuilt(item, within) for _, item in items_of(value))
    if is_module(value) and value.trainable_variables:
        return not getattr(value, "built", True)
    if parts := parts_of_object(value, within):
        return any(is_unbuilt(item, within | {id(value)}) for item in parts.values())
    return is_module(value)


def is_frozen(value: Any) -> bool:
    """Return whether a source is a layer or model that is built and set not to be trained."""
    return is_layer(value) and bool(value.built) and not value.trainable


def module_leaves(module: Any) -> list[Leaf]:
    """Return the trainable variables of a model, layer or module, each named by its path within."""
    variables = module.trainable_variables  # Keras walks all layers for them
    paths = _keras_paths(module, variables) if hasattr(module, "path") else _module_paths(module)
    found: dict[str, Leaf] = {}
    for variable in variables:
        own = name = paths.get(id(variable)) or own_name(variable)
        numbers = itertools.count(1)
        while name in found:
            name = f"{own}_{next(numbers)}"
        found[name] = Leaf(name, tf_variable(variable), variable, of_model=True)
    return list(found.values())


def own_name(variable: Any) -> str:
    """Return the name that a variable carries itself."""
    return str(getattr(variable, "path", variable.name)).removesuffix(":0")


def _keras_paths(layer: Any, variables: Iterable[Any]) -> dict[int, str]:
    """Return Keras's path of each variable, without the layer's own name in front."""
    front = f"{layer.path}/"
    return {id(variable): str(variable.path).removeprefix(front) for variable in variables}


def _module_paths(module: Any) -> dict[int, str]:
    """Return the path of attributes from a ``tf.Module`` to each variable."""
    paths: dict[int, str] = {}
    seen: set[int] = set()

    def walk(value: Any, path: str) -> None:
        if is_variable(value):
            paths.setdefault(id(value), path)
        elif id(value) not in seen and (is_module(value) or is_a(value, list | tuple | dict)):
            seen.add(id(value))
            for key, item in _attributes(value) if is_module(value) else items_of(value):
                walk(item, f"{path}/{key}" if path else str(key))

    walk(module, "")
    return paths


def _attributes(module: Any) -> list[tuple[str, Any]]:
    """Return the attributes of a module, without TensorFlow's own book-keeping."""
    return [(name, value) for name, value in vars(module).items() if not name.startswith(TRACKING)]


def regroup(value: Any, grouped: Callable[[Any], Any], within: frozenset[int] = frozenset()) -> Any:
    """Return the structure of a source with `grouped(owner)` for each leaf; a list for a model.

    For an object that is no record, a dict by its attributes. `within` are the identities of objects that the
    value stands in.
    """
    if is_a(value, dict):
        return {key: regroup(item, grouped, within) for key, item in items_of(value)}
    if is_a(value, list | tuple):
        return rebuilt(value, [regroup(item, grouped, within) for _, item in items_of(value)])
    if is_module(value) and (variables := value.trainable_variables):
        return [grouped(variable) for variable in variables]
    if parts := parts_of_object(value, within):
        inner = within | {id(value)}
        return rebuilt_object(value, {name: regroup(item, grouped, inner) for name, item in parts.items()})
    return [] if is_module(value) else grouped(value)


def rebuilt(like: Any, items: list[Any]) -> Any:
    """Return a list, tuple or named tuple like another, with other items."""
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*items)
    return tuple(items) if isinstance(like, tuple) else items
