"""The report and the panel of a run over data: the means of epochs, over the pale losses of the batches."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tape_magic.display.content.document import SECOND, Curve
from tape_magic.display.content.reduction import band
from tape_magic.display.describe import describe
from tape_magic.display.live.panel_html import panel_html
from tape_magic.display.live.progress import summary
from tape_magic.display.pictures.curve import curve, inline_curve
from tape_magic.display.text.render import to_text
from tape_magic.results.epochs import Epochs
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step
from tests.support.reports import change, minimum


def means_of(history: np.ndarray[Any, Any], length: int, *, whole: bool = True) -> Epochs:
    """The means of as many steps as an epoch has; `whole` for epochs, and not for stretches."""
    ends = np.arange(length, len(history) + 1, length)
    losses = history[: ends[-1]].reshape(-1, length).mean(axis=1)
    numbers = np.arange(1, 1 + len(ends)) if whole else np.ones(len(ends), np.int64)
    return Epochs(numbers, ends, losses, {"error": losses / 2}, whole)


def over_data(history: np.ndarray[Any, Any], length: int, *, stretch: int = 0, **more: Any) -> MinimizeResult:
    """A run of so many batches an epoch, with its means; `stretch` is the length of its stretches."""
    epochs = more.get("epochs") or means_of(history, length)
    steps = np.arange(len(history))
    facts = {
        "loss": epochs.loss[-1],
        "best_loss": epochs.loss.min(),
        "best_step": int(epochs.steps[epochs.best]),
        "epochs": epochs,
        "stretches": means_of(history, stretch, whole=False) if stretch else None,
        "tracked": {"error": history / 2},
        "tracked_steps": {"error": steps},
    }
    return minimum(history, {"x": change(0.0, 1.0)}, **{**facts, **more})


def noisy(steps: int, end: float = 1.0) -> np.ndarray[Any, Any]:
    """Losses that fall to an end, and scatter."""
    falling = np.linspace(4.0, end, steps + 1)
    return falling + np.where(np.arange(steps + 1) % 2, 0.5, -0.5)


def drawing(picture: Curve) -> str:
    return base64.b64decode(re.search('base64,([^"]+)', curve(picture))[1]).decode()


def test_the_headline_is_the_mean_of_the_last_epoch():
    history = noisy(400)
    history[250:300] -= 3.0
    lines = to_text(describe(over_data(history, 50))).splitlines()
    assert lines[0] == "y = 1.191 (mean of epoch 8) at step 400 · best −1.059 in epoch 6 · step limit ·"
    assert lines[-2:] == ["tracked  epoch 1  epoch 8", "error      1.908   0.5956  ██▇▇▇▇▆▆▆▅▂▁▃▅▄▄"]


def test_the_curve_goes_through_the_means_and_the_losses_are_behind_it():
    result = over_data(noisy(400), 50)
    picture = describe(result).first(Curve)
    assert picture.x == tuple(result.epochs.middles)
    assert picture.y == tuple(result.epochs.loss)
    assert (picture.first, picture.last, picture.steps) == (*result.epochs.loss[[0, -1]], 400)
    x, low, high = picture.pale
    assert (x[0], x[-1]) == (0.0, 400.0)
    assert (min(low), max(high)) == (result.history.min(), result.history.max())
    drawn = drawing(picture)
    assert "the means of 8 epochs" in curve(picture)
    assert drawn.count("<polygon") == drawn.count("<polyline") == 1
    assert re.search('<path d="([^"]+)"', drawn)[1].count("h0") == 8
    assert "<path" not in drawing(describe(over_data(noisy(400), 10)).first(Curve))  # 40 dots are no dots


def test_few_losses_are_a_pale_line():
    drawn = drawing(describe(over_data(noisy(20), 5)).first(Curve))
    assert "<polygon" not in drawn
    assert drawn.count("<polyline") == 2


def test_one_epoch_is_drawn_by_its_stretches():
    result = over_data(noisy(60), 60, stretch=6)
    text = to_text(describe(result))
    picture = describe(result).first(Curve)
    assert "(mean of epoch 1) at step 60" in text
    assert picture.y == tuple(result.stretches.loss)
    assert picture.means == "10 stretches"
    assert "tracked  first 6 batches  epoch 1" in text


def test_one_mean_is_no_line():
    picture = describe(over_data(noisy(60), 60)).first(Curve)
    assert picture == describe(minimum(noisy(60), {})).first(Curve)


def test_a_loss_that_ends_at_zero_is_drawn_on_a_logarithmic_axis():
    history = np.append(np.geomspace(1.0, 1e-6, 400), np.zeros(101))
    picture = describe(over_data(history, 100)).first(Curve)
    assert picture.log
    assert min(picture.pale[1]) == pytest.approx(1e-6)
    assert len(picture.y) == 4  # the mean of the fifth epoch is 0
    drawing(picture)


def test_the_best_that_was_kept_is_named():
    history = noisy(40, end=8.0)
    epochs = means_of(history, 10)
    result = over_data(history, 10, kept_best=True, loss=epochs.loss[0])
    said = " ".join(to_text(describe(result)).split())
    assert said.startswith(
        "y = 4.45 (mean of epoch 1) at step 10 · the values after it were kept, the best of 4"
    )
    assert "tracked epoch 1 epoch 1" in said


@pytest.mark.parametrize(("rises", "said"), [(0.0, False), (0.4, False), (4.0, True)])
def test_above_the_start_is_beyond_the_scatter(rises: float, said: bool):
    history = np.linspace(1.0, 1.0 + rises, 401) + np.where(np.arange(401) % 2, 0.5, -0.5)
    report = describe(over_data(history, 50))
    assert ("above the start, 0.5" in to_text(report)) is said


def test_the_panel_shows_means_too():
    history = noisy(400)
    step = Step(400, 400, 1.234, 1.2, 9.0, "graph", 8, 8, read_history=lambda: (np.arange(401), history))
    assert "polygon" not in panel_html(step, 0.0)
    with_means = Step(
        400, 400, 1.234, 1.2, 9.0, "graph", 8, 8, means=means_of(history, 50),
        read_history=lambda: (np.arange(401), history),
    )  # fmt: skip
    page = panel_html(with_means, 0.0)
    assert "the means of 8 epochs" in page
    assert page.count("<polygon") == 1


def test_the_plot_shows_means_too():
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.use("agg")
        from matplotlib import pyplot

        history = noisy(400)
        history[250:300] -= 3.0
        result = over_data(history, 50)
        ax = result.plot()
        line, best = ax.get_lines()
        assert line.get_ydata().tolist() == result.epochs.loss.tolist()
        assert best.get_xydata().tolist() == [[274.5, result.best_loss]]
        assert len(ax.collections) == 1
        _, right = ax.figure.axes
        assert right.get_lines()[0].get_ydata().tolist() == result.epochs.tracked["error"].tolist()
        ax.figure.canvas.draw()
        pyplot.close("all")


@pytest.mark.parametrize("steps", [3, 150, 151, 1000, 20_000])
def test_every_loss_is_within_the_band(steps: int):
    losses = np.random.default_rng(steps).normal(size=steps)
    x, low, high = map(np.array, band(np.arange(float(steps)), losses, positive=False))
    assert len(x) <= (steps if steps <= 150 else 100)
    assert (np.diff(x) > 0).all()
    assert (x[0], x[-1], low.min(), high.max()) == (0, steps - 1, losses.min(), losses.max())
    assert (low <= high).all()


def test_any_band_can_be_drawn():
    """Losses that are not finite, and those that a logarithmic axis cannot show, are left out."""
    losses = np.array([1.0, np.nan, np.inf, 0.0, 2.0])
    assert band(np.arange(5.0), losses, positive=True) == ((0.0, 4.0), (1.0, 2.0), (1.0, 2.0))
    huge = np.where(np.arange(401) % 2, 1.7e308, -1.7e308)
    means = Epochs(np.array([1, 2]), np.array([200, 400]), np.array([1e308, -1e308]), {"error": np.zeros(2)})
    for one in (means, replace(means, loss=np.array([np.inf, np.nan]))):
        inline_curve(describe(over_data(huge, 200, epochs=one)).first(Curve))


def validated(history: np.ndarray[Any, Any], losses: list[float], **more: Any) -> MinimizeResult:
    """A run with a validation at the end of each of its epochs, whose losses are given."""
    length = (len(history) - 1) // len(losses)
    found = np.array(losses)
    epochs = replace(means_of(history, length), val_loss=found, val_tracked={"error": found / 2})
    return over_data(history, length, **{"epochs": epochs, **more})


def test_the_validation_is_beside_the_means():
    result = validated(noisy(400), [4.0, 3.0, 2.5, 3.25])
    lines = to_text(describe(result)).splitlines()
    assert "validation 3.25, best 2.5 in epoch 3" in lines[0]
    assert lines[2:4] == ["training    3.629 ▇▅▃▁ 1.379", "validation      4 █▅▄▆ 3.25"]
    assert lines[-4:] == [
        "y                   3.629    1.379  ██▇▇▆▆▅▅▄▄▃▃▂▂▁▁",
        "y validation            4     3.25  █▇▆▅▄▃▃▂▂▁▁▂▂▃▄▅",
        "error               1.814   0.6894  ██▇▇▆▆▅▅▄▄▃▃▂▂▁▁",
        "error validation        2    1.625  █▇▆▅▄▃▃▂▂▁▁▂▂▃▄▅",
    ]


def test_the_epoch_that_was_kept_is_named():
    losses = [4.0, 2.5, 3.0, 3.25]
    history = noisy(400)
    kept = means_of(history, 100).loss[1]
    result = validated(history, losses, kept_best=True, loss=kept, best_loss=kept, best_step=200)
    said = " ".join(to_text(describe(result)).split())
    assert said.startswith("y = 2.879 (mean of epoch 2)")
    assert "(mean of epoch 2) at step 200 · validation 2.5, the best of 4 epochs: epoch 2 was kept" in said
    stopped = to_text(describe(replace(result, reason=StopReason.PATIENCE)))
    assert "no better validation since epoch 2 (--patience)" in " ".join(stopped.split())


def test_the_validation_has_a_curve_in_a_second_colour():
    picture = describe(validated(noisy(400), [4.0, 3.0, 2.5, 3.25])).first(Curve)
    assert picture.other == ((100.0, 200.0, 300.0, 400.0), (4.0, 3.0, 2.5, 3.25))
    drawn = drawing(picture)
    assert drawn.count(SECOND) == 3  # its line, its dots, and its name above
    assert ">training<" in drawn
    assert ">validation<" in drawn
    assert "validation from 4 to 3.25" in curve(picture)
    assert SECOND not in drawing(describe(over_data(noisy(400), 100)).first(Curve))


def test_an_epoch_that_was_not_validated_has_no_number():
    text = to_text(describe(validated(noisy(400), [math.nan, 3.0, 2.5, math.nan])))
    assert "validation" in text
    assert "nan" not in text
    assert "best 2.5 in epoch 3" in text


def test_the_panel_has_the_validation():
    means, found = means_of(noisy(400), 100), (np.array([100, 200]), np.array([4.0, 4.5]))
    step = Step(250, 400, 2.0, 1.5, 1.0, "graph", epoch=3, epochs=4, tracked={"error": 1.0}, means=means)
    step = replace(step, validation=found, validated={"error": 0.5}, validating=True)
    step = replace(step, read_history=lambda: (np.arange(250), noisy(249)))
    page = panel_html(step, 0.0)
    assert "validation <b>4.5</b>" in page
    assert ">best 4<" in page
    assert ">validating<" in page
    assert "error = 1, validation 0.5" in page
    assert page.count(SECOND) == 3
    assert summary(step).startswith("loss 2 · validation 4.5 · best 4 · epoch 3 of 4")
