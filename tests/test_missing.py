"""Without a package, everything that does not need it works, and one line says what does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tape_magic.display.live import progress
from tape_magic.engine.devices.machine import Machine
from tape_magic.engine.doctor.examine import examine
from tape_magic.errors import TapeMagicError
from tape_magic.results.doctor import LinkState
from tests.support.notebook import Notebook

SETUP = "import tensorflow as tf\nx = tf.Variable(3.0)"
HALTED = (
    "inspect() needs ipywidgets: pip install ipywidgets (import of ipywidgets halted; None in sys.modules)"
)
LONG_ENOUGH = "%%minimize y --over x --optimizer sgd --lr 0.1 --steps 50 --engine eager\ny = (x - 1)**2"


@pytest.fixture
def without(shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Hides packages from `import`."""
    shell.ok(SETUP)

    def hide(*packages: str) -> Notebook:
        for package in packages:
            for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
                monkeypatch.setitem(sys.modules, name, None)
        return shell

    return hide


def test_a_run_that_would_be_shown_by_widgets_ends_with_its_report(
    without: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    shell = without("ipywidgets")
    shell.ok("%config TapeMagics.progress = 'widget'")
    run = shell.ok(LONG_ENOUGH)
    assert run.stderr.startswith("the live display needs ipywidgets: pip install ipywidgets (")
    assert run.stderr.count("\n") == 1
    assert [report.text.startswith("y = ") for report in run.displayed] == [True]
    assert shell.ns["minimum"].steps == 50
    assert float(shell.ns["x"]) == pytest.approx(1, abs=1e-3)


def test_the_browser_of_a_report_says_what_it_needs_and_the_report_is_there(without: Any) -> None:
    run = without("ipywidgets").run("%%grad dy/dx --inspect\ny = x*x")
    assert run.stderr.count("\n") == 1
    assert "inspect() needs ipywidgets: pip install ipywidgets" in run.stderr
    assert "∂y/∂x" in run.displayed[0].text
    assert "tape_magic/" not in run.traceback


def test_the_watch_is_one_look_only(without: Any) -> None:
    shell = without("ipywidgets")
    shell.ok("%config TapeMagics.progress = 'widget'")
    run = shell.ok("%tfgpu --watch")
    assert "one look only: the watch needs ipywidgets: pip install ipywidgets" in run.displayed[-1].text


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("grads.to_frame()", "to_frame() needs pandas: pip install pandas"),
        ("minimum.to_frame()", "to_frame() needs pandas: pip install pandas"),
        ("grads.plot()", 'plot() needs Matplotlib: pip install "tape_magic[plot]"'),
        ("minimum.plot()", 'plot() needs Matplotlib: pip install "tape_magic[plot]"'),
        ("grads.inspect()", HALTED),
    ],
)
def test_what_a_report_cannot_do(without: Any, call: str, said: str) -> None:
    shell = without("pandas", "matplotlib", "scipy", "ipywidgets")
    shell.ok("%%grad dy/dx\ny = x*x")
    shell.ok(LONG_ENOUGH)
    run = shell.run(call)
    assert isinstance(run.error, ImportError)
    assert str(run.error) == said
    assert run.traceback.strip().splitlines()[-1:] == [f"ImportError: {said}"]
    assert "Traceback" not in run.traceback


def test_all_else_works_without_any_of_them(without: Any) -> None:
    shell = without("ipywidgets", "pandas", "matplotlib", "scipy", "pynvml")
    for cell in (
        "%%grad dy/dx, d2y/dx2\ny = x*x",
        "%%grad y --wrt x --hessian --check\ny = x*x",
        "%%grad dy/dx --def slope\ny = x*x",
        LONG_ENOUGH,
        "%tfgpu",
        "grads.to_dict(), minimum.to_dict()",
        "%reload_ext tape_magic",
    ):
        run = shell.ok(cell)
        assert run.stderr == ""
    assert shell.refused("%%minimize y --over x --optimizer bfgs\ny = x*x") == (
        '--optimizer bfgs needs SciPy: pip install "tape_magic[scipy]"'
    )


CALLS = (
    "tape_magic.grad(lambda x: x*x, {'x': 1.0})",
    "tape_magic.derivative(lambda x: x*x)",
    "tape_magic.minimize(lambda x: x*x, {'x': 1.0})",
    "tape_magic.devices()",
)


def test_without_tensorflow_each_magic_and_function_says_so(without: Any) -> None:
    said = "TensorFlow is not installed: run %pip install tensorflow and restart the kernel."
    shell = without("tensorflow")
    shell.ok("import tape_magic")
    for cell in ("%%grad dy/dx\ny = x*x", LONG_ENOUGH, "%tfgpu", "%tfgpu 0 --growth", "%tfgpu --json"):
        run = shell.run(cell)
        assert shell.refused(cell) == said
        assert "Traceback" not in run.stderr
    for call in CALLS:
        error = shell.run(call).error
        assert isinstance(error, TapeMagicError)
        assert str(error) == said
    assert shell.refused("%%grad dy/dx --nonsense\ny = x*x").startswith("%%grad")  # lines are read first


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (
            "raise ImportError('libz.so.1: cannot open\\nfor more, see')",
            "ImportError: libz.so.1: cannot open",
        ),
        ("raise TypeError('Descriptors cannot be created directly.')", "TypeError: Descriptors cannot be"),
        ("import numpy.no_such_part", "ModuleNotFoundError: No module named 'numpy.no_such_part'"),
    ],
)
def test_a_tensorflow_that_fails_to_import(
    without: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: str, text: str
) -> None:
    shell = without("tensorflow")
    monkeypatch.delitem(sys.modules, "tensorflow")
    (tmp_path / "tensorflow.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    said = shell.refused("%%grad dy/dx\ny = x*x")
    assert said.startswith(f"TensorFlow cannot be imported ({text}")
    assert said.endswith("run %pip install --force-reinstall tensorflow and restart the kernel.")
    report = examine(Machine(tmp_path, {}))
    assert report.headline == "No GPU: TensorFlow cannot be imported"
    assert report.links[0].finding is LinkState.FAILS
    assert report.links[0].evidence[0].startswith(text)
    assert report.command == "%pip install --force-reinstall tensorflow"


def test_the_doctor_without_tensorflow(without: Any, tmp_path: Path) -> None:
    without("tensorflow")
    report = examine(Machine(tmp_path, {}))
    assert report.headline == "No GPU: TensorFlow is not installed"
    assert [one.finding for one in report.links] == [LinkState.MISSING] + [LinkState.UNTRIED] * 6
    assert (report.tensorflow, report.harmless) == ("", False)
    assert "No GPU: TensorFlow is not installed" in without().ok("%tfgpu --doctor").displayed[-1].text


def test_where_a_card_is_tensorflow_comes_with_cudas_libraries(without: Any, tmp_path: Path) -> None:
    without("tensorflow")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    assert examine(Machine(tmp_path, {})).command == '%pip install "tensorflow[and-cuda]"'
