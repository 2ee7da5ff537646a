"""Which calls take a value out of TensorFlow, and what to write instead of each."""

from __future__ import annotations

import ast
import types
from collections.abc import Mapping
from typing import Any

from tape_magic.engine.values.tensors import is_variable

_NUMERIC_LIBRARIES = frozenset(
    [
        "numpy",
        "scipy",
        "math",
        "cmath",
        "statistics",
        "random",
        "pandas",
        "sklearn",
        "cv2",
        "skimage",
        "PIL",
        "jax",
        "jaxlib",
        "torch",
        "sympy",
        "decimal",
        "fractions",
        "struct",
        "json",
        "pickle",
    ]
)
_CONVERTING_BUILTINS = frozenset({"float", "int", "complex", "bool"})
_CONVERTING_METHODS = frozenset(
    {"numpy", "item", "tolist", "__array__", "__float__", "__int__", "__dlpack__"}
)
_CONVERTING_FUNCTIONS = frozenset(
    {"numpy_function", "convert_to_numpy", "get_static_value", "make_tensor_proto", "to_dlpack"}
)
_MODEL_METHODS_GIVING_ARRAYS = frozenset({"predict", "predict_on_batch"})
_MODEL_METHODS_GIVING_FLOATS = frozenset({"evaluate", "test_on_batch", "train_on_batch"})

_TENSORFLOW_NAMES = {
    "mean": "reduce_mean",
    "sum": "reduce_sum",
    "max": "reduce_max",
    "min": "reduce_min",
    "amax": "reduce_max",
    "amin": "reduce_min",
    "prod": "reduce_prod",
    "std": "math.reduce_std",
    "var": "math.reduce_variance",
    "dot": "tensordot(…, axes=1)",
    "concatenate": "concat",
    "array": "convert_to_tensor",
    "asarray": "convert_to_tensor",
    "power": "pow",
    "absolute": "abs",
    "fabs": "abs",
    "clip": "clip_by_value",
}
"""NumPy's name of a function → TensorFlow's, where the two differ."""

_OWN_OPERATIONS = "use TensorFlow's own operations"


def cure_for_call(call: ast.Call, namespace: Mapping[str, Any]) -> str | None:
    """Return what to write in place of a call that takes its argument out of TensorFlow.

    ``None`` where the call does not: ``float(x)`` does, and so do ``x.numpy()`` and ``np.mean(x)``.
    """
    function = call.func
    if isinstance(function, ast.Name) and function.id == "map" and call.args:
        function = call.args[0]
    if isinstance(function, ast.Name) and function.id in _CONVERTING_BUILTINS:
        return None if function.id in namespace else f"leave out {function.id}()"
    if isinstance(function, ast.Attribute):
        cure = _cure_for_method(function, call, namespace)
        if cure is not None:
            return cure
    name = numeric_function(function, namespace)
    return None if name is None else _replacement(name)


def _cure_for_method(function: ast.Attribute, call: ast.Call, namespace: Mapping[str, Any]) -> str | None:
    owner = ast.unparse(function.value)
    if function.attr in _CONVERTING_METHODS and not call.args:
        return f"leave out .{function.attr}()"
    if function.attr in _MODEL_METHODS_GIVING_ARRAYS:
        return f"call {owner}(…) itself"
    if function.attr in _MODEL_METHODS_GIVING_FLOATS:
        return f"compute the loss from {owner}(…)"
    if function.attr == "get_weights":
        return f"use {owner}.trainable_variables"
    # tf.constant takes the numbers out of a variable, and no tape records that: seen in TensorFlow 2.21.
    if function.attr == "constant" and call.args and _names_variable(call.args[0], namespace):
        return "use tf.convert_to_tensor"
    return _OWN_OPERATIONS if function.attr in _CONVERTING_FUNCTIONS else None


def _names_variable(value: ast.expr, namespace: Mapping[str, Any]) -> bool:
    return isinstance(value, ast.Name) and is_variable(namespace.get(value.id))


def numeric_function(function: ast.expr, namespace: Mapping[str, Any]) -> str | None:
    """Return the name of a function of NumPy or another numeric library; ``None`` for any other.

    ``np.mean`` gives ``mean``, and so does ``average`` after ``from numpy import mean as average``.
    """
    base = function
    while isinstance(base, ast.Attribute):
        base = base.value
    if not isinstance(base, ast.Name):
        return None
    value = namespace.get(base.id)
    module = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
    module = module or type(value).__module__  # an object of a class in C, as NumPy's generators
    if isinstance(value, types.ModuleType) and not isinstance(function, ast.Attribute):
        return None
    if str(module).partition(".")[0] not in _NUMERIC_LIBRARIES:
        return None
    return function.attr if isinstance(function, ast.Attribute) else str(getattr(value, "__name__", ""))


def _replacement(name: str) -> str:
    """Return the clause that names TensorFlow's own function in place of NumPy's."""
    import tensorflow as tf

    if name in _TENSORFLOW_NAMES or hasattr(tf, name):
        return f"use tf.{_TENSORFLOW_NAMES.get(name, name)}"
    homes = {"math": tf.math, "linalg": tf.linalg, "signal": tf.signal}
    home = next((home for home, module in homes.items() if hasattr(module, name)), None)
    return f"use tf.{home}.{name}" if home else _OWN_OPERATIONS
