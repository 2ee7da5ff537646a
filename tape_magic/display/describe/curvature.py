"""The parts of a report on a Hessian: verdict, heat map, eigenvalues."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.display.content import numbers
from tape_magic.display.content.document import Line, Part, Span, Tone, Verdict, say
from tape_magic.display.content.reduction import heat_map
from tape_magic.display.describe.common import is_, shown_name
from tape_magic.results.curvature import Curvature, Hessian

_SHOWN, _ENDS = 8, 3
"""The most eigenvalues that are all shown, and how many from each end are shown of more."""


def hessian_parts(hessian: Hessian) -> tuple[Part, ...]:
    """Return the parts on one Hessian; its blocks have their rows in the table of derivatives."""
    matrix, name = hessian.matrix, shown_name(hessian.target)
    gradient = f"‖∇{name}‖ = {numbers.rounded(hessian.gradient_norm)}"
    if not hessian.size:
        return ()
    if matrix is None:
        size = f"∇²{name} is {hessian.size:,}×{hessian.size:,}"
        return (Line((say(f"{size}: too large for eigenvalues and a heat map"), say(gradient))),)
    spans = _spans(hessian)
    labels = tuple(itertools.chain.from_iterable(map(_labels, hessian.names, hessian.shapes)))
    picture = heat_map(matrix, f"∇²{name}", spans, spans, (labels, labels))
    return (_verdict(hessian, matrix, gradient), picture, *_eigenvalues(hessian))


def _verdict(hessian: Hessian, matrix: np.ndarray[Any, Any], gradient: str) -> Verdict:
    name = f"∇²{shown_name(hessian.target)}"
    if hessian.curvature is None:
        broken = int(matrix.size - np.isfinite(matrix).sum())
        headline = f"{broken:,} of {matrix.size:,} elements of {name} {is_(broken)} not finite"
        return Verdict(Tone.BAD, headline, ("no eigenvalues", gradient))
    singular = hessian.curvature is Curvature.SINGULAR
    # Away from a stationary point, the verdict itself contains the norm of the gradient.
    norm = (gradient,) if singular or hessian.stationary else ()
    return Verdict(Tone.WARNING if singular else Tone.PLAIN, hessian.verdict, (name, *norm))


def _spans(hessian: Hessian) -> tuple[Span, ...]:
    stops = list(itertools.accumulate(math.prod(shape) for shape in hessian.shapes))
    return tuple(map(Span, hessian.names, [0, *stops], stops))


def _labels(name: str, shape: tuple[int, ...]) -> list[str]:
    """Return a name for each element: ``x`` for a scalar, ``w[1, 0]`` for an element of an array."""
    return [f"{name}[{', '.join(map(str, index))}]" if index else name for index in np.ndindex(*shape)]


def _eigenvalues(hessian: Hessian) -> tuple[Line, ...]:
    values, condition = hessian.eigenvalues, hessian.condition
    if not values or condition is None:
        return ()
    many = len(values) > _SHOWN
    counted = f"{len(values)} eigenvalues" if many else "eigenvalues" if len(values) > 1 else "eigenvalue"
    shown = f"{_listed(values[:_ENDS])}, …, {_listed(values[-_ENDS:])}" if many else _listed(values)
    number = "infinite" if math.isinf(condition) else numbers.rounded(condition)
    return (Line((say(f"{counted} {shown}"), say(f"condition number {number}"))),)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(numbers.rounded(value) for value in values)
