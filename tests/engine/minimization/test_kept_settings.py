"""What belongs to the user's optimizer or layer and is kept: exclusions, averages, constraints."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization.scipy_methods import METHODS
from tape_magic.errors import LineError
from tests.support.covering import covering
from tests.support.notebook import Notebook

X = np.random.default_rng(0).normal(size=(20, 2)).astype("float32")
Y = X[:, :1] * 2 + 1
WEIGHTS = [np.array([[0.3], [0.2]], "float32"), np.array([1.0], "float32")]


def model(**dense: Any) -> Any:
    made = keras.Sequential([keras.Input([2]), keras.layers.Dense(1, name="dense", **dense)])
    made.set_weights(WEIGHTS)
    return made


def loss_of(one: Any, y: Any = Y) -> Any:
    return lambda: tf.reduce_mean((one(X) - y) ** 2)


def by_hand(optimizer: Any, one: Any, steps: int = 20) -> list[np.ndarray[Any, Any]]:
    """The weights after steps of a plain loop."""
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = loss_of(one)()
        gradients = tape.gradient(loss, one.trainable_variables)
        gradients = [optimizer.scale_loss(gradient) for gradient in gradients]
        optimizer.apply(gradients, one.trainable_variables)
    return one.get_weights()


def same(some: Any, others: Any) -> None:
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


# -- what an optimizer leaves out of weight decay -------------------------------------------------------


def decaying(wrapped: bool, **excluded: Any) -> Any:
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.5)
    if excluded:
        optimizer.exclude_from_weight_decay(**excluded)
    return keras.optimizers.LossScaleOptimizer(optimizer) if wrapped else optimizer


@pytest.mark.parametrize(
    ("names", "wrapped"), covering([["bias"], ["kernel"], ["bias", "kernel"], []], [False, True])
)
def test_a_copy_for_another_model_decays_the_same_variables(names: list[str], wrapped: bool) -> None:
    excluded = {"var_names": names} if names else {}
    used = decaying(wrapped, **excluded)
    used.build(model().trainable_variables)
    one = model()
    result = tape_magic.minimize(loss_of(one), one, used, 20, engine="graph")
    assert any("belongs to other variables" in note for note in result.notes)
    same(one.get_weights(), by_hand(decaying(wrapped, **excluded), model()))


def test_variables_that_are_excluded_by_themselves() -> None:
    one, reference = model(), model()
    used = decaying(False, var_list=[one.layers[0].bias])
    used.build(model().trainable_variables)
    tape_magic.minimize(loss_of(one), one, used, 20, engine="graph")
    same(one.get_weights(), by_hand(decaying(False, var_list=[reference.layers[0].bias]), reference))


# -- averages ---------------------------------------------------------------------------------------------


AVERAGING = {
    "SGD": lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9),
    "overwriting": lambda: keras.optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=7
    ),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05, use_ema=True)),
}


@pytest.mark.parametrize(("name", "engine"), covering(AVERAGING, ["graph", "xla", "eager"]))
def test_averages_are_left_as_fit_leaves_them(name: str, engine: str) -> None:
    fitted, one = model(), model()
    fitted.compile(optimizer=AVERAGING[name](), loss="mse")
    fitted.fit(X, Y, batch_size=20, epochs=6, verbose=0, shuffle=False)
    result = tape_magic.minimize(loss_of(one), one, AVERAGING[name](), 6, engine=engine)
    same(one.get_weights(), fitted.get_weights())
    assert result.loss == pytest.approx(float(loss_of(one)()), rel=1e-5)
    (note,) = [note for note in result.notes if "use_ema" in note]
    assert note.endswith(f"at the last step the loss was {result.history[-1]:.4g}")


def test_a_run_that_goes_on_goes_on_from_the_last_step(shell: Notebook) -> None:
    shell.ns.update(tf=tf, keras=keras, X=X, y=Y, one=model(), two=model(), opt=AVERAGING["SGD"]())
    line = '%%minimize loss --over {0} --optimizer "keras.optimizers.SGD(0.1, use_ema=True)" --steps {1} -q'
    cell = "loss = tf.reduce_mean(({0}(X) - y)**2)"
    shell.ok(f"{line.format('one', 20)}\n{cell.format('one')}")
    shell.ok(f"{line.format('two', 8)}\n{cell.format('two')}")
    shell.ok(f"{line.format('two', 20)} --resume\n{cell.format('two')}")
    same(shell.ns["one"].get_weights(), shell.ns["two"].get_weights())


def test_what_the_program_counts_itself_is_counted_once() -> None:
    count = tf.Variable(0, trainable=False)
    x = tf.Variable(3.0)

    def loss() -> Any:
        count.assign_add(1)
        return (x - 1) ** 2

    for engine in ("graph", "eager"):
        count.assign(0)
        tape_magic.minimize(loss, x, AVERAGING["SGD"](), 5, engine=engine)
        assert int(count) == 6


@pytest.mark.parametrize("steps", [0, 5])
def test_without_averages_nothing_is_said(steps: int) -> None:
    x = tf.Variable(3.0)
    optimizer = keras.optimizers.SGD(0.1, use_ema=steps == 0)
    result = tape_magic.minimize(lambda: (x - 1) ** 2, x, optimizer, steps, engine="graph")
    assert float(x) == pytest.approx(1 + 2 * 0.8**steps)
    assert result.notes == ()


def test_the_best_step_goes_before_averages_that_are_worse() -> None:
    x = tf.Variable(3.0)
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.99)
    result = tape_magic.minimize(lambda: (x - 1) ** 2, x, optimizer, 20, keep="best", engine="graph")
    assert float(x) == pytest.approx(1 + 2 * 0.8**19, rel=1e-3) or float(x) == pytest.approx(
        1 + 2 * 0.8**20, rel=1e-3
    )
    assert not any("use_ema" in note for note in result.notes)


# -- constraints with SciPy's methods ---------------------------------------------------------------------


FALLING = X @ [[2.0], [-3.0]]
BOUNDED = [method.name for method in METHODS.values() if method.bounds and not method.residuals]


@pytest.mark.parametrize("method", BOUNDED)
def test_weights_that_may_not_be_negative(method: str) -> None:
    one = model(kernel_constraint="non_neg", use_bias=True)
    result = tape_magic.minimize(loss_of(one, FALLING), one, method, engine="graph")
    kernel = one.get_weights()[0].ravel()
    assert kernel[1] == pytest.approx(0.0, abs=1e-3)
    assert (kernel >= 0).all()
    assert kernel[0] == pytest.approx(0.546, abs=0.15 if method == "powell" else 0.02)
    assert "the constraint NonNeg of dense/kernel was kept as a bound: 0 or more" in result.notes


def test_a_constraint_and_a_bound_on_the_same_weights() -> None:
    one = model(kernel_constraint="non_neg")
    names = {"k": one.layers[0].kernel, "b": one.layers[0].bias}
    tape_magic.minimize(
        lambda k, b: tf.reduce_mean((tf.matmul(X, k) + b - FALLING) ** 2),
        names,
        "l-bfgs-b",
        bounds={"k": (-1.0, 0.25)},
        engine="graph",
    )
    np.testing.assert_allclose(one.get_weights()[0].ravel(), [0.25, 0.0], atol=1e-6)


class Clipped(keras.constraints.Constraint):
    def __call__(self, w: Any) -> Any:
        return keras.ops.clip(w, -0.01, 0.01)


@pytest.mark.parametrize(
    ("constraint", "method", "message"),
    [
        (
            "non_neg",
            "bfgs",
            "the constraint NonNeg of dense/kernel is a bound, and bfgs knows none; these do",
        ),
        ("non_neg", "newton-cg", "newton-cg knows none; these do: l-bfgs-b"),
        (
            keras.constraints.MaxNorm(1.0),
            "l-bfgs-b",
            "MaxNorm of dense/kernel is no bound that l-bfgs-b could keep",
        ),
        (keras.constraints.UnitNorm(), "bfgs", "UnitNorm of dense/kernel is no bound"),
        (Clipped(), "slsqp", "Clipped of dense/kernel is no bound"),
    ],
)
def test_what_is_no_bound_is_refused(constraint: Any, method: str, message: str) -> None:
    one = model(kernel_constraint=constraint)
    before = one.get_weights()
    with pytest.raises(LineError, match=message):
        tape_magic.minimize(loss_of(one), one, method, engine="graph")
    same(one.get_weights(), before)


@pytest.mark.parametrize("method", ["bfgs", "l-bfgs-b", "adam"])
def test_without_a_constraint_nothing_is_said(method: str) -> None:
    one = model()
    result = tape_magic.minimize(loss_of(one), one, method, 5, engine="graph")
    assert not any("constraint" in note for note in result.notes)


def test_a_keras_optimizer_keeps_the_constraint_itself() -> None:
    one = model(kernel_constraint=keras.constraints.MaxNorm(0.5))
    result = tape_magic.minimize(loss_of(one), one, "adam", 50, lr=0.1, engine="graph")
    assert np.linalg.norm(one.get_weights()[0]) == pytest.approx(0.5, abs=1e-5)
    assert result.notes == ()
