"""What is shown while a run lasts: to whom, how often, and what stands there at the end."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from IPython.core.displaypub import CapturingDisplayPublisher

from tape_magic.display.live import progress
from tape_magic.display.live.line import LineProgress
from tape_magic.display.live.panel import WidgetProgress
from tape_magic.display.live.panel_html import panel_html
from tape_magic.display.live.progress import NoProgress, Pace, summary
from tape_magic.display.live.terminal import TerminalProgress
from tape_magic.errors import LineError
from tape_magic.magics.front_end import KINDS, VARIABLE, front_end, kind_of
from tape_magic.results.minimum import MinimizeResult, StopReason, VariableChange
from tape_magic.results.steps import Step, Wish
from tests.support.clock import Clock
from tests.support.notebook import Notebook


def at(step: int, seconds: float, loss: float = 0.5, engine: str = "xla") -> Step:
    return Step(step, 1000, loss, loss, seconds, engine)


@pytest.fixture
def result() -> MinimizeResult:
    return MinimizeResult(
        loss_name="y",
        loss=0.25,
        start_loss=1.0,
        best_loss=0.25,
        best_step=2,
        steps=2,
        steps_asked=2,
        reason=StopReason.STEPS,
        seconds=1.0,
        compile_seconds=0.5,
        engine="xla",
        engine_reason="",
        optimizer="SGD(0.25)",
        learning_rate=0.25,
        history=np.array([1.0, 0.5, 0.25]),
        history_steps=np.arange(3),
        variables={"x": VariableChange(np.array(1.0), np.array(0.5), 1.0)},
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(runs=False)
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture
def published(shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Everything that is sent to the notebook to be displayed, in order."""
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(shell.shell, "display_pub", publisher)
    return publisher.outputs


# -- who is watching ----------------------------------------------------------------------------------------


@dataclass
class Terminal(io.StringIO):
    """A standard output that is a terminal, or is none."""

    tty: bool = True
    lines: list[str] = field(default_factory=list)

    def isatty(self) -> bool:
        return self.tty


@pytest.mark.parametrize(
    ("shell", "tty", "kind"),
    [
        (SimpleNamespace(), True, "terminal"),
        (SimpleNamespace(), False, "none"),
        (SimpleNamespace(kernel=None), True, "terminal"),
        (SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=True)), False, "widget"),
        (SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=False)), True, "none"),
        (SimpleNamespace(kernel=SimpleNamespace()), False, "widget"),
    ],
    ids=["terminal", "pipe", "no kernel", "notebook", "program", "kernel of another kind"],
)
def test_kinds(monkeypatch: pytest.MonkeyPatch, shell: Any, tty: bool, kind: str) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal(tty=tty))
    assert kind_of(shell) == kind
    with front_end(shell, "auto") as progress:
        expected = {"terminal": TerminalProgress, "widget": WidgetProgress, "none": NoProgress}[kind]
        assert type(progress) is expected


def engine() -> SimpleNamespace:
    """A shell whose kernel is an engine of ipyparallel, as far as its class tells."""
    return SimpleNamespace(kernel=type("Engine", (), {"__module__": "ipyparallel.engine.kernel"})())


def test_an_engine_shows_a_line_where_a_notebook_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A widget would end the connection of a terminal, which an engine cannot tell from a notebook."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    for name, expected in (("auto", NoProgress), ("terminal", LineProgress), ("widget", WidgetProgress)):
        with front_end(engine(), name) as progress:
            assert type(progress) is expected
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    with front_end(engine(), "auto") as progress:
        assert type(progress) is LineProgress


def test_a_kind_can_be_asked_for() -> None:
    nobody = SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=False))
    for kind, expected in [
        ("widget", WidgetProgress),
        ("terminal", TerminalProgress),
        ("none", NoProgress),
    ]:
        assert kind in KINDS
        with front_end(nobody, kind) as progress:
            assert type(progress) is expected
    with pytest.raises(LineError, match="loud"), front_end(nobody, "loud"):
        pass


def test_the_environment_speaks_where_the_notebook_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = SimpleNamespace(kernel=SimpleNamespace(_allow_stdin=False))
    for value, trait, expected in [
        ("widget", "auto", WidgetProgress),
        ("terminal", "auto", TerminalProgress),
        ("terminal", "widget", WidgetProgress),
        ("auto", "auto", NoProgress),
        ("", "auto", NoProgress),
    ]:
        monkeypatch.setenv(VARIABLE, value)
        with front_end(nobody, trait) as progress:
            assert type(progress) is expected
    monkeypatch.setenv(VARIABLE, "loud")
    with pytest.raises(LineError, match="TAPE_MAGIC_PROGRESS is 'loud'; it can be auto"):
        front_end(nobody, "auto").__enter__()


# -- the pace -----------------------------------------------------------------------------------------------


def paced(progress: Any, clock: Clock, until: float, every: float) -> Iterator[float]:
    """Drive a progress display with a step each `every` seconds; the times at which it was updated."""
    shown: list[str] = []
    start = clock.monotonic()
    number = 0
    while (seconds := clock.monotonic() - start) < until:
        progress.update(at(number, seconds))
        label = progress.panel.page.value if progress.panel is not None else ""
        if label and label not in shown:
            shown.append(label)
            yield seconds
        number += 1
        clock.sleep(every)


def test_a_widget_shows_nothing_for_half_a_second_and_then_ten_updates_a_second(
    published: list[dict[str, Any]], clock: Clock
) -> None:
    progress = WidgetProgress()
    times = list(paced(progress, clock, until=3.0, every=0.013))
    progress.close()
    assert 0.5 <= times[0] < 0.52
    assert min(np.diff(times)) >= 0.1 - 1e-9
    assert len(times) >= 20
    displays = [output for output in published if not output["update"]]
    assert len(displays) == 1


def test_a_short_run_never_opens_a_widget(
    published: list[dict[str, Any]], clock: Clock, result: MinimizeResult
) -> None:
    progress = WidgetProgress()
    list(paced(progress, clock, until=0.49, every=0.01))
    assert published == []
    progress.finish(result)
    progress.close()
    (only,) = published
    assert not only["update"]
    assert only["data"]["text/plain"].startswith("y = 0.25 at step 2")
    assert only["data"]["text/html"].startswith("<")


# -- the widget ---------------------------------------------------------------------------------------------


def test_the_report_takes_the_widgets_place_and_the_widgets_are_closed(
    published: list[dict[str, Any]], clock: Clock, result: MinimizeResult
) -> None:
    progress = WidgetProgress()
    progress.update(at(10, 0.6, loss=0.75))
    (first,) = published
    assert "application/vnd.jupyter.widget-view+json" in first["data"]
    identity = first["transient"]["display_id"]
    assert identity
    panel = progress.panel
    assert panel is not None
    widgets = panel.bar, panel.page, panel.widget, panel.pause, panel.stop
    assert 'aria-valuenow="1"' in panel.bar.value
    assert "width:1.00%" in panel.bar.value
    clock.sleep(1)
    progress.update(at(500, 1.6))
    assert 'aria-valuenow="50"' in panel.bar.value
    assert len(published) == 1
    progress.finish(result)
    progress.close()
    _, last = published
    assert last["update"]
    assert last["transient"]["display_id"] == identity
    assert set(last["data"]) == {"text/html", "text/plain"}
    assert last["data"]["text/plain"].startswith("y = 0.25 at step 2")
    assert all(widget.comm is None for widget in widgets)


def test_the_panel_says_it_all_and_escapes_it(published: list[dict[str, Any]]) -> None:
    name = "<script>alert(1)</script>"
    history = np.arange(100), np.geomspace(1.0, 1e-6, 100)
    progress = WidgetProgress(lambda: True)
    step = Step(
        100,
        1000,
        1.25e-6,
        1e-6,
        2.0,
        "xla",
        loss_name=name,
        tracked={"norm": 0.5},
        read_history=lambda: history,
        read_variables=lambda: {"x": np.array(0.9871), name: np.array([0.12, -1.3])},
    )
    progress.update(step)
    panel = progress.panel
    assert panel is not None
    page = panel.page.value
    assert "<script" not in page
    for words in ("<b>1.25e−6</b>", "best 1e−6", "step 100 of 1,000", "50 steps/s", "18\u202fs left", "XLA"):
        assert words in page
    assert "x = 0.9871" in page
    assert "[0.12, −1.3]" in page
    assert "norm = 0.5" in page
    assert 'role="img" aria-label="' in page
    assert "10⁻⁶" in page  # the axis of the curve is logarithmic
    assert "<script" not in str(published[0]["data"])
    progress.close()


@pytest.mark.parametrize(
    ("others", "said"), [(0, None), (1, "and 1 more variable<"), (1234, "and 1,234 more variables<")]
)
def test_variables_that_are_not_shown_are_counted(others: int, said: str | None) -> None:
    step = replace(at(10, 0.6), more_variables=others, read_variables=lambda: {"x": np.array(0.9871)})
    page = panel_html(step, 0.0)
    assert "x = 0.9871" in page
    assert said in page if said else "more" not in page
    assert "more" not in panel_html(replace(step, read_variables=dict), 0.0)


def test_what_is_tracked_comes_first_and_a_model_shows_the_norms_of_its_layers() -> None:
    layers = {"hidden": 2.5931, "out": 0.25}
    step = replace(at(10, 0.6), tracked={"accuracy": 0.75}, more_variables=3, read_layers=lambda: layers)
    page = re.sub("<[^>]+>", " ", panel_html(step, 0.0))
    said = page[page.index("accuracy") :].split()
    assert " ".join(said) == "accuracy = 0.75 hidden = norm 2.593 out = norm 0.25 and 3 more variables"


def test_the_buttons_are_asked_for_and_shown_as_they_were_pressed(published: list[dict[str, Any]]) -> None:
    polled: list[int] = []
    progress = WidgetProgress(lambda: not polled.append(1))
    assert progress.wish() is Wish.GO_ON
    assert not polled  # nothing to press yet
    progress.update(at(10, 0.6))
    panel = progress.panel
    assert panel is not None
    assert progress.wish() is Wish.GO_ON
    assert polled
    panel.pause.click()
    assert progress.wish() is Wish.PAUSE
    assert panel.pause.description == "Resume"
    assert "<b>paused</b>" in panel.page.value
    panel.pause.click()
    assert progress.wish() is Wish.GO_ON
    assert panel.pause.description == "Pause"
    assert "paused" not in panel.page.value
    panel.stop.click()
    assert progress.wish() is Wish.STOP
    assert panel.stop.disabled
    assert panel.pause.disabled
    assert "stopping" in panel.page.value
    progress.close()


def test_where_clicks_cannot_arrive_there_are_no_buttons(published: list[dict[str, Any]]) -> None:
    progress = WidgetProgress()
    progress.update(at(10, 0.6))
    panel = progress.panel
    assert panel is not None
    assert panel.pause.layout.display == panel.stop.layout.display == "none"
    assert "Interrupting the kernel" in panel.page.value
    assert progress.wish() is Wish.GO_ON
    progress.close()


def test_buttons_go_when_clicks_no_longer_arrive(published: list[dict[str, Any]]) -> None:
    works = [True, False]
    progress = WidgetProgress(lambda: works.pop(0))
    progress.update(at(10, 0.6))
    panel = progress.panel
    assert panel is not None
    panel.pause.click()
    assert progress.wish() is Wish.PAUSE
    assert progress.wish() is Wish.GO_ON  # or it would be paused for ever
    assert panel.stop.layout.display == "none"
    assert "Interrupting the kernel" in panel.page.value
    assert "paused" not in panel.page.value
    assert progress.wish() is Wish.GO_ON
    progress.close()


def test_the_report_of_an_engine_comes_below_its_panel_and_after_a_click_in_it(
    published: list[dict[str, Any]], result: MinimizeResult
) -> None:
    """What an engine shows cannot be replaced; and after a click, what it shows is lost."""
    for clicked in (False, True):
        progress = WidgetProgress(lambda: True, relayed=True)
        progress.update(at(10, 0.6))
        panel = progress.panel
        assert panel is not None
        assert panel.widget._view_count is None  # with a number, its view would tell, as a click does
        assert panel.stop.layout.display is None
        assert "Interrupting the kernel" in panel.page.value
        if clicked:
            panel.stop.click()
            assert progress.wish() is Wish.STOP
            assert "stopping" in panel.page.value
        progress.finish(result)
        progress.close()
        assert (panel.widget.comm is None) is not clicked
        assert ("y = 0.25 at step 2" in panel.page.value) is clicked
    assert panel.stop.layout.display == "none"
    assert panel.bar.value == ""
    widget, report, other = published
    assert not any(one["update"] or one["transient"] for one in published)
    assert widget["data"]["text/plain"] == other["data"]["text/plain"] == ""
    assert "text/html" not in widget["data"]
    assert "at step 2" in report["data"]["text/plain"]


def test_a_line_is_written_over_and_emptied_before_the_report(
    published: list[dict[str, Any]],
    result: MinimizeResult,
    clock: Clock,
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = LineProgress()
    for step, seconds in ((1, 0.2), (10, 0.6), (20, 0.65), (30, 0.8)):
        progress.update(at(step, seconds))
        clock.sleep(0.08)
    assert progress.wish() is Wish.GO_ON
    progress.finish(result)
    progress.close()
    written = capsys.readouterr().out.split("\r")
    assert [re.findall(r"step (\d+) of", one) for one in written] == [[], ["10"], ["30"], []]
    assert written[-1].strip() == ""
    assert len(published) == 1


def test_after_an_error_nothing_is_left_where_the_widget_was(published: list[dict[str, Any]]) -> None:
    progress = WidgetProgress()
    progress.update(at(10, 0.6))
    panel = progress.panel
    assert panel is not None
    widgets = panel.bar, panel.page, panel.widget, panel.pause, panel.stop
    progress.close()
    progress.close()
    first, last = published
    assert last["update"]
    assert last["transient"] == first["transient"]
    assert last["data"] == {"text/plain": ""}
    assert all(widget.comm is None for widget in widgets)


def test_in_a_cell(published: list[dict[str, Any]], shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    run = shell.shell.run_cell  # what is displayed goes to `published`
    run("import tensorflow as tf\nx = tf.Variable(1.0)\n%config TapeMagics.progress = 'widget'")
    run("%%minimize y --over x --optimizer sgd --lr 1e-5 --steps 20 --engine eager\ny = x**2")
    first, last = published
    assert "application/vnd.jupyter.widget-view+json" in first["data"]
    assert last["update"]
    assert last["transient"] == first["transient"]
    assert "at step 20" in last["data"]["text/plain"]
    del published[:]
    run("%%minimize y --over x --optimizer sgd --lr 1e-5 --steps 20 --engine eager -q\ny = x**2")
    assert published == []


@pytest.mark.parametrize(("fails", "outputs"), [("True", 0), ("published", 2)])
def test_in_a_cell_that_fails(
    published: list[dict[str, Any]],
    shell: Notebook,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
    outputs: int,
) -> None:
    """In its first step, or in the first one after the panel was opened."""
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    shell.ns["published"] = published
    run = shell.shell.run_cell
    run("import tensorflow as tf\nx = tf.Variable(1.0)\n%config TapeMagics.progress = 'widget'")
    result = run(
        "%%minimize y --over x --optimizer sgd --lr 1e-5 --steps 1_000_000_000 --engine eager\n"
        f"y = x**2\nif {fails}:\n    y = 1/0"
    )
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert len(published) == outputs
    if published:
        first, last = published
        assert last["update"]
        assert last["transient"] == first["transient"]
        assert last["data"] == {"text/plain": ""}


# -- the line -----------------------------------------------------------------------------------------------


def test_the_speed_is_that_of_late(clock: Clock) -> None:
    pace = Pace()
    for second in range(10):  # slow for five seconds, and then fast
        pace.due(at(100 * second if second < 5 else 500 + 1000 * (second - 5), float(second)))
        clock.sleep(1.0)
    assert pace.rate == 1000.0


def test_updates_that_take_long_are_fewer(clock: Clock) -> None:
    pace, shown = Pace(), []
    for number in range(600):
        if pace.due(at(number, 1 + number / 100)):
            shown.append(number)
            with pace.timed():
                clock.sleep(0.01)
        clock.sleep(0.01)
    assert 7 <= len(shown) <= 8  # 12 s, of which the display took less than an 80th


def test_the_line_says_where_the_run_stands() -> None:
    line = summary(Step(250, 1000, 0.125, 0.125, 2.0, "xla"))
    assert line.startswith("loss 0.125 · step 250 of 1,000")
    assert "125 steps/s" in line
    assert "6.0\u202fs left" in line  # 750 steps at 125 a second
    assert line.endswith("XLA")
    # What is compiled meanwhile is of another speed.
    line = summary(Step(250, 1000, 0.125, 0.125, 2.0, "graph", compiling="xla"))
    assert line.endswith("125 steps/s · graph · compiling with XLA")
    assert (
        summary(Step(0, 1000, float("nan"), 1.0, 0.0, "graph"))
        == "loss nan · best 1 · step 0 of 1,000 · graph"
    )


def test_a_terminal_without_a_run_of_length_gets_the_report_only(
    published: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], result: MinimizeResult
) -> None:
    progress = TerminalProgress()
    progress.update(at(1, 0.1))
    progress.finish(result)
    progress.close()
    assert capsys.readouterr().out == ""
    (only,) = published
    assert only["data"]["text/plain"].startswith("y = 0.25")
