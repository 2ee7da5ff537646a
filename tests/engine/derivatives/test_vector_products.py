"""``--vjp``: a vector times the Jacobian of an output, by reverse mode."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

V = tf.constant([3.0, -1.0])


def names(**more: Any) -> dict[str, Any]:
    return {"tf": tf, "np": np, "x": tf.Variable([1.0, 2.0]), "a": tf.Variable(2.0), "v": V, **more}


def values(report: Any) -> dict[str, Any]:
    return {row.label: None if row.value is None else np.asarray(row.value).tolist() for row in report}


@pytest.mark.parametrize(
    ("line", "cell", "expected"),
    [
        ("y --vjp y=v", "y = x**3", {"v·∂y/∂x": [9.0, -12.0]}),
        ("--vjp y=v", "y = x**3", {"v·∂y/∂x": [9.0, -12.0]}),
        ("dy/dx --vjp y=v", "y = x**3", {"v·∂y/∂x": [9.0, -12.0]}),
        ("d y / d x --vjp y=v", "y = x**3", {"v·∂y/∂x": [9.0, -12.0]}),
        ("y --vjp y=2*v", "y = x**3", {"(2*v)·∂y/∂x": [18.0, -24.0]}),
        ("y --vjp y=[1,0]", "y = x**3", {"[1,0]·∂y/∂x": [3.0, 0.0]}),
        ("y --vjp y=v", "y = a*x**3", {"v·∂y/∂x": [18.0, -24.0], "v·∂y/∂a": -5.0}),
        ("y --vjp y=v --wrt a", "y = a*x**3", {"v·∂y/∂a": -5.0}),
        ("dy/da, dy/dx --vjp y=v", "y = a*x**3", {"v·∂y/∂a": -5.0, "v·∂y/∂x": [18.0, -24.0]}),
        (
            "--vjp y=v z=2*v --wrt x",
            "y = x**3\nz = x**2",
            {"v·∂y/∂x": [9.0, -12.0], "(2*v)·∂z/∂x": [12.0, -8.0]},
        ),
        ("z --vjp y=v z=2*v --wrt x", "y = x**3\nz = x**2", {"(2*v)·∂z/∂x": [12.0, -8.0]}),
        ("dy/dh --vjp y=v", "h = x**2\ny = h**2", {"v·∂y/∂h": [6.0, -8.0]}),
        ("y --vjp y=2.0 --wrt x", "y = tf.reduce_sum(x**2)", {"2.0·∂y/∂x": [4.0, 8.0]}),
        ("y --vjp y=np.eye(2) --wrt x", "y = tf.tensordot(x, x, 0)", {"np.eye(2)·∂y/∂x": [2.0, 4.0]}),
    ],
)
def test_products(shell: Notebook, line: str, cell: str, expected: dict[str, Any]) -> None:
    shell.ns.update(names())
    shell.ok(f"%%grad {line}\n{cell}")
    report = shell.ns["grads"]
    assert values(report) == expected
    assert report.notes == ()
    assert [row.shape for row in report] == [np.shape(value) for value in expected.values()]


@pytest.mark.parametrize(
    "line", ["y --vjp y=v --wrt x", "dy/dx --vjp y=v", "dy/dx --vjp y=[3.0,-1.0] --check"]
)
def test_through_both_doors(door: Door, line: str) -> None:
    report = door.grad(Case("y = x**3", line, names()))
    assert report["y", "x"].numpy().tolist() == [9.0, -12.0]
    message = door.refused_grad(Case("y = x**3", "y --vjp y=1.0 --wrt x", names()))
    assert message.endswith("is of shape (), and y of shape (2,): give a vector of the same shape.")


def test_the_product_is_that_of_the_jacobian(shell: Notebook) -> None:
    rng = np.random.default_rng(1)
    shell.ns.update(names(m=tf.constant(rng.normal(size=(3, 2)), tf.float32), w=rng.normal(size=(3, 2))))
    cell = "y = tf.sin(m*x)*tf.reduce_prod(x)"
    shell.ok(f"%%grad dy/dx --jacobian\n{cell}")
    jacobian = shell.ns["dy_dx"].numpy()
    shell.ok(f"%%grad dy/dx --vjp y=w --check\n{cell}")
    np.testing.assert_allclose(shell.ns["dy_dx"], np.einsum("ij,ijk->k", shell.ns["w"], jacobian), rtol=1e-5)
    assert [check.outcome.name for check in shell.ns["grads"].checks] == ["AGREES"]


def test_what_is_bound_and_reported(shell: Notebook) -> None:
    shell.ns.update(names())
    run = shell.ok("%%grad dy/dx --vjp y=v\ny = x**3")
    report = shell.ns["grads"]
    assert report["dy/dx"] is report["y", "x"] is shell.ns["dy_dx"]
    assert "v·∂y/∂x" in run.displayed[0].text
    assert "v·∂y/∂x" in run.displayed[0].html
    assert report.rows[0].weights.tolist() == [3.0, -1.0]


def test_the_last_expression(shell: Notebook) -> None:
    shell.ns.update(names())
    shell.ok("%%grad --vjp _=v\nx**3")
    assert values(shell.ns["grads"]) == {"v·∂_/∂x": [9.0, -12.0]}


def test_a_model_a_structure_and_complex_numbers(shell: Notebook) -> None:
    layer = keras.layers.Dense(2, name="dense")
    z = tf.Variable([1 + 2j, 0.5 - 1j], dtype=tf.complex64)
    shell.ns.update(names(layer=layer, row=tf.constant([[3.0, 4.0]]), z=z))
    shell.ok("%%grad y --vjp y=[[1.0,2.0]] --wrt layer --check\ny = layer(row)")
    assert shell.ns["grads"]["y", "kernel"].numpy().tolist() == [[3.0, 6.0], [4.0, 8.0]]
    shell.ok("%%grad out --vjp 'out=dict(b=v, a=2.0)' --wrt x --check\nout = {'b': x**2, 'a': a*x[0]}")
    assert values(shell.ns["grads"]) == {"dict(b=v, a=2.0)·∂out/∂x": [10.0, -4.0]}
    assert [check.outcome.name for check in shell.ns["grads"].checks] == ["AGREES"]
    shell.ok("%%grad y --vjp y=[1+1j,2j] --wrt z --check\ny = z*z")
    # The gradient of the real part of the sum of conj(v)·y, in TensorFlow's convention.
    expected = np.array([1 + 1j, 2j]) * np.conj(2 * z.numpy())
    np.testing.assert_allclose(shell.ns["grads"].rows[0].value, expected, rtol=1e-6)
    assert [check.outcome.name for check in shell.ns["grads"].checks] == ["AGREES"]


def test_ragged_outputs(shell: Notebook) -> None:
    shell.ns.update(names(r=tf.ragged.constant([[1.0], [2.0, 3.0]])))
    shell.ok("%%grad y --vjp y=r --wrt r --check\ny = r**2")
    assert values(shell.ns["grads"]) == {"r·∂y/∂r.flat_values": [2.0, 8.0, 18.0]}
    assert [check.outcome.name for check in shell.ns["grads"].checks] == ["AGREES"]


def test_a_vector_stays_as_it_was_before_the_cell(shell: Notebook) -> None:
    shell.ns.update(names(u=tf.Variable([3.0, -1.0])))
    shell.ok("%%grad dy/dx --vjp y=u\nu.assign([0.0, 0.0])\ny = x**3")
    assert shell.ns["dy_dx"].numpy().tolist() == [9.0, -12.0]


@pytest.mark.parametrize(
    ("line", "cell", "value", "why"),
    [
        ("y --vjp y=v --wrt a", "y = x**2", None, "y does not read a"),
        ("y --vjp y=v --wrt a --zero", "y = x**2", 0.0, "y does not read a"),
        ("y --vjp y=v --wrt x", "y = tf.round(x)", None, "cut at Round"),
        ("y --vjp y=v --wrt x", "y = tf.argsort(x)", None, "y is int32, which has no derivative"),
        ("y --vjp y=v --wrt x", "y = 1.0", None, "y is a float, not a tensor"),
    ],
)
def test_what_is_missing_has_its_reason(shell: Notebook, line: str, cell: str, value: Any, why: str) -> None:
    shell.ns.update(names())
    shell.ok(f"%%grad {line}\n{cell}")
    (row,) = shell.ns["grads"]
    assert (row.value if value is None else float(row.value)) == value
    assert row.why.startswith(why)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("y --vjp y=1.0", "1.0 is of shape (), and y of shape (2,): give a vector of the same shape."),
        (
            "y --vjp y=[1,2,3]",
            "[1,2,3] is of shape (3,), and y of shape (2,): give a vector of the same shape.",
        ),
        ("y --vjp y='v' --wrt x", "'v' is a str, not numbers."),
        ("y --vjp y=[1j,2]", "[1j,2] is complex, and y is float32: give a real vector."),
        ("z --vjp y=v", "--vjp gives no vector for z; write --vjp z=v."),
        ("yy --vjp y=v", "the cell never assigns yy; did you mean y?"),
        ("y --vjp zz=v", "--vjp gives no vector for y; write --vjp y=v."),
        ("d2y/dx2 --vjp y=v", "d2y/dx2 is no first derivative, which --vjp is."),
        ("y --vjp y=v --order 2", "the order is 2, but a product with a Jacobian is of order 1"),
        ("y --vjp y=v --jvp x=v", "--jvp and --vjp are different things; write two cells."),
        ("y --vjp y=v --jacobian", "--jacobian and --vjp are different things; write two cells."),
        ("y --vjp y=v y=v", "--vjp gives two vectors for y; give their sum."),
        ("y --vjp y", "--vjp takes NAME=V, such as --vjp x=v, not 'y'."),
        ("y --vjp", "--vjp takes NAME=V, and nothing follows it"),
        ("y --vjp y=nope", "--vjp y=nope: NameError: name 'nope' is not defined"),
        ("dy/dx --vjp y=v --wrt x", "dy/dx says what to differentiate by; leave out --wrt"),
        (
            "y --vjp y=v --def f",
            "a compiled function cannot give a vjp: have the cell compute tf.reduce_sum(v*y), and "
            "differentiate that.",
        ),
    ],
)
def test_refusals(shell: Notebook, line: str, message: str) -> None:
    shell.ns.update(names())
    assert shell.refused(f"%%grad {line}\ny = x**3\nz = y*1").startswith(message)


def test_the_cure_for_a_compiled_function(shell: Notebook) -> None:
    shell.ns.update(names())
    shell.ok("%%grad ds/dx --def f\ny = x**3\ns = tf.reduce_sum(v*y)")
    assert shell.ns["f"]([1.0, 2.0]).ds_dx.numpy().tolist() == [9.0, -12.0]


@pytest.mark.parametrize("line", ["y --wrt x", "y --jvp x=v", "y --wrt x --jacobian"])
def test_other_kinds_have_no_weights(shell: Notebook, line: str) -> None:
    shell.ns.update(names())
    shell.ok(f"%%grad {line}\ny = x**3")
    assert shell.ns["grads"].rows[0].weights is None
