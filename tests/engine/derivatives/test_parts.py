"""Derivatives by parts of arrays: `dy/dw[0]` is that part of `dy/dw`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tape_magic import grad
from tests.support.notebook import Notebook

HELD = {
    "variable": tf.Variable([[1.0, 2.0], [3.0, 4.0]]),
    "tensor": tf.constant([[1.0, 2.0], [3.0, 4.0]]),
    "array": np.array([[1.0, 2.0], [3.0, 4.0]]),
}


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
@pytest.mark.parametrize("line", ["dy/dw[0], dy/dw[1, -1] dy/dw[1][0]", "y --wrt w[0] w[1, -1] w[1][0]"])
def test_parts(shell: Notebook, held: Any, line: str) -> None:
    """Of y = Σ wᵢ³, the derivative by w[i] is 3 wᵢ²."""
    shell.ns.update(tf=tf, w=held)
    run = shell.ok(f"%%grad {line}\ny = tf.reduce_sum(w**3)")
    grads = shell.ns["grads"]
    assert [row.key for row in grads.rows] == ["dy/dw[0]", "dy/dw[1, -1]", "dy/dw[1][0]"]
    assert grads["dy/dw[0]"].numpy().tolist() == [3.0, 12.0]
    assert float(grads["y", "w[1, -1]"]) == 48.0
    assert "∂y/∂w[1, -1]" in run.displayed[0].text
    assert ("dy_dw_0" in shell.ns) is line.startswith("dy")
    assert "dy_dw" not in shell.ns
    assert shell.ns["w"] is held


def test_parts_beside_the_whole_and_in_a_container(shell: Notebook) -> None:
    shell.ns.update(tf=tf, w=HELD["variable"], p={"v": tf.Variable([1.0, 2.0])})
    shell.ok("%%grad dy/dw, dy/dw[0], dy/dp['v'][1], dy/dp --check\ny = tf.reduce_sum(w**2) * p['v'][1]")
    ns = shell.ns
    assert ns["dy_dw"].shape == (2, 2)
    assert ns["dy_dw_0"].numpy().tolist() == [4.0, 8.0]
    assert float(ns["dy_dp_v_1"]) == 30.0
    assert ns["dy_dp"]["v"].numpy().tolist() == [0.0, 30.0]
    assert {check.key for check in ns["grads"].checks} == {"dy/dw", "dy/dp['v']"}


def test_a_part_that_nothing_reads() -> None:
    report = grad(lambda w: {"y": tf.constant(1.0)}, {"w": tf.Variable([1.0, 2.0])}, "dy/dw[0]")
    assert report["dy/dw[0]"] is None
    assert report.rows[0].shape == ()
    assert report.rows[0].why


@pytest.mark.parametrize("line", ["d2y/dw[0]2", "dy/dw[0] --jacobian", "y --order 2 --wrt w[0]"])
def test_other_derivatives_by_a_part_are_refused_with_the_way(shell: Notebook, line: str) -> None:
    shell.ns.update(tf=tf, w=HELD["variable"])
    refused = shell.refused(f"%%grad {line}\ny = w**2")
    assert refused.startswith(
        "w[0] is a part of w, and a part is a new tensor that nothing was computed from"
    )
