"""Few combinations of many values, for tests that would take minutes with all of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def covering(*axes: Iterable[Any], times: int = 1) -> list[tuple[Any, ...]]:
    """Return as many combinations as the longest axis has values, which hold each value of each axis.

    For values that do not depend on each other, such as an engine and a cell: what fails for one engine and
    one cell alone is left to the tests that are about that engine. Where they may, `times` lets each value
    of the longest axis meet as many values of the others.

    >>> covering("abcd", [1, 2])
    [('a', 1), ('b', 2), ('c', 1), ('d', 2)]
    >>> covering("abc", [1, 2], times=2)
    [('a', 1), ('b', 2), ('c', 1), ('a', 2), ('b', 1), ('c', 2)]
    """
    lists = [list(axis) for axis in axes]
    longest = max(lists, key=len)
    return [
        tuple(values[(index + turn * (values is not longest)) % len(values)] for values in lists)
        for turn in range(times)
        for index in range(len(longest))
    ]
