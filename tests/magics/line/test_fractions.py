"""Lines of ``%%grad`` as other notations write them: the refusal says which derivatives are meant."""

from __future__ import annotations

import pytest

from tests.support.notebook import Notebook

SETUP = "import numpy as np, tensorflow as tf\nx = tf.Variable(3.0)\nz = tf.Variable(2.0)\nn = 3\n"
CELL = "y = x**2*z"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        # A name beside the fraction.
        ("dy/dx, dz", "dy/dx, dy/dz"),
        ("dy/dx dz", "dy/dx, dy/dz"),
        ("dy/dx, z", "dy/dx, dy/dz"),
        ("y, x", "dy/dx"),
        ("y, [x, z]", "dy/dx, dy/dz"),
        ("dy/d(x, z)", "dy/dx, dy/dz"),
        ("dy/d[x, z]", "dy/dx, dy/dz"),
        # Without one of its signs, or with others.
        ("y/x", "dy/dx"),
        ("dy/x", "dy/dx"),
        ("y/dx", "dy/dx"),
        ("Dy/Dx", "dy/dx"),
        ("δy/δx", "dy/dx"),
        ("Δy/Δx", "dy/dx"),
        ("dydx", "dy/dx"),
        ("dy_dx", "dy/dx"),
        ("y_x", "dy/dx"),
        # An order that does not fit.
        ("dy/dx2", "d2y/dx2"),
        ("dy/dx^2", "d2y/dx2"),
        ("dy^2/dx^2", "d2y/dx2"),
        ("d2y/d2x", "d2y/dx2"),
        ("d3y/dx", "d3y/dx3"),
        # Functions of other libraries.
        ("D(y, x)", "dy/dx"),
        ("diff(y, x)", "dy/dx"),
        ("diff(y, x, 2)", "d2y/dx2"),
        ("Derivative(y, x)", "dy/dx"),
        ("y.diff(x)", "dy/dx"),
        ("d/dx(y)", "dy/dx"),
        ("tape.gradient(y, x)", "dy/dx"),
        ("tf.gradients(y, [x, z])", "dy/dx, dy/dz"),
        ("grad(y, x)", "dy/dx"),
        # LaTeX, signs of text, a binding.
        (r"\frac{dy}{dx}", "dy/dx"),
        (r"\partial y/\partial x", "dy/dx"),
        ("$dy/dx$", "dy/dx"),
        ("y'(x)", "dy/dx"),
        ("y''(x)", "d2y/dx2"),
        ("y'''(x)", "d3y/dx3"),
        ("y′′(x)", "d2y/dx2"),
        ("∇_x y", "dy/dx"),
        (r"\nabla_x y", "dy/dx"),
        (r"\nabla_{x} y", "dy/dx"),
        ("dy/dx!", "dy/dx"),
        ("dy/dx = ?", "dy/dx"),
        ("dy/dx = 2*x", "dy/dx"),
        ("g = dy/dx", "dy/dx"),
        ("dy/dx -> g", "dy/dx"),
        ("dy/dx + dy/dz", "dy/dx, dy/dz"),
        ("y|x", "dy/dx"),
        ("dy by dx", "dy/dx"),
        ("gradient of y wrt x", "dy/dx"),
        # Words for options.
        ("jacobian y", "--jacobian"),
        ("y hessian", "--hessian"),
        ("y by x", "--wrt"),
    ],
)
def test_the_derivatives_that_are_meant(shell: Notebook, line: str, meant: str) -> None:
    shell.ok(SETUP)
    said = shell.refused(f"%%grad {line}\n{CELL}")
    assert said.endswith(f"; did you mean {meant}?")
    if not meant.startswith("-"):
        shell.ok(f"%%grad {meant} -q\n{CELL}")
        assert shell.ns["dy_dx" if "2" not in meant and "3" not in meant else "grads"] is not None


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("y'", "dy/dx"),
        ("y''", "d2y/dx2"),
        ("y″", "d2y/dx2"),
        (r"\nabla y", "dy/dx"),
        ("grad y", "dy/dx"),
        ("∇²y", "y --wrt x --laplacian"),
        (r"\nabla^2 y", "y --wrt x --laplacian"),
    ],
)
def test_a_derivative_that_does_not_say_by_what(shell: Notebook, line: str, meant: str) -> None:
    shell.ok(SETUP)
    said = shell.refused(f"%%grad {line}\n{CELL}")
    assert said == f"{line!r} does not say by what: write {meant}, with your variable for x."
    shell.ok(f"%%grad {meant} -q\n{CELL}")
    by = shell.refused(f"%%grad {line} --wrt z\n{CELL}")
    assert by == f"{line!r} is another notation; did you mean {meant.replace('x', 'z')}?"


@pytest.mark.parametrize("line", ["u''", r"\nabla u", "grad u"])
def test_what_the_cell_does_not_assign_has_no_derivative(shell: Notebook, line: str) -> None:
    shell.ok(SETUP)
    assert "variable for x" not in shell.refused(f"%%grad {line}\n{CELL}")


@pytest.mark.parametrize(
    "line", ["dy/dx(1)", "dy/dx(x=1)", "dy/dx|x=1", "dy/dx at x=1", "dy/dx at 1", "dy/dx @ 1.5", "dy/dx(-1)"]
)
@pytest.mark.parametrize("cell", [CELL, f"x = tf.constant(1.0)\n{CELL}"])
def test_a_derivative_at_a_point(shell: Notebook, line: str, cell: str) -> None:
    shell.ok(SETUP)
    said = shell.refused(f"%%grad {line}\n{cell}")
    told = "a derivative is taken at the value of x: set x in a cell above, and write dy/dx."
    assert said == f"'{line}' names a point, and {told}"


@pytest.mark.parametrize("line", ["dy/dx:", "dy/dx.", "dy/dx;", "dy/dx?", "[dy/dx]", "(dy/dx)", "{dy/dx}"])
def test_signs_around_a_derivative(shell: Notebook, line: str) -> None:
    shell.ok(SETUP)
    shell.ok(f"%%grad {line} -q\n{CELL}")
    assert float(shell.ns["dy_dx"]) == 12.0  # 2 x z


@pytest.mark.parametrize("line", ["dy/dx, du", "dy/dx du"])
def test_an_output_beside_a_fraction_lacks_its_source(shell: Notebook, line: str) -> None:
    shell.ok(SETUP)
    refused = shell.run(f"%%grad {line}\n{CELL}\nu = x**3")
    assert refused.stderr.rstrip().endswith("; did you mean dy/dx, du/dx?")


@pytest.mark.parametrize(
    "line", ["dy/dx and dy/dz", "dy/dx & dy/dz", "dy/dx; dy/dz", "[dy/dx, dy/dz]", "(dy/dx), (dy/dz)"]
)
def test_signs_between_derivatives(shell: Notebook, line: str) -> None:
    shell.ok(SETUP)
    shell.ok(f"%%grad {line} -q\n{CELL}")
    assert [float(shell.ns[name]) for name in ("dy_dx", "dy_dz")] == [12.0, 9.0]


@pytest.mark.parametrize(
    ("line", "cell", "said"),
    [
        # Nothing is put together of names that are not there, and errors of other kinds stay as they are.
        ("dq/dx", CELL, "the cell never assigns q; it assigns y"),
        ("dy/dq", CELL, "q is not defined"),
        ("dy/dx --order 2", CELL, "dy/dx says its order; leave out --order, or the denominator."),
        ("dy/dx --zzz", CELL, "%%grad has no option --zzz"),
        ("y --zzz x", CELL, "%%grad has no option --zzz"),
        ("dy/dn", CELL, "n is an integer, and integers have no derivative: write n = 3.0"),
        ("f(x)", CELL, "'f(x)' is not a name, but an expression: assign it in the cell, and write its name."),
        (
            "df(x)/dx",
            "def f(x): return x",
            "'f(x)' is not a name, but an expression: assign it in the cell, and write its name.",
        ),
        ("y z w", CELL, "the cell never assigns z; did you mean dy/dz?"),
        ("y, np", CELL, "the cell never assigns np; it assigns y"),
    ],
)
def test_other_refusals_stay(shell: Notebook, line: str, cell: str, said: str) -> None:
    shell.ok(SETUP)
    assert shell.refused(f"%%grad {line}\n{cell}") == said


def test_healthy_names_that_look_alike(shell: Notebook) -> None:
    """What can be read is read, however it looks: outputs called ``dz`` and ``jacobian``, a source ``x2``."""
    shell.ok(f"{SETUP}x2 = tf.Variable(5.0)")
    shell.ok("%%grad dy/dx2, dz, jacobian -q\ny = x2**2\ndz = 3.0*x2\njacobian = x2")
    assert float(shell.ns["dy_dx2"]) == 10.0
    assert float(shell.ns["grads"]["jacobian", "x2"]) == 1.0


def test_an_output_that_is_a_function(shell: Notebook) -> None:
    shell.ok(SETUP)
    run = shell.ok("%%grad df/dx\ndef f(x):\n    return x**2")
    assert "f is a function: write y = f(…) in the cell, and y on the line" in run.displayed[0].text
    said = shell.refused("%%minimize f --over x\ndef f():\n    return x**2")
    assert said == "f is a function: write y = f(…) in the cell, and y on the line."
