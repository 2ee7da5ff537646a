"""The report of ``%%grad``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tape_magic.errors import LineError, closest, in_one_line, shorten
from tape_magic.notation import Kind, Target, denominator, read_targets, superscript
from tape_magic.results import views
from tape_magic.results.check import Check
from tape_magic.results.curvature import Hessian
from tape_magic.results.examples import ExampleNorms
from tape_magic.results.reasons import Reason
from tape_magic.results.summary import Summary, summarize
from tape_magic.syntax import split

_SIGNS = {Kind.LAPLACIAN: "Δ{}", Kind.DIVERGENCE: "∇·{}", Kind.PER_EXAMPLE: "‖∇{}‖"}
"""What is computed of an output, in the signs of mathematics."""


@dataclass(frozen=True, eq=False)
class Derivative:
    """One derivative of one output by one array.

    Attributes
    ----------
    target
        The output's name; ``_`` is the value of the last expression.
    wrt
        The sources in the order of differentiation, one entry an order; an array inside a
        structure or a model by its path (``p['w']``, ``dense/kernel``). For a product, each source
        that has a vector; for a product with a Hessian, before these the source of the gradient.
    value
        The tensor that TensorFlow returned, or ``None``. A gradient has the last source's shape; a
        Jacobian the output's shape followed by each source's; a block of a Hessian the shapes of its two
        sources; a product with a Jacobian the output's shape, a product with a Hessian its first source's;
        a divergence or a Laplacian has one number for each point, norms per example one for each.
    shape
        The shape of the value, also where the value is ``None``.
    dtype
        The dtype of the value, by its name.
    sums
        For each order, the number of elements that were summed before differentiating; 1 for a scalar.
    connected
        Whether TensorFlow found a path from the source to the output. Without a path, `value` is
        ``None``, or zeros where the user asked for zeros.
    reason
        The reason why the derivative is missing, zero or not finite; ``None`` for any other derivative.
    of_model
        Whether the last source is a variable of a model, layer or ``tf.Module``.
    kind
        The kind of the derivative.
    along
        For a product, the names of the vectors, one for each source that has a vector; or that of the
        output's vector.
    source
        The source: a tensor, or the variable itself, whose value may have changed since; it is read
        when a user looks at it. ``None`` where the value has another shape than the source.
    weights
        For the product of an output's vector with its Jacobian, the numbers of the vector, one after the
        other.
    elementwise
        Whether each element of the output was found to depend on the source's element in its place alone,
        for a list of numbers that is no model's; the derivative is then a function of the source.
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
    weights: Any = None
    elementwise: bool = False

    @property
    def why(self) -> str:
        """The reason as a sentence; empty where there is nothing to say."""
        return "" if self.reason is None else str(self.reason)

    @property
    def order(self) -> int:
        """The number of differentiations."""
        return {Kind.JVP: 1, Kind.HVP: 2}.get(self.kind, len(self.wrt))

    @property
    def key(self) -> str:
        """The spelling of the magic line: ``d2y/dx2``; ``dy/d(x, a)`` for vectors for both x and a."""
        if len(self.along) < 2:
            return Target(self.target, self.wrt).key
        power, first = ("2", f"d{self.wrt[0]} ") if self.kind is Kind.HVP else ("", "")
        return f"d{power}{self.target}/{first}d({', '.join(self._directions)})"

    @property
    def _directions(self) -> tuple[str, ...]:
        """The sources that have a vector, in order."""
        return self.wrt[len(self.wrt) - len(self.along) :]

    @cached_property
    def summary(self) -> Summary | None:
        """The summary of the value; computed at the first access, since it reads the whole value."""
        return None if self.value is None else summarize(_dense(self.value))

    @property
    def label(self) -> str:
        """The derivative in mathematical signs, with the sum that TensorFlow differentiates.

        ``∂²y/∂x²`` for scalars, ``∂Σy/∂x`` for the sum of an output's elements, and
        ``∂Σ(∂y/∂w)/∂w`` where the first derivative was summed to be differentiated again. A product
        is a sum over its vectors: ``∂y/∂x·v + ∂y/∂a·w``; an output's vector stands in front: ``v·∂y/∂x``.
        A Laplacian is ``Δu by x``, a divergence ``∇·F by x``, and norms per example are ``‖∇loss‖ by w``.
        """
        if self.kind in _SIGNS:
            return f"{_SIGNS[self.kind].format(self.target)} by {self.wrt[0]}"
        if not self.along:
            return self._label(self.wrt)
        if self.kind is Kind.VJP:
            return f"{_factor(self.along[0])}·{self._label(self.wrt)}"
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
        """The sums that were differentiated, in words; empty for scalars."""
        names = ("outputs", "first derivatives", "second derivatives", "third derivatives")
        parts = [
            f"{count:,} {names[level] if level < len(names) else f'derivatives of order {level}'}"
            for level, count in enumerate(self.sums)
            if count != 1
        ]
        return f"sum of {', then of '.join(parts)}" if parts else ""


def _factor(vector: str) -> str:
    """Return a vector's expression as a factor, in brackets where it is a sum or product."""
    text = shorten(vector, 24)
    outside = re.sub(r"\([^()]*\)|\[[^][]*\]", "", text)
    return f"({text})" if re.search(r"[-+*/%@ ]", outside) else text


def _dense(value: Any) -> Any:
    """Return a value as one array; the rows that a lookup's sparse gradient names twice are summed."""
    if not hasattr(value, "indices"):
        return value
    import numpy as np

    dense = np.zeros(tuple(value.dense_shape.numpy()), np.asarray(value.values).dtype)
    np.add.at(dense, np.asarray(value.indices), np.asarray(value.values))
    return dense


def _is_by(row: Derivative, wrt: tuple[str, ...]) -> bool:
    """Return whether a row is the derivative by these sources; a Hessian's product goes by its first, too."""
    return row.wrt == wrt or (row.kind is Kind.HVP and row.wrt[:1] == wrt)


@dataclass(frozen=True, eq=False, repr=False)
class GradReport(views.Shown):
    """The requested derivatives, in the order of the request.

    ``report["dy/dx"]``, ``report["d2y/dx2"]`` or ``report["y", "x"]`` is a value, as
    TensorFlow gave it; ``report["loss", "dense/kernel"]`` is the derivative by a model's variable;
    a structure as a source gives the same structure back. Iterating gives :class:`Derivative`
    records. ``report.hessian["x", "a"]`` is a block of a Hessian.

    Attributes
    ----------
    rows
        One record for each derivative of each array.
    structures
        The values by target and sources, shaped as the source was.
    forward_seconds, backward_seconds
        The time of the cell, and of the derivatives.
    notes
        Further sentences for the user.
    kind
        The kind of the derivatives.
    hessians
        The Hessian of each output, in a report on Hessians.
    examples
        The norms of the examples' gradients over all sources, for each output of a report on these.
    checks
        The comparisons with central differences, where the user asked for them.

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
    examples: tuple[ExampleNorms, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def hessian(self) -> Hessian:
        """The Hessian of a report on one output; ``report.hessian["x", "a"]`` is a block."""
        if len(self.hessians) != 1:
            has = ", ".join(hessian.target for hessian in self.hessians)
            said = f"the report has {len(self.hessians)} Hessians ({has}): take one of report.hessians."
            none = "there is no Hessian in this report; --hessian computes it."
            raise in_one_line(AttributeError(said if self.hessians else none))
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
            raise in_one_line(KeyError(self._missing(key, ambiguous=len(found) > 1)))
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
        """Return the values by their keys, ``{"dy/dx": <tf.Tensor …>}``, in the order of the request."""
        return {row.key: row.value for row in self.rows}

    def to_frame(self) -> Any:
        """Return a ``pandas.DataFrame`` with one row for each derivative; needs pandas.

        With checks, two columns have the relative error, NaN where nothing was compared, and the outcome.
        """
        try:
            import pandas
        except ImportError:
            raise in_one_line(ImportError("to_frame() needs pandas: pip install pandas")) from None

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
        """Draw the report with Matplotlib into `ax`, or into a new figure, and return the axes.

        A Hessian is a matrix. Derivatives that are all elementwise are curves over their source. All others
        are bars of norms, one for each layer of a model, and at most 40.
        """
        return views.plot_gradients(self, ax)

    def inspect(self) -> None:
        """Show the report, and below it the inspector: one derivative at a time, drawn in widgets."""
        views.inspect(self)

    def _read(self, key: str | tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        if isinstance(key, tuple) and key:
            return key[0], tuple(key[1:])
        if not isinstance(key, str):
            raise in_one_line(KeyError(self._missing(key, ambiguous=False)))
        try:
            known = {name for row in self.rows for name in row.wrt}
            known |= {name for _, wrt in self.structures for name in wrt}
            targets = read_targets(split(key), lambda name: any(k.startswith(name) for k in known))
        except LineError as error:
            raise in_one_line(KeyError(str(error))) from None
        if len(targets) != 1:
            raise in_one_line(KeyError(f"{key!r} is not one derivative; write for example 'dy/dx'."))
        return targets[0].name, targets[0].wrt

    def _missing(self, key: object, *, ambiguous: bool) -> str:
        keys = [row.key for row in self.rows]
        if ambiguous:
            return f"{key!r} fits several derivatives; the report has {', '.join(keys[:8])}"
        return f"no {key!r} in this report{closest(str(key), keys)}; it has {', '.join(keys[:8])}"
