"""``--lr find`` and ``--lr auto``: a rate that trains well, and nothing left behind."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization.rate_curve import choose
from tape_magic.errors import LineError
from tape_magic.results.rates import RangeEnd, RateReport
from tests.support.notebook import Notebook

RNG = np.random.default_rng(5)
X = RNG.normal(size=(120, 6)).astype("float32")
CLASSES = (X @ RNG.normal(size=(6, 3)).astype("float32")).argmax(1).astype("int32")
ROWS = tf.data.Dataset.from_tensor_slices((X, CLASSES)).shuffle(120, seed=8).batch(12)


def quadratic(w: Any) -> Any:
    return 0.5 * tf.reduce_sum(tf.constant([1.0, 10.0, 100.0]) * w**2)


def rosenbrock(w: Any) -> Any:
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def find(loss: Callable[..., Any], over: Any, optimizer: Any = "sgd", **more: Any) -> Any:
    report: Any = tape_magic.minimize(loss, over, optimizer, lr="find", **more)
    assert isinstance(report, RateReport)
    return report


def network(*layers: Any) -> Any:
    keras.utils.set_random_seed(2)
    return keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(3, name="out")], name="model")


def loss_of(model: Any) -> Callable[..., Any]:
    def loss(xb: Any, yb: Any) -> Any:
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(yb, model(xb)))

    return loss


def test_on_a_quadratic_the_rate_is_below_what_is_stable() -> None:
    w = tf.Variable([1.0, 1.0, 1.0])
    report = find(quadratic, w)
    assert report.ended is RangeEnd.BLEW_UP
    # 2/λ is stable, and steps above it take until about 18/λ to show; see rate_curve.choose.
    assert 0.02 < report.lowest < 0.2
    assert 0.001 < report.suggestion < 0.02
    assert report.line == f"--lr {report.suggestion:g}"
    np.testing.assert_allclose(report.rates[1:] / report.rates[:-1], 10 ** (1 / 25), rtol=1e-9)
    # The first steps are those of gradient descent by hand.
    at, losses = np.ones(3), []
    for rate in report.rates[:100]:
        losses.append(0.5 * np.sum([1.0, 10.0, 100.0] * at**2))
        at = at - rate * np.array([1.0, 10.0, 100.0]) * at
    np.testing.assert_allclose(report.losses[:100], losses, rtol=1e-4)
    result = tape_magic.minimize(quadratic, w, "sgd", 300, lr=report.suggestion)
    assert result.loss < 0.01 * result.start_loss


def test_a_badly_scaled_loss_is_tried_at_lower_rates() -> None:
    report = find(lambda w: 1e12 * quadratic(w), tf.Variable([1.0, 1.0, 1.0]))
    assert 1e-15 < report.suggestion < 2e-14


def test_on_rosenbrocks_valley_the_rate_leads_down() -> None:
    w = tf.Variable([-1.2, 1.0])
    report = find(rosenbrock, w)
    result = tape_magic.minimize(rosenbrock, w, "sgd", 2000, lr=report.suggestion)
    assert result.loss < 0.1 * result.start_loss


@pytest.mark.parametrize(
    ("layers", "optimizer"), [((), "sgd"), ((32, "relu"), "adam")], ids=["logistic", "mlp"]
)
def test_over_data_the_rate_trains_well(layers: tuple[Any, ...], optimizer: str) -> None:
    """It gains half of what a quarter of the rate of the lowest loss gains, Smith's rule for a single one."""
    model = network(*([keras.layers.Dense(*layers)] if layers else []))
    loss, start = loss_of(model), model.get_weights()
    report = find(loss, None, optimizer, data=(X, CLASSES), batch=12)

    def gain(rate: float) -> float:
        model.set_weights(start)
        data: dict[str, Any] = {"data": (X, CLASSES), "batch": 12, "epochs": 8, "seed": 1}
        result = tape_magic.minimize(loss, None, optimizer, lr=rate, keep="last", **data)
        return float(report.losses[:10].mean() - result.loss)

    gained = gain(report.suggestion)
    assert gained > 0.5 * gain(report.lowest / 4)
    assert gained > 2 * gain(report.suggestion / 30)


def test_losses_of_batches_that_scatter_are_no_blow_up() -> None:
    scatter = np.random.default_rng(0).normal(1.0, 0.3, 200)
    assert choose(scatter, noisy=True).blown is None
    assert choose(scatter, noisy=True).lowest is None  # nor do they fall
    falls = scatter * np.concatenate([np.ones(120), np.linspace(1, 0.05, 60), np.geomspace(0.05, 1e3, 20)])
    found = choose(falls, noisy=True)
    assert found.lowest is not None
    assert found.blown is not None
    assert 170 < found.lowest < min(190, found.blown)


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_nothing_is_left(shell: Notebook, engine: str, tmp_path: Path) -> None:
    model = network(keras.layers.BatchNormalization(), keras.layers.Dropout(0.2))
    own, generator = keras.optimizers.Adam(0.01), tf.random.Generator.from_seed(3)
    counted, drawn = tf.Variable(0), np.random.default_rng(7)
    shell.ns.update(tf=tf, np=np, model=model, own=own, rows=ROWS, g=generator, n=counted, drawn=drawn)
    shell.ns.update(scale=1.5, minimum="mine", seen=[])
    own.build(model.trainable_variables)
    cell = (
        "n.assign_add(1)\nseen.append(drawn.normal())\n"
        "noise = 1 + 0.01*g.normal([]) + 0.01*tf.random.normal([])\n"
        "loss = scale*noise*tf.reduce_mean(\n"
        "    tf.nn.sparse_softmax_cross_entropy_with_logits(yb, model(xb, training=True)))"
    )
    random.seed(1)
    np.random.seed(2)
    tf.random.set_seed(4)

    def state() -> list[Any]:
        held = [*model.weights, *own.variables, counted, generator.state]
        arrays = [np.array(one) for one in held]
        return [
            *arrays,
            drawn.bit_generator.state,
            random.getstate(),
            str(np.random.get_state()),
            list(shell.ns["seen"]),
        ]

    def draws() -> list[float]:
        return [random.random(), np.random.rand(), *tf.random.normal([2]).numpy().tolist()]

    before, names, files = state(), dict(shell.names), list(tmp_path.iterdir())
    line = f'loss --over model --optimizer own --lr find --for "xb, yb in rows" --engine {engine}'
    run = shell.ok(f"%%minimize {line}\n{cell}")
    assert "nothing was trained" in run.displayed[0].text
    for one, other in zip(state(), before, strict=True):
        np.testing.assert_equal(one, other)
    assert shell.names == names
    assert list(tmp_path.iterdir()) == files
    after = draws()
    random.seed(1)
    np.random.seed(2)
    tf.random.set_seed(4)
    assert draws() == after


def test_the_order_of_data_stays_and_auto_is_the_rate_that_was_found() -> None:
    ends, found = [], 0.0
    for lr in ("auto", None):
        model = network()
        rows = tf.data.Dataset.from_tensor_slices((X, CLASSES)).shuffle(120, seed=8).batch(12)
        rate: Any = lr or found
        result = tape_magic.minimize(loss_of(model), None, "adam", lr=rate, data=rows, epochs=3)
        if lr:
            found = result.learning_rate
            assert any("a range test of" in note and f"{found:g}" in note for note in result.notes)
        ends.append((model.get_weights(), result.history))
    for one, other in zip(ends[0][0], ends[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(ends[0][1], ends[1][1])


def test_auto_goes_on_from_a_checkpoint_with_the_rate_that_was_found(tmp_path: Path) -> None:
    def run(steps: int, folder: str, *, resume: bool = False) -> Any:
        w = tf.Variable([1.0, 1.0, 1.0])
        folder = str(tmp_path / folder)
        more: dict[str, Any] = {"schedule": "plateau", "checkpoint": folder, "resume": resume}
        tape_magic.minimize(quadratic, w, "sgd", steps, lr="auto", **more)
        return w.numpy()

    whole = run(40, "whole", resume=True)  # of an empty folder
    run(15, "cut")
    np.testing.assert_array_equal(run(40, "cut", resume=True), whole)


def test_a_rate_is_found_for_a_copy_of_the_users_optimizer() -> None:
    own = keras.optimizers.SGD(0.5, momentum=0.9)
    report = find(quadratic, tf.Variable([1.0, 1.0, 1.0]), own)
    assert report.line == f"learning_rate={report.suggestion:g}"
    assert report.optimizer == "SGD(momentum=0.9)"
    assert not own.built
    assert float(own.learning_rate) == 0.5


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--lr find --resume", "--lr find trains nothing: leave --resume out."),
        (
            "--lr find --checkpoint FOLDER",
            "--lr find trains nothing: leave --checkpoint out.",
        ),
        ("--lr find --log FOLDER", "--lr find trains nothing: leave --log out."),
        ("--lr find --optimizer lbfgs", "lbfgs finds its own step lengths: leave --lr out."),
        ("--lr auto --optimizer bfgs", "bfgs finds its own step lengths: leave --lr out."),
        ('--lr find --optimizer "w: sgd"', "--lr find finds one rate, and groups have one each"),
        ("--lr auto --optimizer own", "--lr goes with an optimizer's name; SGD(0.01) has a rate of its own"),
        ('--lr auto --schedule "lambda s: 0.1"', "--lr auto finds a rate, and the schedule gives its own"),
        ("--lr fnd", "--lr is 'fnd'; give a number above 0, find or auto; did you mean find?"),
    ],
)
def test_what_does_not_go_together_is_one_line(shell: Notebook, tmp_path: Path, line: str, said: str) -> None:
    w = tf.Variable([1.0, 2.0])
    shell.ns.update(tf=tf, w=w, own=keras.optimizers.SGD())
    line = line.replace("FOLDER", str(tmp_path / "run"))
    line = line if "--optimizer" in line else f"--optimizer sgd {line}"
    assert said in shell.refused(f"%%minimize loss {line}\nloss = tf.reduce_sum(w**2)")
    assert not list(tmp_path.iterdir())
    np.testing.assert_array_equal(w.numpy(), [1.0, 2.0])


def test_what_cannot_be_put_back_is_not_run(shell: Notebook, tmp_path: Path) -> None:
    shell.ns.update(tf=tf, w=tf.Variable([1.0, 2.0]), file=str(tmp_path / "log"), rows=iter(range(10**6)))
    writes = "loss = tf.reduce_sum(w**2)\nopen(file, 'a').write('x')"
    assert "--lr find leaves nothing behind" in shell.refused(f"%%minimize loss --lr find\n{writes}")
    assert not list(tmp_path.iterdir())
    takes = "loss = tf.reduce_sum(w**2)*next(rows)"
    assert "which cannot be put back" in shell.refused(f"%%minimize loss --lr find\n{takes}")
    assert next(shell.ns["rows"]) == 0


def test_a_loss_that_does_not_fall_gives_no_rate() -> None:
    w = tf.Variable([0.0, 0.0, 0.0])
    report = find(quadratic, w)
    assert (report.suggestion, report.line) == (None, "")
    with pytest.raises(LineError, match="the loss fell at no rate from 1e-07 to"):
        tape_magic.minimize(quadratic, w, "sgd", lr="auto")
