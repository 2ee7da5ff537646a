"""Names and objects → what can be differentiated by, or a clear refusal.

A *place* is a name, dotted or subscripted (``layer.kernel``, ``p['w']``). What it holds has
*leaves*: the variables and tensors inside a list, dict or model. Floats and arrays become leaves
by being lifted (:mod:`tape_magic.engine.lifting`) for the time of a run.
"""

from __future__ import annotations

import ast
import itertools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tape_magic.engine.kinds import elements_of, is_a, pairs_of
from tape_magic.engine.source_text import unwrapped
from tape_magic.errors import SourceError, a_kind, closest
from tape_magic.notation import place


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
        Whether it came out of a model, layer or module.
    """

    name: str
    value: Any
    owner: Any
    of_model: bool = False

    def renamed(self, name: str) -> Leaf:
        """The same under another name."""
        return replace(self, name=name)

    @property
    def shape(self) -> tuple[int, ...]:
        """Static shape; unknown sizes count as 0."""
        return tuple(size or 0 for size in self.value.shape)

    @property
    def dtype(self) -> str:
        """By its name, such as ``float32``."""
        return str(self.value.dtype.name)


def is_variable(value: Any) -> bool:
    """A ``tf.Variable`` or a Keras variable."""
    import keras
    import tensorflow as tf

    return is_a(value, tf.Variable | keras.Variable)


def is_keras_variable(value: Any) -> bool:
    """A Keras variable, which holds a ``tf.Variable``."""
    import keras

    return is_a(value, keras.Variable)


def is_module(value: Any) -> bool:
    """A model, a layer, or any other ``tf.Module``."""
    import keras
    import tensorflow as tf

    return is_a(value, tf.Module | keras.Layer)


def is_layer(value: Any) -> bool:
    """A Keras layer or model."""
    import keras

    return is_a(value, keras.Layer)


def is_tensor(value: Any) -> bool:
    """A dense tensor."""
    import tensorflow as tf

    return is_a(value, tf.Tensor)


def is_liftable(value: Any) -> bool:
    """A float or complex number or array, which a tape cannot watch as it is."""
    return is_a(value, float | complex | np.inexact) or (
        is_a(value, np.ndarray) and np.issubdtype(value.dtype, np.inexact)
    )


def watched(variable: Any) -> Any:
    """What a tape watches of a variable: a tape rejects Keras variables, but takes what they hold."""
    import tensorflow as tf

    return variable if isinstance(variable, tf.Variable) else variable.value


def contents(variables: Iterable[Any]) -> list[Any]:
    """What variables hold now, whatever they are assigned later; nothing is copied before that.

    By the operation itself, since between two chunks, when nothing of Python is in the processor's caches,
    `read_value` takes a tenth of a millisecond for each.
    """
    import tensorflow as tf

    return [
        variable.read_value()
        if isinstance(variable, tf.distribute.DistributedValues)  # which have several handles
        else tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
        for variable in variables
    ]


def is_inexact(tensor: Any) -> bool:
    """A tensor or variable of floating-point or complex numbers."""
    dtype = watched(tensor).dtype if is_variable(tensor) else tensor.dtype
    return bool(dtype.is_floating or dtype.is_complex)


def leaves(value: Any, name: str, *, lifted: bool = True) -> list[Leaf]:
    """The leaves of a source in their order.

    Raises :class:`SourceError` for anything in it that has no derivative. With `lifted` false,
    floats and arrays may stand in it: they will be lifted, and count as no leaves yet.
    """
    if is_variable(value) or is_tensor(value):
        if not is_inexact(value):
            dtype = watched(value).dtype if is_variable(value) else value.dtype
            kind = "tf.Variable" if is_variable(value) else "tf.constant"
            raise SourceError(
                f"{name} is {dtype.name}, and only floating-point numbers have a derivative: "
                f"write {name} = {kind}(3.0)."
            )
        return [Leaf(name, watched(value) if is_variable(value) else value, value)]
    if is_module(value):
        return module_leaves(value)
    if is_a(value, list | tuple | dict):
        inner = [leaves(item, f"{name}[{key!r}]", lifted=lifted) for key, item in items_of(value)]
        return [leaf for found in inner for leaf in found]
    if not lifted and is_liftable(value):
        return []
    raise SourceError(refusal(value, name))


def items_of(value: Any) -> Iterable[tuple[Any, Any]]:
    """Key and item of a dict, index and item of a list or tuple."""
    return pairs_of(value) if is_a(value, dict) else enumerate(elements_of(value))


def refusal(value: Any, name: str) -> str:
    """Why `value` is no source, in one sentence."""
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


def unbuilt(value: Any) -> bool:
    """Whether there is a layer or module in a source that makes its variables when it is first called."""
    if is_a(value, list | tuple | dict):
        return any(unbuilt(item) for _, item in items_of(value))
    return is_module(value) and not (getattr(value, "built", True) and value.trainable_variables)


def module_leaves(module: Any) -> list[Leaf]:
    """The trainable variables of a model, layer or module, each by its path within it."""
    variables = module.trainable_variables  # Keras walks all layers for them
    paths = _keras_paths(module, variables) if hasattr(module, "path") else _module_paths(module)
    found: dict[str, Leaf] = {}
    for variable in variables:
        own = name = paths.get(id(variable)) or own_name(variable)
        numbers = itertools.count(1)
        while name in found:
            name = f"{own}_{next(numbers)}"
        found[name] = Leaf(name, watched(variable), variable, of_model=True)
    return list(found.values())


def own_name(variable: Any) -> str:
    """The name that a variable carries itself."""
    return str(getattr(variable, "path", variable.name)).removesuffix(":0")


def _keras_paths(layer: Any, variables: Iterable[Any]) -> dict[int, str]:
    """Keras's own paths, less the layer's own name in front."""
    front = f"{layer.path}/"
    return {id(variable): str(variable.path).removeprefix(front) for variable in variables}


def _module_paths(module: Any) -> dict[int, str]:
    """The attributes that lead from a ``tf.Module`` to each variable."""
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
    """The attributes of a module, without those in which TensorFlow keeps track of them."""
    return [(name, value) for name, value in vars(module).items() if not name.startswith("_self_")]


def regrouped(value: Any, grouped: Callable[[Any], Any]) -> Any:
    """The structure of a source with `grouped(owner)` in the place of each leaf; a list for a model."""
    if is_module(value):
        return [grouped(variable) for variable in value.trainable_variables]
    if is_a(value, dict):
        return {key: regrouped(item, grouped) for key, item in items_of(value)}
    if is_a(value, list | tuple):
        return rebuilt(value, [regrouped(item, grouped) for _, item in items_of(value)])
    return grouped(value)


def rebuilt(like: Any, items: list[Any]) -> Any:
    """A list or tuple like another, a named tuple included."""
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)(*items)
    return tuple(items) if isinstance(like, tuple) else items


def look_up(name: str, namespace: Mapping[str, Any], also: Iterable[str] = ()) -> Any:
    """What a place holds. Raises :class:`SourceError` when there is nothing there.

    `also` are further names for the suggestion of the closest one.
    """
    base, tree = place(name)
    if base not in namespace:
        raise SourceError(f"{base} is not defined{closest(base, [*also, *namespace])}")
    return held(tree, namespace, name)


def held(tree: ast.expr, namespace: Mapping[str, Any], name: str) -> Any:
    """What the syntax tree of a place, written `name`, holds. Raises as :func:`look_up` does."""
    if isinstance(tree, ast.Name):
        return namespace[tree.id]
    assert isinstance(tree, ast.Attribute | ast.Subscript)
    owner = held(tree.value, namespace, name)
    text = ast.unparse(tree.value)
    if isinstance(tree, ast.Attribute):
        if not hasattr(owner, tree.attr):
            near = closest(tree.attr, (name for name in dir(owner) if name != tree.attr))
            raise SourceError(f"{text} is {a_kind(owner)} and has no {tree.attr}{near}")
        return getattr(owner, tree.attr)
    key = ast.literal_eval(tree.slice)
    if is_tensor(owner) or is_variable(owner) or isinstance(owner, np.ndarray):
        raise SourceError(
            f"{name} is a part of {text}, and a part is a new tensor that nothing was computed from: "
            f"differentiate by {text} and take {ast.unparse(tree.slice)} of the result."
        )
    try:
        return owner[key]
    except Exception:
        raise SourceError(f"{text} is {a_kind(owner)} and has no {key!r}") from None


def mentions_variables(values: Iterable[Any], home: Mapping[str, Any]) -> bool:
    """Whether a trainable variable can be reached from the values, through functions too."""
    return any(
        (is_variable(value) and value.trainable) or (is_module(value) and value.trainable_variables)
        for value in reachable(values, home)
    )


def reachable(values: Iterable[Any], home: Mapping[str, Any]) -> Iterator[Any]:
    """The values, what lists and dicts among them hold, and what functions among them mention.

    Functions whose globals are `home`, the notebook's, count with the globals and the enclosing
    names that their code mentions: a loss in another cell reads the variables of that notebook.
    A library's functions would lead through all of TensorFlow.
    """
    seen: set[int] = set()
    queue = list(values)
    while queue:
        value = queue.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if is_a(value, list | tuple | dict):
            queue += [item for _, item in items_of(value)]
        queue += reached(value, home)


def reached(value: Any, home: Mapping[str, Any]) -> list[Any]:
    """What a function of the notebook mentions: globals, and names of the functions around it."""
    function = unwrapped(value)
    if is_a(function, types.MethodType):
        return [function.__self__, function.__func__]
    if not is_a(function, types.FunctionType) or function.__globals__ is not home:
        return []
    inner = [function.__code__]
    names: list[str] = []
    while inner:
        code = inner.pop()
        names += code.co_names
        inner += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    found = [home[name] for name in names if name in home]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # a name that the enclosing function has not assigned yet
            continue
    return found
