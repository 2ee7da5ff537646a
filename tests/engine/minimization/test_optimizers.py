"""Every optimizer of Keras, and those that users make, on the compiled engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization import optimizers
from tape_magic.engine.minimization.scipy_methods import METHODS
from tape_magic.errors import LineError
from tape_magic.magics.line.minimize import MINIMIZE
from tests.support.covering import covering
from tests.support.doors import Case, Door

NAMES = sorted(optimizers.keras_names())


class Plain(keras.optimizers.Optimizer):
    """An optimizer of the user's own, whose arguments `get_config` does not tell."""

    def __init__(self, rate: float, power: float) -> None:
        super().__init__(learning_rate=rate, name="plain")
        self.power = power

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        self.assign_sub(variable, gradient * keras.ops.cast(learning_rate, variable.dtype) ** self.power)


class Handy(keras.optimizers.SGD):
    """One that can be made from a learning rate, like Keras's own."""


def losses_by_hand(optimizer: Any, steps: int) -> list[float]:
    w, losses = keras.Variable(matrix().numpy()), []
    for step in range(steps + 1):
        with tf.GradientTape() as tape:
            loss = bowl(w.value)
        losses.append(float(loss))
        if step < steps:
            optimizer.apply_gradients([(tape.gradient(loss, w.value), w)])
    return losses


def matrix() -> Any:
    # Some optimizers treat matrices in a way of their own.
    return tf.Variable([[1.0, -2.0], [0.5, 3.0]])


def bowl(w: Any) -> Any:
    return tf.reduce_sum(tf.constant([[1.0, 2.0], [3.0, 4.0]]) * w**2)


@pytest.mark.parametrize(("name", "engine"), covering(NAMES, ["xla", "graph"]))
def test_every_optimizer_of_keras_moves_as_by_hand(name: str, engine: str) -> None:
    w = matrix()
    result = tape_magic.minimize(lambda: bowl(w), None, name, 5, lr=0.01, engine=engine)
    expected = losses_by_hand(optimizers.keras_names()[name](learning_rate=0.01), 5)
    np.testing.assert_allclose(result.history, expected, rtol=1e-4)
    assert result.engine == engine
    assert result.loss < result.start_loss
    assert result.optimizer.startswith(optimizers.keras_names()[name].__name__ + "(0.01")


def test_the_names_are_those_of_keras() -> None:
    assert {"adadelta", "adafactor", "adagrad", "adam", "adamw", "adamax", "ftrl", "lamb"} <= set(NAMES)
    assert {"lion", "muon", "nadam", "rmsprop", "sgd"} <= set(NAMES)
    assert not {name for name in NAMES if "scale" in name or "multi" in name or name == "optimizer"}
    for name in NAMES:
        assert type(optimizers.resolve(name)).__name__.lower() == name
        assert type(optimizers.resolve(name.upper())).__name__.lower() == name


def test_the_completion_offers_those_that_there_are() -> None:
    (option,) = [option for option in MINIMIZE.options if option.name == "optimizer"]
    assert {"adam", "sgd", "lion", "l-bfgs-b"} <= set(option.choices) <= {"auto", "lbfgs", *NAMES, *METHODS}


@pytest.mark.parametrize(
    ("optimizer", "shown"),
    [
        ("sgd", "SGD(0.01)"),
        (keras.optimizers.SGD(0.25, momentum=0.9), "SGD(0.25, momentum=0.9)"),
        (keras.optimizers.Adam(1e-4, amsgrad=True), "Adam(0.0001, amsgrad=True)"),
        (
            keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)),
            "Adam(schedule)",
        ),
        (Plain(0.5, 1.0), "Plain(0.5)"),
    ],
)
def test_an_optimizer_in_words(optimizer: Any, shown: str) -> None:
    resolved = optimizers.resolve(optimizer)
    assert optimizers.describe(resolved) == shown
    assert optimizers.learning_rate(resolved) == (
        None if "schedule" in shown else pytest.approx(float(shown.split("(")[1].split(",")[0].rstrip(")")))
    )


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("adam", "Adam(0.001)"),
        ("SGD", "SGD(0.01)"),
        ("mine", "SGD(0.125, momentum=0.5)"),
        ("Handy", "Handy(0.01)"),
        ('"tf.keras.optimizers.SGD(0.01, momentum=0.9)"', "SGD(0.01, momentum=0.9)"),
        ("keras.optimizers.Adam(0.5)", "Adam(0.5)"),
        ("keras.optimizers.Lion", "Lion(0.001)"),
        ('"Plain(0.5, power=1)"', "Plain(0.5)"),
        ("\"opts['a']\"", "SGD(0.125, momentum=0.5)"),
    ],
)
def test_what_can_stand_on_the_line(shell: Any, written: str, shown: str) -> None:
    mine = keras.optimizers.SGD(0.125, momentum=0.5)
    shell.ns.update(
        tf=tf, keras=keras, x=tf.Variable(1.0), mine=mine, Handy=Handy, Plain=Plain, opts={"a": mine}
    )
    shell.ok(f"%%minimize y --over x --optimizer {written} --steps 2 --engine graph\ny = x**2")
    assert shell.ns["minimum"].optimizer == shown
    assert shell.ns["minimum"].loss < 1
    if "mine" in written or "opts" in written:
        assert mine.iterations.numpy() == 2


def test_a_name_of_the_notebook_that_is_no_optimizer_does_not_hide_keras(shell: Any) -> None:
    shell.ns.update(tf=tf, x=tf.Variable(1.0), adam="the first man")
    shell.ok("%%minimize y --over x --optimizer adam --steps 1 --engine graph\ny = x**2")
    assert shell.ns["minimum"].optimizer == "Adam(0.001)"


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_a_class_of_the_users_own(engine: str) -> None:
    x = tf.Variable(1.0)
    result = tape_magic.minimize(lambda: x**2, None, Plain(0.5, 2.0), 2, engine=engine)
    assert result.history.tolist() == [1.0, 0.25, 0.0625]
    again = tape_magic.minimize(lambda: x**2, None, Handy, 1, lr=0.25, engine=engine)
    assert again.history.tolist() == [0.0625, 0.015625]


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_an_object_goes_on_over_the_same_variables(engine: str) -> None:
    """As `apply_gradients` called again does: its momentum is kept."""
    optimizer, x = keras.optimizers.SGD(0.1, momentum=0.9), tf.Variable(1.0)
    first = tape_magic.minimize(lambda: x**2, None, optimizer, 3, engine=engine)
    second = tape_magic.minimize(lambda: x**2, None, optimizer, 3, engine=engine)
    hand, losses = tf.Variable(1.0), []
    other = keras.optimizers.SGD(0.1, momentum=0.9)
    for _ in range(7):
        with tf.GradientTape() as tape:
            loss = hand**2
        losses.append(float(loss))
        other.apply_gradients([(tape.gradient(loss, hand), hand)])
    np.testing.assert_allclose([*first.history, *second.history[1:]], losses, rtol=1e-5)
    assert optimizer.iterations.numpy() == 6
    assert second.notes == ()


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_an_object_of_other_variables_is_copied_with_its_settings(engine: str) -> None:
    optimizer, x, z = keras.optimizers.SGD(0.25, momentum=0.5), tf.Variable(1.0), tf.Variable(1.0)
    first = tape_magic.minimize(lambda: x**2, None, optimizer, 2, engine=engine)
    second = tape_magic.minimize(lambda: z**2, None, optimizer, 2, engine=engine)
    assert first.history.tolist() == second.history.tolist()
    assert first.notes == ()
    assert any("other variables" in note and "fresh" in note for note in second.notes)
    assert second.optimizer == first.optimizer
    assert optimizer.iterations.numpy() == 2
    assert x.numpy() == z.numpy()


def test_floats_get_a_fresh_copy_each_time(shell: Any) -> None:
    """A float is another variable in each run."""
    shell.ns.update(tf=tf, x=1.0, o=keras.optimizers.SGD(0.25, momentum=0.5))
    for expected in (0.5, 0.25):
        shell.ok("%%minimize y --over x --optimizer o --steps 1 --engine graph\ny = x**2")
        assert shell.ns["x"] == expected
        assert type(shell.ns["x"]) is float
    assert shell.ns["minimum"].notes


REFUSED: dict[str, tuple[Callable[[], Any], float | None, tuple[str, ...]]] = {
    "unknown": (lambda: "sdg", None, ("unknown optimizer 'sdg'", "did you mean sgd?")),
    "far off": (lambda: "zzzzzz", None, ("unknown optimizer 'zzzzzz'",)),
    "rate twice": (lambda: keras.optimizers.SGD(0.1), 0.5, ("--lr", "SGD(0.1)")),
    "number": (lambda: 0.5, None, ("float", "optimizer")),
    "other class": (lambda: dict, None, ("type", "optimizer")),
    "abstract": (lambda: keras.optimizers.Optimizer, None, ("Optimizer",)),
    "class with arguments": (lambda: Plain, None, ("Plain", "power", "Plain(…)")),
    "class without that argument": (lambda: Plain, 0.1, ("Plain", "learning_rate", "Plain(…)")),
}


@pytest.mark.parametrize(("make", "lr", "said"), REFUSED.values(), ids=REFUSED)
def test_refusals(make: Callable[[], Any], lr: float | None, said: tuple[str, ...]) -> None:
    x = tf.Variable(1.0)
    with pytest.raises(LineError) as caught:
        tape_magic.minimize(lambda: x**2, None, make(), 1, lr=lr, engine="graph")
    for part in said:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert x.numpy() == 1.0


def test_an_optimizer_that_cannot_be_copied_is_refused(door: Door) -> None:
    optimizer = Plain(0.5, 1.0)
    tape_magic.minimize(lambda x: x**2, [tf.Variable(1.0)], optimizer, 1, engine="graph")
    for engine in ("auto", "xla", "graph", "eager"):
        said = door.refused_minimize(
            Case(
                "y = x**2",
                f"y --over x --optimizer o --engine {engine}",
                {"tf": tf, "x": tf.Variable(1.0), "o": optimizer},
            )
        )
        assert "belongs to other variables" in said
        assert "Plain" in said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("SGD(", ("never closes", "SGD(")),
        ('"tf.keras.optimizers.SGDD(0.1)"', ("--optimizer tf.keras.optimizers.SGDD(0.1)", "SGDD")),
        ('"nowhere.SGD()"', ("nowhere",)),
        ("1+1", ("int",)),
        ("sgd --lr 0", ("--lr", "0")),
    ],
)
def test_lines_that_are_refused(shell: Any, written: str, said: tuple[str, ...]) -> None:
    shell.ns.update(tf=tf, x=tf.Variable(1.0))
    sentence = shell.refused(f"%%minimize y --over x --optimizer {written}\ny = x**2")
    for part in said:
        assert part in sentence


SCALING: dict[str, Callable[[], Any]] = {
    "a factor": lambda: keras.optimizers.SGD(0.01, loss_scale_factor=128.0),
    "a scale that grows": lambda: keras.mixed_precision.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), dynamic_growth_steps=3
    ),
}


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
@pytest.mark.parametrize("name", SCALING)
def test_an_optimizer_that_scales_the_loss_moves_as_one_that_does_not(name: str, engine: str) -> None:
    """It divides the gradients by what the loss was to be multiplied by."""
    w = matrix()
    result = tape_magic.minimize(bowl, {"w": w}, SCALING[name](), steps=8, engine=engine)
    np.testing.assert_allclose(result.history, losses_by_hand(keras.optimizers.SGD(0.01), 8), rtol=1e-6)


def test_an_optimizer_around_another_shows_both() -> None:
    around = SCALING["a scale that grows"]()
    assert optimizers.describe(around) == "LossScaleOptimizer(SGD(0.01))"


class Warming(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule as the tutorials write it: it does not say what it is made from."""

    def __init__(self, peak: float) -> None:
        self.peak = peak

    def __call__(self, step: Any) -> Any:
        step = tf.cast(step, tf.float32)
        return self.peak * tf.minimum(0.1 * (step + 1.0), tf.math.rsqrt(step + 1.0))


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_a_schedule_of_the_users_own(engine: str) -> None:
    optimizer = keras.optimizers.SGD(Warming(0.05), momentum=0.5)
    result = tape_magic.minimize(bowl, {"w": matrix()}, optimizer, steps=20, engine=engine)
    np.testing.assert_allclose(
        result.history, losses_by_hand(keras.optimizers.SGD(Warming(0.05), momentum=0.5), 20), rtol=1e-5
    )
    assert result.optimizer == "SGD(schedule, momentum=0.5)"
    # Over other variables, with a copy.
    again = tape_magic.minimize(bowl, {"w": matrix()}, optimizer, steps=20, engine=engine)
    np.testing.assert_allclose(again.history, result.history, rtol=1e-5)


def test_a_schedule_within_an_optimizer_around_another() -> None:
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(Warming(0.05)))
    result = tape_magic.minimize(bowl, {"w": matrix()}, optimizer, steps=3)
    assert result.optimizer == "LossScaleOptimizer(SGD(schedule))"
