"""``--laplacian`` and ``--divergence``: known answers, shapes, and rows that depend on others."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.errors import TapeMagicError
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

RNG = np.random.default_rng(0)
P = RNG.normal(size=(6, 3))


def names(**more: Any) -> dict[str, Any]:
    return {"tf": tf, "np": np, "x": tf.constant(P), "p": tf.constant(P[0]), "s": tf.constant(0.5), **more}


def heat(x: Any, t: float, d: int) -> Any:
    """The Gaussian heat kernel, whose Laplacian is its derivative by the time."""
    return tf.exp(-tf.reduce_sum(x**2, axis=-1) / (4 * t)) / (4 * math.pi * t) ** (d / 2)


def heat_by_time(points: Any, t: float) -> Any:
    d = points.shape[-1]
    square = (points**2).sum(axis=-1)
    kernel = np.exp(-square / (4 * t)) / (4 * math.pi * t) ** (d / 2)
    return kernel * (square / (4 * t**2) - d / (2 * t))


@pytest.mark.parametrize(
    ("line", "cell", "expected"),
    [
        # one number, over all elements of the source
        ("u --laplacian --wrt p", "u = tf.reduce_sum(p**2)", 6.0),
        ("u --laplacian --wrt x", "u = tf.reduce_sum(x**2)", 36.0),
        ("u --laplacian --wrt p", "u = tf.reduce_sum(p**2, keepdims=True)", [6.0]),
        ("u --laplacian --wrt s", "u = s**3", 3.0),
        ("d2u/dp2 --laplacian", "u = 1/tf.norm(p)", 0.0),
        ("d2u/dp2 --laplacian", "u = p[0]**2 - p[1]**2 + p[2]*p[0]", 0.0),
        # a number for each row
        ("u --laplacian --wrt x", "u = tf.reduce_sum(x**2, axis=1)", [6.0] * 6),
        ("u --laplacian --wrt x", "u = tf.reduce_sum(x**2, axis=1, keepdims=True)", [[6.0]] * 6),
        ("u --laplacian --wrt x", "u = 1/tf.norm(x, axis=1)", [0.0] * 6),
        ("u --laplacian --wrt x", "u = tf.exp(x[:, 0])*tf.sin(x[:, 1])", [0.0] * 6),
        ("u --laplacian --wrt x", "u = heat(x, 0.7, 3)", heat_by_time(P, 0.7)),
        ("u --laplacian --wrt t", "u = tf.sin(3*t)", -9 * np.sin(3 * np.linspace(0, 1, 5))),
        ("u --laplacian --wrt c", "u = c**4", 12 * P[:, :1] ** 2),
        ("u --laplacian --wrt g", "u = tf.reduce_sum(g**2, -1)", np.full((2, 4), 6.0)),
        ("F --divergence --wrt p", "F = p*tf.reduce_sum(p**2)", 5 * (P[0] ** 2).sum()),
        ("dF/dp --divergence", "F = tf.stack([-p[1], p[0], 0*p[2]])", 0.0),
        ("F --divergence --wrt s", "F = s**3", 0.75),
        ("dF/dx --divergence", "F = x**2", 2 * P.sum(axis=1)),
        ("F --divergence --wrt x", "F = x/tf.norm(x, axis=1, keepdims=True)**3", [0.0] * 6),
        ("F --divergence --wrt x", "F = tf.linalg.cross(x, tf.ones_like(x))", [0.0] * 6),
        ("F --divergence --wrt c", "F = tf.sin(c)", np.cos(P[:, 0])),
    ],
)
def test_known_answers(shell: Notebook, line: str, cell: str, expected: Any) -> None:
    grid = tf.constant(RNG.normal(size=(2, 4, 3)))
    shell.ns.update(names(heat=heat, t=np.linspace(0, 1, 5), c=tf.constant(P[:, :1]), g=grid))
    shell.ok(f"%%grad {line}\n{cell}")
    (row,) = shell.ns["grads"]
    assert row.shape == row.value.shape == np.shape(expected)
    np.testing.assert_allclose(row.value, expected, rtol=1e-5, atol=1e-6 if line.startswith("F") else 1e-9)
    assert row.reason is None
    assert shell.ns["grads"].notes == ()


def test_many_dimensions_all_at_once() -> None:
    points = RNG.normal(size=(4, 40))
    scale = np.arange(40.0)
    report = tape_magic.grad(
        lambda x: {"u": tf.reduce_sum(scale * x**4, axis=1)}, {"x": tf.constant(points)}, "u", laplacian=True
    )
    np.testing.assert_allclose(report["u", "x"], 12 * (scale * points**2).sum(axis=1), rtol=1e-9)
    kernel = tf.Variable(RNG.normal(size=(6, 7)))
    small = tape_magic.grad(lambda: tf.reduce_sum(tf.sin(kernel)), kernel, laplacian=True, limit=2000)
    np.testing.assert_allclose(small.rows[0].value, -np.sin(kernel.numpy()).sum(), rtol=1e-9)
    assert small.notes == ()


def test_both_agree_with_the_matrices(shell: Notebook) -> None:
    net = keras.Sequential([keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(3)])
    shell.ns.update(names(net=net, y=tf.constant(P, tf.float32)))
    shell.ok("%%grad u --laplacian --wrt y\nu = net(y)[:, 0]")
    laplacian = shell.ns["grads"]["u", "y"]
    shell.ok("%%grad u --hessian --wrt y\nu = net(y)[:, 0]")
    np.testing.assert_allclose(
        laplacian, np.einsum("ijij->i", shell.ns["grads"].hessian["y", "y"]), rtol=1e-4, atol=1e-6
    )
    shell.ok("%%grad F --divergence --wrt y\nF = net(y)")
    divergence = shell.ns["grads"]["F", "y"]
    shell.ok("%%grad F --batch-jacobian --wrt y\nF = net(y)")
    np.testing.assert_allclose(divergence, np.einsum("ijj->i", shell.ns["grads"].rows[0].value), rtol=1e-5)


@pytest.mark.parametrize(
    ("line", "key", "value"), [("d2u/dx2 --laplacian", "d2u/dx2", 6.0), ("du/dx --divergence", "du/dx", 3.0)]
)
def test_through_both_doors(door: Door, line: str, key: str, value: float) -> None:
    cell = "u = tf.reduce_sum(x**2, axis=1)" if "laplacian" in line else "u = x"
    report = door.grad(Case(cell, line, names()))
    assert report[key].numpy().tolist() == report["u", "x"].numpy().tolist() == [value] * 6
    assert list(report.to_dict()) == [key]
    assert report.to_frame().loc[key, "max"] == value


def test_what_is_bound_and_shown(shell: Notebook) -> None:
    shell.ns.update(names())
    run = shell.ok("%%grad d2u/dx2 --laplacian -o lap\nu = tf.reduce_sum(x**2, axis=1)")
    assert shell.ns["lap"]["u", "x"] is shell.ns["d2u_dx2"]
    assert "Δu by x" in run.displayed[0].text
    assert "Δu by x" in run.displayed[0].html
    run = shell.ok("%%grad dF/dx --divergence\nF = x**2")
    assert shell.ns["grads"]["F", "x"] is shell.ns["dF_dx"]
    assert "∇·F by x" in run.displayed[0].text


def test_by_each_source_and_of_each_output(shell: Notebook) -> None:
    shell.ns.update(names(q=tf.constant([2.0, 1.0], tf.float64)))
    shell.ok("%%grad u, v --laplacian --wrt p,q\nu = tf.reduce_sum(p**2)*q[0]**2\nv = tf.reduce_sum(q**3)")
    report = shell.ns["grads"]
    assert [row.label for row in report] == ["Δu by p", "Δu by q", "Δv by p", "Δv by q"]
    assert float(report["u", "p"]) == 24.0
    assert float(report["u", "q"]) == pytest.approx(2 * (P[0] ** 2).sum())
    assert report["v", "p"] is None
    assert "v does not read p" in report.rows[2].why
    assert float(report["v", "q"]) == 18.0


@pytest.mark.parametrize(
    ("line", "cell"),
    [
        ("u --laplacian --wrt x", "u = x[:, 0]**2 + tf.reduce_mean(x**2)"),
        ("u --laplacian --wrt x", "u = tf.reduce_sum(x*tf.roll(x, 1, axis=0), axis=1)"),
        ("u --laplacian --wrt t", "u = tf.cumsum(t**2)"),
        ("F --divergence --wrt x", "F = x - tf.reduce_mean(x, axis=0)"),
        ("F --divergence --wrt x", "F = tf.reverse(x, [0])"),
        ("F --divergence --wrt x", "F = norm(x, training=True)"),
        ("F --divergence --wrt two", "F = two[::-1]**2"),
    ],
)
def test_rows_that_depend_on_others_are_refused(shell: Notebook, line: str, cell: str) -> None:
    norm = keras.layers.BatchNormalization(dtype="float64")
    shell.ns.update(names(norm=norm, t=tf.constant(P[:, 0]), two=tf.constant(P[:2])))
    message = shell.refused(f"%%grad {line}\n{cell}")
    assert "at one row depends on other rows of" in message


def test_rows_that_only_look_so_are_not_refused(shell: Notebook) -> None:
    norm = keras.layers.BatchNormalization(dtype="float64")
    net = keras.Sequential(
        [keras.layers.Dense(8, "relu"), keras.layers.LayerNormalization(), keras.layers.Dense(3)]
    )
    scales = tf.constant(np.logspace(-3, 4, 6)[:, None] * P, tf.float32)
    shell.ns.update(names(norm=norm, net=net, scales=scales, half=tf.cast(P, tf.float16)))
    for line, cell in [
        ("F --divergence --wrt x", "F = norm(x, training=False)"),
        ("F --divergence --wrt x", "F = x - tf.stop_gradient(tf.reduce_mean(x, axis=0))"),
        ("F --divergence --wrt scales", "F = net(scales)"),
        ("F --divergence --wrt scales", "F = tf.transpose(tf.transpose(scales)**2)"),
        ("F --divergence --wrt half", "F = tf.exp(half)*tf.reduce_sum(half, axis=1, keepdims=True)"),
        ("F --divergence --wrt x", "F = tf.math.log(x*0.0)"),  # nowhere finite
        ("F --divergence --wrt scales", "F = tf.nn.softmax(scales)"),  # the gradient of the sum is 0
        ("F --divergence --wrt scales", "F = 1e3*tf.nn.softmax(1e-3*scales) + 1e-6*scales"),
        ("F --divergence --wrt x", "F = tf.vectorized_map(lambda row: row*tf.reduce_sum(row), x)"),
        ("u --laplacian --wrt x", "u = tf.map_fn(lambda row: tf.reduce_prod(row), x)"),
        ("F --divergence --wrt p", "F = p - tf.reduce_mean(p)"),
        ("u --laplacian --wrt x", "u = tf.reduce_mean(x**2)"),
    ]:
        shell.ok(f"%%grad {line}\n{cell}")


def test_a_batch_jacobian_says_where_rows_depend_on_others(shell: Notebook) -> None:
    shell.ns.update(names())
    for cell, mixes in [
        ("F = x - tf.reduce_mean(x, axis=0)", True),
        ("F = tf.cumsum(x)", True),
        ("F = tf.nn.softmax(x)", False),
        ("F = x*tf.reduce_sum(x, axis=1, keepdims=True)", False),
        ("F = x - tf.stop_gradient(tf.reduce_mean(x, axis=0))", False),
    ]:
        shell.ok(f"%%grad F --batch-jacobian --wrt x\n{cell}")
        said = [note for note in shell.ns["grads"].notes if "F at one row depends on other rows of x" in note]
        assert bool(said) is mixes, cell


@pytest.mark.parametrize(
    ("line", "cell", "message"),
    [
        ("F --divergence --wrt x", "F = x[:, :2]", "F is of shape (6, 2), x of shape (6, 3)"),
        ("F --divergence --wrt x", "F = tf.reduce_sum(x)", "F is of shape (), x of shape (6, 3)"),
        ("F --divergence --wrt p", "F = {'a': p, 'b': p}", "F is a dict of 2, and this needs one tensor"),
        ("u --laplacian --wrt x", "u = x**2", "Name one component, such as u0 = u[..., 0], or the source"),
        ("u --laplacian", "u = x@m", "u is of shape (6, 1), m of shape (3, 1)"),
        ("u --laplacian --wrt x", "u = x[:2, 0]", "u is of shape (2,), x of shape (6, 3)"),
        ("u --laplacian --wrt p", "u = p**2*tf.ones((2, 3), p.dtype)", "u is of shape (2, 3)"),
        ("u --laplacian --wrt z", "u = tf.abs(z)**2", "z is complex, and --laplacian is of real numbers"),
        ("F --divergence --wrt s", "F = tf.complex(s, s)", "F is complex, and --divergence is of real"),
        ("du/dp --laplacian", "u = tf.reduce_sum(p)", "write d2u/dp2, or u --wrt p."),
        ("d2u/dp dx --laplacian", "u = tf.reduce_sum(p*x)", "is no second derivative by one source"),
        ("d2F/dp2 --divergence", "F = p", "write dF/dp, or F --wrt p."),
        ("F --divergence --order 2 --wrt p", "F = p", "a divergence is of first derivatives"),
        ("u --laplacian --wrt p --check", "u = tf.reduce_sum(p)", "--check cannot compare a Laplacian"),
        ("F --divergence --wrt p --check", "F = p", "--check cannot compare a divergence"),
        ("u --laplacian --wrt p --def f", "u = tf.reduce_sum(p)", "cannot give a Laplacian"),
        ("F --divergence --wrt p --def f", "F = p", "cannot give a divergence"),
        ("u --laplacian --divergence", "u = p", "--laplacian and --divergence are different things"),
    ],
)
def test_what_is_refused(shell: Notebook, line: str, cell: str, message: str) -> None:
    shell.ns.update(names(z=tf.constant(1 + 2j), m=tf.Variable(P[:3, :1])))
    assert message in shell.refused(f"%%grad {line}\n{cell}")


def test_python_refuses_two_kinds() -> None:
    with pytest.raises(TapeMagicError, match="laplacian and divergence are different things"):
        tape_magic.grad(lambda x: x, {"x": 1.0}, laplacian=True, divergence=True)


def test_what_is_missing_or_zero_has_its_reason(shell: Notebook) -> None:
    shell.ns.update(names())
    for line, cell, value, why in [
        ("u --laplacian --wrt x", "u = tf.reduce_sum(3*x, axis=1)", None, "does not depend on x"),
        ("u --laplacian --wrt x", "u = tf.reduce_sum(tf.round(x), axis=1)", None, "cut at Round"),
        ("u --laplacian --wrt x --zero", "u = tf.reduce_sum(3*x, axis=1)", [0.0] * 6, "does not depend on x"),
        ("u --laplacian --wrt p", "u = tf.reduce_sum(tf.nn.relu(p)*2)", 0.0, "Relu"),
        ("u --laplacian --wrt p", "u = tf.reduce_sum(tf.sqrt(p*0.0))", None, "Sqrt"),
        ("F --divergence --wrt x", "F = tf.sign(x)", [0.0] * 6, "0 wherever it exists: Sign"),
        ("F --divergence --wrt x", "F = tf.cast(x, tf.int32)", None, "int32, which has no derivative"),
        ("u --laplacian --wrt p", "u = 1.0", None, "u is a float, not a tensor"),
    ]:
        shell.ok(f"%%grad {line}\n{cell}")
        (row,) = shell.ns["grads"]
        assert why in row.why, cell
        if "Sqrt" not in why:
            assert (row.value if value is None else row.value.numpy().tolist()) == value, cell
