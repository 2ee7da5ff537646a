"""`Leaf`: the variables and tensors inside a source; structures rebuilt around them.

A *place* is a name, dotted or subscripted (``layer.kernel``, ``p['w']``). The *leaves* of the object there
are the variables and tensors inside it, if it is a list, dict or model. Floats and arrays become leaves when
they are lifted for a run (:mod:`tape_magic.engine.program.lifting`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tape_magic.engine.values.introspection import elements_of, is_a, pairs_of
from tape_magic.engine.values.tensors import (
    is_inexact,
    is_liftable,
    is_module,
    is_tensor,
    is_variable,
    tf_variable,
)
from tape_magic.errors import SourceError, a_kind


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

    @property
    def shape(self) -> tuple[int, ...]:
        """Static shape; unknown sizes count as 0."""
        return tuple(size or 0 for size in self.value.shape)

    @property
    def dtype(self) -> str:
        """The name of the dtype, such as ``float32``."""
        return str(self.value.dtype.name)


def leaves_of(value: Any, name: str, *, lifted: bool = True) -> list[Leaf]:
    """Return the leaves of a source in their order.

    Raises :class:`SourceError` for anything in the source that has no derivative. With `lifted` false,
    floats and arrays are allowed: they will be lifted, and count as no leaves yet.
    """
    if is_variable(value) or is_tensor(value):
        if not is_inexact(value):
            dtype = tf_variable(value).dtype if is_variable(value) else value.dtype
            kind = "tf.Variable" if is_variable(value) else "tf.constant"
            raise SourceError(
                f"{name} is {dtype.name}, and only floating-point numbers have a derivative: "
                f"write {name} = {kind}(3.0)."
            )
        return [Leaf(name, tf_variable(value) if is_variable(value) else value, value)]
    if is_module(value):
        return module_leaves(value)
    if is_a(value, list | tuple | dict):
        inner = [leaves_of(item, f"{name}[{key!r}]", lifted=lifted) for key, item in items_of(value)]
        return [leaf for found in inner for leaf in found]
    if not lifted and is_liftable(value):
        return []
    raise SourceError(source_refusal(value, name))


def items_of(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of key and item of a dict, of index and item of a list or tuple."""
    return pairs_of(value) if is_a(value, dict) else enumerate(elements_of(value))


def source_refusal(value: Any, name: str) -> str:
    """Return why `value` is no source, in one sentence."""
    if isinstance(value, bool | np.bool_ | str | bytes):
        return f"{name} is the {type(value).__name__} {value!r:.40}, which has no derivative."
    if isinstance(value, int | np.integer):
        # An integer may have thousands of digits.
        shown = str(value) if abs(int(value)) < 10**15 else "3"
        return f"{name} is an integer, and integers have no derivative: write {name} = {shown}.0"
    if isinstance(value, np.ndarray):
        return (
            f"{name} is an array of {value.dtype}, which has no derivative: write {name}.astype('float32')."
        )
    return (
        f"{name} is {a_kind(value)}, which has no derivative; sources are variables, float tensors, "
        "floats, arrays, layers and models, and lists, tuples or dicts of them."
    )


def is_unbuilt(value: Any) -> bool:
    """Return whether a layer or module in a source makes its variables when it is first called."""
    if is_a(value, list | tuple | dict):
        return any(is_unbuilt(item) for _, item in items_of(value))
    return is_module(value) and not (getattr(value, "built", True) and value.trainable_variables)


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
    return [(name, value) for name, value in vars(module).items() if not name.startswith("_self_")]


def regroup(value: Any, grouped: Callable[[Any], Any]) -> Any:
    """Return the structure of a source with `grouped(owner)` for each leaf; a list for a model."""
    if is_module(value):
        return [grouped(variable) for variable in value.trainable_variables]
    if is_a(value, dict):
        return {key: regroup(item, grouped) for key, item in items_of(value)}
    if is_a(value, list | tuple):
        return rebuilt(value, [regroup(item, grouped) for _, item in items_of(value)])
    return grouped(value)


def rebuilt(like: Any, items: list[Any]) -> Any:
    """Return a list, tuple or named tuple like another, with other items."""
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*items)
    return tuple(items) if isinstance(like, tuple) else items
