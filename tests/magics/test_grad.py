"""`%%grad` in a notebook: the tutorial's numbers, what it binds, shows and leaves as it was."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tape_magic.notation import Target
from tape_magic.results.gradients import GradReport
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

PARABOLA = "y = a*tf.pow(x, 2) + b*x + c"


def tutorial(x: float = 0.0) -> dict[str, Any]:
    return {
        "tf": tf,
        "x": tf.Variable(x),
        "a": tf.constant(1.0),
        "b": tf.constant(-2.0),
        "c": tf.constant(1.0),
    }


def plain(x: float = 0.0) -> dict[str, Any]:
    return {"tf": tf, "x": x, "a": 1.0, "b": -2.0, "c": 1.0}


# -- the tutorial ----------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", [tutorial, plain])
def test_first_derivative(door: Door, namespace: Any) -> None:
    report = door.grad(Case(PARABOLA, "dy/dx", namespace()))
    assert float(report["dy/dx"]) == -2.0


@pytest.mark.parametrize("namespace", [tutorial, plain])
def test_by_the_constants(door: Door, namespace: Any) -> None:
    report = door.grad(Case(PARABOLA, "dy/dx, dy/da, dy/db, dy/dc", namespace()))
    assert [float(row.value) for row in report] == [-2.0, 0.0, 0.0, 1.0]
    assert all(row.connected for row in report)


@pytest.mark.parametrize("namespace", [tutorial, plain])
def test_second_derivative(door: Door, namespace: Any) -> None:
    report = door.grad(Case(PARABOLA, "d2y/dx2", namespace()))
    assert float(report["d2y/dx2"]) == 2.0


@pytest.mark.parametrize("namespace", [tutorial, plain])
@pytest.mark.parametrize(("x", "expected"), [(0.0, (-2.0, 1.0)), (1.0, (0.0, 0.0))])
def test_derivative_and_value(
    shell: Notebook, namespace: Any, x: float, expected: tuple[float, float]
) -> None:
    shell.ns.update(namespace(x))
    shell.ok(f"%%grad dy/dx\n{PARABOLA}")
    assert (float(shell.ns["dy_dx"]), float(shell.ns["y"])) == expected


@pytest.mark.parametrize("namespace", [tutorial, plain])
def test_the_users_objects_stay(shell: Notebook, namespace: Any) -> None:
    given = namespace()
    shell.ns.update(given)
    shell.ok(f"%%grad dy/dx, dy/da, d2y/dx2\n{PARABOLA}")
    assert all(shell.ns[name] is value for name, value in given.items())
    assert set(shell.names) == {*given, "y", "dy_dx", "dy_da", "d2y_dx2", "grads"}


# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "bound"),
    [
        ("y", set()),
        ("y --wrt x", set()),
        ("dy/dx", {"dy_dx"}),
        ("∂y/∂x", {"dy_dx"}),
        ("∂²y/∂x²", {"d2y_dx2"}),
        ("d3y/dx3", {"d3y_dx3"}),
        ("d2y/dx da", {"d2y_dxda"}),
        ("d2y/dxda, dy/da", {"d2y_dxda", "dy_da"}),
        ("∇y", set()),
        ("dy/dp['w']", {"dy_dp_w"}),
        ("dout['k']/dx", {"dout_k_dx"}),
        ("d y / d x", {"dy_dx"}),
        ("∂² y / ∂ x², d y / d a", {"d2y_dx2", "dy_da"}),
        ("d2 y / d x d a", {"d2y_dxda"}),
        ("d/dx y", {"dy_dx"}),
    ],
)
def test_bindings(shell: Notebook, line: str, bound: set[str]) -> None:
    shell.ns.update(tutorial(), p={"w": 2.0})
    before = set(shell.names)
    shell.ok(f"%%grad {line}\n{PARABOLA} + p['w']\nout = {{'k': 3*x}}")
    assert set(shell.names) - before == {"y", "out", "grads", *bound}
    report = shell.ns["grads"]
    assert isinstance(report, GradReport)
    values = {Target(row.target, row.wrt).binding: row.value for row in report}
    assert all(shell.ns[name] is values[name] for name in bound)


def test_what_is_not_connected_is_bound_to_none(shell: Notebook) -> None:
    shell.ns.update(tutorial(), unused=tf.Variable(1.0))
    run = shell.ok(f"%%grad dy/dunused\n{PARABOLA}")
    assert shell.ns["dy_dunused"] is None
    assert run.displayed[0].text.split()[3:8] == ["none", "y", "does", "not", "read"]
    shell.ok(f"%%grad dy/dunused --zero\n{PARABOLA}")
    assert float(shell.ns["dy_dunused"]) == 0.0


def test_another_name_for_the_report(shell: Notebook) -> None:
    shell.ns.update(tutorial())
    shell.ok(f"%%grad dy/dx -o first\n{PARABOLA}")
    assert "grads" not in shell.ns
    assert float(shell.ns["first"]["dy/dx"]) == -2.0


def test_a_trait_sets_the_name(shell: Notebook) -> None:
    shell.ns.update(tutorial())
    shell.ok("%config TapeMagics.grads_name = 'derivatives'")
    shell.ok(f"%%grad dy/dx\n{PARABOLA}")
    assert "grads" not in shell.ns
    assert float(shell.ns["derivatives"]["dy/dx"]) == -2.0
    shell.ok(f"%%grad dy/dx -o mine\n{PARABOLA}")
    assert "mine" in shell.ns


def test_config_shows_the_traits(shell: Notebook) -> None:
    shown = shell.ok("%config TapeMagics").stdout
    assert "TapeMagics.grads_name=<Unicode>" in shown
    assert "Current: 'grads'" in shown


def test_quiet_shows_nothing(shell: Notebook) -> None:
    shell.ns.update(tutorial())
    run = shell.ok(f"%%grad dy/dx -q\n{PARABOLA}")
    assert (run.displayed, run.stdout, run.stderr, run.out) == ((), "", "", None)
    assert float(shell.ns["dy_dx"]) == -2.0
    assert float(shell.ns["grads"]["dy/dx"]) == -2.0


# -- what is shown ---------------------------------------------------------------------------------


def test_the_report_is_shown_as_text_and_html(shell: Notebook) -> None:
    shell.ns.update(tutorial())
    run = shell.ok(f"%%grad dy/dx, d2y/dx2\n{PARABOLA}")
    (shown,) = run.displayed
    assert {"text/plain", "text/html"} <= set(shown.data)
    for text in (shown.text, shown.html):
        assert "∂y/∂x" in text
        assert "∂²y/∂x²" in text
        assert "−2" in text
        assert "forward" in text
    assert (run.stdout, run.stderr) == ("", "")
    assert "<script" not in shown.html


def test_a_sum_is_shown_in_its_label_where_it_matters(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=tf.linspace(-10.0, 10.0, 201))
    (mixed,) = shell.ok("%%grad dy/dx\ny = tf.cumsum(x**2)").displayed
    for text in (mixed.text, mixed.html):
        assert "∂Σy/∂x" in text
        assert "sum of 201 outputs" in text
    (curve,) = shell.ok("%%grad dy/dx\ny = tf.sigmoid(x)").displayed
    assert "dy/dx at 201 points" in curve.text
    assert "sum" not in curve.text


def test_a_replaced_variable_is_shown(shell: Notebook) -> None:
    shell.ns.update(x=tf.Variable(1.0))
    (shown,) = shell.ok("%%grad y --wrt x\ny = x**2\nx = x + 1").displayed
    for text in (shown.text, shown.html):
        assert "line 3 replaces the variable x by a tensor" in " ".join(text.split())
        assert "x.assign_add(1)" in text


def test_the_last_expression_is_the_output(shell: Notebook) -> None:
    shell.ns.update(tutorial())
    run = shell.ok(f"%%grad dy/dx\n{PARABOLA}\ny + 41")
    assert float(run.out) == 42.0
    assert f"Out[{shell.shell.execution_count - 1}]" in run.stdout
    assert float(shell.ns["Out"][shell.shell.execution_count - 1]) == 42.0
    assert float(shell.ns["_"]) == 42.0


@pytest.mark.parametrize("end", [";", " ;", "; # with a comment", ";\n# a comment below", ";\n\n"])
def test_a_semicolon_silences_it(shell: Notebook, end: str) -> None:
    shell.ns.update(tutorial())
    run = shell.ok(f"%%grad\n{PARABOLA}\ny{end}")
    assert run.out is None
    assert run.stdout == ""
    assert float(shell.ns["grads"]["_", "x"]) == -2.0


@pytest.mark.parametrize("last", ["'a;'", "y # ;", "(y,\n)", "y\n\n\n"])
def test_other_semicolons_do_not(shell: Notebook, last: str) -> None:
    shell.ns.update(tutorial())
    assert shell.ok(f"%%grad dy/dx\n{PARABOLA}\n{last}").out is not None


def test_the_last_expression_as_the_target(shell: Notebook) -> None:
    shell.ns.update(tutorial())
    run = shell.ok("%%grad\na*tf.pow(x, 2) + b*x + c")
    assert float(run.out) == 1.0
    report = shell.ns["grads"]
    assert float(report["_", "x"]) == -2.0
    assert "_, x" not in shell.names
    shell.ok("%%grad d2_/dx2\na*tf.pow(x, 2) + b*x + c")
    assert float(shell.ns["grads"]["_", "x", "x"]) == 2.0


# -- the report as an object -----------------------------------------------------------------------


def test_lookups(shell: Notebook) -> None:
    shell.ns.update(tutorial(), p=[3.0, tf.Variable(4.0)])
    shell.ok(f"%%grad dy/dx, d2y/dx2, d2y/dxda, dz/dp\n{PARABOLA}\nz = p[0]*p[1]")
    report = shell.ns["grads"]
    assert float(report["dy/dx"]) == float(report["y", "x"]) == float(report["∂y/∂x"]) == -2.0
    assert float(report["d2y/dx2"]) == float(report["∂²y/∂x²"]) == float(report["y", "x", "x"]) == 2.0
    assert float(report["d2y/dxda"]) == float(report["y", "x", "a"]) == 0.0
    assert [float(value) for value in report["dz/dp"]] == [4.0, 3.0]
    assert float(report["dz/dp[0]"]) == 4.0
    assert "dy/dx" in report
    assert "dy/dq" not in report
    assert len(report) == 5
    with pytest.raises(KeyError, match=r"no 'dy/da' in this report; did you mean dy/dx\?; it has dy/dx"):
        report["dy/da"]


def test_as_a_dict_and_a_frame(shell: Notebook) -> None:
    shell.ns.update(tutorial(), unused=1.0)
    shell.ok(f"%%grad dy/dx, d2y/dx2, dy/dunused\n{PARABOLA}")
    report = shell.ns["grads"]
    held = report.to_dict()
    assert list(held) == ["dy/dx", "d2y/dx2", "dy/dunused"]
    assert held["dy/dx"] is shell.ns["dy_dx"]
    frame = report.to_frame()
    assert list(frame.index) == list(held)
    assert frame.loc["dy/dx", "norm"] == 2.0
    assert frame.loc["d2y/dx2", "max"] == 2.0
    assert frame["norm"].isna().tolist() == [False, False, True]


# -- `tape` in the cell ----------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["dy/dx", "dy/dx, d2y/dx2"])
def test_stop_recording(shell: Notebook, line: str) -> None:
    shell.ns.update(x=tf.Variable(3.0))
    shell.ok(f"%%grad {line}\nwith tape.stop_recording():\n    scale = x*10\ny = scale*x*x")
    assert float(shell.ns["dy_dx"]) == 180.0
    assert "d2y" not in line or float(shell.ns["d2y_dx2"]) == 60.0


def test_watch(shell: Notebook) -> None:
    shell.ns.update(tf=tf, t=tf.constant(2.0), x=tf.Variable(3.0))
    shell.ok("%%grad dy/dx\ntape.watch(t)\ny = x*t\ninner = tape.watched_variables()")
    assert float(shell.ns["dy_dx"]) == 2.0
    assert shell.ns["inner"] == (shell.ns["x"],)


@pytest.mark.parametrize("x", [tf.Variable(3.0), tf.constant(3.0), 3.0], ids=["variable", "tensor", "float"])
def test_reset_forgets_the_past_and_keeps_the_sources(shell: Notebook, x: Any) -> None:
    shell.ns.update(x=x)
    shell.ok("%%grad dy/dx, d2y/dx2\nu = x*x\ntape.reset()\ny = u*x*x")
    assert float(shell.ns["dy_dx"]) == 2 * 9 * 3
    assert float(shell.ns["d2y_dx2"]) == 2 * 9


def test_the_name_tape_is_put_back(shell: Notebook) -> None:
    shell.ns.update(x=tf.Variable(3.0))
    shell.ok("%%grad dy/dx\ny = x*x")
    assert "tape" not in shell.ns
    mine = object()
    shell.ns["tape"] = mine
    shell.ok("%%grad dy/dx\nassert hasattr(tape, 'watch')\ny = x*x")
    assert shell.ns["tape"] is mine
    assert not shell.run("%%grad dy/dx\ny = x*x\n1/0").success
    assert shell.ns["tape"] is mine
    shell.ok("%%grad dy/dx\ny = x*x\ntape = 5")
    assert shell.ns["tape"] == 5


def test_a_source_called_tape(shell: Notebook) -> None:
    shell.ns.update(x=tf.Variable(3.0))
    shell.ok("%%grad dy/dx\ntape = 2.0\ny = tape*x")
    assert float(shell.ns["dy_dx"]) == 2.0
    assert shell.ns["tape"] == 2.0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("grads['dy/da']", "KeyError: \"no 'dy/da' in this report; did you mean dy/dx?; it has dy/dx\""),
        ("grads.hessian", "AttributeError: there is no Hessian in this report; --hessian computes it."),
        ("h.hessian['w']", "KeyError: \"no 'w' in this Hessian; it has x\""),
        (
            "grads.plot(3)",
            "TypeError: plot() draws into Matplotlib's axes, and ax is an int.",
        ),
    ],
)
def test_what_a_report_does_not_have_is_said_in_one_line(shell: Notebook, asked: str, said: str) -> None:
    shell.ok("import tensorflow as tf\nx = tf.Variable(3.0)")
    shell.ok("%%grad dy/dx -q\ny = x**2")
    shell.ok("%%grad y --hessian --wrt x -o h -q\ny = x**2")
    assert shell.run(asked).traceback.strip() == said


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("%%grad dz/dx\ny = x*2.0", "the cell never assigns z; it assigns y"),
        ("%%grad y wrt x\ny = x*2.0", "the cell never assigns wrt; did you mean --wrt?"),
        ("%%grad dy\\dx\ny = x*2.0", "dy\\dx has a backslash; did you mean dy/dx?"),
        ("%%grad dloss/dx\nLoss = x*2.0", "the cell never assigns loss; did you mean Loss?"),
        ("%%grad los\nloss = x*2.0", "the cell never assigns los; did you mean loss?"),
        ("%%grad dy/dmodle\ny = x*2.0", "modle is not defined; did you mean model?"),
        ("%%grad y --wrt modle\ny = x*2.0", "modle is not defined; did you mean model?"),
        ("%%grad dy/dn\ny = x*2.0", "n is an integer, and integers have no derivative: write n = 3.0"),
        ("%%grad dy/dword\ny = x*2.0", "word is the str 'some', which has no derivative."),
        ("%%grad dy/dflag\ny = x*2.0", "flag is the bool True, which has no derivative."),
        ("%%grad dy/dx --frob\ny = x*2.0", "%%grad has no option --frob"),
        ("%%grad dy/dx --zeros\ny = x*2.0", "%%grad has no option --zeros; did you mean --zero?"),
        ("%%grad y/dx\ny = x*2.0", "'y/dx' is not a derivative; did you mean dy/dx?"),
        (
            "%%grad d2y/dx\ny = x*2.0",
            "'d2y/dx' differentiates 2 times, but its denominators do not add up to 2",
        ),
        ("%%grad dy/dx --order\ny = x*2.0", "--order takes a whole number, and nothing follows it"),
        ("%%grad y --order two\ny = x*2.0", "--order takes a whole number, not 'two'"),
        ("%%grad y --order 0\ny = x*2.0", "--order is 0; orders 1 to 20 can be computed."),
        ("%%grad y --order -1\ny = x*2.0", "--order is -1; orders 1 to 20 can be computed."),
        ("%%grad dy/dx --wrt x\ny = x*2.0", "dy/dx says what to differentiate by; leave out --wrt"),
        ("%%grad dy/dx --order 2\ny = x*2.0", "dy/dx says its order; leave out --order"),
        ("%%grad d y / d x --wrt x\ny = x*2.0", "dy/dx says what to differentiate by; leave out --wrt"),
        ("%%grad d2y/dx da --wrt x\ny = x*2.0", "d2y/dxda says what to differentiate by; leave out --wrt"),
        ("%%grad ∂ y / ∂ x --order 2\ny = x*2.0", "dy/dx says its order; leave out --order"),
        ("%%grad y -o 1x\ny = x*2.0", "'1x' is not a name that a result can be bound to."),
        ("%%grad dy/dp['w\ny = x*2.0", "never closes its"),
        ("%%grad dy/d(x\ny = x*2.0", "never closes its ')'"),
        ("%%grad dy/dx)\ny = x*2.0", "closes a ')' that it never opened."),
        ("%%grad dy/dx 'a\ny = x*2.0", 'never closes its "\'"'),
        ("%%grad dy/dx\n", "the cell is empty: write below %%grad what is to be computed."),
        ("%%grad dy/dx\n   \n\n", "the cell is empty: write below %%grad what is to be computed."),
        ("%%grad dy/dx\n# nothing\n", "the cell is empty"),
        (
            "%%grad dy/dx\nimport asyncio\nawait asyncio.sleep(0)\ny = x*2.0",
            "line 3 awaits, which a %%grad cell",
        ),
        ("%%grad dy/dx\ny = [one async for one in x]", "line 2 awaits"),
        ("%%grad\ny = x*2.0", "there is no output to differentiate: name one, for example %%grad y"),
        ("%%grad d_/dx\ny = x*2.0", "the cell does not end with an expression, so there is no _."),
        ("%%grad dy/dx\nif False:\n    y = x", "y is never assigned"),
    ],
)
def test_one_line_and_nothing_changed(shell: Notebook, cell: str, message: str) -> None:
    shell.ns.update(
        x=tf.Variable(3.0),
        p={"w": 1.0},
        model=tf.Variable(1.0),
        n=3,
        word="some",
        flag=True,
        grads="mine",
        dy_dx=1,
    )
    refused = shell.refused(cell)
    assert message in refused


def test_what_is_refused_has_not_run(shell: Notebook) -> None:
    shell.ns.update(x=tf.Variable(3.0), n=3)
    for line in ("dz/dx", "dy/dn", "dy/dq", "dy/dx --frob", "(", "y --wrt n"):
        shell.refused(f"%%grad {line}\nx.assign_add(1.0)\ny = x*2.0")
    assert float(shell.ns["x"]) == 3.0


def test_braces_and_dollars_are_not_expanded(shell: Notebook) -> None:
    shell.ns.update(x=tf.Variable(3.0), name="x")
    assert "{name}" in shell.refused("%%grad dy/d{name}\ny = x*2.0")
    assert "$name" in shell.refused("%%grad dy/d$name\ny = x*2.0")


def test_an_output_that_is_no_tensor_says_so(shell: Notebook) -> None:
    shell.ns.update(x=tf.Variable(3.0), np=np)
    shell.ok("%%grad dy/dx, dz/dx\ny = np.sin(x.numpy())\nz = x*x")
    report = shell.ns["grads"]
    assert report["dy/dx"] is None
    assert re.match(
        r"y is a float32, not a tensor: line 2 leaves TensorFlow: x.numpy\(\)", report.rows[0].why
    )
    assert float(report["dz/dx"]) == 6.0


def test_a_second_run_of_a_cell_is_the_same(shell: Notebook) -> None:
    shell.ns.update(tutorial())
    values = []
    for _ in range(3):
        shell.ok(f"%%grad dy/dx, d2y/dx2\n{PARABOLA}")
        values.append([float(value) for value in shell.ns["grads"].to_dict().values()])
    assert values == [[-2.0, 2.0]] * 3
