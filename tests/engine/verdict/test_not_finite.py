"""Which operation made a run diverge: its name, the value that it was given, and the user's line."""

from __future__ import annotations

import numpy as np
import pytest

from tape_magic.results.findings import Finding, FindingKind
from tests.support.notebook import Notebook

ENGINES = "graph", "xla", "eager"


def _found(shell: Notebook, setup: str, line: str, body: str) -> tuple[Finding, ...]:
    """Return the findings of a run; the loss is y."""
    shell.run(f"import numpy as np\nimport tensorflow as tf\n{setup}")
    run = shell.run(f"%%minimize y {line} --optimizer sgd\n{body}")
    assert run.success, run.traceback
    return tuple(one for one in shell.ns["minimum"].findings if one.kind is FindingKind.NOT_FINITE)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_operation_the_value_and_the_line_are_named(shell: Notebook, engine: str) -> None:
    # The slope of log(2x) at 1 is 1: a step of 2 leads to x = −1, where the logarithm of −2 is asked for.
    line = f"--over x --lr 2 --steps 20 --engine {engine}"
    (found,) = _found(shell, "x = tf.Variable(1.0)", line, "z = 2 * x\ny = tf.math.log(z)")
    assert found.sentence == "y became nan at step 1: Log is nan for −2, line 3: y = tf.math.log(z)"
    assert found.line is not None
    assert found.line.line == 3
    assert found.cure == "keep its argument above 0"
    assert found.evidence == {"step": 1, "operation": "Log"}

    # The value is finite at the start, and its gradient is not.
    line = f"--over x --lr 0.1 --steps 5 --engine {engine}"
    (found,) = _found(shell, "x = tf.Variable(0.0)", line, "y = 3 * tf.sqrt(x)")
    assert found.sentence == (
        "the gradient by x is not finite at the start: the gradient of Sqrt is inf for 0, "
        "line 2: y = 3 * tf.sqrt(x)"
    )


def test_an_infinite_loss_at_the_start_is_explained(shell: Notebook) -> None:
    line = "--over w --lr 0.1 --steps 5"
    setup = "w = tf.Variable([0.5, 0.0])"
    (found,) = _found(shell, setup, line, "a = 1.0 / w\ny = tf.reduce_sum(a**2)")
    assert found.sentence == "y is inf at the start: RealDiv is inf for 1 and 0 at [1], line 2: a = 1.0 / w"


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_the_batch_that_failed_is_evaluated_again(shell: Notebook, engine: str) -> None:
    # Of the third row alone the logarithm of a negative number is asked for.
    setup = "X = np.array([[1.], [2.], [-3.], [4.]], 'float32'); w = tf.Variable([[1.0]])"
    line = f"--over w --lr 0.001 --for 'xb in X' --batch 1 --engine {engine}"
    (found,) = _found(shell, setup, line, "h = xb @ w\ny = tf.reduce_mean(tf.math.log(h))")
    assert found.line is not None
    assert found.line.line == 3
    assert "Log is nan for −" in found.sentence
    assert np.isfinite(shell.ns["w"].numpy()).all()


@pytest.mark.parametrize(
    ("setup", "line", "body"),
    [
        # Every step multiplies x by −19: the rate is the reason, and the report says so.
        ("x = tf.Variable(5.0)", "--over x --lr 10 --steps 500", "y = x**2"),
        # The data are the reason, and are named once.
        (
            "X = np.array([[1.], [np.nan]], 'float32'); x = tf.Variable(1.0)",
            "--over x --lr 0.1 --steps 3",
            "y = tf.reduce_mean((X * x) ** 2)",
        ),
        ("x = tf.Variable(5.0)", "--over x --lr 0.1 --steps 3", "y = (x - 1) ** 2"),
        # NaN and infinities within, which do not reach the loss.
        (
            "x = tf.Variable(5.0)",
            "--over x --lr 0.1 --steps 3",
            "bad = tf.math.log(-x)\ny = (x - 1) ** 2",
        ),
    ],
    ids=["runaway", "data", "healthy", "unused nan"],
)
def test_nothing_is_found_where_no_operation_is_to_blame(
    shell: Notebook, setup: str, line: str, body: str
) -> None:
    assert _found(shell, setup, line, body) == ()


GENERATOR = """
def ones():
    while True:
        yield 1.0
rows = ones()
"""
LOADER = """
class Loader:
    def __init__(self):
        self.rows = iter([1.0] * 100)
    def take(self):
        return next(self.rows)
loader = Loader()
"""


@pytest.mark.parametrize(
    ("setup", "first", "said"),
    [
        ("rows = iter(tf.data.Dataset.range(100))", "n = next(rows)", "line 2 changes rows"),
        (GENERATOR, "n = next(rows)", "line 2 changes rows"),
        (GENERATOR + "def draw():\n    return next(rows)", "n = draw()", "line 2 changes rows"),
        (LOADER, "n = loader.take()", "line 2 changes loader.rows"),
        ("", "n = time.sleep(0)", "line 2 would happen once more: time.sleep(0)"),
    ],
    ids=["pipeline", "generator", "within a function", "within an object", "a call"],
)
def test_a_program_that_cannot_run_again_is_not_looked_into(
    shell: Notebook, setup: str, first: str, said: str
) -> None:
    body = f"{first}\ny = tf.math.log(2 * x)"
    setup = f"import time\nx = tf.Variable(1.0)\n{setup}"
    (found,) = _found(shell, setup, "--over x --lr 2 --steps 5 --engine eager", body)
    assert found.sentence == f"not looked into: {said}"
    assert found.line is not None
    assert found.line.line == 2
    assert "try a rate" not in str(shell.ns["minimum"])


def test_a_list_is_put_back_after_it_was_looked_into(shell: Notebook) -> None:
    line = "--over x --lr 2 --steps 5 --engine eager"
    (found,) = _found(
        shell, "x = tf.Variable(1.0); seen = []", line, "seen.append(float(x))\ny = tf.math.log(2 * x)"
    )
    assert "Log is nan for −2, line 3" in found.sentence
    assert shell.ns["seen"] == [1.0, -1.0, 1.0]  # at the start, the step, and where it went back to
