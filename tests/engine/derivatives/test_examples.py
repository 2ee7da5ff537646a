"""``--per-example``: the norms of the gradient of each example's loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.notation import Kind
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(12, 4)), RNG.normal(size=(12, 1))


def network(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((4,)), *layers])


def names(**more: Any) -> dict[str, Any]:
    w = tf.Variable(RNG.normal(size=(4, 1)), name="w", dtype=tf.float64)
    b = tf.Variable([0.5], name="b", dtype=tf.float64)
    return {
        "tf": tf,
        "np": np,
        "keras": keras,
        "x": tf.constant(X),
        "y": tf.constant(Y),
        "w": w,
        "b": b,
        **more,
    }


def by_hand(loss: Callable[[int], Any], count: int, variables: Any) -> Any:
    """The norms that a tape for each example gives: an array for each variable."""
    found = []
    for index in range(count):
        with tf.GradientTape() as tape:
            value = loss(index)
        gradients = tape.gradient(value, variables)
        found.append([np.linalg.norm(np.asarray(tf.convert_to_tensor(one))) for one in gradients])
    return np.array(found).T


@pytest.mark.parametrize("cell", ["loss = (x@w + b - y)**2", "loss = tf.squeeze((x@w + b - y)**2)"])
def test_a_linear_regression(door: Door, cell: str) -> None:
    space = names()
    report = door.grad(Case(cell, "loss --per-example --wrt w,b", space))
    residual = np.abs(2 * (X @ space["w"].numpy() + 0.5 - Y))[:, 0]
    by_w, over_all = residual * np.linalg.norm(X, axis=1), residual * np.sqrt(1 + (X**2).sum(axis=1))
    np.testing.assert_allclose(report["loss", "w"], by_w, rtol=1e-9)
    np.testing.assert_allclose(report["dloss/db"], residual, rtol=1e-9)
    np.testing.assert_allclose(report["loss"], over_all, rtol=1e-9)
    (examples,) = report.examples
    np.testing.assert_allclose(examples.norms, over_all, rtol=1e-9)
    assert examples.largest == examples.order[0] == np.argmax(over_all)
    assert (examples.target, examples.parameters) == ("loss", 5)
    assert list(report.to_dict()) == ["dloss/dw", "dloss/db"]
    assert report.to_frame().loc["dloss/db", "max"] == pytest.approx(residual.max())
    assert report.notes == ()


@pytest.mark.parametrize(
    ("kind", "limit"), [("dense", 1), ("normalized", 2**30), ("embedding", 2**12), ("half", 2**30)]
)
def test_agrees_with_a_tape_for_each_example(kind: str, limit: int) -> None:
    keras.utils.set_random_seed(1)
    data: Any = tf.constant(X, tf.float32)
    layers = [keras.layers.Dense(5, "tanh"), keras.layers.Dense(1)]
    if kind == "normalized":
        layers.insert(1, keras.layers.BatchNormalization())
    elif kind == "embedding":
        layers[:0] = [keras.layers.Embedding(5, 3), keras.layers.Flatten()]
        data = tf.constant(RNG.integers(0, 5, size=(12, 4)))
    elif kind == "half":
        layers[0] = keras.layers.Dense(5, "tanh", dtype="mixed_float16")
    net = network(*layers)

    def losses() -> Any:
        return tf.squeeze(tf.cast(net(data, training=True), tf.float32) ** 2)

    report = tape_magic.grad(losses, {"net": net}, per_example=True, limit=limit)
    expected = by_hand(lambda index: losses()[index], 12, net.trainable_variables)
    tolerance = 1e-2 if kind == "half" else 2e-4
    for row, norms in zip(report, expected, strict=True):
        assert row.kind is Kind.PER_EXAMPLE
        np.testing.assert_allclose(row.value, norms, rtol=tolerance, atol=1e-5)
    over_all = np.linalg.norm(expected, axis=0)
    np.testing.assert_allclose(report["_", "net"], over_all, rtol=tolerance)
    np.testing.assert_allclose(report["_"], over_all, rtol=tolerance)


def test_names_the_bad_label(shell: Notebook) -> None:
    keras.utils.set_random_seed(2)
    net = network(keras.layers.Dense(3))
    labels = np.argmax(net(X).numpy(), axis=1)
    labels[7] = (labels[7] + 1) % 3
    net.layers[0].kernel.assign(net.layers[0].kernel * 5.0)
    shell.ns.update(names(net=net, x=tf.constant(X, tf.float32), labels=labels))
    cell = "loss = keras.losses.sparse_categorical_crossentropy(labels, net(x), from_logits=True)"
    run = shell.ok(f"%%grad loss --per-example --wrt net\n{cell}")
    assert shell.ns["grads"].examples[0].largest == 7
    for shown in (run.displayed[0].text, run.displayed[0].html):
        assert "loss[7] has the largest gradient of 12 examples: norm" in shown
        assert "dense" in shown
        assert "largest at" in shown
        assert "[7]" in shown
    shell.ok(f"%%grad dloss/dnet --per-example\n{cell}")
    assert shell.ns["dloss_dnet"].shape == (12,)
    shell.ns["grads"].plot()


def test_few_alike_and_several_outputs(shell: Notebook) -> None:
    shell.ns.update(names(v=tf.Variable(2.0, dtype=tf.float64)))
    cell = "a = v*tf.ones(3, v.dtype)\nc = v*tf.constant([1.0, -5.0], v.dtype)"
    run = shell.ok(f"%%grad a, c --per-example --wrt v\n{cell}")
    assert "the gradients of all 3 examples have the norm 1" in run.displayed[0].text
    assert "c[1] has the largest gradient of 2 examples: norm 5" in run.displayed[0].text
    assert [one.largest for one in shell.ns["grads"].examples] == [None, 1]
    shell.ok("%%grad --per-example\nb*x[:, 0]")
    np.testing.assert_allclose(shell.ns["grads"]["_", "b"], np.abs(X[:, 0]))


def test_norms_neither_overflow_nor_vanish() -> None:
    for scale in (1e-30, 1e30):
        v = tf.Variable([3.0, 4.0])
        factors = tf.constant([scale, 2 * scale])
        report = tape_magic.grad(lambda: factors * tf.reduce_sum(v * [3.0, 4.0]), v, per_example=True)  # noqa: B023
        np.testing.assert_allclose(report.rows[0].value, [5 * scale, 10 * scale], rtol=1e-6)


@pytest.mark.parametrize(
    ("cell", "values", "why"),
    [
        ("loss = x[:, 0]", None, "loss does not read b"),
        ("loss = tf.round(b*x[:, 0])", None, "cut at Round"),
        ("loss = tf.sign(b*x[:, 0])", [0.0] * 12, "0 wherever it exists: Sign"),
        ("loss = tf.sqrt(tf.nn.relu(b*x[:, 0]))*1.0", "not finite", "Sqrt"),
        ("loss = tf.cast(b*x[:, 0], tf.int32)", None, "loss is int32, which has no derivative"),
        ("loss = 1.0", None, "loss is a float, not a tensor"),
    ],
)
def test_what_is_missing_zero_or_not_finite_has_its_reason(
    shell: Notebook, cell: str, values: Any, why: str
) -> None:
    shell.ns.update(names())
    run = shell.ok(f"%%grad loss --per-example --wrt b\n{cell}")
    (row,) = shell.ns["grads"]
    assert why in row.why
    if values == "not finite":
        off = np.flatnonzero(X[:, 0] < 0)
        assert np.flatnonzero(np.isnan(row.value)).tolist() == off.tolist()
        first = f"{len(off)} of 12 examples have a gradient that is not finite, first loss[{off[0]}]"
        assert first in " ".join(run.displayed[0].text.split())
    else:
        assert (row.value if values is None else row.value.numpy().tolist()) == values


@pytest.mark.parametrize(
    ("line", "cell", "message"),
    [
        (
            "loss",
            "loss = tf.reduce_mean((x@w - y)**2)",
            "loss is one number: the losses of its examples were",
        ),
        ("loss", "loss = x@tf.transpose(w)[0][:, None]*x", "needs one loss for each example, of shape (12,)"),
        ("loss", "loss = [x@w, y]", "loss is a list of 2, and this needs one tensor"),
        ("d2loss/dw2", "loss = x@w", "d2loss/dw2 is no first derivative"),
        ("loss --order 2", "loss = x@w", "the norms of the examples are those of first derivatives"),
        ("loss --check", "loss = x@w", "--check cannot compare norms: check the gradients"),
        ("loss --def f", "loss = x@w", "a compiled function cannot give norms per example"),
        ("loss --jacobian", "loss = x@w", "--jacobian and --per-example are different things"),
    ],
)
def test_what_is_refused(shell: Notebook, line: str, cell: str, message: str) -> None:
    shell.ns.update(names())
    assert message in shell.refused(f"%%grad {line} --per-example\n{cell}")
