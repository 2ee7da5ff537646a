"""A batch of the data at each step, against the same loop in plain Python."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.errors import LineError, SourceError
from tape_magic.results.minimum import StopReason
from tape_magic.results.steps import Step
from tests.support.covering import covering
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

ENGINES = ("xla", "graph", "eager")

_generator = np.random.default_rng(11)
X = _generator.normal(size=(22, 3)).astype("float32")
Y = (X @ np.array([1.0, -2.0, 0.5]) + 3.0).astype("float32")

CELL = "loss = tf.reduce_mean((tf.linalg.matvec(xb, w) + b - yb)**2)"
OVER = "loss --over w,b --optimizer sgd --lr 0.05"


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return X[5 * index : 5 * index + 5], Y[5 * index : 5 * index + 5]


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """Four of five rows, and one of the two that are left."""
    return [(X[k : k + 5], Y[k : k + 5]) for k in range(0, 22, 5)]


KINDS: dict[str, Callable[[], Any]] = {
    "dataset": lambda: tf.data.Dataset.from_tensor_slices((X, Y)).batch(5),
    "py_dataset": Batches,
    "list": batches,
}


@functools.cache
def epochs_by_hand(epochs: int, most: int = 10**6) -> tuple[list[float], np.ndarray, float]:
    """The losses, that of the end on the last batch again, and the variables."""
    w, b = tf.Variable([0.0, 0.0, 0.0]), tf.Variable(0.0)
    optimizer, losses = keras.optimizers.SGD(0.05), []

    def loss_of(xb: Any, yb: Any) -> Any:
        return tf.reduce_mean((tf.linalg.matvec(xb, w) + b - yb) ** 2)

    taken = [batch for _ in range(epochs) for batch in batches()][:most]
    for batch in taken:
        with tf.GradientTape() as tape:
            loss = loss_of(*batch)
        losses.append(float(loss))
        optimizer.apply_gradients(zip(tape.gradient(loss, [w, b]), [w, b], strict=True))
    return [*losses, float(loss_of(*taken[-1]))], w.numpy(), float(b)


def names(data: Any) -> dict[str, Any]:
    return {"tf": tf, "w": tf.Variable([0.0, 0.0, 0.0]), "b": tf.Variable(0.0), "train": data}


@pytest.mark.parametrize(("engine", "kind"), covering(ENGINES, KINDS))
def test_each_step_takes_the_next_batch(door: Door, engine: str, kind: str) -> None:
    losses, w, b = epochs_by_hand(epochs=3)
    case = Case(CELL, f'{OVER} --for "xb, yb in train" --epochs 3 --engine {engine}', names(KINDS[kind]()))
    result = door.minimize(case)
    assert (result.steps, result.steps_asked, result.reason) == (15, 15, StopReason.EPOCHS)
    np.testing.assert_allclose(result.history, losses, rtol=1e-4)
    np.testing.assert_allclose(result.variables["w"].end, w, rtol=1e-4)
    assert result.variables["b"].end == pytest.approx(b, rel=1e-4)


@pytest.mark.parametrize(
    ("engine", "steps"), [*covering(ENGINES, [0, 5, 6]), ("graph", 4), ("graph", 5), ("eager", 12)]
)
def test_a_limit_of_steps(door: Door, engine: str, steps: int) -> None:
    """Without a number of epochs, the data are taken anew until there were so many."""
    line = f'{OVER} --for "xb, yb in train" --steps {steps} --engine {engine}'
    result = door.minimize(Case(CELL, line, names(batches())))
    assert (result.steps, result.reason) == (steps, StopReason.STEPS)
    if steps:
        losses, _, _ = epochs_by_hand(3, steps)
        np.testing.assert_allclose(result.history, losses, rtol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_are_shuffled_and_each_row_is_taken_once(door: Door, engine: str) -> None:
    # The gradient of the sum is the sum of the rows: after an epoch with rate 1, w is minus the sum of all.
    rows = np.arange(1.0, 12.0)
    line = f'loss --over w --optimizer sgd --lr 1 --for "r in rows" --batch 4 --epochs 2 --engine {engine}'
    case = Case("loss = w*tf.reduce_sum(r)", line, {"tf": tf, "w": np.zeros(()), "rows": rows})
    result = door.minimize(case)
    assert result.steps == 6
    assert result.variables["w"].end == -2 * rows.sum()
    assert result.variables["w"].end.dtype == np.float64


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_that_is_not_finite(engine: str) -> None:
    """Put back are the values before it, and the loss is that of the batch before."""
    w = tf.Variable(1.0)
    rows = [np.float32(1), np.float32(2), np.float32(math.nan), np.float32(4)]
    result = tape_magic.minimize(lambda w, r: w * r, {"w": w}, "sgd", lr=0.1, data=rows, engine=engine)
    assert result.reason is StopReason.DIVERGED
    assert result.divergence is not None
    assert (result.divergence.step, result.steps) == (2, 1)
    assert w.numpy() == pytest.approx(0.9)
    np.testing.assert_allclose(result.history, [1.0, 1.8], rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rule_within_an_epoch(engine: str) -> None:
    w = tf.Variable(5.0)
    result = tape_magic.minimize(
        lambda w, r: w + 0.0 * r, {"w": w}, "sgd", lr=1.0, data=[np.float32(1)] * 9, target=2.0, engine=engine
    )
    assert (result.reason, result.steps, w.numpy()) == (StopReason.TARGET, 3, 2.0)


def test_a_model_and_dicts(shell: Notebook) -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
    data = tf.data.Dataset.from_tensor_slices({"x": X, "y": Y}).shuffle(22, seed=2).batch(6)
    shell.ns.update(tf=tf, model=model, train=data)
    shell.ok(
        '%%minimize --over model --lr 0.1 --for "b in train" --epochs 60 -q\n'
        "tf.reduce_mean((model(b['x'])[:, 0] - b['y'])**2)"
    )
    kernel, bias = (variable.numpy() for variable in model.trainable_variables)
    np.testing.assert_allclose(kernel[:, 0], [1.0, -2.0, 0.5], atol=0.05)
    np.testing.assert_allclose(bias, [3.0], atol=0.05)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_names_of_a_batch_leave_no_trace(shell: Notebook, engine: str) -> None:
    before = object()
    shell.ns.update(**names(batches()), xb=before)
    shell.ok(f'%%minimize {OVER} --for "xb, yb in train" --engine {engine} -q\n{CELL}')
    assert shell.ns["xb"] is before
    assert "yb" not in shell.ns
    assert float(shell.ns["loss"]) == pytest.approx(shell.ns["minimum"].history[-1])


def test_progress_in_batches_and_epochs() -> None:
    seen: list[Step] = []
    tape_magic.minimize(
        lambda w, r: w * r, {"w": 0.0}, "sgd", data=[np.float32(1)] * 4, epochs=3, engine="graph",
        on_progress=seen.append,
    )  # fmt: skip
    assert (seen[-1].step, seen[-1].steps) == (12, 12)
    assert (seen[0].epoch, seen[0].epochs) == (1, 3)
    assert (seen[-1].epoch, seen[-1].epochs) == (3, 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_error_of_the_users_data_is_the_users(engine: str) -> None:
    def rows() -> Any:
        yield np.float32(1)
        yield np.float32(1)
        yield np.float32(1)
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        tape_magic.minimize(lambda w, r: w * r, {"w": 0.0}, "sgd", data=rows, engine=engine)


@pytest.mark.parametrize("engine", ["graph", "auto", "eager"])
def test_errors_of_a_cell_are_the_cells(shell: Notebook, engine: str) -> None:
    shell.ns.update(tf=tf, x=tf.Variable([1.0, 2.0]), ids=[np.array([0, 1]), np.array([1, 7])])
    run = shell.run(
        f'%%minimize y --over x --for "i in ids" --engine {engine} -q\n'
        "y = tf.reduce_sum(tf.debugging.check_numerics(tf.gather(x, i)/tf.cast(i < 7, tf.float32), 'rows'))"
    )
    assert not run.success
    assert "NameError" not in run.traceback + run.stderr


def test_xla_that_cannot_names_the_line_with_data_too(shell: Notebook) -> None:
    shell.ns.update(names(batches()))
    said = shell.refused(
        f'%%minimize {OVER} --for "xb, yb in train" --engine xla\n{CELL}\n'
        "loss += 0*tf.strings.to_number(tf.strings.as_string(b))"
    )
    assert "AsString" in said
    assert "line 3" in said


@pytest.mark.parametrize("engine", ENGINES)
def test_data_that_fail(shell: Notebook, engine: str) -> None:
    data = tf.data.Dataset.range(4).map(
        lambda i: tf.debugging.check_numerics(1.0 / tf.cast(i - 2, tf.float32), "row")
    )
    shell.ns.update(tf=tf, w=tf.Variable(0.0), rows=data)
    run = shell.run(f'%%minimize y --over w --for "r in rows" --engine {engine} -q\ny = w*r')
    assert "row" in run.stderr
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('--for "a, b, c in train"', "gives 2 values, and for names 3"),
        ('--for "xb in nothing"', "nothing"),
        ("--epochs 2", "goes with data"),
        ("--batch 2", "goes with data"),
        ('--for "xb, yb"', '"xb, yb in train"'),
        ('--for "x.y in train"', "plain names"),
        ('--for "xb, yb in train" --batch 3', "leave out batch"),
    ],
)
def test_lines_that_are_refused(shell: Notebook, given: str, said: str) -> None:
    shell.ns.update(names(batches()))
    assert said in shell.refused(f"%%minimize {OVER} {given}\n{CELL}")


def test_functions_that_are_refused() -> None:
    with pytest.raises(LineError, match="takes no batch"):
        tape_magic.minimize(lambda w: w**2, {"w": 1.0}, data=[np.float32(1)])
    with pytest.raises(SourceError, match="empty"):
        tape_magic.minimize(lambda w, r: w**2 * r, {"w": 1.0}, data=[])


def test_data_that_never_end_need_an_end(door: Door) -> None:
    w, b = tf.Variable([0.0, 0.0, 0.0]), tf.Variable(0.0)
    endless = tf.data.Dataset.from_tensor_slices((X, Y)).batch(5).repeat()
    case = {"tf": tf, "w": w, "b": b, "train": endless}
    line = OVER + ' --for "xb, yb in train"'
    message = door.refused_minimize(Case(CELL, line, case))
    assert message.endswith("never ends: say when to stop, with steps or time.")
    assert door.minimize(Case(CELL, line + " --steps 7", case)).steps == 7
    assert door.minimize(Case(CELL, line + " --target 100", case)).reason is StopReason.TARGET


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_a_cell_that_assigns_the_batchs_name_gets_the_next_batch_all_the_same(
    shell: Any, engine: str
) -> None:
    """Half of each batch is 1, whatever the notebook has under that name."""
    shell.ok("import tensorflow as tf\nw, xb = tf.Variable([0.0]), tf.constant([100.0])")
    shell.ok("data = tf.data.Dataset.from_tensor_slices([2.0] * 4).batch(1)")
    line = f'%%minimize loss --over w --for "xb in data" --optimizer sgd --lr 0.5 -q --engine {engine}'
    shell.ok(f"{line}\nxb = xb / 2\nloss = tf.reduce_sum((w - xb)**2)")
    assert shell.ns["minimum"].history.tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert (shell.ns["w"].numpy(), shell.ns["xb"].numpy()) == (1.0, 100.0)
