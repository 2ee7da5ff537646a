"""The dtype that floats and arrays are lifted to: the one in which a program computes without the magic."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tape_magic.engine.program.program import ALWAYS_FLOAT32, FLOAT32_OF_LITERALS, Namespace, Program
from tape_magic.engine.values.functions import mentioned_names, unwrapped
from tape_magic.engine.values.introspection import is_a
from tape_magic.engine.values.leaves import items_of
from tape_magic.engine.values.objects import parts_of_object
from tape_magic.engine.values.ownership import is_own
from tape_magic.engine.values.reach import reachable
from tape_magic.engine.values.tensors import is_layer, is_module, is_tensor, is_variable, tf_variable

NARROW = "float32"

EXACT = 2**24
"""The whole numbers up to which float32 is exact."""


def lift_dtype(program: Program, namespace: Namespace, read: Mapping[str, Any], lifted: Iterable[Any]) -> str:
    """Return the dtype that floats and arrays are lifted to.

    The widest dtype of the float tensors and variables that the program reads counts, since no other goes
    with these; then that of the ones that its functions read. Without any, NumPy's rules hold: the widest of
    the arrays and NumPy scalars that are lifted or computed with, or that the text makes. Where the program
    makes tensors of float32 itself, only lifted arrays count. Where nothing counts, it is TensorFlow's
    default, float32.

    Parameters
    ----------
    program, namespace
        The program, and the names that it runs on.
    read
        What the program reads, by name.
    lifted
        What is lifted.
    """
    dtypes = [dtype for value in read.values() for dtype in _tensor_dtypes(value)]
    functions = [value for value in (*program.roots(), *read.values()) if _is_function(value)]
    within = [] if dtypes or not functions else _mentioned(functions, program.home(namespace))
    dtypes = dtypes or [dtype for value in within for dtype in _tensor_dtypes(value)]
    if not dtypes:
        computed = [value for name, value in read.items() if name in program.names.operands]
        if _makes_float32(program, namespace, within):
            numbers = [value for value in _flat(lifted) if is_a(value, np.ndarray)]
        else:
            numbers = list(_flat([*lifted, *computed, *within]))
            if any(_is_of_numpy(name, namespace) for name in program.names.makes_arrays):
                numbers.append(np.zeros(0))
        dtypes = [dtype for value in numbers for dtype in _array_dtypes(value)]
    return str(max(dtypes, key=lambda dtype: dtype.size).name) if dtypes else NARROW


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if is_a(value, list | tuple | dict):
            yield from _flat(item for _, item in items_of(value))
        elif parts := parts_of_object(value):
            yield from _flat(parts.values())
        else:
            yield value


def _tensor_dtypes(value: Any) -> Iterator[Any]:
    import tensorflow as tf

    for item in _flat([value]):
        ones = item.trainable_variables if is_module(item) else [item]
        for one in ones:
            if is_tensor(one) or is_variable(one):
                dtype = tf_variable(one).dtype if is_variable(one) else one.dtype
                if dtype.is_floating or dtype.is_complex:
                    yield dtype.real_dtype
        if is_layer(item) and not ones:  # frozen, or without weights: it casts what it is called with
            yield tf.as_dtype(item.compute_dtype)


def _array_dtypes(value: Any) -> Iterator[Any]:
    """Yield the dtype of an array or NumPy scalar; of whole numbers, where float32 cannot hold them."""
    import tensorflow as tf

    module: object = type.__getattribute__(type(value), "__module__")
    if isinstance(module, str) and module.partition(".")[0] == "pandas":
        columns = np.atleast_1d(np.asarray(getattr(value, "dtypes", None), object))
        yield from (tf.as_dtype(one) for one in columns if one in (np.float32, np.float64))
    if not is_a(value, np.ndarray | np.number):
        return
    if np.issubdtype(value.dtype, np.inexact):
        dtype = value.real.dtype
        if dtype.itemsize <= 8:
            yield tf.as_dtype(dtype)
    elif np.issubdtype(value.dtype, np.integer) and np.any((value > EXACT) | (value < -EXACT)):
        yield tf.float64


def _is_function(value: Any) -> bool:
    return is_a(unwrapped(value), types.FunctionType | types.MethodType)


def _mentioned(functions: Iterable[Any], home: Mapping[str, Any]) -> list[Any]:
    """Return what functions of the notebook mention, and these functions themselves."""
    return list(reachable(functions, home))


def _makes_float32(program: Program, namespace: Namespace, within: Iterable[Any]) -> bool:
    """Return whether the program, or a function that it calls, makes tensors of float32."""
    if NARROW in program.names.mentions or _any_of_tensorflow(program.names.makes, namespace):
        return True
    home = program.home(namespace)
    codes = [
        function.__code__
        for function in map(unwrapped, within)
        if is_a(function, types.FunctionType) and is_own(function, home)
    ]
    return any(_names_float32(code) or _any_of_tensorflow(_makes(code), home) for code in codes)


def _any_of_tensorflow(makes: Iterable[str], names: Mapping[str, Any]) -> bool:
    """Return whether one of some names stands for TensorFlow, Keras, or a module of theirs."""
    modules = [names.get(name) for name in makes]
    called = [module.__name__ for module in modules if isinstance(module, types.ModuleType)]
    return any(name.partition(".")[0] in ("tensorflow", "keras") for name in called)


def _is_of_numpy(name: str, names: Mapping[str, Any]) -> bool:
    """Return whether a name stands for NumPy, a module of it, or a generator of its random numbers."""
    if name not in names:
        return name in ("np", "numpy")  # which the program itself imports
    value = names[name]
    if isinstance(value, types.ModuleType):
        return value.__name__.partition(".")[0] == "numpy"
    return isinstance(value, np.random.Generator | np.random.RandomState)


def _names_float32(code: types.CodeType) -> bool:
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return NARROW in (*mentioned_names(code), *code.co_consts) or any(map(_names_float32, inner))


def _makes(code: types.CodeType) -> Iterator[str]:
    """Yield the first name of each function that makes float32, such as ``tf`` of ``tf.random.normal``."""
    first = function = ""
    given = "float64" in (*mentioned_names(code), *code.co_consts)
    for instruction in dis.get_instructions(code):
        name, value = instruction.opname, instruction.argval
        if name in ("LOAD_GLOBAL", "LOAD_NAME"):
            first, function = str(value), ""
        elif name in ("LOAD_ATTR", "LOAD_METHOD"):
            function = str(value) if first else ""
            if function in ALWAYS_FLOAT32 and not given:
                yield first
        elif name not in ("PUSH_NULL", "CACHE", "BUILD_LIST"):
            numbers = value if isinstance(value, tuple) else (value,)
            if function in FLOAT32_OF_LITERALS and any(isinstance(one, float) for one in numbers):
                yield first
            first = function = ""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _makes(constant)
