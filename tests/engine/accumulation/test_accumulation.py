"""Gradients over data in parts, on one device: sums, reasons, names, and what cannot be."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.errors import TapeMagicError
from tests.support.notebook import Notebook

FOR = '--for "xb, yb in (x, y)" --batch 4'


@pytest.fixture
def data(shell: Notebook) -> Notebook:
    """Ten rows in which x is 0, 1, 2, … and y twice that, and a weight."""
    x = np.arange(10, dtype="float32")
    shell.ns.update(tf=tf, keras=keras, np=np, x=x, y=2 * x, w=tf.Variable(1.5))
    return shell


def notes(shell: Notebook) -> str:
    return " | ".join(shell.ns["grads"].notes)


# -- numbers ---------------------------------------------------------------------------------------------


def test_a_mean_counts_by_rows(data: Notebook) -> None:
    """The mean of (w − 2)² x²: its derivative is 2 (w − 2) times the mean of the squares, 28.5."""
    data.ok(f"%%grad dloss/dw {FOR}\nloss = tf.reduce_mean((w * xb - yb) ** 2)")
    assert float(data.ns["dloss_dw"]) == pytest.approx(2 * (1.5 - 2) * 28.5)
    assert float(data.ns["loss"]) == pytest.approx((1.5 - 2) ** 2 * 28.5)
    assert notes(data) == "10 rows in 3 parts; loss is a mean over its rows, and each part counts by its rows"


def test_a_sum_is_added_up(data: Notebook) -> None:
    data.ok(f"%%grad dloss/dw {FOR}\nloss = tf.reduce_sum((w * xb - yb) ** 2)")
    assert float(data.ns["dloss_dw"]) == pytest.approx(2 * (1.5 - 2) * 285)
    assert notes(data) == "10 rows in 3 parts; loss is a sum over its rows, and so are the parts added up"


@pytest.mark.parametrize(("batch", "parts"), [(1, 10), (3, 4), (9, 2)])
def test_any_number_of_rows_at_once(data: Notebook, batch: int, parts: int) -> None:
    line = f'--for "xb, yb in (x, y)" --batch {batch}'
    data.ok(f"%%grad loss, total {line}\nloss = tf.reduce_mean(w * xb)\ntotal = tf.reduce_sum(w * xb)")
    found = data.ns["grads"]
    assert float(found["loss", "w"]) == pytest.approx(4.5)
    assert float(found["total", "w"]) == pytest.approx(45)
    assert f"10 rows in {parts} parts" in notes(data)


def test_all_rows_at_once_are_one_run(data: Notebook) -> None:
    data.ok("runs = []\n")
    data.ok('%%grad loss --for "xb, yb in (x, y)"\nruns.append(len(xb))\nloss = tf.reduce_mean(w * xb)')
    assert data.ns["runs"] == [10]
    assert notes(data) == ""


@pytest.mark.parametrize("kind", ["dataset", "list", "generator", "dict"])
def test_data_that_make_their_batches(data: Notebook, kind: str) -> None:
    """Batches of 4, 4 and 2 rows in their order."""
    x, y = data.ns["x"], data.ns["y"]
    batches = [(x[at : at + 4], y[at : at + 4]) for at in (0, 4, 8)]
    given = {
        "dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(4),
        "list": batches,
        "generator": lambda: iter(batches),
        "dict": [{"a": one, "b": other} for one, other in batches],
    }
    data.ns["train"] = given[kind]
    names, loss = ("b", "b['a'] * w") if kind == "dict" else ("xb, yb", "xb * w")
    data.ok(f'%%grad dloss/dw --for "{names} in train"\nloss = tf.reduce_mean({loss})')
    assert float(data.ns["dloss_dw"]) == pytest.approx(4.5)


def test_the_function() -> None:
    x = np.arange(10, dtype="float32")
    report = tape_magic.grad(
        lambda w, xb: {"loss": tf.reduce_mean(w * xb)}, {"w": 2.0}, "loss", data=x, batch=4
    )
    assert float(report["loss", "w"]) == pytest.approx(4.5)
    assert "10 rows in 3 parts" in report.notes[0]


def test_floats_stay_floats_and_structures_are_kept(data: Notebook) -> None:
    data.ns.update(a=2.0, p={"w": tf.Variable(1.0), "b": [3.0]})
    data.ok(f"%%grad dloss/da, dloss/dp {FOR}\nloss = tf.reduce_mean(a * p['w'] * xb + p['b'][0])")
    assert data.ns["a"] == 2.0
    assert data.ns["p"]["b"] == [3.0]
    found = data.ns["dloss_dp"]
    assert (float(found["w"]), float(found["b"][0])) == (pytest.approx(9.0), pytest.approx(1.0))
    assert float(data.ns["dloss_da"]) == pytest.approx(4.5)


def test_a_float_is_a_source_where_a_batch_is_read(data: Notebook) -> None:
    """The batch is no source by itself, though it is a tensor and the weight is none."""
    data.ns["a"] = 2.0
    data.ok(f"%%grad loss {FOR}\nloss = tf.reduce_mean(a * xb)")
    assert [row.key for row in data.ns["grads"]] == ["dloss/da"]


def test_rows_of_a_lookup_stay_rows(data: Notebook) -> None:
    data.ns["table"] = tf.Variable(np.ones((20, 2), "float32"))
    cell = "loss = tf.reduce_mean(tf.reduce_sum(tf.gather(table, tf.cast({}, tf.int32)), 1))"
    data.ok(f"%%grad dloss/dtable\n{cell.format('y')}")
    whole = data.ns["dloss_dtable"]
    data.ok(f"%%grad dloss/dtable {FOR}\n{cell.format('yb')}")
    found = data.ns["dloss_dtable"]
    assert isinstance(found, tf.IndexedSlices)
    np.testing.assert_allclose(tf.convert_to_tensor(found), tf.convert_to_tensor(whole), rtol=1e-6)


def test_float64_and_float16(data: Notebook) -> None:
    for dtype in ("float64", "float16"):
        data.ns["v"] = tf.Variable(1.0, dtype=dtype)
        data.ok(f"%%grad dloss/dv {FOR}\nloss = tf.reduce_mean(v * tf.cast(xb, v.dtype))")
        assert data.ns["dloss_dv"].dtype == dtype
        assert float(data.ns["dloss_dv"]) == pytest.approx(4.5, rel=1e-3)


def test_a_layer_that_the_cell_builds(data: Notebook) -> None:
    data.ns["layer"] = keras.layers.Dense(1, kernel_initializer="ones")
    data.ok(f"%%grad dloss/dlayer {FOR}\nloss = tf.reduce_mean(layer(xb[:, None]))")
    kernel, bias = data.ns["dloss_dlayer"]
    assert (float(kernel[0, 0]), float(bias[0])) == (pytest.approx(4.5), pytest.approx(1.0))


def test_two_models_of_one_name(data: Notebook) -> None:
    """Keras gives both kernels one path."""
    for name, factor in (("one", 1.0), ("other", 2.0)):
        start = keras.initializers.Constant(factor)
        layers = [keras.Input((1,)), keras.layers.Dense(1, kernel_initializer=start, name="dense")]
        data.ns[name] = keras.Sequential(layers)
    cell = "loss = tf.reduce_mean(one(xb[:, None]) + 3 * other(xb[:, None]))"
    data.ok(f"%%grad dloss/done, dloss/dother {FOR}\n{cell}")
    assert float(data.ns["dloss_done"][0][0, 0]) == pytest.approx(4.5)
    assert float(data.ns["dloss_dother"][0][0, 0]) == pytest.approx(13.5)
    assert len(data.ns["grads"]) == 4


# -- what is said ----------------------------------------------------------------------------------------


def test_rows_against_each_other(data: Notebook) -> None:
    data.ok(f"%%grad dloss/dw {FOR}\nloss = tf.reduce_mean(w * (xb[:, None] - xb) ** 2)")
    said = notes(data)
    assert re.search(r"loss of a batch is not made of those of its rows \(\S+ whole, \S+ in 2 parts\)", said)
    assert "loss is a mean" not in said


def test_batch_normalization(data: Notebook) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    data.ns["model"] = model
    data.ok(f"%%grad dloss/dmodel {FOR}\nloss = tf.reduce_mean((model(xb[:, None], training=True) - 1) ** 2)")
    assert "BatchNormalization normalises each part by itself" in notes(data)
    averages = [float(one.numpy()[0]) for one in model.non_trainable_variables]
    # Three parts of 4, 4 and 2 rows; the runs that told the mean left nothing.
    mean = 0.0
    for part in (data.ns["x"][:4], data.ns["x"][4:8], data.ns["x"][8:]):
        mean = 0.99 * mean + 0.01 * float(part.mean())
    assert averages[0] == pytest.approx(mean, rel=1e-5)


def test_dropout(data: Notebook) -> None:
    data.ns["drop"] = keras.layers.Dropout(0.5, seed=1)
    data.ok(f"%%grad dloss/dw {FOR}\nloss = tf.reduce_mean(w * drop(xb, training=True))")
    assert "each part draws random numbers of its own" in notes(data)


def test_of_a_healthy_loss_nothing_is_said(data: Notebook) -> None:
    data.ns["model"] = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2), keras.layers.Dropout(0.5)])
    data.ok(f"%%grad dloss/dmodel {FOR}\nloss = tf.reduce_mean(model(xb[:, None]) ** 2)")
    assert notes(data) == "10 rows in 3 parts; loss is a mean over its rows, and each part counts by its rows"
    assert all(row.reason is None for row in data.ns["grads"])


def test_not_finite_in_one_part(data: Notebook) -> None:
    """sqrt has an infinite derivative at 0, which is row 6 of 10."""
    data.ns["x"] = np.array([1, 1, 1, 1, 1, 0, 1, 1, 1, 1], "float32")
    data.ok(f"%%grad dloss/dw {FOR}\nloss = tf.reduce_mean(tf.sqrt(w * xb))")
    (row,) = data.ns["grads"]
    assert not np.isfinite(float(row.value))
    assert row.why.startswith("in rows 5 to 8 of (x, y): ")
    assert "line 2" in row.why
    assert "Sqrt" in row.why or "sqrt" in row.why


def test_a_batch_that_is_not_finite_has_its_number(data: Notebook) -> None:
    x = data.ns["x"]
    data.ns["train"] = [x[:4], np.where(x[4:8] == 5, np.nan, x[4:8]).astype("float32"), x[8:]]
    data.ok('%%grad dloss/dw --for "xb in train"\nloss = tf.reduce_mean(w * xb)')
    (row,) = data.ns["grads"]
    assert row.why.startswith("in batch 2 of train: ")


def test_cut_in_all_parts(data: Notebook) -> None:
    data.ok(f"%%grad dloss/dw {FOR}\nloss = tf.reduce_mean(tf.round(w * xb))")
    (row,) = data.ns["grads"]
    assert "Round, line 2" in row.why
    assert "in rows" not in row.why


def test_missing_in_some_parts(data: Notebook) -> None:
    """The weight is not read in the first part, and its derivative is 0 there."""
    data.ok(
        f"%%grad dloss/dw {FOR}\n"
        "factor = w if xb[0] > 0 else tf.constant(1.0)\nloss = tf.reduce_mean(factor * xb)"
    )
    (row,) = data.ns["grads"]
    assert float(row.value) == pytest.approx((4 + 5 + 6 + 7 + 8 + 9) / 10)
    assert row.reason is None
    assert "∂loss/∂w is None in rows 1 to 4 of (x, y) and counts as 0 there" in notes(data)


def test_zero_in_some_parts_is_no_zero(data: Notebook) -> None:
    data.ok(f"%%grad dloss/dw {FOR}\nloss = tf.reduce_mean(tf.nn.relu(w * xb - 10))")
    (row,) = data.ns["grads"]
    assert float(row.value) == pytest.approx((7 + 8 + 9) / 10)
    assert row.reason is None
    assert "0 at this point" not in notes(data)


def test_an_error_names_its_rows(data: Notebook) -> None:
    run = data.run(f"%%grad dloss/dw {FOR}\nassert 5 not in xb\nloss = tf.reduce_mean(w * xb)")
    assert isinstance(run.error, AssertionError)
    assert run.error.__notes__ == ["in rows 5 to 8 of (x, y)"]
    assert "assert 5 not in xb" in run.traceback
    assert "xb" not in data.ns


def test_a_cell_that_needs_whole_parts(data: Notebook) -> None:
    """It cannot run on a few rows, and so its loss is taken for a mean."""
    data.ns["x"] = np.arange(8, dtype="float32")
    data.ok('%%grad dloss/dw --for "xb in x" --batch 4\nloss = tf.reduce_mean(tf.reshape(w * xb, [2, 2]))')
    assert float(data.ns["dloss_dw"]) == pytest.approx(3.5)
    assert "loss: taken for a mean over its rows, since the cell could not run again" in notes(data)


# -- the notebook ----------------------------------------------------------------------------------------


def test_names_of_the_batch_are_given_back(data: Notebook) -> None:
    data.ns["xb"] = "mine"
    data.ok(f"%%grad dloss/dw {FOR}\nxb = xb / 2\nloss = tf.reduce_mean(w * xb)")
    assert data.ns["xb"] == "mine"
    assert "yb" not in data.ns
    assert "TRAINING" not in data.ns


def test_what_the_cell_shows_once_for_each_part(data: Notebook) -> None:
    run = data.ok(f"%%grad dloss/dw {FOR}\nprint('rows', len(xb))\nloss = tf.reduce_mean(w * xb)\nloss")
    assert run.stdout.count("rows 4") == 2
    assert run.stdout.count("rows") == 3
    assert float(run.out) == pytest.approx(1.5 * 4.5)


@pytest.mark.parametrize("at", range(1, 7))
def test_an_interrupt_gives_everything_back(data: Notebook, at: int) -> None:
    """In the first part, in the runs that tell a mean from a sum, and in the parts after it."""
    calls: list[int] = []

    def interrupt() -> None:
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt

    data.ns.update(interrupt=interrupt, a=2.0, xb="mine")
    kept = tf.Variable(0.0)
    data.ns["kept"] = kept
    cell = "interrupt()\nkept.assign_add(1.0)\nloss = tf.reduce_mean(a * xb)"
    run = data.run(f"%%grad dloss/da {FOR}\n{cell}")
    assert isinstance(run.error, KeyboardInterrupt)
    assert (data.ns["a"], data.ns["xb"]) == (2.0, "mine")
    assert "yb" not in data.ns
    assert "dloss_da" not in data.ns
    assert not tf.distribute.has_strategy()
    data.ns["interrupt"] = lambda: None
    data.ok(f"%%grad dloss/da {FOR}\ninterrupt()\nloss = tf.reduce_mean(a * xb)")
    assert float(data.ns["dloss_da"]) == pytest.approx(4.5)


def test_assignments_are_those_of_the_parts_alone(data: Notebook) -> None:
    data.ns["count"] = tf.Variable(0)
    data.ok(f"%%grad dloss/dw {FOR}\ncount.assign_add(1)\nloss = tf.reduce_mean(w * xb)")
    assert int(data.ns["count"]) == 3


def test_one_device_of_a_strategy(data: Notebook) -> None:
    data.ok('%%grad dloss/dw --for "xb, yb in (x, y)" --strategy mirrored\nloss = tf.reduce_mean(w * xb)')
    assert notes(data) == "1 device (CPU:0): nothing to share out; %tfgpu --cpu --split 2 makes two"


# -- what cannot be --------------------------------------------------------------------------------------

REFUSED = {
    "--strategy mirrored": "--strategy shares out the batches of data; on the line, --for ",
    "--batch 4": '--batch goes with data; on the line, --for "xb, yb in train".',
    f"{FOR} --strategy miror": "--strategy is 'miror'; did you mean mirrored?",
    f"{FOR} --strategy workers": "--strategy workers goes with %%minimize: give mirrored here.",
    f"{FOR} --strategy nowhere": "--strategy nowhere: NameError: name 'nowhere' is not defined",
    f"{FOR} --strategy model": "--strategy is of type Sequential",
    '--for "xb, yb in (x, y)" --batch 0': "--batch is 0; give a whole number, 1 or more.",
    '--for "xb, yb in (x, y)" --batch 1.5': "--batch",
    f"{FOR} --jacobian": "--for adds gradients up, and --jacobian is another thing: leave one of them out.",
    f"{FOR} --hvp w=1.0": "--for adds gradients up, and --hvp is another thing: leave one of them out.",
    f"{FOR} --check": "--check is for one run of the cell, and --for makes several: leave one of them out.",
    f"{FOR} --def f": "--def is for one run of the cell, and --for makes several: leave one of them out.",
    f"{FOR} --order 2": "the order is 2, and --for adds first derivatives up.",
    f"{FOR} --wrt xb": "xb is of the batch, and has other rows in each part: leave out --for.",
    f"{FOR} --wrt h": "h is assigned in the cell, anew for each part of the batch: leave out --for",
    '--for "xb, yb in x"': "x is one array, and for names 2: xb, yb.",
    '--for "xb, yb in nothing"': "--for xb, yb in nothing: NameError",
    '--for "xb, yb"': '--for takes "xb, yb in train"',
    '--for "xb, yb in train" --batch 4': "train is a tf.data.Dataset, which makes its own batches",
    '--for "xb, yb in train.repeat()"': "train.repeat() never ends, and a gradient is taken over all of it",
    '--for "xb, yb in train.take(0)"': "train.take(0) is empty: there is no batch in it.",
}


@pytest.mark.parametrize("line", REFUSED)
def test_refused_lines(data: Notebook, line: str) -> None:
    data.ns["model"] = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    data.ns["train"] = tf.data.Dataset.from_tensor_slices((data.ns["x"], data.ns["y"])).batch(4)
    said = data.refused(f"%%grad loss {line}\nh = w * xb\nloss = tf.reduce_mean(h)")
    assert REFUSED[line] in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "h",
            "h is of shape (4,), and --for adds up the gradients of one number: take its mean, "
            "tf.reduce_mean(h).",
        ),
        ("d2loss/dw2", "d2loss/dw2 is of order 2, and --for adds first derivatives up."),
        ("both", "both is a list, and --for adds up the gradients of one number: name one."),
    ],
)
def test_refused_outputs(data: Notebook, line: str, said: str) -> None:
    cell = "h = w * xb\nloss = tf.reduce_mean(h)\nboth = [loss, h]"
    assert data.refused(f"%%grad {line} {FOR}\n{cell}") == said


def test_refused_arguments() -> None:
    x = np.arange(4, dtype="float32")
    for arguments, said in (
        ({"strategy": "mirrored"}, "strategy shares out the batches of data"),
        ({"batch": 2}, "batch goes with data"),
        ({"data": x, "jacobian": True}, "--for adds gradients up, and --jacobian is another thing"),
        ({"data": x, "check": True}, "check compares one run with others, and data need several"),
        ({"data": x, "batch": True}, "batch is True; give a whole number"),
    ):
        with pytest.raises(TapeMagicError, match=re.escape(said)):
            tape_magic.grad(lambda w, xb: tf.reduce_mean(w * xb), {"w": 2.0}, **arguments)  # type: ignore[arg-type]
