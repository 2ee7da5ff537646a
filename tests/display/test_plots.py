"""Reports drawn by Matplotlib."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tape_magic.results.curvature import Hessian
from tests.support.notebook import Notebook
from tests.support.reports import change, derivative, gradients, minimum

SETUP = "import tensorflow as tf\nimport numpy as np\nx = tf.linspace(-3.0, 3.0, 50)"


@pytest.fixture(autouse=True)
def pyplot(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.use("agg")
        from matplotlib import pyplot

        yield pyplot
        pyplot.close("all")


def test_a_loss_over_decades_is_logarithmic_and_its_best_is_marked() -> None:
    history = np.geomspace(1.0, 1e-6, 1001)
    history[-1] = 1e-3
    ax = minimum(history, {"x": change(0.0, 1.0)}).plot()
    line, best = ax.get_lines()
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("steps", "y")
    assert line.get_xydata()[[0, -1]].tolist() == [[0, 1.0], [1000, 1e-3]]
    assert best.get_xydata().tolist() == [[999, history[999]]]


@pytest.mark.parametrize(
    "history", [[1.0], [4.0, 4.0, 4.0], [1.0, np.nan], [-1e300, 1e300, 0.0], [1e-300] * 3]
)
def test_any_loss_can_be_drawn(history: list[float], pyplot: Any) -> None:
    ax = minimum(history, {}).plot()
    ax.figure.canvas.draw()
    assert ax.get_yscale() == "linear"


def test_what_was_tracked_is_drawn_on_an_axis_of_its_own(pyplot: Any) -> None:
    steps = np.arange(101)
    tracked = {"worst": np.geomspace(1e3, 1e-3, 101), "a_$b$": np.geomspace(1.0, 1e-9, 101)}
    result = minimum([2.0, 1.0], {}, tracked=tracked, tracked_steps=dict.fromkeys(tracked, steps))
    ax = result.plot()
    _, right = ax.figure.axes
    assert [line.get_ydata()[-1] for line in right.get_lines()] == pytest.approx([1e-3, 1e-9])
    assert right.get_yscale() == "log"
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["worst", "a_$b$"]
    ax.figure.canvas.draw()


def test_it_draws_where_it_is_told(pyplot: Any) -> None:
    _, ax = pyplot.subplots()
    assert minimum([2.0, 1.0, 0.5], {}).plot(ax) is ax
    assert len(pyplot.get_fignums()) == 1


def test_an_elementwise_derivative_is_a_curve_over_its_source(shell: Notebook) -> None:
    shell.ok(SETUP)
    shell.ok("%%grad dy/dx, d2y/dx2 -q\ny = tf.nn.sigmoid(x)")
    ax = shell.ok("grads.plot();").out or shell.ns["grads"].plot()
    first, second = ax.get_lines()
    np.testing.assert_array_equal(first.get_xdata(), shell.ns["x"].numpy())
    np.testing.assert_allclose(first.get_ydata(), shell.ns["dy_dx"].numpy())
    np.testing.assert_allclose(second.get_ydata(), shell.ns["d2y_dx2"].numpy())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["∂Σy/∂x", "∂²Σy/∂x²"]
    assert ax.get_xlabel() == "x"


def test_other_derivatives_are_bars_of_their_norms(shell: Notebook) -> None:
    shell.ok(SETUP + "\na, b, k = tf.constant(3.0), tf.constant(1e-5), tf.constant(1.0)")
    shell.ok("%%grad y --wrt a b k -q\ny = a**2 + b**2")
    ax = shell.ns["grads"].plot()
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([6.0, 2e-5, 0.0])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["∂y/∂a", "∂y/∂b", "∂y/∂k"]
    assert ax.get_xscale() == "log"


def test_a_hessian_is_its_matrix(shell: Notebook) -> None:
    shell.ok(SETUP + "\na, b = tf.constant([1.0, 2.0]), tf.constant(3.0)")
    shell.ok("%%grad y --wrt a b --hessian -q\ny = tf.reduce_sum(a**2)*b - b**2")
    ax = shell.ns["grads"].plot()
    (image,) = ax.get_images()
    np.testing.assert_allclose(image.get_array(), [[6, 0, 2], [0, 6, 4], [2, 4, -2]])
    assert image.get_clim() == (-6, 6)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize("name", [r"$\frac{$", "a_$b$_c", "<b>&\x1b[31m\n", "n" * 10_000])
def test_a_name_is_no_formula(name: str, pyplot: Any) -> None:
    row = derivative("y", name, value=[1.0, 2.0], source=np.array([3.0, 4.0]))
    hessian = Hessian(name, (name,), ((),), {(name, name): np.array(2.0)}, 0.0)
    for ax in (
        minimum([1.0, 0.5, 0.1], {}, loss_name=name).plot(),
        gradients(row).plot(),
        gradients(derivative(name, name, value=1.0)).plot(),
        gradients(derivative(name, name, value=1.0), hessians=(hessian,)).plot(),
    ):
        ax.figure.canvas.draw()
        legend = ax.get_legend()
        texts = [*ax.get_yticklabels(), ax.yaxis.label, ax.title, *(legend.get_texts() if legend else ())]
        assert all(len(text.get_text()) <= 80 for text in texts)


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'needs Matplotlib: pip install "tape_magic\[plot\]"'):
        minimum([1.0, 0.5], {}).plot()
