"""What a report says of derivatives that are right, and not what one may take them for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.support.doors import Case, Door
from tests.support.notebook import Notebook


def names() -> dict[str, Any]:
    return {
        "tf": tf,
        "np": np,
        "x": tf.Variable(1.5),
        "xs": tf.Variable([1.0, 2.0]),
        "z": tf.Variable(0.3 + 0.1j, dtype=tf.complex64),
        "zs": tf.Variable([1 + 2j, 0.5 - 1j], dtype=tf.complex64),
        "w": tf.Variable([1.0, 2.0]),
        "b": tf.Variable(0.5),
        "state": tf.Variable(0.0),
        "v": [1j, 2.0],
    }


def notes(shell: Notebook, line: str, cell: str) -> tuple[str, ...]:
    """The notes of a report, without the one on sums."""
    shell.ns.update(names())
    shell.ok(f"%%grad {line}\n{cell}")
    found: tuple[str, ...] = shell.ns["grads"].notes
    return tuple(note for note in found if not note.startswith("TensorFlow differentiates the sum"))


# -- complex numbers -----------------------------------------------------------------------------------

REAL_PART = "{} is complex: the derivative is that of its real part; tf.math.imag gives the other"
CONJUGATE = (
    "{0} is complex: the derivative is ∂Re({1})/∂Re({0}) + i·∂Re({1})/∂Im({0}), "
    "the conjugate of the complex one where {1} is holomorphic"
)
CONJUGATES = "{0} is complex: where {1} is holomorphic, this is the conjugate of its derivative"
OF_REAL = "{0} is complex: the derivative is ∂{1}/∂Re({0}) + i·∂{1}/∂Im({0})"


@pytest.mark.parametrize(
    ("line", "cell", "value", "note"),
    [
        ("dy/dx", "y = tf.complex(x, x**2)*tf.complex(0.0, 1.0)", -3.0, REAL_PART.format("y")),
        ("y --wrt x", "y = tf.complex(x**2, x)", 3.0, REAL_PART.format("y")),
        ("d2y/dx2", "y = tf.complex(x**3, x)", 9.0, REAL_PART.format("y")),
        ("--wrt x", "tf.complex(x**2, x)", 3.0, REAL_PART.format("the output")),
        ("dy/dxs", "y = tf.signal.fft(tf.complex(xs, 0.0))", [2.0, 0.0], REAL_PART.format("y")),
        ("dy/dxs --jacobian", "y = tf.complex(xs, xs)", [[1.0, 0.0], [0.0, 1.0]], REAL_PART.format("y")),
        ("dy/dx", "y = [x, tf.complex(x**2, x)]", 4.0, REAL_PART.format("y")),
        ("dy/dz", "y = z*z*z", np.conj(3 * (0.3 + 0.1j) ** 2), CONJUGATE.format("z", "y")),
        ("y --wrt zs", "y = zs*zs", np.conj([2 + 4j, 1 - 2j]), CONJUGATE.format("zs", "y")),
        ("dy/dz", "y = tf.math.conj(z)", 1.0, CONJUGATE.format("z", "y")),
        ("d2y/dz2", "y = z*z*z", np.conj(6 * (0.3 + 0.1j)), CONJUGATES.format("z", "y")),
        ("dy/dz", "y = tf.abs(z)**2", 0.6 + 0.2j, OF_REAL.format("z", "y")),
        ("dy/dz", "y = tf.math.real(z)", 1.0, OF_REAL.format("z", "y")),
        ("dy/dz", "y = tf.math.imag(z)", 1j, OF_REAL.format("z", "y")),
        (
            "y --vjp y=v --wrt xs",
            "y = tf.complex(xs, xs**2)",
            [2.0, 2.0],
            "y is complex: the product is the derivative of the real part of Σ conj(v)·y",
        ),
    ],
)
def test_complex_numbers(shell: Notebook, line: str, cell: str, value: Any, note: str) -> None:
    assert notes(shell, line, cell) == (note,)
    np.testing.assert_allclose(shell.ns["grads"].rows[0].value, value, rtol=1e-5, atol=1e-6)


def test_the_sentence_on_the_conjugate_is_true(shell: Notebook) -> None:
    shell.ns.update(names())
    shell.ok("%%grad dy/dz\ny = tf.exp(z)*z + tf.math.conj(z)")

    def real(re: float, im: float) -> float:
        z = complex(re, im)
        return float((np.exp(z) * z + z.conjugate()).real)

    h = 1e-6
    along_re = (real(0.3 + h, 0.1) - real(0.3 - h, 0.1)) / (2 * h)
    along_im = (real(0.3, 0.1 + h) - real(0.3, 0.1 - h)) / (2 * h)
    np.testing.assert_allclose(shell.ns["dy_dz"].numpy(), along_re + 1j * along_im, rtol=1e-5)


@pytest.mark.parametrize(
    ("line", "cell"),
    [
        ("dy/dx", "y = x**2"),
        ("dy/dxs", "y = tf.reduce_sum(tf.abs(tf.signal.fft(tf.complex(xs, 0.0)))**2)"),
        ("dy/dx", "q = tf.complex(x, x)\ny = tf.math.imag(q*q)"),
        ("dy/dx", "y = tf.complex(tf.round(x), 0.0)"),
        ("y --wrt x", "y = z*z"),
        ("y --jvp x=1.0", "y = tf.complex(x, x**2)"),
        ("d2y/dx2", "y = x**3"),
        ("y --wrt x", "y = None"),
        ("y --wrt x", "y = 'text'"),
    ],
)
def test_nothing_is_said_where_numbers_are_real_or_not_connected(
    shell: Notebook, line: str, cell: str
) -> None:
    assert not [note for note in notes(shell, line, cell) if "complex" in note]


def test_each_is_said_once(shell: Notebook) -> None:
    found = notes(shell, "dy/dx, dy/dxs, du/dz", "y = tf.complex(x*xs, x)\nu = z*z")
    assert found == (REAL_PART.format("y"), CONJUGATE.format("z", "u"))


def test_both_doors_say_so(door: Door) -> None:
    report = door.grad(Case("y = z*z", "dy/dz", names()))
    assert report.notes == (CONJUGATE.format("z", "y"),)


# -- a source that the cell assigns ---------------------------------------------------------------------

FROM = "line {} assigns {}: the derivative is by its value from there on"
NOT_THROUGH = ", not through the assignment; to go through it, compute a new tensor instead"


@pytest.mark.parametrize(
    ("line", "cell", "value", "note"),
    [
        ("y --wrt w", "w.assign([3.0, 4.0])\ny = tf.reduce_sum(w**2)", [6.0, 8.0], FROM.format(2, "w")),
        ("dy/dw", "w.assign_add([1.0, 1.0])\ny = tf.reduce_sum(w**2)", [4.0, 6.0], FROM.format(2, "w")),
        ("dy/dw", "w[0].assign(3.0)\ny = tf.reduce_sum(w**2)", [6.0, 4.0], FROM.format(2, "w")),
        (
            "dy/dw",
            "g = 2.0*w\nw.assign_sub(0.25*g)\ny = tf.reduce_sum(w**2)",
            [1.0, 2.0],
            FROM.format(3, "w") + NOT_THROUGH,
        ),
        (
            "dy/dw",
            "for _ in range(2):\n    w.assign(w*0.5)\ny = tf.reduce_sum(w**2)",
            [0.5, 1.0],
            FROM.format(3, "w") + NOT_THROUGH,
        ),
        (
            "y --wrt w b",
            "w.assign(w*b)\ny = tf.reduce_sum(w**2)*b",
            [0.5, 1.0],
            FROM.format(2, "w") + NOT_THROUGH,
        ),
        (
            "dy/dv",
            "v = tf.Variable([1.0, 1.0])\nv.assign([3.0, 4.0])\ny = tf.reduce_sum(v**2)",
            [6.0, 8.0],
            FROM.format(3, "v"),
        ),
        (
            "dy/dw",
            "with tf.GradientTape() as inner:\n    s = tf.reduce_sum(w**3)\n"
            "w.assign_sub(0.1*inner.gradient(s, w))\ny = tf.reduce_sum(w**2)",
            [1.4, 1.6],
            FROM.format(4, "w") + NOT_THROUGH,
        ),
    ],
)
def test_a_source_that_is_assigned_before_it_is_read(
    shell: Notebook, line: str, cell: str, value: Any, note: str
) -> None:
    assert notes(shell, line, cell) == (note,)
    np.testing.assert_allclose(shell.ns["grads"].rows[0].value, value, rtol=1e-5)


@pytest.mark.parametrize(
    ("line", "cell"),
    [
        ("dy/dw", "y = tf.reduce_sum(w**2)\nw.assign_sub(0.1*w)"),
        ("dy/dw", "y = tf.reduce_sum(w**2)\nw.assign([0.0, 0.0])\nu = tf.reduce_sum(w)"),
        ("dy/dw", "state.assign_add(1.0)\ny = tf.reduce_sum(w**2)*state"),
        ("dy/dw", "b.assign(2.0)\ny = tf.reduce_sum(w**2)*b"),
        ("dy/dw", "y = tf.reduce_sum(w**2)"),
        ("dy/dw", "u = tf.reduce_sum(w)\nw.assign_sub(0.1*w)\ny = u + tf.reduce_sum(w**2)"),
        ("dy/dw", "m = tf.Variable([0.0, 0.0])\nm.assign(2*w)\ny = tf.reduce_sum(w**2)"),
        ("dy/dh", "h = 2*w\nw.assign([0.0, 0.0])\ny = tf.reduce_sum(h**2)"),
        ("dy/db", "w.assign([3.0, 4.0])\ny = tf.reduce_sum(w**2)*b"),
        ("dy/dv", "v = tf.Variable(2.0*w)\ny = tf.reduce_sum(v**2)"),
        ("y --wrt layer", "layer = tf.keras.layers.Dense(1)\ny = tf.reduce_sum(layer(w[None])**2)"),
    ],
)
def test_nothing_is_said_of_other_assignments(shell: Notebook, line: str, cell: str) -> None:
    assert notes(shell, line, cell) == ()


def test_an_assignment_in_a_function_of_another_cell(shell: Notebook) -> None:
    shell.ns.update(names())
    shell.ok("def step():\n    w.assign(w*0.5)")
    shell.ok("%%grad dy/dw\nstep()\ny = tf.reduce_sum(w**2)")
    (note,) = shell.ns["grads"].notes
    assert note.endswith(f"line 2 assigns w: the derivative is by its value from there on{NOT_THROUGH}")
    assert note.startswith("cell ")


def test_the_way_through_that_the_note_tells(shell: Notebook) -> None:
    notes(shell, "dy/dw", "w2 = w - 0.25*(2.0*w)\ny = tf.reduce_sum(w2**2)")
    np.testing.assert_allclose(shell.ns["dy_dw"], [0.5, 1.0], rtol=1e-6)
