"""The report of ``%%grad``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tape_magic.errors import LineError, closest, shorten
from tape_magic.notation import Kind, Target, denominator, read_targets, split, superscript
from tape_magic.results import views
from tape_magic.results.check import Check
from tape_magic.results.curvature import Hessian
from tape_magic.results.reasons import Reason
from tape_magic.results.summary import Summary, summarize


@dataclass(frozen=True, eq=False)
class Derivative:
    """One derivative of one output by one array.

    Attributes
    ----------
    target
        The output's name; ``_`` is the value of the last expression.
    wrt
        The sources in the order of differentiation, one entry an order; an array inside a
        structure or a model by its path (``p['w']``, ``dense/kernel``). Of a product, each source
        that has a vector; of one with a Hessian, before these the source whose gradient it is.
    value
        What TensorFlow gave, or ``None``. A gradient has the last source's shape; a Jacobian the
        output's shape and then that of each source; a block of a Hessian those of its two sources; a
        product with a Jacobian the output's shape, one with a Hessian its first source's.
    shape
        The shape of the value, also where there is none.
    dtype
        The dtype of the value, by its name.
    sums
        For each order, how many elements were summed before differentiating; 1 where the
        quantity was a scalar.
    connected
        Whether TensorFlow found a way from the source to the output. Where there is none, `value` is
        ``None``, or zeros if they were asked for.
    reason
        Why there is no derivative, or why it is zero or not finite, where there is something to say.
    of_model
        Whether the last source is a variable of a model, layer or ``tf.Module``.
    kind
        What was computed.
    along
        Of a product, what the vectors were called, one for each of the sources that have one.
    source
        The array that was differentiated by: a tensor, or the variable itself, which may have another
        value by now; a reference, and nothing is read before it is looked at. ``None`` where the
        value has another shape than the source.
    """

    target: str
    wrt: tuple[str, ...]
    value: Any
    shape: tuple[int, ...]
    dtype: str
    sums: tuple[int, ...]
    connected: bool = True
    reason: Reason | None = None
    of_model: bool = False
    kind: Kind = Kind.GRADIENT
    along: tuple[str, ...] = ()
    source: Any = None

    @property
    def why(self) -> str:
        """The reason as a sentence; empty where there is nothing to say."""
        return "" if self.reason is None else str(self.reason)

    @property
    def order(self) -> int:
        """How many times the output was differentiated."""
        return {Kind.JVP: 1, Kind.HVP: 2}.get(self.kind, len(self.wrt))

    @property
    def key(self) -> str:
        """As typed on the line: ``d2y/dx2``; ``dy/d(x, a)`` along vectors for x and a together."""
        if len(self.along) < 2:
            return Target(self.target, self.wrt).key
        power, first = ("2", f"d{self.wrt[0]} ") if self.kind is Kind.HVP else ("", "")
        return f"d{power}{self.target}/{first}d({', '.join(self._directions)})"

    @property
    def _directions(self) -> tuple[str, ...]:
        """The sources that have a vector."""
        return self.wrt[len(self.wrt) - len(self.along) :]

    @cached_property
    def summary(self) -> Summary | None:
        """The value in a few numbers; computed when first asked for, since it reads all of the value."""
        return None if self.value is None else summarize(_dense(self.value))

    @property
    def label(self) -> str:
        """In mathematical signs, with the sum that TensorFlow differentiates where there is one.

        ``∂²y/∂x²`` for scalars, ``∂Σy/∂x`` for the sum of an output's elements, and
        ``∂Σ(∂y/∂w)/∂w`` where the first derivative was summed to be differentiated again. A product
        is a sum over its vectors: ``∂y/∂x·v + ∂y/∂a·w``.
        """
        if not self.along:
            return self._label(self.wrt)
        first = self.wrt[: self.order - 1]
        pairs = zip(self._directions, self.along, strict=True)
        return " + ".join(f"{self._label((*first, name))}·{_factor(vector)}" for name, vector in pairs)

    def _label(self, wrt: tuple[str, ...]) -> str:
        output = f"Σ{self.target}" if self.sums[0] != 1 else self.target
        # Elementwise functions sum at every order: one Σ says so, and `sum_note` counts.
        if len(set(self.sums)) == 1 or all(count == 1 for count in self.sums[1:]):
            return f"∂{superscript(len(wrt))}{output}/{denominator(wrt)}"
        text, pending = output, list[str]()
        for count, name in zip(self.sums, wrt, strict=True):
            if pending and count != 1:
                text = f"Σ(∂{superscript(len(pending))}{text}/{denominator(pending)})"
                pending = []
            pending.append(name)
        return f"∂{superscript(len(pending))}{text}/{denominator(pending)}"

    @property
    def sum_note(self) -> str:
        """What was summed before differentiating, in words; empty for scalars."""
        names = ("outputs", "first derivatives", "second derivatives", "third derivatives")
        parts = [
            f"{count:,} {names[level] if level < len(names) else f'derivatives of order {level}'}"
            for level, count in enumerate(self.sums)
            if count != 1
        ]
        return f"sum of {', then of '.join(parts)}" if parts else ""


def _factor(vector: str) -> str:
    """A vector as a factor: what was written as a sum needs brackets."""
    text = shorten(vector, 24)
    outside = re.sub(r"\([^()]*\)|\[[^][]*\]", "", text)
    return f"({text})" if re.search(r"[-+*/%@ ]", outside) else text


def _dense(value: Any) -> Any:
    """Rows that a lookup's sparse gradient names, summed where it names them twice."""
    if not hasattr(value, "indices"):
        return value
    import numpy as np

    dense = np.zeros(tuple(value.dense_shape.numpy()), np.asarray(value.values).dtype)
    np.add.at(dense, np.asarray(value.indices), np.asarray(value.values))
    return dense


def _is_by(row: Derivative, wrt: tuple[str, ...]) -> bool:
    """Whether a row is the derivative by these sources; a gradient along a vector also by its own."""
    return row.wrt == wrt or (row.kind is Kind.HVP and row.wrt[:1] == wrt)


@dataclass(frozen=True, eq=False, repr=False)
class GradReport:
    """The derivatives that were asked for, in the order asked.

    ``report["dy/dx"]``, ``report["d2y/dx2"]`` or ``report["y", "x"]`` is a value, as
    TensorFlow gave it; ``report["loss", "dense/kernel"]`` a model's variable by its path; a
    structure as a source gives the same structure back. Iterating gives :class:`Derivative`
    records. ``report.hessian["x", "a"]`` is a block of a Hessian.

    Attributes
    ----------
    rows
        One record for each derivative of each array.
    structures
        The values by target and sources, shaped as the source was.
    forward_seconds, backward_seconds
        Time of the cell, and of the derivatives.
    notes
        What else the user should know, a sentence each.
    kind
        What was computed.
    hessians
        One for each output, of a report on Hessians.
    checks
        The comparisons with central differences, where they were asked for.

    Examples
    --------
    >>> import tape_magic                                           # doctest: +SKIP
    >>> report = tape_magic.grad(lambda x: x**2, {"x": 3.0})        # doctest: +SKIP
    >>> float(report["_", "x"])                                     # doctest: +SKIP
    6.0
    """

    rows: tuple[Derivative, ...]
    structures: Mapping[tuple[str, tuple[str, ...]], Any] = field(default_factory=dict)
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    notes: tuple[str, ...] = ()
    kind: Kind = Kind.GRADIENT
    hessians: tuple[Hessian, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def hessian(self) -> Hessian:
        """The Hessian of a report on one output; ``report.hessian["x", "a"]`` is a block."""
        if len(self.hessians) != 1:
            has = ", ".join(hessian.target for hessian in self.hessians)
            raise AttributeError(
                f"the report has {len(self.hessians)} Hessians ({has}): take one of report.hessians."
                if self.hessians
                else "there is no Hessian in this report; --hessian computes it."
            )
        return self.hessians[0]

    def __getitem__(self, key: str | tuple[str, ...]) -> Any:
        spelled = [row for row in self.rows if row.key == key]
        if len(spelled) == 1:
            return spelled[0].value
        target, wrt = self._read(key)
        if (target, wrt) in self.structures:
            return self.structures[target, wrt]
        found = [row for row in self.rows if row.target == target and (not wrt or _is_by(row, wrt))]
        if len(found) != 1 and len(wrt) == 1:
            end = f"/{wrt[0]}"
            found = [row for row in self.rows if row.target == target and row.wrt[-1].endswith(end)]
        if len(found) != 1:
            raise KeyError(self._missing(key, ambiguous=len(found) > 1))
        return found[0].value

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # type: ignore[index]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[Derivative]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<GradReport: {', '.join(row.key for row in self.rows[:6])}{', …' if len(self) > 6 else ''}>"

    def to_dict(self) -> dict[str, Any]:
        """Key → value, ``{"dy/dx": <tf.Tensor …>}``, in the order asked."""
        return {row.key: row.value for row in self.rows}

    def to_frame(self) -> Any:
        """A ``pandas.DataFrame`` with one row for each derivative; needs pandas.

        With checks, it has their relative errors, NaN where nothing was compared, and their outcomes.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError("to_frame() needs pandas: pip install pandas") from None

        records = []
        for row in self.rows:
            summary = row.summary
            records.append(
                {
                    "derivative": row.key,
                    "shape": row.shape,
                    "dtype": row.dtype,
                    "norm": summary and summary.norm,
                    "min": summary and summary.minimum,
                    "max": summary and summary.maximum,
                    "zeros": summary and summary.zeros,
                }
            )
        frame = pandas.DataFrame.from_records(records).set_index("derivative")
        if self.checks:
            frame["error"] = [check.error for check in self.checks]
            frame["check"] = [check.outcome.sentence for check in self.checks]
        return frame

    def plot(self, ax: Any = None) -> Any:
        """Drawn by Matplotlib into `ax` or a new figure; the axes.

        A Hessian as a matrix; derivatives by a list of numbers as curves over it; else the norms as bars.
        """
        return views.plot_gradients(self, ax)

    def inspect(self) -> None:
        """Show the report, and below it a browser of widgets: one derivative at a time, drawn."""
        views.inspect(self)

    def _read(self, key: str | tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        if isinstance(key, tuple) and key:
            return key[0], tuple(key[1:])
        if not isinstance(key, str):
            raise KeyError(self._missing(key, ambiguous=False))
        try:
            known = {name for row in self.rows for name in row.wrt}
            known |= {name for _, wrt in self.structures for name in wrt}
            targets = read_targets(split(key), lambda name: any(k.startswith(name) for k in known))
        except LineError as error:
            raise KeyError(str(error)) from None
        if len(targets) != 1:
            raise KeyError(f"{key!r} is not one derivative; write for example 'dy/dx'.")
        return targets[0].name, targets[0].wrt

    def _missing(self, key: object, *, ambiguous: bool) -> str:
        keys = [row.key for row in self.rows]
        if ambiguous:
            return f"{key!r} fits several derivatives; the report has {', '.join(keys[:8])}"
        return f"no {key!r} in this report{closest(str(key), keys)}; it has {', '.join(keys[:8])}"
