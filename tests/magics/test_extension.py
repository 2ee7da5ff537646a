"""Loading puts the magics, their Tab completion and their displays into a shell; unloading takes all out."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

import tape_magic
from tape_magic.magics.cell.offered import NamesOffered
from tape_magic.magics.completion import candidates
from tape_magic.magics.line.grad import GRAD
from tape_magic.magics.line.minimize import MINIMIZE
from tape_magic.magics.line.options import MAGICS
from tape_magic.magics.line.tfgpu import TFGPU
from tests.support.notebook import Notebook

README = Path(__file__).parents[2] / "README.md"


def state(shell: Any) -> dict[str, Any]:
    """Everything in a shell that an extension could leave something in."""
    formatters = shell.display_formatter.formatters
    hooks = shell.strdispatchers.get("complete_command")
    return {
        "magics": {kind: dict(found) for kind, found in shell.magics_manager.magics.items()},
        "registry": dict(shell.magics_manager.registry),
        "configurables": list(shell.configurables),
        "by type": {kind: dict(one.type_printers) for kind, one in formatters.items()},
        "by name": {kind: dict(one.deferred_printers) for kind, one in formatters.items()},
        "matchers": [getattr(one, "func", one) for one in getattr(shell.Completer, "custom_matchers", [])],
        "before 8": [getattr(one, "func", one) for one in getattr(shell.Completer, "magic_arg_matchers", [])],
        "commands": {
            key: [str(one) for one in chain] for key, chain in (hooks.strs if hooks else {}).items()
        },
        "events": {name: list(found) for name, found in shell.events.callbacks.items()},
        "transformers": [*shell.input_transformers_cleanup, *shell.input_transformers_post],
        "ast": list(shell.ast_transformers),
        "exceptions": shell.custom_exceptions,
        "names": {name: id(value) for name, value in shell.user_ns.items()},
        "hidden": set(shell.user_ns_hidden),
        "extensions": set(shell.extension_manager.loaded),
        "config": dict(shell.config),
    }


def test_unloading_leaves_nothing(bare_shell: Notebook) -> None:
    shell = bare_shell.shell
    before = state(shell)
    for _ in range(2):
        # As %load_ext does, which IPython itself loads only when it is first used.
        assert shell.extension_manager.load_extension("tape_magic") is None
        loaded = state(shell)
        for magic in MAGICS:
            assert magic.name in loaded["magics"]["cell" if magic.cell else "line"]
        assert shell.extension_manager.unload_extension("tape_magic") is None
        after = state(shell)
        for part, held in before.items():
            assert after[part] == held, part


def test_unloading_after_a_report_was_shown(bare_shell: Notebook) -> None:
    shell = bare_shell.shell
    shell.run_line_magic("load_ext", "tape_magic")
    run = bare_shell.ok("%%grad dy/dx\nx = 2.0\ny = x*x")
    assert "∂y/∂x" in run.displayed[0].html
    shell.run_line_magic("unload_ext", "tape_magic")
    (report,) = bare_shell.ok("display(grads)").displayed
    assert report.html == run.displayed[0].html
    assert "%%grad" in bare_shell.run("%%grad dy/dx\ny = x").stderr


def test_loading_twice_is_loading_once(bare_shell: Notebook) -> None:
    shell = bare_shell.shell
    before = state(shell)
    tape_magic.load_ipython_extension(shell)
    once = state(shell)
    tape_magic.load_ipython_extension(shell)
    assert state(shell) == once
    tape_magic.unload_ipython_extension(shell)
    assert state(shell) == before
    tape_magic.unload_ipython_extension(shell)
    assert state(shell) == before


def test_the_extension_loads_with_the_first_magic_that_is_used(bare_shell: Notebook) -> None:
    """With the two lines of configuration that the README gives."""
    (line,) = re.findall(r"c\.MagicsManager\.lazy_magics = (.+)", README.read_text(encoding="utf-8"))
    lazy = ast.literal_eval(line)
    assert set(lazy) == {magic.name for magic in MAGICS}
    manager = bare_shell.shell.magics_manager
    before, manager.lazy_magics = manager.lazy_magics, lazy
    try:
        bare_shell.ok("%%grad dy/dx\nx = 2.0\ny = x*x")
        assert float(bare_shell.ns["dy_dx"]) == 4.0
    finally:
        manager.lazy_magics = before
        bare_shell.shell.run_line_magic("unload_ext", "tape_magic")


def test_reloading(shell: Notebook) -> None:
    before = state(shell.shell)
    run = shell.ok("%reload_ext tape_magic")
    assert (run.stdout, run.stderr) == ("", "")
    after = state(shell.shell)
    for part in ("by name", "matchers", "commands", "events", "extensions"):
        assert after[part] == before[part], part
    assert len(after["configurables"]) == len(before["configurables"])
    shell.ok("%%grad dy/dx\nx = 2.0\ny = x*x")
    assert float(shell.ns["dy_dx"]) == 4.0


def test_the_magics_are_in_lsmagic(shell: Notebook) -> None:
    shown = str(shell.shell.run_line_magic("lsmagic", ""))
    assert all(magic.sign in shown for magic in MAGICS)


def test_the_users_own_completers_stay(bare_shell: Notebook) -> None:
    shell = bare_shell.shell

    def mine(self: Any, event: Any) -> list[str]:
        return ["mine"]

    shell.set_hook("complete_command", mine, str_key="%%grad")
    try:
        shell.run_line_magic("load_ext", "tape_magic")
        shell.run_line_magic("unload_ext", "tape_magic")
        held = [function for _, function in shell.strdispatchers["complete_command"].strs["%%grad"]]
        assert [getattr(function, "__func__", function) for function in held] == [mine]
    finally:
        del shell.strdispatchers["complete_command"].strs["%%grad"]


# -- Tab -------------------------------------------------------------------------------------------


def completions(shell: Notebook, text: str, at: int | None = None) -> list[str]:
    """What Tab offers at a place of a text, by default its end, as a kernel asks the shell for it."""
    from IPython.core.completer import provisionalcompleter

    at = len(text) if at is None else at
    with provisionalcompleter():
        return [one.text for one in shell.shell.Completer.completions(text, at)]


GRAD_FLAGS = {"-h", "--help", *(flag for option in GRAD.options for flag in option.flags)}


@pytest.mark.parametrize("magic", MAGICS, ids=[magic.name for magic in MAGICS])
def test_tab_gives_exactly_the_options(shell: Notebook, magic: Any) -> None:
    flags = {"-h", "--help", *(flag for option in magic.options for flag in option.flags)}
    found = completions(shell, f"{magic.sign} -")
    assert sorted(found) == sorted(flags)
    assert sorted(completions(shell, f"{magic.sign} --")) == sorted(
        flag for flag in flags if flag.startswith("--")
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%%grad dy/dx --z", ["--zero"]),
        ("%%grad dy/dx --zero --", ["--order", "--wrt"]),
        ("%%grad --wrt x --o", ["--order"]),
        ("%%minimize loss --engine ", ["auto", "eager", "graph", "xla"]),
        ("%%minimize loss --engine e", ["eager"]),
        ("%%minimize loss --optimizer ada", ["adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw"]),
    ],
)
def test_tab_within_the_line(shell: Notebook, text: str, expected: list[str]) -> None:
    found = completions(shell, text)
    if "--zero --" in text:
        expected = [flag for flag in GRAD_FLAGS if flag.startswith("--") and flag != "--zero"]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    "text",
    [
        "model",
        "x = model",
        "%%grad dloss/dx --wrt model",
        "%%grad model",
        "%%time -",
        "%gra",
        "%%gra",
        "x = 5 -",
        "%%grad y\ny = 5 -",
        "%%grad y\nmodel",
        "%%minimize loss --engine \nloss = model",
    ],
)
def test_tab_elsewhere_is_ipythons(bare_shell: Notebook, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare_shell.shell.Completer, "use_jedi", False)
    bare_shell.ns["modelling"] = 1
    without = completions(bare_shell, text)
    assert ("modelling" in without) is text.endswith("model")
    bare_shell.shell.run_line_magic("load_ext", "tape_magic")
    try:
        loaded = completions(bare_shell, text)
    finally:
        bare_shell.shell.run_line_magic("unload_ext", "tape_magic")
    assert [one for one in loaded if one not in ("%grad", "%%grad")] == without


NAMES = """
import keras, numpy as np, tensorflow as tf
w, x, n, rate, points = tf.Variable([1.0, 2.0]), 3.0, 3, 0.1, np.ones((4, 2), 'float32')
model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
layer, opt = model.layers[0], keras.optimizers.Adam(0.1)
train = tf.data.Dataset.from_tensor_slices(points).batch(2)
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # What the cell reads before others, and variables and models before arrays and floats.
        ("%%minimize --over |\ntf.reduce_sum(w) * x", ["w", "x", "layer", "model", "points", "rate"]),
        ("%%minimize loss --over w |\nloss = w", ["layer", "model", "points", "rate", "x"]),
        ("%%minimize loss --over layer.|\nloss = w", ["layer.bias", "layer.kernel"]),
        ('%%minimize loss --bounds "w=0:, x|\nloss = w', ["x"]),
        ("%%minimize |\nz = 2 * w\nloss = z", ["loss", "z"]),
        ("%%minimize loss --track |\nz = 2 * w\nloss = (z", ["loss", "z"]),
        ('%%minimize loss --for "|\nloss = model(xb) - yb', ["xb", "yb"]),
        ('%%minimize loss --for "xb in |\nloss = xb', ["train", "points"]),
        ('%%minimize loss --for "xb in train" --val "xb in |\nloss = xb', ["train", "points"]),
        ("%%minimize loss --lr ra|\nloss = w", ["rate"]),
        ("%%minimize loss --optimizer opt|\nloss = w", ["opt"]),
        ("%%grad d|\ny = w", ["dy/dw", "dy/dlayer", "dy/dmodel", "dy/dpoints", "dy/drate", "dy/dx"]),
        (
            "%%grad y, dy/d|\ny = x * w",
            ["dy/dw", "dy/dx", "dy/dlayer", "dy/dmodel", "dy/dpoints", "dy/drate"],
        ),
        ("%grad ∂y/∂w|\ny = w", ["∂y/∂w"]),
        ("%%grad d2y/dx|\ny = x", ["d2y/dx"]),
        ("%%grad y --wrt z|\nz = 2 * w\ny = z", ["z"]),
    ],
)
def test_tab_gives_names(shell: Notebook, text: str, expected: list[str]) -> None:
    shell.ok(NAMES)
    assert completions(shell, text.replace("|", ""), text.index("|")) == expected


def test_tab_goes_on_with_options_where_the_words_are_written(shell: Notebook) -> None:
    shell.ok(NAMES)
    flags = [flag for flag in MINIMIZE.completed_flags if flag != "--lr"]
    text = "%%minimize loss --lr 0.1 "
    assert completions(shell, f"{text}\nz = 2 * w\nloss = z", len(text)) == ["loss", "z", *flags]
    assert completions(shell, "%tfgpu ") == ["freest", *TFGPU.completed_flags]


def test_tab_within_the_brackets_of_a_place_is_not_ours(shell: Notebook) -> None:
    shell.ok(f"{NAMES}parts = {{'w': w}}")
    text = "%%minimize loss --over parts["
    assert candidates(text, NamesOffered(shell.ns, f"{text}\nloss = w")) == ("", [])
    text = "%%minimize loss --over [w, la"
    assert completions(shell, f"{text}\nloss = w", len(text)) == ["layer"]


def test_the_package_completes_its_functions(
    shell: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # IPython 7 offers files, too: tape_magic.egg-info
    shell.ok("import tape_magic")
    found = {name.rpartition(".")[2] for name in completions(shell, "tape_magic.")}
    assert found == set(tape_magic.__all__)


def test_no_options_after_unloading(bare_shell: Notebook) -> None:
    bare_shell.shell.run_line_magic("load_ext", "tape_magic")
    assert completions(bare_shell, "%%grad --z") == ["--zero"]
    bare_shell.shell.run_line_magic("unload_ext", "tape_magic")
    assert "--zero" not in completions(bare_shell, "%%grad --z")


# -- help ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("magic", MAGICS, ids=[magic.name for magic in MAGICS])
def test_help(shell: Notebook, magic: Any, capsys: pytest.CaptureFixture[str]) -> None:
    paged: list[Any] = []
    shell.shell.set_hook("show_in_pager", lambda self, data, *args, **kwargs: paged.append(data), priority=0)
    try:
        shell.ok(f"{magic.sign}?")
    finally:
        chain = shell.shell.hooks.show_in_pager.chain
        chain[:] = [entry for entry in chain if entry[0] != 0]
    (data,) = paged
    text = data["text/plain"] if isinstance(data, dict) else data
    assert magic.summary in text
    for _, example in magic.examples:
        assert all(row in text for row in example.splitlines())
    for option in magic.options:
        assert all(flag in text for flag in option.flags)


def test_the_choices_of_an_engine_are_the_engines() -> None:
    from tape_magic.engine.minimization.settings import ENGINES

    (option,) = [option for option in MINIMIZE.options if option.name == "engine"]
    assert set(option.choices) == set(ENGINES)
