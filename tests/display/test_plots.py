"""Reports drawn by Matplotlib."""

from __future__ import annotations

import itertools
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
    ("history", "marked"),
    [
        ([3.0, 1.0, 1.0005], False),  # lower by less than one part in a thousand, which the report leaves out
        ([3.0, 1.0, 1.002], True),
        ([-1.0, -3.0, -2.0], True),
        ([3.0, 1.0, np.inf], True),
        ([3.0, 1.0, np.nan], True),
        ([3.0, 2.0, 1.0], False),
    ],
)
def test_the_best_is_marked_where_it_is_worth_it(history: list[float], marked: bool, pyplot: Any) -> None:
    assert len(minimum(history, {}).plot().get_lines()) == 1 + marked


@pytest.mark.parametrize(
    "history", [[1.0], [4.0, 4.0, 4.0], [1.0, np.nan], [-1e300, 1e300, 0.0], [1e-300] * 3]
)
def test_any_loss_can_be_drawn(history: list[float], pyplot: Any) -> None:
    ax = minimum(history, {}).plot()
    ax.figure.canvas.draw()
    assert ax.get_yscale() == "linear"


def test_each_tracked_scalar_has_a_panel_of_its_own_over_the_same_steps(pyplot: Any) -> None:
    steps = np.arange(101)
    tracked = {"worst": np.geomspace(1e3, 1e-3, 101), "a_$b$": np.linspace(1.0, 2.0, 101)}
    result = minimum([2.0, 1.0], {}, tracked=tracked, tracked_steps=dict.fromkeys(tracked, steps))
    ax = result.plot()
    loss, *panels = ax.figure.axes
    assert loss is ax
    assert [panel.get_ylabel() for panel in panels] == list(tracked)
    assert [len(panel.get_lines()) for panel in panels] == [1, 1]
    assert [panel.get_lines()[0].get_ydata()[-1] for panel in panels] == pytest.approx([1e-3, 2.0])
    assert [panel.get_yscale() for panel in panels] == ["log", "linear"]
    assert {panel.get_xlim() for panel in panels} == {ax.get_xlim()}
    assert [one.get_xlabel() for one in ax.figure.axes] == ["", "", "steps"]
    ax.figure.canvas.draw()


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("count", [1, 6])
def test_panels_and_the_legend_cover_no_curve(given: bool, count: int, pyplot: Any) -> None:
    history = [3.0, 2.0, 1.0, 0.5, 0.7, 0.8]
    tracked = {f"t{index}": np.linspace(0.0, index, 6) for index in range(1, 1 + count)}
    steps = dict.fromkeys(tracked, np.arange(6))
    room = pyplot.subplots()[1] if given else None
    ax = minimum(history, {}, tracked=tracked, tracked_steps=steps).plot(room)
    assert room is None or ax is room
    assert labels(ax.get_legend()) == ["best, 0.5"]
    ax.figure.canvas.draw()
    boxes = [one.get_window_extent() for one in ax.figure.axes]
    assert len(boxes) == 1 + count
    for upper, lower in itertools.pairwise(boxes):
        assert upper.y0 > lower.y1
        assert (upper.x0, upper.x1) == pytest.approx((lower.x0, lower.x1))
    legend = ax.get_legend().get_window_extent()
    assert boxes[0].y1 < legend.y0
    assert legend.y1 <= ax.figure.bbox.y1


def test_the_colours_are_those_of_the_reports(shell: Notebook) -> None:
    from matplotlib.colors import to_hex

    from tape_magic.display.content.document import ACCENT, SECOND

    (line,) = minimum([2.0, 1.0], {}).plot().get_lines()
    assert to_hex(line.get_color()) == ACCENT
    shell.ok(SETUP)
    shell.ok("%%grad dy/dx, d2y/dx2 -q\ny = tf.nn.sigmoid(x)")
    lines = shell.ns["grads"].plot().get_lines()
    assert [to_hex(line.get_color()) for line in lines] == [ACCENT, SECOND]
    matrix = Hessian("y", ("p",), ((2,),), {("p", "p"): np.array([[1.0, 0.0], [0.0, -1.0]])}, (np.zeros(2),))
    image = gradients(hessians=(matrix,)).plot().get_images()[0]
    colours = [to_hex(image.cmap(image.norm(value))) for value in (1.0, 0.0, -1.0)]
    assert [colours[0], colours[2]] == [ACCENT, SECOND]
    assert min(image.cmap(image.norm(0.0))[:3]) > 0.98


def labels(legend: Any) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


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
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["dy/dx", "d2y/dx2"]
    assert ax.get_xlabel() == "x"


def test_other_derivatives_are_bars_of_their_norms(shell: Notebook) -> None:
    shell.ok(SETUP + "\na, b, k = tf.constant(3.0), tf.constant(1e-5), tf.constant(1.0)")
    shell.ok("%%grad y --wrt a b k -q\ny = a**2 + b**2")
    ax = shell.ns["grads"].plot()
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([6.0, 2e-5, 0.0])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["∂y/∂a", "∂y/∂b", "∂y/∂k"]
    assert ax.get_xscale() == "log"


MODEL = """
def dense(*widths):
    layers = [tf.keras.layers.Dense(width, "tanh") for width in widths]
    return tf.keras.Sequential([tf.keras.Input((2,)), *layers])
batch = tf.constant([[0.1, 0.2], [0.3, -0.4], [0.5, 0.6]])
"""


@pytest.mark.parametrize("widths", [(3, 1), (50, 50, 50), (1,) * 3])
def test_a_model_is_a_bar_for_each_layer(shell: Notebook, widths: tuple[int, ...]) -> None:
    shell.ok(SETUP + MODEL + f"model = dense{widths}")
    shell.ok("%%grad loss --wrt model -q\nloss = tf.reduce_mean(model(batch)**2)")
    report = shell.ns["grads"]
    assert not any(row.elementwise for row in report)
    ax = report.plot()
    assert ax.get_lines() == []
    rows = [np.linalg.norm(np.asarray(row.value)) for row in report]
    expected = [np.hypot(*rows[start : start + 2]) for start in range(0, len(rows), 2)]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(expected, rel=1e-5)
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        layer.name for layer in shell.ns["model"].layers
    ]


def test_a_large_model_is_folded_and_fits_its_figure(pyplot: Any) -> None:
    def model(*paths: str) -> Any:
        rows = [derivative("loss", path, value=[3.0, 4.0], of_model=True) for path in paths]
        return gradients(*rows).plot()

    blocks = [f"net/block_{block}/dense_{layer}/kernel" for block in range(30) for layer in range(4)]
    ax = model(*blocks)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([10.0] * 30)
    assert ax.get_yticklabels()[3].get_text() == "net/block_3"
    ax = model(*(f"dense_{layer}/{part}" for layer in range(100) for part in ("kernel", "bias")))
    assert len(ax.patches) == 40
    assert ax.get_yticklabels()[-1].get_text() == "61 more"
    assert ax.patches[-1].get_width() == pytest.approx(np.sqrt(2 * 61) * 5)
    ax.figure.canvas.draw()
    assert ax.figure.get_size_inches()[1] < 12
    texts = [text.get_window_extent() for text in ax.get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(texts))
    assert min(box.x0 for box in texts) >= 0
    ax = gradients(*(derivative("y", f"x{index}", value=2.0) for index in range(60))).plot()
    assert len(ax.patches) == 40


def test_a_bar_says_what_its_length_does_not() -> None:
    ax = gradients(
        derivative("y", "a", value=2.0),
        derivative("y", "b", value=None),
        derivative("y", "c", value=[np.nan, 1.0]),
        derivative("y", "d", value=[np.inf, 1.0]),
        derivative("y", "e", value=0.0),
    ).plot()
    assert [bar.get_width() for bar in ax.patches] == [2.0, 0.0, 0.0, 0.0, 0.0]
    assert [(text.get_text(), text.xy[1]) for text in ax.texts] == [
        ("none", 1),
        ("NaN", 2),
        ("∞", 3),
        ("0", 4),
    ]
    ax.figure.canvas.draw()


def test_a_curve_beside_a_number_is_a_bar(shell: Notebook) -> None:
    """A picture of curves would leave the number out."""
    shell.ok(SETUP + "\na = tf.constant(2.0)")
    shell.ok("%%grad y --wrt x a -q\ny = a * x**2")
    assert [row.elementwise for row in shell.ns["grads"]] == [True, False]
    assert len(shell.ns["grads"].plot().patches) == 2


def test_many_curves_have_a_legend_of_ten() -> None:
    value, source = np.arange(3.0), np.array([2.0, 0.0, 1.0])
    rows = [derivative("y", f"x{index}", value=value, source=source, elementwise=True) for index in range(30)]
    ax = gradients(*rows).plot()
    assert labels(ax.get_legend()) == [*(f"dy/dx{index}" for index in range(10)), "and 20 more"]
    assert len(ax.get_lines()) == 31
    assert ax.get_lines()[0].get_xydata().tolist() == [[0, 1], [1, 2], [2, 0]]


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
    row = derivative("y", name, value=[1.0, 2.0], source=np.array([3.0, 4.0]), elementwise=True)
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


def test_what_is_no_axes_is_refused_in_one_line() -> None:
    with pytest.raises(
        TypeError, match=r"plot\(\) draws into Matplotlib's axes, and ax is a str."
    ) as refused:
        minimum([1.0, 0.5], {}).plot("here")
    assert refused.value._render_traceback_() == [f"TypeError: {refused.value}"]  # type: ignore[attr-defined]
