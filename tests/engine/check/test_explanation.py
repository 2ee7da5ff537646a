"""Why `--check` disagrees: a cause is tried and named with its line, or nothing is said."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.results.check import Check, CheckOutcome
from tests.support.covering import covering
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, everything is compared and explained."""
    monkeypatch.setattr("tape_magic.engine.check.sampling.SECONDS", 600.0)
    monkeypatch.setattr("tape_magic.engine.check.explanation.SECONDS", 600.0)


@tf.custom_gradient
def rounded(v: Any) -> Any:
    """A straight-through estimator."""
    return tf.round(v), lambda upstream: upstream


@tf.custom_gradient
def reverse(v: Any) -> Any:
    """A gradient reversal."""
    return tf.identity(v), lambda upstream: -upstream


@tf.custom_gradient
def clipped(v: Any) -> Any:
    """An identity whose gradient is clipped."""
    return tf.identity(v), lambda upstream: tf.clip_by_value(upstream, -0.5, 0.5)


@tf.custom_gradient
def wrong(v: Any) -> Any:
    """A sine with a gradient that is wrong by a tenth."""
    return tf.sin(v), lambda upstream: upstream * tf.cos(v) * 1.1


@tf.custom_gradient
def right(v: Any) -> Any:
    """The logarithm of 1 + exp(v), as the documentation of custom gradients has it."""
    e = tf.exp(v)
    return tf.math.log(1 + e), lambda upstream: upstream * (1 - 1 / (1 + e))


OWN = {"tf": tf, "np": np, "keras": keras}
OWN |= {"rounded": rounded, "reverse": reverse, "clipped": clipped, "wrong": wrong, "right": right}


def check_of(shell: Notebook, line: str, cell: str, **names: Any) -> Check:
    """The only check of a cell."""
    shell.ns.update(OWN, **names)
    shell.ok(f"%%grad {line} --check\n{cell}")
    (check,) = shell.ns["grads"].checks
    return check


def pair() -> Any:
    return tf.Variable([1.3, 2.6])


STOP = "the two agree if what tf.stop_gradient gives is held constant"
STOPS = [
    ("y = x**2 * tf.stop_gradient(x)", "line 2: y = x**2 * tf.stop_gradient(x)"),
    (
        "q = x + tf.stop_gradient(tf.round(x) - x)\ny = q**2",
        "line 2: q = x + tf.stop_gradient(tf.round(x) - x)",
    ),
    (
        "q = x + tf.stop_gradient(tf.sign(x) - x)\ny = q**2",
        "line 2: q = x + tf.stop_gradient(tf.sign(x) - x)",
    ),
    ("y = x**2 * keras.ops.stop_gradient(x)", "line 2: y = x**2 * keras.ops.stop_gradient(x)"),
    (
        "s = tf.nn.softmax(x)\nh = tf.one_hot(tf.argmax(s), 2, dtype=x.dtype)\n"
        "y = (tf.stop_gradient(h - s) + s)[1]**2",
        "line 4: y = (tf.stop_gradient(h - s) + s)[1]**2",
    ),
    (
        "c = tf.stop_gradient(x)\nd = tf.stop_gradient(2.0*x)\ny = x*c + 0.0*d",
        "line 2: c = tf.stop_gradient(x)",
    ),
    (
        "m = tf.reduce_max(x)\ny = tf.reduce_logsumexp(x) * tf.stop_gradient(m)",
        "line 3: y = tf.reduce_logsumexp(x) * tf.stop_gradient(m)",
    ),
]


@pytest.mark.parametrize(("cell", "where"), STOPS)
def test_a_stop_is_named(shell: Notebook, cell: str, where: str) -> None:
    check = check_of(shell, "y --wrt x", cell, x=pair())
    assert check.outcome is CheckOutcome.DIFFERS
    assert check.reason == f"{STOP}, {where}"


LEFT_OUT = [
    (
        "q = tf.quantization.fake_quant_with_min_max_args(x, -6.0, 6.0)\ny = q**2",
        "the gradient of FakeQuantWithMinMaxArgs leaves out that it rounds, by design, line 2",
    ),
    (
        "y = tf.quantization.quantize_and_dequantize_v2(x, -3.0, 3.0, range_given=True, num_bits=4)*x",
        "the gradient of QuantizeAndDequantizeV4 leaves out that it rounds, by design, line 2",
    ),
    (
        "y = tf.grad_pass_through(tf.round)(x)**2",
        "the custom gradient of tf.grad_pass_through is not the derivative of what it computes, line 2",
    ),
    (
        "a = x**2\nwith tape.stop_recording():\n    s = tf.reduce_sum(a)\ny = a*s",
        "what is computed within tape.stop_recording() is constant to the tape, line 4",
    ),
    (
        "y = tf.linalg.cholesky(tf.linalg.diag(x) + [[0.0, m[0, 0]], [m[0, 1], 0.0]])",
        "the gradient of Cholesky takes its matrix as symmetric, and a change of one element as one of its "
        "mirror image, too, line 2",
    ),
]


@pytest.mark.parametrize(("cell", "reason"), LEFT_OUT)
def test_what_a_gradient_leaves_out_by_design_is_named(shell: Notebook, cell: str, reason: str) -> None:
    by = "m" if "m[" in cell else "x"
    check = check_of(shell, f"y --wrt {by}", cell, x=pair(), m=tf.Variable([[0.3, 0.3]]))
    assert not check.agrees
    assert check.reason.startswith(reason)


def test_the_order_of_operations_is_that_of_the_run(shell: Notebook) -> None:
    """One of two quantized factors is taken for the cause, the other one is not on the way."""
    cell = (
        "a = tf.quantization.quantize_and_dequantize_v2(c, -3.0, 3.0, range_given=True, num_bits=4)\n"
        "y = a*tf.quantization.quantize_and_dequantize_v2(x, -3.0, 3.0, range_given=True, num_bits=4)"
    )
    check = check_of(shell, "y --wrt x", cell, x=pair(), c=tf.Variable([1.0, 2.0]))
    assert ", line 3: " in check.reason


@pytest.mark.parametrize(
    "cell",
    [
        "with tape.stop_recording():\n    s = tf.reduce_sum(x)\ny = x**2",
        "y = tf.linalg.cholesky(tf.linalg.diag(x))",
        "y = x + 0.0*tf.quantization.quantize_and_dequantize_v2(x, -3.0, 3.0, range_given=True)",
    ],
)
def test_what_changes_nothing_is_not_named(shell: Notebook, cell: str) -> None:
    check = check_of(shell, "y --wrt x", cell, x=pair())
    assert (check.agrees, check.reason) == (True, "")


CUSTOMS = [
    ("q = rounded(x)\ny = q**2", "rounded", "line 2: q = rounded(x)"),
    ("y = tf.sin(reverse(x))", "reverse", "line 2: y = tf.sin(reverse(x))"),
    ("y = 3*clipped(x)**2", "clipped", "line 2: y = 3*clipped(x)**2"),
    ("y = wrong(x)", "wrong", "line 2: y = wrong(x)"),
    ("y = wrong(x) + 0.0*tf.stop_gradient(x)", "wrong", "line 2: y = wrong(x) + 0.0*tf.stop_gradient(x)"),
    ("h = right(x)\ny = wrong(h)", "wrong", "line 3: y = wrong(h)"),
    ("y = tf.nn.silu(right(x))\ny = y*reverse(x)", "reverse", "line 3: y = y*reverse(x)"),
]


@pytest.mark.parametrize(("custom", "line"), covering(CUSTOMS, ["y --wrt x", "y --wrt x --jacobian"]))
def test_a_custom_gradient_is_named(shell: Notebook, custom: tuple[str, str, str], line: str) -> None:
    cell, name, where = custom
    check = check_of(shell, line, cell, x=pair())
    assert check.outcome is CheckOutcome.DIFFERS
    assert check.reason == f"the custom gradient of {name} is not the derivative of what it computes, {where}"


def test_causes_together(shell: Notebook) -> None:
    cell = "s = tf.stop_gradient(x)\ny = wrong(x)*s"
    reason = check_of(shell, "y --wrt x", cell, x=pair()).reason
    assert f"{STOP}, line 2: s = tf.stop_gradient(x)" in reason
    assert (
        "the custom gradient of wrong is not the derivative of what it computes, line 3: y = wrong(x)*s"
        in reason
    )


def test_functions_above_are_named_by_their_own_lines(shell: Notebook) -> None:
    shell.ns.update(OWN, x=pair())
    shell.ok("def f(v):\n    return v*tf.stop_gradient(tf.sin(v))")
    shell.ok("@tf.function\ndef g(v):\n    s = tf.sin(v)\n    return v*tf.stop_gradient(s)")
    for call, line in (("f(x)", 2), ("g(x)", 4)):
        shell.ok(f"%%grad y --wrt x --check\ny = {call}")
        (check,) = shell.ns["grads"].checks
        assert check.reason.startswith(f"{STOP}, cell ")
        assert f", line {line}: return v*tf.stop_gradient(" in check.reason


def test_each_row_has_its_own_reason(shell: Notebook) -> None:
    shell.ns.update(
        OWN, z=tf.Variable([[0.2, 0.5]]), e=tf.Variable([[0.1, 0.4], [0.9, 0.7]]), a=tf.Variable(2.0)
    )
    shell.ok(
        "%%grad loss --wrt z e a --check\n"
        "q = tf.gather(e, tf.argmin(tf.reduce_sum((z[:, None] - e[None])**2, -1), 1))\n"
        "near = tf.reduce_mean((tf.stop_gradient(q) - z)**2)\n"
        "loss = near + 0.25*tf.reduce_mean((q - tf.stop_gradient(z))**2) + a**3"
    )
    by = {check.key: check for check in shell.ns["grads"].checks}
    assert (
        by["dloss/dz"].reason
        == f"{STOP}, line 4: loss = near + 0.25*tf.reduce_mean((q - tf.stop_gradient(z))**2) + a**3"
    )
    assert by["dloss/de"].reason == f"{STOP}, line 3: near = tf.reduce_mean((tf.stop_gradient(q) - z)**2)"
    assert by["dloss/da"].agrees
    assert by["dloss/da"].reason == ""


def test_a_target_network(shell: Notebook) -> None:
    keras.utils.set_random_seed(1)
    layer = keras.layers.Dense(2, activation="tanh")
    shell.ns.update(OWN, q=layer, s=tf.constant([[0.1, 0.4]]), t=tf.constant([[0.5, -0.4]]))
    layer(shell.ns["s"])
    run = shell.ok(
        "%%grad loss --wrt q --check\n"
        "target = 1.0 + 0.9*tf.stop_gradient(tf.reduce_max(q(t), axis=1))\n"
        "loss = tf.reduce_mean((target - q(s)[:, 0])**2)"
    )
    checks = shell.ns["grads"].checks
    assert {check.outcome for check in checks} == {CheckOutcome.DIFFERS}
    reason = f"{STOP}, line 2: target = 1.0 + 0.9*tf.stop_gradient(tf.reduce_max(q(t), axis=1))"
    assert {check.reason for check in checks} == {reason}
    assert " ".join(run.displayed[0].text.split()).count("tf.stop_gradient gives is held constant") == 1


def test_a_second_derivative_that_a_stop_within_keras_makes_wrong(shell: Notebook) -> None:
    """The moments of `LayerNormalization` stop the gradient of the mean, which shows in the second order."""
    keras.utils.set_random_seed(3)
    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.LayerNormalization()])
    check = check_of(shell, "d2y/dx2", "y = net(x)**3", net=net, x=tf.constant([[0.1, 0.2], [0.7, 1.1]]))
    assert check.outcome is CheckOutcome.DIFFERS
    assert check.reason == f"{STOP}, line 2: y = net(x)**3"


# -- state ---------------------------------------------------------------------------------------------

NEW = "the derivative is by the value that the variable gets in the cell, not by the one before"

MAML = """\
with tf.GradientTape() as inner:
    support = tf.reduce_mean((tf.tanh(xs @ w + b) - 1.0)**2)
gw = inner.gradient(support, w)
w.assign_sub(0.4 * gw)
loss = tf.reduce_mean((tf.tanh(xq @ w + b) - 0.7)**2)"""


def test_an_inner_step_that_assigns(shell: Notebook) -> None:
    """The derivative by what the variable became is compared as such, and agrees."""
    w = tf.Variable([[0.5], [-0.3]])
    names = {
        "b": tf.Variable([0.1]),
        "xs": tf.constant([[1.0, 2.0], [0.5, -1.0]]),
        "xq": tf.constant([[2.0, 0.3]]),
    }
    check = check_of(shell, "loss --wrt w", MAML, w=w, **names)
    assert check.agrees, check
    assert check.compared == 2
    assert check.reason == f"{NEW}, line 5: w.assign_sub(0.4 * gw)"


ASSIGNED = [
    ("w.assign(3.0)\ny = w**2", 6.0, f"{NEW}, line 2: w.assign(3.0)"),
    ("for _ in range(3):\n    w.assign(w*w)\ny = w**2", 512.0, f"{NEW}, line 3: w.assign(w*w)"),
    (
        "a = w**2\nw.assign(a)\ny = a*w",
        20.0,
        "the derivative is by the variable's values before and after together, line 3: w.assign(a)",
    ),
    ("y = w**3\nw.assign_sub(0.5)", 12.0, ""),
    ("y = w**3\nv.assign(w)", 12.0, ""),
    ("w.assign_add(1.0)\ny = tf.stop_gradient(w)*0.0 + v**2", None, None),
]


@pytest.mark.parametrize(("assigned", "dtype"), covering(ASSIGNED, ["float32", "float64"]))
def test_variables_that_the_cell_assigns(
    shell: Notebook, assigned: tuple[str, float | None, str | None], dtype: str
) -> None:
    cell, slope, reason = assigned
    w, v = tf.Variable(2.0, dtype=dtype), tf.Variable(0.5, dtype=dtype)
    check = check_of(shell, "y --wrt w", cell, w=w, v=v)
    assert check.agrees, check
    if slope is not None:
        np.testing.assert_allclose(check.difference, slope, rtol=1e-5)
        assert check.reason == reason


def test_a_wrong_gradient_after_an_assignment_is_found(shell: Notebook) -> None:
    check = check_of(shell, "y --wrt w", "w.assign(w*2.0)\ny = wrong(w)", w=tf.Variable(0.3))
    assert check.outcome is CheckOutcome.DIFFERS
    np.testing.assert_allclose(check.derivative / check.difference, 1.1, rtol=1e-5)
    assert "the custom gradient of wrong" in check.reason


def test_the_state_of_another_variable_is_named(shell: Notebook) -> None:
    cell = "v.assign(3.0*x)\ny = x**2 + v*x"
    check = check_of(shell, "y --wrt x", cell, x=tf.Variable(2.0), v=tf.Variable(0.0))
    assert check.outcome is CheckOutcome.DIFFERS
    assert check.reason == "a variable's state carries no derivative, line 2: v.assign(3.0*x)"
    assert float(shell.ns["v"]) == 6.0


def test_a_step_of_an_optimizer_within(shell: Notebook) -> None:
    keras.utils.set_random_seed(1)
    layer, x = keras.layers.Dense(1), tf.constant([[0.3, 0.5]])
    layer(x)
    shell.ns.update(OWN, m=layer, x=x, opt=keras.optimizers.SGD(0.3))
    shell.ok(
        "%%grad loss --wrt m --check\n"
        "with tf.GradientTape() as t:\n    inner = tf.reduce_mean((m(x) - 1.0)**2)\n"
        "gradients = t.gradient(inner, m.trainable_variables)\n"
        "opt.apply_gradients(zip(gradients, m.trainable_variables))\n"
        "loss = tf.reduce_mean((m(2.0*x) - 1.0)**2)"
    )
    checks = shell.ns["grads"].checks
    assert all(check.agrees for check in checks), checks
    step = "line 5: opt.apply_gradients(zip(gradients, m.trainable_variables))"
    assert {check.reason for check in checks} == {f"{NEW}, {step}"}


# -- nothing is said ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell",
    [
        "m = tf.stop_gradient(tf.reduce_max(x))\ny = tf.math.log(tf.reduce_sum(tf.exp(x - m))) + m",
        "y = right(x)",
        "y = tf.nn.silu(x) + tf.reduce_logsumexp(x)",
        "y = x**2*tf.stop_gradient(c)",
        "c.assign_add(1.0)\ny = x**2",
        "y = tf.recompute_grad(lambda v: tf.sin(v)*v)(x)",
        "y = x**2\nx.assign_add([1.0, 1.0])",
    ],
)
def test_what_agrees_has_no_reason(shell: Notebook, cell: str) -> None:
    check = check_of(shell, "y --wrt x", cell, x=pair(), c=tf.Variable(2.0))
    assert check.agrees
    assert check.reason == ""


@pytest.mark.parametrize(
    "cell",
    [
        "y = x**2*float(x[0])",
        "y = tf.stop_gradient(x)*0.0 + x*np.sin(x.numpy())",
        "y = tf.stop_gradient(x)*x + x*np.sin(x.numpy())",
        "c.assign(x[0])\ny = x**2*float(x[1]) + 0.0*c",
    ],
)
def test_another_cause_gets_no_false_one(shell: Notebook, cell: str) -> None:
    check = check_of(shell, "y --wrt x", cell, x=pair(), c=tf.Variable(2.0))
    assert check.outcome is CheckOutcome.DIFFERS
    assert check.reason == ""


@pytest.mark.parametrize("ending", ["", "raise ValueError('later')", "raise KeyboardInterrupt"])
def test_tensorflow_is_as_before(shell: Notebook, ending: str) -> None:
    shell.ns.update(OWN, x=pair(), turns=iter(range(999)))
    shell.ok(f"turn = turns.__next__\ndef later():\n    if turn() > 60:\n        {ending or 'pass'}")
    shell.run("%%grad y --wrt x --check\ny = x**2*tf.stop_gradient(x)\nlater()")
    assert float(tf.stop_gradient(tf.constant(2.0))) == 2.0


def test_without_the_private_part_nothing_is_said(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tape_magic.engine.check.holding.give_instead", lambda outputs, tensors: False)
    (check,) = door.grad(
        Case("y = x**2*tf.stop_gradient(x)", "y --wrt x --check", {**OWN, "x": pair()})
    ).checks
    assert check.outcome is CheckOutcome.DIFFERS
    assert check.reason == ""
