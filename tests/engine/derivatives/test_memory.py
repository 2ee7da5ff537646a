"""A run is freed as soon as its report is there, with its tensors, and without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.derivatives.run import Run

KINDS: dict[str, dict[str, Any]] = {
    "gradient": {},
    "second": {"order": 2},
    "jacobian": {"jacobian": True},
    "hessian": {"hessian": True},
    "jvp": {"jvp": {"x": [1.0, 1.0]}},
    "hvp": {"hvp": {"x": [1.0, 1.0]}},
}


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage is collected while the test runs."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def runs() -> dict[int, Any]:
    """Return all runs that are in memory, by identity."""
    return {id(one): one for one in gc.get_objects() if issubclass(type(one), Run)}


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [2.0, 1.0], ids=["regular", "diagnosed"])
def test_nothing_of_a_run_stays(kind: str, start: float) -> None:
    before = runs()  # a traceback that another test left may hold one
    x = tf.Variable([start, 3.0])
    # The slope of the square root is infinite at 0, which the diagnosis explains.
    report = tape_magic.grad(lambda x: tf.reduce_sum(tf.sqrt(x - 1)), x, **KINDS[kind])
    assert len(report) > 0
    assert runs().keys() - before.keys() == set()
