"""Arrays that a cell reads: their values count at each run, and no graph holds a copy of them."""

from __future__ import annotations

import numpy as np
import pytest

from tape_magic.engine.tracing.traced import Traced
from tests.support.notebook import Notebook

SET_UP = """
import numpy as np, tensorflow as tf
X = np.ones((300, 300), "float32")
data = {"X": X}
class Data:
    pass
held = Data()
held.X = X
w = tf.Variable(0.0)
def mean():
    return tf.reduce_mean(tf.constant(X))
@tf.function
def compiled(X):
    return tf.reduce_mean(X)
"""
READS = {
    "the array": "m = tf.reduce_mean(X*1.0 + 0.0*w)",
    "in a dict": "m = tf.reduce_mean(data['X'] + 0.0*w)",
    "in an object": "m = tf.reduce_mean(held.X + 0.0*w)",
    "in a function": "m = mean()",
    "for a compiled function": "m = compiled(X)",
    "with NumPy": "m = float(X.mean()) + 0.0*w",
}
CHANGES = {
    "in place": "X *= 3.0",
    "one element": "X[299, 299] = 180_001.0",
    "another": "X = np.full((300, 300), 3.0, 'float32'); data['X'] = held.X = X",
    "another shape": "X = np.full((500, 300), 3.0, 'float32'); data['X'] = held.X = X",
}


def minimized(shell: Notebook, cell: str, line: str) -> float:
    shell.ok("w.assign(0.0)")
    shell.ok(f"%%minimize loss --over w {line} -q\n{cell}\nloss = (w - m)**2")
    return float(shell.ns["w"].numpy())


@pytest.mark.parametrize("read", READS)
def test_a_changed_array_counts_at_the_next_run(shell: Notebook, read: str) -> None:
    shell.ok(SET_UP)
    line = "--optimizer sgd --lr 0.5 --steps 2 --engine graph"
    assert minimized(shell, READS[read], line) == pytest.approx(1.0, rel=1e-5)
    for name in CHANGES if read == "the array" else ("one element", "another"):
        shell.ok(CHANGES[name])
        assert minimized(shell, READS[read], line) == pytest.approx(3.0, rel=1e-4)
        shell.ok("X[:] = 1.0")
        assert minimized(shell, READS[read], line) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("line", ["--engine xla --steps 2", "--engine eager --steps 2", "--optimizer bfgs"])
def test_each_engine(shell: Notebook, line: str) -> None:
    shell.ok(SET_UP)
    line += "" if "bfgs" in line else " --optimizer sgd --lr 0.5"
    assert minimized(shell, READS["the array"], line) == pytest.approx(1.0, rel=1e-5)
    shell.ok(CHANGES["in place"])
    assert minimized(shell, READS["the array"], line) == pytest.approx(3.0, rel=1e-4)


def test_the_graphs_of_a_run_hold_no_copy(shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    trace = Traced.__init__

    def traced(self: Traced, *arguments: object, **named: object) -> None:
        trace(self, *arguments, **named)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Traced, "__init__", traced)
    shell.ok(SET_UP)
    for line in ("--steps 2 --engine graph", "--optimizer bfgs --steps 2"):
        shell.ok(f"%%minimize loss --over w {line} -q\nloss = tf.reduce_sum((X*w - X)**2)")
    assert len(made) == 2
    for one in made:
        assert one.concrete.graph.as_graph_def().ByteSize() < 100_000
        (held,) = [tensor for tensor in one.concrete.captured_inputs if tensor.shape == (300, 300)]
        np.testing.assert_array_equal(held, shell.ns["X"])
