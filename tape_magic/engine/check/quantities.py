"""Outputs of a run, and its derivatives of one order less, as flat float64 numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tape_magic.engine.derivatives.differentiate import differentiate
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import RunResult
from tape_magic.engine.derivatives.tapes import Tapes
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.record.recorder import Recorder
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.precision import double_of, epsilon
from tape_magic.engine.values.tensors import is_tensor, is_variable, tf_variable, to_array
from tape_magic.notation import LAST_EXPRESSION, Kind, Target, read_targets
from tape_magic.results.gradients import Derivative

_SAME = 0.1
"""Largest distance, relative to the largest number, of two runs that give the same in a coarse precision."""

Array = np.ndarray[Any, Any]
Key = tuple[str, tuple[str, ...]]
"""Name of an output, and the names of the leaves that it was differentiated by."""


@dataclass(frozen=True)
class FlatNumbers:
    """All numbers of an output, or of a derivative, one after the other.

    Attributes
    ----------
    numbers
        The numbers, as a vector of float64 or complex128.
    dtype
        Name of the least precise dtype among them; ``float64`` for double precision and for whole numbers,
        which are exact.
    """

    numbers: Array
    dtype: str

    @property
    def eps(self) -> float:
        """Machine epsilon of the least precise dtype."""
        return epsilon(self.dtype)


Quantities = Mapping[Key, FlatNumbers | None]
"""Numbers of outputs and derivatives; ``None`` for a missing derivative, or an output without numbers."""


def flat_numbers(value: Any) -> FlatNumbers | None:
    """Return the numbers of a tensor, variable, array or structure; ``None`` for anything else.

    >>> flat_numbers([[1.5, 2.0], 3]).numbers
    array([1.5, 2. , 3. ])
    """
    import tensorflow as tf

    parts, dtypes = list[Array](), list[str]()
    composite = isinstance(value, tf.RaggedTensor | tf.SparseTensor)
    for item in tf.nest.flatten(value, expand_composites=composite):
        dense = tf.convert_to_tensor(item) if isinstance(item, tf.IndexedSlices) else item
        held = tf_variable(dense) if is_variable(dense) else dense
        array = to_array(held) if is_tensor(dense) or is_variable(dense) else np.asarray(held)
        name = str(held.dtype.name if is_tensor(dense) or is_variable(dense) else array.dtype)
        narrow = double_of(name) is not None
        if not narrow and not np.issubdtype(array.dtype, np.number) and array.dtype != bool:
            return None
        dtypes.append(name if narrow else "float64")
        parts.append(array.astype("complex128" if "complex" in name else "float64").reshape(-1))
    return FlatNumbers(np.concatenate(parts), max(dtypes, key=epsilon)) if parts else None


def observe(
    program: Program, namespace: Namespace, outputs: Iterable[str], lower: Request | None
) -> Quantities:
    """Run a program, and return its outputs and the derivatives that `lower` asks for."""
    if lower is None:
        return output_numbers(program, namespace, program.run(namespace, {}, Tapes((), Recorder())), outputs)
    done = differentiate(program, namespace, lower)
    return {**output_numbers(program, namespace, done.value, outputs), **derivative_numbers(done)}


def output_numbers(program: Program, namespace: Namespace, value: Any, outputs: Iterable[str]) -> Quantities:
    """Return the numbers that a run left under the names of outputs; `value` is its last expression's."""
    found: dict[Key, FlatNumbers | None] = {}
    for name in outputs:
        last = name == LAST_EXPRESSION and name not in program.names.assigns
        found[name, ()] = flat_numbers(value if last else look_up(name, namespace))
    return found


def derivative_numbers(done: RunResult) -> Quantities:
    """Return the numbers of a report's derivatives, ``None`` where TensorFlow finds none."""
    rows = done.report.rows
    return {(row.target, row.wrt): flat_numbers(row.value) if row.connected else None for row in rows}


def lower_key(row: Derivative) -> Key:
    """Return the key of the value that a row's derivative was taken of."""
    if row.kind is Kind.JVP:
        return row.target, ()
    return row.target, row.wrt[: 1 if row.kind is Kind.HVP else -1]


def lower_request(request: Request, program: Program, namespace: Namespace) -> Request | None:
    """Return a request for the values that :func:`lower_key` names; ``None`` where they are outputs only."""
    targets = read_targets(request.words, {*namespace, *program.names.assigns}.__contains__)
    if request.kind is Kind.JVP:
        return None
    if request.kind in (Kind.HESSIAN, Kind.HVP):
        by = request.wrt
        if request.kind is Kind.HVP and by is None:
            by = tuple(request.vectors)
        words = [word for target in targets for word in _by_each(target)]
        if by is not None and request.kind is Kind.HVP:
            words = list(dict.fromkeys(target.name for target in targets))
        return Request(words=words, wrt=by)
    orders = [target.order or request.order for target in targets] or [request.order]
    if max(orders) == 1:
        return None
    words = []
    for target in targets:
        if target.order > 1:
            words += _spelled(Target(target.name, target.wrt[:-1]))
        elif not target.order:
            words.append(target.name)
    return replace(request, words=words, order=max(request.order - 1, 1), zero=False)


def _by_each(target: Target) -> list[str]:
    """Return a target as words, by each of its sources; without a source, its name alone."""
    words = [word for name in dict.fromkeys(target.wrt) for word in _spelled(Target(target.name, (name,)))]
    return words or [target.name]


def _spelled(target: Target) -> list[str]:
    """Return a derivative as words that can be read in one way only.

    >>> _spelled(Target("y", ("x", "a")))
    ['d2y/dx', 'da']
    """
    power = target.order if target.order > 1 else ""
    first, *rest = target.wrt
    return [f"d{power}{target.name}/d{first}", *(f"d{name}" for name in rest)]


def first_difference(
    some: Quantities, others: Quantities, precision: Callable[[str], str] | None = None
) -> Key | None:
    """Return the first key whose numbers differ in two runs by more than rounding; ``None`` without one.

    `precision` gives the dtype whose rounding counts for an output, if that is not the numbers' own.
    """
    for key, one in some.items():
        other = others.get(key)
        if one is None or other is None or one.numbers.shape != other.numbers.shape:
            if one is not other:
                return key
            continue
        if np.array_equal(one.numbers, other.numbers):
            continue
        size = np.max(np.abs(one.numbers), initial=0.0, where=np.isfinite(one.numbers))
        eps = one.eps if precision is None else max(one.eps, epsilon(precision(key[0])))
        far = min(1000 * eps, _SAME)
        with np.errstate(all="ignore"):
            same = np.isclose(one.numbers, other.numbers, rtol=0, atol=far * size, equal_nan=True)
        if not same.all():
            return key
    return None
