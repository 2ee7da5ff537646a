"""The findings of runs by SciPy's methods, which are those of the other runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.findings import Finding, FindingKind
from tape_magic.results.minimum import StopReason
from tests.support.notebook import Notebook

ENGINES = ("graph", "xla", "eager")
ROWS = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
SUMS = ROWS.sum(1)


def found(loss: Any, start: Any, method: str, engine: str = "graph", **options: Any) -> tuple[Finding, ...]:
    return tape_magic.minimize(loss, {"x": start}, method, engine=engine, **options).findings


def chain(x: Any) -> Any:
    """Return Rosenbrock's function of several numbers."""
    return tf.reduce_sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_operation_that_is_not_finite_is_named(shell: Notebook, engine: str) -> None:
    shell.ok("import tensorflow as tf\nx = tf.Variable(1.0)")
    shell.ok(f"%%minimize y --over x --optimizer bfgs --engine {engine} -o m\nz = x - 3\ny = tf.math.log(z)")
    (finding,) = shell.ns["m"].findings
    assert finding.kind is FindingKind.NOT_FINITE
    assert finding.sentence == "y is nan at the start: Log is nan for −2, line 3: y = tf.math.log(z)"
    assert finding.line is not None
    assert finding.line.line == 3
    assert shell.ns["x"].numpy() == 1.0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gradient_that_is_not_finite(engine: str) -> None:
    (finding,) = found(lambda x: tf.sqrt(x) + x, 0.0, "bfgs", engine)
    assert finding.sentence.startswith(
        "the gradient by x is not finite at the start: the gradient of Sqrt is inf for 0"
    )


def test_residuals_that_are_not_finite() -> None:
    (finding,) = found(lambda x: tf.math.log(x - 2.0), np.array([1.0, 3.0]), "lm")
    assert "Log is nan for −1 at [0]" in finding.sentence


@pytest.mark.parametrize("engine", ENGINES[::2])
@pytest.mark.parametrize("method", ["bfgs", "nelder-mead"])
def test_pairs_of_all_rows(engine: str, method: str) -> None:
    start = np.zeros((3, 1), "float32")
    (finding,) = found(lambda x: tf.reduce_mean((ROWS @ x - SUMS) ** 2), start, method, engine, steps=5)
    assert finding.kind is FindingKind.BROADCAST
    assert found(lambda x: tf.reduce_mean((ROWS @ x - SUMS[:, None]) ** 2), start, method, engine) == ()


def test_probabilities_where_logits_are_taken() -> None:
    labels = np.eye(3, dtype="float32")[np.arange(32) % 3]

    def loss(x: Any) -> Any:
        given = tf.nn.softmax(ROWS @ x)
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, given))

    (finding,) = found(loss, np.zeros((3, 3), "float32"), "bfgs", steps=5)
    assert finding.kind is FindingKind.SOFTMAX_TWICE


def test_a_limit_on_the_way_down() -> None:
    """The minimum of the chain is 0, and 9 are left after 30 steps."""
    result = tape_magic.minimize(chain, {"x": np.full(10, -1.2)}, "bfgs", 30, engine="graph")
    assert result.reason is StopReason.STEPS
    (finding,) = result.findings
    assert str(finding) == "still falling · raise --steps"


def test_nothing_is_said_of_runs_that_are_well() -> None:
    for method in ("bfgs", "l-bfgs-b", "newton-cg", "trust-exact", "slsqp"):
        result = tape_magic.minimize(chain, {"x": np.array([-1.2, 1.0])}, method, engine="graph")
        assert (result.converged, result.findings) == (True, ()), method


def test_a_program_that_cannot_run_again_is_not_looked_into(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nx = tf.Variable(1.0); rows = iter(tf.data.Dataset.range(100))")
    line = "%%minimize y --over x --optimizer bfgs --engine eager -o m"
    shell.ok(f"{line}\nn = next(rows)\ny = tf.math.log(x - 3)")
    (finding,) = shell.ns["m"].findings
    assert finding.sentence == "not looked into: line 2 changes rows"


@pytest.mark.parametrize("engine", ENGINES[::2])
def test_what_is_asked_leaves_nothing_behind(shell: Notebook, engine: str) -> None:
    shell.ok("import tensorflow as tf\nx = tf.Variable(1.0); count = tf.Variable(0)")
    line = f"%%minimize y --over x --optimizer bfgs --engine {engine}"
    body = "count.assign_add(1)\nprint('seen')\ny = tf.math.log(x - 3)"
    counts = []
    for quiet in ("", "", " -q"):  # the first run compiles
        shell.ok("count.assign(0); None")
        run = shell.ok(f"{line}{quiet}\n{body}")
        counts.append((int(shell.ns["count"]), run.stdout))
    assert counts[1] == counts[2]
