"""Data that are not finite: a run that diverged by them names the row, and no other run speaks of data."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.findings import FindingKind
from tests.support.notebook import Notebook

SET_UP = """
import numpy as np, tensorflow as tf
X = np.arange(40, dtype="float32").reshape(20, 2)
X[13, 1] = np.nan
y = np.ones(20, "float32")
clean = np.nan_to_num(X)
labels = y.copy()
labels[5], labels[17] = np.inf, np.nan
ds = tf.data.Dataset.from_tensor_slices(X).batch(2)
pairs = tf.data.Dataset.from_tensor_slices((clean, labels)).batch(4)
dicts = tf.data.Dataset.from_tensor_slices({"a": X, "b": y}).batch(4)
def gen():
    for i in range(0, 20, 2):
        yield X[i : i + 2], y[i : i + 2]
w = tf.Variable([0.1, 0.1])
T = tf.constant(X)
held = {"X": X}
class Data:
    pass
data = Data()
data.X = X
numbers = [1.0, float("nan"), 3.0]
several = X.copy()
several[15, 0] = -np.inf
several[17] = np.nan
hidden = np.array([[1.0, 2.0], [-np.inf, 1.0]], "float32")
count = tf.Variable(0)
def squares(w):
    return tf.reduce_mean((X @ w[:, None])**2)
"""
FIT = "loss = tf.reduce_mean((tf.linalg.matvec(x, w) - t)**2)"
ONE = FIT.replace("t)", "1.0)")
READ = "loss = tf.reduce_mean(({} @ w[:, None])**2)"
END = ": drop or replace it"

TOLD = {
    "a dataset": (
        '--for "x in ds" --lr 1e-3 --epochs 3',
        ONE,
        6,
        f"row 1 of batch 7 of ds holds nan (x){END}",
    ),
    "eager": (
        '--for "x in ds" --lr 1e-3 --engine eager',
        ONE,
        6,
        f"row 1 of batch 7 of ds holds nan (x){END}",
    ),
    "shuffled arrays": (
        '--for "x, t in (X, y)" --batch 4',
        FIT,
        None,
        f"row 13 of (X, y) holds nan (x){END}",
    ),
    "a generator": ('--for "x, t in gen()"', FIT, 6, f"row 1 of batch 7 of gen() holds nan (x){END}"),
    "dicts": (
        '--for "b in dicts"',
        FIT.replace("x,", "b['a'],").replace("t)", "b['b'])"),
        3,
        f"row 1 of batch 4 of dicts holds nan (b['a']){END}",
    ),
    "labels": ('--for "x, t in pairs"', FIT, 1, f"row 1 of batch 2 of pairs holds inf (t){END}"),
    "an array": ("--over w", READ.format("X"), 0, f"X holds nan in row 13{END}"),
    "a tensor": ("--over w", READ.format("T"), 0, f"T holds nan in row 13{END}"),
    "in a dict": ("--over w", READ.format("held['X']"), 0, f"held['X'] holds nan in row 13{END}"),
    "in a function": ("--over w", "loss = squares(w)", 0, f"X holds nan in row 13{END}"),
    "a list": (
        "--over w",
        "loss = tf.reduce_mean(tf.constant(numbers)*w[0])",
        0,
        f"numbers holds nan in row 1{END}",
    ),
    "several rows": (
        "--over w",
        READ.format("several"),
        0,
        "several holds nan in row 13 and 2 more: drop or replace them",
    ),
    "a row at a later step": (
        "--over w",
        "count.assign_add(1)\nx = tf.gather(X, [count % 20])\n" + ONE,
        12,
        f"X holds nan in row 13{END}",
    ),
    "a gradient": (
        "--over w",
        "loss = tf.reduce_sum(tf.where(tf.math.is_nan(X), 0.0, (X*w[0])**2))",
        0,
        f"X holds nan in row 13{END}",
    ),
    "bfgs": ("--over w --optimizer bfgs", READ.format("X"), 0, f"X holds nan in row 13{END}"),
    "nelder-mead": ("--over w --optimizer nelder-mead", READ.format("T"), 0, f"T holds nan in row 13{END}"),
    "lm": ("--over w --optimizer lm", "loss = X @ w[:, None]", 0, f"X holds nan in row 13{END}"),
}

RATE = "--optimizer sgd --lr 100 --epochs 100"
MASKED = "x = tf.where(tf.math.is_nan(x), 0.0, x)\n"
SILENT = {
    "masked batches": (f'--for "x in ds" {RATE}', MASKED + ONE),
    "labels that are not read": (f'--for "x, t in pairs" {RATE}', ONE),
    "a part of a dict that is not read": (
        f'--for "b in dicts" {RATE}',
        "loss = tf.reduce_mean((w[0] - b['b'])**2)",
    ),
    "a masked array": (
        "--over w --optimizer sgd --lr 100",
        "Z = tf.where(tf.math.is_nan(X), 0.0, X)\n" + READ.format("Z"),
    ),
    "rows that are not read": ("--over w --optimizer sgd --lr 100", READ.format("X[:10]")),
    "a mask of attention": (
        "--over w --optimizer sgd --lr 100",
        "loss = tf.reduce_sum(tf.nn.softmax(w[0] + hidden)) + w[1]**4",
    ),
    "data that overflow": ("--over w", READ.format("(clean*1e30)")),
    "a start that is not finite": (
        "--over w",
        "loss = tf.math.log(-w[0])\n" + "Z = tf.where(tf.math.is_nan(X), 0.0, X)",
    ),
    "a masked array and bfgs": (
        "--over w --optimizer bfgs",
        "loss = tf.math.log(-w[0]) + tf.reduce_sum(tf.where(tf.math.is_nan(X), 0.0, X))",
    ),
}


@pytest.fixture
def notebook(shell: Notebook) -> Notebook:
    shell.ok(SET_UP)
    return shell


def test_the_row_is_named(notebook: Notebook) -> None:
    for name, (line, cell, step, cause) in TOLD.items():
        notebook.ok("w.assign([0.1, 0.1]); count.assign(0)")
        before = dict(notebook.names)
        shown = notebook.ok(f"%%minimize loss {line}\n{cell}").displayed[-1].text
        lost = notebook.ns["minimum"].divergence
        assert lost.cause == cause, name
        assert step is None or lost.step == step, name
        assert " ".join(cause.split()) in " ".join(shown.split()), name
        assert "rate below" not in shown, name
        # All is as the run left it: what the data were, and no numbers of the trials.
        assert all(
            notebook.names[one] is before[one] for one in before if one not in ("loss", "minimum", "x")
        )
        assert np.isfinite(notebook.ns["w"].numpy()).all(), name
    assert np.isnan(notebook.ns["X"][13, 1])
    assert np.isnan(notebook.ns["data"].X[13, 1])


def test_nothing_is_said_of_data_that_are_not_the_cause(notebook: Notebook) -> None:
    for name, (line, cell) in SILENT.items():
        notebook.ok("w.assign([0.1, 0.1])")
        shown = notebook.ok(f"%%minimize loss {line}\n{cell}").displayed[-1].text
        lost = notebook.ns["minimum"].divergence
        assert lost is not None, name
        assert lost.cause == "", name
        found = [one.kind for one in notebook.ns["minimum"].findings]
        assert ("rate below" in shown or found == [FindingKind.RUNAWAY]) == (lost.step > 0), name


def test_a_function(capsys: pytest.CaptureFixture[str]) -> None:
    X = np.arange(8.0).reshape(4, 2)
    X[2, 0] = np.nan
    w, calls = tf.Variable([1.0, 2.0], dtype=tf.float64), []

    def loss() -> tf.Tensor:
        print("evaluated")
        calls.append(1)
        return tf.reduce_sum(tf.linalg.matvec(X, w) ** 2)

    result = tape_magic.minimize(loss, w, "sgd", 5, lr=0.1)
    assert result.divergence is not None
    assert result.divergence.cause == "X holds nan in row 2: drop or replace it"
    # The program is run again without a trace of it: it was called and printed once, as it was traced.
    assert len(calls) == 1
    assert capsys.readouterr().out == "evaluated\n"
    np.testing.assert_array_equal(w, [1.0, 2.0])

    def of_batch(xb: tf.Tensor, yb: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean((tf.linalg.matvec(xb, w) - yb) ** 2)

    result = tape_magic.minimize(of_batch, data=(X, np.ones(4)), optimizer="sgd", batch=2, lr=0.01, epochs=2)
    assert result.divergence is not None
    assert result.divergence.cause == "row 2 of the data holds nan (xb): drop or replace it"


def test_what_a_run_of_the_program_changes_is_put_back(shell: Notebook) -> None:
    shell.ok(SET_UP + "seen = []\nmean = tf.Variable(0.0, trainable=False)\nrng = np.random.default_rng(1)")
    shell.ok("state = rng.bit_generator.state['state']['state']")
    cell = "seen.append(1)\nmean.assign_add(1.0)\nloss = tf.reduce_sum(X @ w[:, None])"
    shell.ok(f"%%minimize loss --over w --steps 3\n{cell}")
    assert shell.ns["minimum"].divergence.cause
    assert shell.ns["seen"] == [1]
    assert float(shell.ns["mean"]) == 0.0
    # Nothing can be said of a cell that takes from an iterator, which cannot be put back.
    shell.ok("rows = iter([X] * 9)")
    cell = "loss = tf.reduce_sum(next(rows) @ w[:, None])"
    shell.ok(f"%%minimize loss --over w --steps 3\n{cell}")
    assert shell.ns["minimum"].divergence.cause == ""


def test_data_frames(shell: Notebook) -> None:
    pytest.importorskip("pandas")
    shell.ok(
        SET_UP + "import pandas as pd\nframe = pd.DataFrame({'a': X[:, 0], 'b': X[:, 1], 'n': ['x'] * 20})"
    )
    for read in ("frame['b'].values", "frame[['a', 'b']].to_numpy()[:, 1]"):
        shell.ok(f"%%minimize loss --over w --steps 3\nloss = tf.reduce_sum({read} * w[0])")
        assert shell.ns["minimum"].divergence.cause == "frame holds nan in row 13: drop or replace it"
    shell.ok("w.assign([1.0, 1.0])")
    shell.ok("%%minimize loss --optimizer sgd --lr 100\nloss = tf.reduce_sum((frame['a'].values * w[0])**2)")
    assert shell.ns["minimum"].divergence.cause == ""
