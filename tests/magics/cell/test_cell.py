"""A cell below a magic runs as it would without: tracebacks, other magics, `@tf.function`, its names."""

from __future__ import annotations

import ast
import linecache
import re
from typing import Any

import IPython
import pytest
import tensorflow as tf

from tape_magic.engine.program.program import Names
from tape_magic.magics.cell import cache
from tape_magic.magics.cell.names import names_of
from tests.support.notebook import Notebook, Run

OLD = IPython.version_info[0] < 8
INTERNALS = ("tape_magic", "IPython/core", "cell.py", "engine/", "run_cell_magic", "site-packages")


@pytest.fixture
def x(shell: Notebook) -> Any:
    variable = tf.Variable(3.0)
    shell.ns.update(tf=tf, x=variable)
    return variable


def shown_lines(run: Run) -> list[int]:
    """The numbers of the lines that the traceback points at with an arrow."""
    return [int(number) for number in re.findall(r"^-+> (\d+) ", run.traceback, re.MULTILINE)]


def fails(shell: Notebook, cell: str, error: type[BaseException]) -> Run:
    """Run a cell that must fail with the user's own error and show nothing but the user's code."""
    run = shell.run(cell)
    assert not run.success
    assert type(run.error) is error, run.error
    assert run.displayed == ()
    for internal in INTERNALS:
        assert internal not in run.traceback, run.traceback
    assert f"{error.__name__}" in run.traceback
    return run


# -- the user's own errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "magic", ["%%grad dy/dx", "%%grad", "%%minimize y --over x --steps 3 --engine eager"]
)
@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("y = x*2\n1/0", 3),
        ("1/0\ny = x*2", 2),
        ("\n\n1/0\ny = x*2\ny", 4),
        ("# a comment\n\ny = x*2\nz = (y +\n     1/0)", 6),
        ("y = x*2\nif True:\n    for i in range(2):\n        1/0", 5),
        ("y = x*2\n(y,\n 1/0)", 4),
        ("%time z = 1\ny = x*2\n1/0", 4),
        ('s = """\n\n"""\ny = x*2\n1/0', 6),
    ],
)
def test_the_line_is_the_notebooks(shell: Notebook, x: Any, magic: str, body: str, line: int) -> None:
    run = fails(shell, f"{magic}\n{body}", ZeroDivisionError)
    assert shown_lines(run)[-1] == line
    assert "1/0" in run.traceback


def test_a_function_of_another_cell(shell: Notebook, x: Any) -> None:
    shell.ok("# first\ndef broken(t):\n    u = t*2\n    return u/0 if False else 1/0\n")
    run = fails(shell, "%%grad dy/dx\nz = 1\ny = broken(x)", ZeroDivisionError)
    assert shown_lines(run) == [3, 4]
    assert run.traceback.index("y = broken(x)") < run.traceback.index("return u/0")


def test_a_function_of_the_cell_itself(shell: Notebook, x: Any) -> None:
    run = fails(shell, "%%grad dy/dx\ndef broken(t):\n\n    return 1/0\ny = broken(x)", ZeroDivisionError)
    assert shown_lines(run) == [5, 4]


def test_an_error_in_tensorflow_shows_the_users_line(shell: Notebook, x: Any) -> None:
    run = shell.run("%%grad dy/dx\ny = tf.matmul(x, x)")
    assert not run.success
    assert shown_lines(run)[0] == 2
    assert "tape_magic" not in run.traceback


@pytest.mark.parametrize("above", ["%%time", "%%time\n%%capture", "%%prun -q"])
def test_below_another_magic(shell: Notebook, x: Any, above: str) -> None:
    shell.ok(f"{above}\n%%grad dy/dx\ny = x*x")
    assert float(shell.ns["dy_dx"]) == 6.0


@pytest.mark.parametrize("blank", ["", "\n", "\n\n"])
def test_errors_below_time(shell: Notebook, x: Any, blank: str) -> None:
    run = shell.run(f"%%time\n%%grad dy/dx\n{blank}y = x*x\n1/0")
    # IPython 7 has %%time show the error, and the cell then counts as run.
    assert run.success or isinstance(run.error, ZeroDivisionError)
    assert run.success is OLD
    assert shown_lines(run)[-1] == 4 + len(blank)
    assert "tape_magic" not in run.traceback


def test_time_above_shows_the_value_too(shell: Notebook, x: Any) -> None:
    run = shell.ok("%%time\n%%grad dy/dx\ny = x*x\ny + 1")
    assert float(run.out) == 10.0
    assert run.stdout.count("Wall time") == 1
    assert len(run.displayed) == 1


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ("y = x*2\nz = = 3", 3),
        ("\n\ny = (x*2", 4),
        ("y = x*2\nif True\n    y = 1", 3),
        ("y = x*2\n  z = 1", 3),
    ],
)
def test_a_syntax_error_is_shown_as_one(shell: Notebook, x: Any, body: str, line: int) -> None:
    with shell.unchanged():
        run = shell.run(f"%%grad dy/dx\n{body}")
    assert not run.success
    shown = run.traceback
    assert re.search(r"SyntaxError|IndentationError", shown), shown
    assert re.search(rf"line {line}\b", shown), shown
    for internal in INTERNALS:
        assert internal not in shown
    assert len(shown.splitlines()) <= 8
    assert run.displayed == ()


def test_a_chained_error_shows_its_cause(shell: Notebook, x: Any) -> None:
    cell = (
        "%%grad dy/dx\ny = x\n"
        "try:\n    1/0\nexcept ZeroDivisionError as error:\n    raise KeyError('k') from error"
    )
    run = fails(shell, cell, KeyError)
    assert "ZeroDivisionError" in run.traceback
    assert 6 in shown_lines(run)


def test_raising_systemexit_and_interrupt(shell: Notebook, x: Any) -> None:
    run = shell.run("%%grad dy/dx\ny = x\nraise KeyboardInterrupt")
    assert isinstance(run.error, KeyboardInterrupt)
    assert "tape_magic" not in run.traceback


def test_an_error_of_the_user_that_is_ours_by_class(shell: Notebook, x: Any) -> None:
    run = fails(shell, "%%grad dy/dx\ny = x\nraise ValueError('two\\nlines')", ValueError)
    assert "two\nlines" in run.traceback


def test_a_name_error_is_the_users(shell: Notebook, x: Any) -> None:
    run = fails(shell, "%%grad dy/dx\ny = x*missing", NameError)
    assert shown_lines(run) == [2]
    assert "name 'missing' is not defined" in run.traceback


def test_what_ran_before_the_error_stays(shell: Notebook, x: Any) -> None:
    shell.run("%%grad dy/dx\ny = x*2\n1/0")
    assert float(shell.ns["y"]) == 6.0
    assert set(shell.names) == {"tf", "x", "y"}
    assert shell.ns["x"] is x


def test_a_list_comprehension_reads_the_cells_names(shell: Notebook, x: Any) -> None:
    shell.ok("%%grad dy/dx\nk = 2.0\ny = sum([x*k for _ in range(3)])\nf = lambda: k\nassert f() == 2.0")
    assert float(shell.ns["dy_dx"]) == 6.0
    shell.ok("assert f() == 2.0")


# -- other magics in the cell ----------------------------------------------------------------------


def test_line_magics_and_shell_commands(shell: Notebook, x: Any) -> None:
    run = shell.ok("%%grad dy/dx\n%time z = x*x\n!echo from the shell\n%cd -q .\ny = z*x")
    assert float(shell.ns["dy_dx"]) == 27.0
    assert "Wall time" in run.stdout


def test_shell_commands_that_are_assigned(shell: Notebook, x: Any) -> None:
    # IPython 7 on a newer Python cannot read them in any cell.
    readable = shell.run("word = !echo one").success
    assert readable or OLD
    assert shell.run("%%grad dy/dx\nword = !echo two\ny = x*x").success is readable
    if readable:
        assert list(shell.ns["word"]) == ["two"]


def test_a_target_within_time(shell: Notebook, x: Any) -> None:
    shell.ok("%%grad dy/dx\n%time y = x*x")
    assert float(shell.ns["dy_dx"]) == 6.0


def test_help_and_assignment_magics(shell: Notebook, x: Any) -> None:
    shell.ok("%%grad dy/dx\nhere = %pwd\ny = x*x")
    assert float(shell.ns["dy_dx"]) == 6.0
    assert isinstance(shell.ns["here"], str)


def test_exec_may_assign_the_target(shell: Notebook, x: Any) -> None:
    shell.ok("%%grad dy/dx\nexec('y = x*x')")
    assert float(shell.ns["dy_dx"]) == 6.0


def test_the_users_ast_transformers_run(shell: Notebook, x: Any) -> None:
    class Doubled(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.Constant:
            return ast.copy_location(ast.Constant(2 * node.value), node) if node.value == 21.0 else node

    transformer = Doubled()
    shell.shell.ast_transformers.append(transformer)
    try:
        shell.ok("%%grad dy/dx\ny = x*21.0")
    finally:
        shell.shell.ast_transformers.remove(transformer)
    assert float(shell.ns["dy_dx"]) == 42.0


def test_transformers_of_the_users_are_asked_each_time(shell: Notebook, x: Any) -> None:
    def text(lines: list[str]) -> list[str]:
        within = any(line.startswith("y = FACTOR") for line in lines)
        return "".join(lines).replace("FACTOR", next(factors)).splitlines(True) if within else lines

    class Tree(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            constant = ast.Constant(float(next(factors))) if node.id == "FACTOR" else node
            return ast.copy_location(constant, node)

    for transformers, transformer in (
        (shell.shell.input_transformers_post, text),
        (shell.shell.ast_transformers, Tree()),
    ):
        factors = iter("234")
        transformers.append(transformer)
        try:
            found = []
            for _ in range(3):
                shell.ok("%%grad dy/dx\n\nz = x\ny = FACTOR * z")
                found.append(float(shell.ns["dy_dx"]))
        finally:
            transformers.remove(transformer)
        assert found == [2.0, 3.0, 4.0]


def test_a_cell_run_again_compiles_nothing(shell: Notebook, x: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "%%grad dy/dx\ndef f(v):\n    return v*v\ny = f(x)"
    calls = []
    monkeypatch.setattr(cache, "names_of", lambda tree: calls.append(tree) or names_of(tree))
    for _ in range(3):
        shell.ok(cell)
        assert float(shell.ns["dy_dx"]) == 6.0
        assert shell.ns["f"].__code__.co_filename in linecache.cache
    assert len(calls) == 1


def test_a_cell_run_again_goes_by_its_new_number(shell: Notebook, x: Any) -> None:
    for _ in range(2):
        shell.run("%%grad dy/dx\ndef f(v):\n    return tf.round(v)\n\ny = f(x)")
        reason = shell.ns["grads"].rows[0].reason
        assert (reason.where.line, reason.where.file, reason.where.text) == (3, "", "return tf.round(v)")
        run = fails(shell, "%%grad dy/dx\ndef f(v):\n    return v/0\n\nf(1)\ny = x", ZeroDivisionError)
        assert shown_lines(run) == [5, 3]


def test_the_same_text_under_another_future(shell: Notebook, x: Any) -> None:
    cell = "%%grad dy/dx\ny = x*x\ndef f(v: unknown): ..."
    fails(shell, cell, NameError)
    flags = shell.shell.compile.flags
    try:
        shell.ok("from __future__ import annotations")
        shell.ok(cell)
    finally:
        shell.shell.compile.flags = flags
    fails(shell, cell, NameError)


def test_an_interrupt_while_the_traceback_is_drawn(
    shell: Notebook, x: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*arguments: Any, **named: Any) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(shell.shell.InteractiveTB, "structured_traceback", pressed)
    run = shell.run("%%grad dy/dx\ny = x\n1/0")
    assert type(run.error) is ZeroDivisionError
    assert run.traceback.strip() == "ZeroDivisionError: division by zero"


def test_hooks_of_the_shell_run_once(shell: Notebook, x: Any) -> None:
    calls: list[str] = []
    events = shell.shell.events
    hooks = {
        name: (lambda *args, name=name: calls.append(name))
        for name in ("pre_execute", "pre_run_cell", "post_execute", "post_run_cell")
    }
    for name, hook in hooks.items():
        events.register(name, hook)
    try:
        shell.ok("%%grad dy/dx\ny = x*x")
        shell.run("%%grad dy/dx\ny = x*x\n1/0")
        shell.run("%%grad dy/dz\ny = x*x")
    finally:
        for name, hook in hooks.items():
            events.unregister(name, hook)
    assert calls == ["pre_execute", "pre_run_cell", "post_execute", "post_run_cell"] * 3


def test_autotime_prints_once(shell: Notebook, x: Any) -> None:
    shell.shell.run_line_magic("load_ext", "autotime")
    try:
        good = shell.ok("%%grad dy/dx\ny = x*x")
        bad = shell.run("%%grad dy/dx\ny = x*x\n1/0")
        refused = shell.run("%%grad dz/dx\ny = x*x")
    finally:
        shell.shell.run_line_magic("unload_ext", "autotime")
    for run in (good, bad, refused):
        assert run.stdout.count("time: ") == 1, run.stdout
    assert float(shell.ns["dy_dx"]) == 6.0


# -- functions in the cell -------------------------------------------------------------------------


@pytest.mark.parametrize("above", ["", "%%time\n"])
def test_a_tensor_if_and_while_in_a_tf_function(shell: Notebook, x: Any, above: str) -> None:
    cell = (
        f"{above}%%grad dy/dx\n"
        "@tf.function\n"
        "def f(t):\n"
        "    if t > 0:\n"
        "        t = t*2\n"
        "    i = tf.constant(0)\n"
        "    while i < 3:\n"
        "        t = t*t\n"
        "        i += 1\n"
        "    return t\n"
        "y = f(x)"
    )
    shell.ok(cell)
    assert float(shell.ns["dy_dx"]) == pytest.approx(8 * 6.0**7 * 2, rel=1e-6)


def test_the_source_of_a_function_can_be_read_later(shell: Notebook, x: Any) -> None:
    shell.ok("%%grad dy/dx\ndef f(t):\n    return t*t  # squared\ny = f(x)")
    assert "# squared" in shell.ok("import inspect\ninspect.getsource(f)").out


def test_a_function_of_the_cell_runs_in_later_cells(shell: Notebook, x: Any) -> None:
    shell.ok("%%grad dy/dx\ndef f(t):\n    if t > 0:\n        return t*t\n    return t\ny = f(x)")
    shell.ok("%%grad dz/dx\nz = tf.function(f)(x)*2")
    assert float(shell.ns["dz_dx"]) == 12.0
    shell.ok("%%grad du/dx\n\nu = f(x)")
    shell.ok("1 + 1")
    run = shell.run("f('a')")
    assert isinstance(run.error, TypeError)
    assert "if t > 0:" in run.traceback


def test_classes_and_decorators(shell: Notebook, x: Any) -> None:
    shell.ok(
        "%%grad dy/dx\n"
        "class Square:\n    power = 2\n    def __call__(self, t):\n        return t**self.power\n"
        "y = Square()(x)"
    )
    assert float(shell.ns["dy_dx"]) == 6.0
    assert shell.ns["Square"].__module__ == "__main__"


def test_side_effects_happen_once(shell: Notebook, x: Any) -> None:
    shell.ns["log"] = []
    shell.ok("%%grad dy/dx, d2y/dx2, d3y/dx3, dy/dh\nlog.append(1)\nh = x*x\ny = h*x")
    assert shell.ns["log"] == [1]
    assert [float(value) for value in shell.ns["grads"].to_dict().values()] == [27.0, 18.0, 6.0, 3.0]


def test_printing_goes_where_it_goes(shell: Notebook, x: Any) -> None:
    run = shell.ok("%%grad dy/dx\nprint('hello')\ny = x*x")
    assert run.stdout == "hello\n"


def test_display_comes_before_the_report(shell: Notebook, x: Any) -> None:
    run = shell.ok("%%grad dy/dx\ndisplay('mine')\ny = x*x")
    assert run.displayed[0].text == "'mine'"
    assert len(run.displayed) == 2


def test_nothing_of_ours_stays_in_the_namespace(shell: Notebook, x: Any) -> None:
    before = {name for name in shell.ns if not re.fullmatch(r"_i?\d*|_+|_i+", name)}
    shell.ok("%%grad dy/dh\nh = x*x\ny = h*x")
    after = {name for name in shell.ns if not re.fullmatch(r"_i?\d*|_+|_i+", name)}
    assert after - before == {"h", "y", "dy_dh", "grads"}


# -- the names of a cell ---------------------------------------------------------------------------


def names(text: str) -> Names:
    return names_of(ast.parse(text))


@pytest.mark.parametrize(
    ("text", "reads", "assigns", "first"),
    [
        ("y = a*x", "a x", "y", ""),
        ("x = x + 1", "x", "x", "x"),
        ("x += 1", "x", "x", "x"),
        ("x = 1\ny = x", "", "x y", ""),
        ("y = x\nx = 1", "x", "y x", "x"),
        ("x: float = a", "float a", "x", ""),
        ("x: float", "", "", ""),
        ("a, (b, *c) = d", "d", "a b c", ""),
        ("p['w'] = x", "x p", "", ""),
        ("o.k = x", "x o", "", ""),
        ("for i in r:\n    s = i", "r", "i s", ""),
        ("with o as f:\n    f", "o", "f", ""),
        ("import a.b as c, d.e\nfrom f import g as h", "", "c d h", ""),
        ("def f(u, v=w):\n    return u + z", "w z", "f", ""),
        ("z = 1\ndef f():\n    return z", "", "z f", ""),
        ("f = lambda u: u + z", "z", "f", ""),
        ("def f():\n    z = 1\n    return z", "", "f", ""),
        ("class C(B):\n    k = m\n    def n(self):\n        return o", "B m o", "C", ""),
        ("y = [u*v for u in w if u > t]", "w t v", "y", ""),
        ("y = {u: v for u, v in w}", "w", "y", ""),
        ("[(h := u) for u in w]", "w", "h", ""),
        ("if (n := m):\n    pass", "m", "n", ""),
        ("try:\n    a\nexcept E as e:\n    b", "a E b", "", ""),
        ("del x", "x", "", ""),
        (
            "match s:\n    case {'k': v, **r}:\n        pass\n    case [f, *t]:\n        pass",
            "s",
            "v r f t",
            "",
        ),
        ("f'{x:{w}}'", "x w", "", ""),
        ("global g\ng = 1", "", "g", ""),
    ],
)
def test_names(text: str, reads: str, assigns: str, first: str) -> None:
    found = names(text)
    assert sorted(found.reads) == sorted(reads.split())
    assert list(found.assigns) == assigns.split()
    assert found.reads_first == set(first.split())
    assert not found.opaque


@pytest.mark.parametrize(
    "text", ["exec('y = 1')", "from m import *", "def f():\n    global y\n    y = 1\nf()"]
)
def test_some_cells_assign_what_cannot_be_seen(text: str) -> None:
    assert names(text).opaque


def test_the_line_of_an_assignment_is_its_last() -> None:
    assert dict(names("x = 1\ny = 2\nx = 3").assigns) == {"x": 3, "y": 2}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = (n := x * 2)**2", 12.0),
        ("y = (n := 3.0)**2 + n", 7.0),
        ("if (n := x * 2) > 0:\n    y = n**2", 12.0),
        ("y = tf.add_n([(n := x * k)**2 for k in [1.0, 2.0]])", 12.0),
        ("n = (n := 2.0) + 1\ny = n**2", 6.0),
        ("(n := x * 2)**2", 12.0),
    ],
)
def test_a_walrus_is_a_source_within_its_own_statement(
    shell: Notebook, x: Any, body: str, expected: float
) -> None:
    shell.ns["x"] = tf.constant(3.0)
    run = shell.ok(f"%%grad {'y ' if 'y =' in body else ''}--wrt n\n{body}")
    (row,) = shell.ns["grads"]
    assert float(row.value) == expected
    if "y =" not in body:
        assert float(run.out) == 36.0
    if "3.0" in body:
        assert shell.ns["n"] == 3.0
        assert type(shell.ns["n"]) is float


def test_what_a_cell_assigns_is_no_parameter_of_its_function_nor_what_decides_dtypes(
    shell: Notebook, x: Any
) -> None:
    shell.ns.update(x=tf.constant(3.0), a=2.0, y=tf.constant(1.0, tf.float64))
    shell.ok("%%grad --def f dy/dx, dy/da\ny = x**2 * a")
    assert repr(shell.ns["f"]) == "<f(x, a) → (dy_dx, dy_da, y)>"
    found = shell.ns["f"](shell.ns["x"], 2.0)
    assert [float(one) for one in found] == [12.0, 9.0, 18.0]
