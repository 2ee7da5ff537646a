"""An optimizer for each group of variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.errors import TapeMagicError
from tests.support.notebook import Notebook

ENGINES = ("xla", "graph", "eager")
X = np.random.default_rng(1).normal(size=(40, 3)).astype("float32")
Y = X.sum(1, keepdims=True)
CELL = "loss = tf.reduce_mean((head(encoder(xb)) - yb)**2)"
DATA = '--for "xb, yb in (x, y)" --batch 10 --epochs 4 --seed 2'


def parts() -> tuple[Any, Any]:
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])
    head = keras.layers.Dense(1)
    head.build((None, 2))
    return encoder, head


def values(*layers: Any) -> list[Any]:
    return [value for layer in layers for value in layer.get_weights()]


@pytest.fixture(scope="module")
def by_hand() -> list[Any]:
    """Where four epochs lead: the gradients clipped together, each group by its own optimizer and cosine."""
    (encoder, head), rows = parts(), []
    u = tf.Variable(0.0)  # the batches in the order of such a run
    tape_magic.minimize(
        lambda xb, yb: rows.append((xb.numpy(), yb.numpy())) or u**2,
        None,
        "sgd",
        data=(X, Y),
        batch=10,
        epochs=4,
        seed=2,
        engine="eager",
    )
    steps = [(encoder, keras.optimizers.SGD(), 0.1), (head, keras.optimizers.Adam(), 0.01)]
    for step, (xb, yb) in enumerate(rows[:16]):
        variables = [*encoder.trainable_variables, *head.trainable_variables]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((head(encoder(xb)) - yb) ** 2)
        gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), 0.8)
        for layer, optimizer, rate in steps:
            optimizer.learning_rate = keras.optimizers.schedules.CosineDecay(rate, 16)(step)
            own = [id(variable) for variable in layer.trainable_variables]
            pairs = [pair for pair in zip(gradients, variables, strict=True) if id(pair[1]) in own]
            optimizer.apply(*(list(each) for each in zip(*pairs, strict=True)))
    return values(encoder, head)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_group_is_moved_by_its_optimizer(shell: Notebook, by_hand: list[Any], engine: str) -> None:
    encoder, head = parts()
    shell.ns.update(tf=tf, encoder=encoder, head=head, x=X, y=Y)
    groups = '--optimizer "encoder: sgd 0.1, head: adam 1e-2"'
    shell.ok(f"%%minimize loss {groups} {DATA} --clip 0.8 --schedule cosine --engine {engine} -q\n{CELL}")
    for ours, theirs in zip(values(encoder, head), by_hand, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    result = shell.ns["minimum"]
    assert result.optimizer == "encoder: SGD(0.1), head: Adam(0.01), cosine, clipped at 0.8"
    assert any(note.startswith("head: the rate followed a cosine from 0.01 to 0") for note in result.notes)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ("encoder: sgd, hed: adam", "--optimizer names hed, which is not minimised over; did you mean head?"),
        ("encoder: sgd, x: adam", "--optimizer names x, which is not minimised over"),
        ("encoder: sgd", "--optimizer gives kernel, bias no optimizer"),
        (
            "encoder: sgd, encoder.layers[1].bias: adam, head: sgd",
            "two optimizers, by encoder and by encoder.lay",
        ),
        ("encoder: sgd, encoder: adam", "--optimizer gives encoder two optimizers"),
        ("encoder: sdg, head: adam", "encoder: unknown optimizer 'sdg'; did you mean sgd?"),
        ("encoder: sgd 1 2, head: adam", '--optimizer takes "encoder: sgd 1e-4"'),
        ("encoder: sgd 0, head: adam", "encoder: the learning rate is 0.0; give a number above 0."),
        ("encoder: lbfgs, head: adam", "encoder: L-BFGS moves all variables at once"),
        ("encoder: bfgs, head: adam", "encoder: SciPy bfgs moves all variables at once"),
        ("encoder sgd: adam", "'encoder sgd' is not a name"),
        ("encoder:, head: sgd", '--optimizer takes "encoder: sgd 1e-4, head: adam"'),
    ],
)
def test_wrong_groups_are_one_line(shell: Notebook, groups: str, said: str) -> None:
    encoder, head = parts()
    shell.ns.update(tf=tf, encoder=encoder, head=head, x=X, y=Y)
    before, names = values(encoder, head), set(shell.names)
    assert said in shell.refused(f'%%minimize loss --optimizer "{groups}" {DATA}\n{CELL}')
    assert set(shell.names) == names
    for one, other in zip(values(encoder, head), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_dict_gives_groups_and_keeps_the_users_optimizer() -> None:
    own = keras.optimizers.SGD(0.1, momentum=0.5)
    given: dict[str, Any] = {"a": own, "b": ("adam", 0.01)}
    for total in (3, 6):  # its momentum is kept from run to run
        a, b = tf.Variable([1.0, 2.0]), tf.Variable(3.0)
        tape_magic.minimize(
            lambda a, b: tf.reduce_sum(a**2) + b**2, {"a": a, "b": b}, given, 3, bounds={"b": (2.99, None)}
        )
        assert b.numpy() == np.float32(2.99)
        if total == 3:
            assert int(own.iterations) == total
    with pytest.raises(TapeMagicError, match="--lr goes with one optimizer"):
        tape_magic.minimize(lambda a: a**2, {"a": a}, given, lr=0.1)
    with pytest.raises(TapeMagicError, match="empty dict"):
        tape_magic.minimize(lambda a: a**2, {"a": a}, {})


def test_groups_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    def run(steps: int, folder: str, **more: Any) -> list[Any]:
        held = {"a": tf.Variable([1.0, 2.0]), "b": tf.Variable(3.0)}
        tape_magic.minimize(
            lambda a, b: tf.reduce_sum(a**2) * (1 + b**2),
            held,
            {"a": "sgd 0.01", "b": "adam 0.1"},
            steps,
            checkpoint=str(tmp_path / folder),
            **more,
        )
        return [one.numpy() for one in held.values()]

    whole = run(20, "whole")
    run(9, "cut")
    for one, other in zip(run(20, "cut", resume=True), whole, strict=True):
        np.testing.assert_array_equal(one, other)
