"""`%%minimize` in real kernels: what a notebook front end, and a program that runs notebooks, receive."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.kernels import LONG, PATIENCE, WIDGET, Kernel, Live, Ran

MOVES = """
from tape_magic.display.live import panel
def counted(self, step, rate, show=panel.Panel.show):
    show(self, step, rate)
    moves.append(step.step)
moves, panel.Panel.show = [], counted"""
"""Counts how often the panel moves after it was opened."""

SETUP = (
    "%load_ext tape_magic\nimport tensorflow as tf, numpy as np\nx = tf.Variable(1.0)",
    MOVES,
)


# -- a run that is long enough to watch ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(kernel: Kernel) -> Ran:
    """A run that goes on until its panel has moved three times."""
    kernel.ok("x = tf.Variable(1.0); moves.clear()")
    ran = kernel.ok(
        "%%minimize y --over x --optimizer sgd --lr 1e-5 --steps 1_000_000_000 --target 0 --engine eager\n"
        "y = x**2 if len(moves) < 3 else 0*x"
    )
    steps = int(kernel.ok("minimum.steps").result)
    assert f"at step {steps:,}" in ran.of("update_display_data")[0].content["data"]["text/plain"]
    return ran


def test_one_widget_is_shown_and_the_report_takes_its_place(watched: Ran) -> None:
    (shown,) = watched.of("display_data")
    assert WIDGET in shown.content["data"]
    (last,) = watched.of("update_display_data")
    assert last.content["transient"]["display_id"] == shown.content["transient"]["display_id"]
    assert set(last.content["data"]) == {"text/html", "text/plain"}
    html = last.content["data"]["text/html"]
    assert "<script" not in html
    assert "<svg" not in html
    opened = {m.content["comm_id"] for m in watched.of("comm_open")}
    assert shown.content["data"][WIDGET]["model_id"] in opened


def test_every_widget_is_closed_in_the_end(watched: Ran) -> None:
    opened = [m.content["comm_id"] for m in watched.of("comm_open")]
    closed = [m.content["comm_id"] for m in watched.of("comm_close")]
    assert opened
    assert sorted(opened) == sorted(closed)
    targets = {m.content["target_name"] for m in watched.of("comm_open")}
    assert targets == {"jupyter.widget"}


def test_the_widget_waits_for_half_a_second_and_moves_at_most_ten_times_a_second(watched: Ran) -> None:
    opened = watched.of("comm_open")[0].at - watched.messages[0].at
    assert opened >= 0.5
    by_comm: dict[str, list[float]] = {}
    for message in watched.of("comm_msg"):
        state = message.content["data"].get("state", {})
        if "value" in state:
            by_comm.setdefault(message.content["comm_id"], []).append(message.at)
    assert by_comm
    span = watched.messages[-1].at - watched.messages[0].at
    for times in by_comm.values():
        assert len(times) <= 10 * (span - 0.5) + 1
        assert len(times) >= 3


def test_nothing_is_printed(watched: Ran) -> None:
    assert watched.stdout == ""
    assert not watched.of("error")


def test_a_short_run_opens_no_widget(kernel: Kernel) -> None:
    with kernel.opens(3600.0):
        ran = kernel.ok("%%minimize y --over x --steps 3 --engine eager\ny = x**2")
    (shown,) = ran.of("display_data")
    assert set(shown.content["data"]) == {"text/html", "text/plain"}
    assert not ran.of("comm_open", "comm_msg", "update_display_data", "stream")


def test_quiet_shows_nothing(kernel: Kernel) -> None:
    with kernel.opens(0.0):
        ran = kernel.ok("%%minimize y --over x --lr 1e-5 --steps 20 --engine eager -q\ny = x**2")
    assert {m.kind for m in ran.messages} <= {"status", "execute_input"}


def test_an_error_leaves_nothing_where_the_widget_was(kernel: Kernel) -> None:
    ran = kernel.run(
        "%%minimize y --over x --lr 1e-5 --steps 100_000 --engine eager\n"
        "y = x**2\ncount = globals().get('count', 0) + 1\nif count > 10**9 or len(times) > 1000:\n    1/0"
    )
    assert ran.status == "error"
    assert ran.reply["ename"] == "NameError"  # the name times
    kernel.ok("moves.clear()")
    ran = kernel.run(
        "%%minimize y --over x --lr 1e-5 --steps 1_000_000_000 --engine eager\n"
        "y = x**2\nif moves:\n    y = 1/0"
    )
    assert ran.reply["ename"] == "ZeroDivisionError"
    (last,) = ran.of("update_display_data")
    assert last.content["data"] == {"text/plain": ""}
    assert len(ran.of("comm_open")) == len(ran.of("comm_close")) > 0
    text = "\n".join(ran.reply["traceback"])
    assert "tape_magic" not in text


def test_a_refusal_is_one_line(kernel: Kernel) -> None:
    ran = kernel.run("%%minimize y --over nothing\ny = x**2")
    assert ran.status == "error"
    assert ran.reply["ename"] == "UsageError"
    assert not ran.of("error", "display_data")
    said = "".join(m.content["text"] for m in ran.of("stream"))
    assert said.startswith("UsageError: nothing is not defined")
    assert said.count("\n") == 1


def test_plots_have_the_format_that_the_user_chose(kernel: Kernel) -> None:
    """As the tutorial does; the notebook shows the figure at the end of the cell."""
    kernel.ok(
        "%matplotlib inline\n"
        "from matplotlib_inline.backend_inline import set_matplotlib_formats as formats\n"
        "formats('svg'); v = 1.0"
    )
    kernel.ok("%%minimize y --over v --steps 20 -q\ny = v**2")
    ran = kernel.ok("minimum.plot();")
    (figure,) = ran.of("display_data")
    assert "image/svg+xml" in figure.content["data"]
    assert "image/png" not in figure.content["data"]


# -- interrupts ---------------------------------------------------------------------------------------------


def interrupted(kernel: Kernel, cell: str) -> Ran:
    """Run a cell, and press ■ when its panel shows a speed."""
    live = Live(kernel, cell)
    live.until("steps/s")  # the display was opened while XLA compiled
    kernel.manager.interrupt_kernel()
    return live.finish()


def test_an_interrupt_shows_the_report_then_raises_and_leaves_everything_consistent(kernel: Kernel) -> None:
    kernel.ok("x = tf.Variable(1.0, dtype=tf.float64)\nhandler = signal.getsignal(signal.SIGINT)")
    ran = interrupted(kernel, f"%%minimize {LONG}\ny = x**2")
    assert (ran.status, ran.reply["ename"]) == ("error", "KeyboardInterrupt")
    (last,) = ran.of("update_display_data")
    assert "interrupted" in last.content["data"]["text/plain"]
    order = [m.kind for m in ran.messages]
    assert order.index("update_display_data") < order.index("error")
    assert len(ran.of("comm_open")) == len(ran.of("comm_close")) > 0
    assert "tape_magic" not in "\n".join(ran.reply["traceback"])
    assert kernel.ok("minimum.reason.name, 0 < minimum.steps < 10**15").result == "('INTERRUPTED', True)"
    assert kernel.ok("signal.getsignal(signal.SIGINT) is handler").result == "True"
    kernel.ok("steps, reached = minimum.steps, x.numpy()\nx.assign(1.0)")
    same = kernel.ok(
        "import tape_magic\n"
        "tape_magic.minimize(lambda: x**2, None, 'sgd', steps, lr=1e-9, engine='xla')\n"
        "bool(x.numpy() == reached), float(y) == float(reached**2), int(minimum.history_steps[-1]) == steps"
    )
    assert same.result == "(True, True, True)"


NOTED = """
def asleep():
    run = signal.getsignal(signal.SIGINT)
    def note(number, frame):
        signal.signal(signal.SIGINT, run)
        run(number, frame)
        print('noted', flush=True)
    signal.signal(signal.SIGINT, note)
    print('asleep', flush=True)
    while True:
        time.sleep(0.01)"""
"""Never ends, and says when it was interrupted first, which the run is told of."""


def test_a_second_interrupt_gets_out_at_once(kernel: Kernel) -> None:
    kernel.ok(NOTED)
    kernel.ok("import time\nu, n, handler = 1.0, [], signal.getsignal(signal.SIGINT)")
    cell = (
        "%%minimize y --over u --lr 1e-9 --steps 1_000_000_000 --engine eager\n"
        "y = u**2\nn.append(1)\nif len(n) == 50:\n    asleep()"
    )
    request = kernel.start(cell)
    seen = kernel.wait_for(request, "stream")
    kernel.manager.interrupt_kernel()
    seen += kernel.wait_for(request, "stream")  # two signals at the same moment would be one
    kernel.manager.interrupt_kernel()
    rest = kernel.finish(request)
    ran = Ran(rest.reply, (*seen, *rest.messages))
    assert ran.stdout == "asleep\nnoted\n"
    assert (ran.status, ran.reply["ename"]) == ("error", "KeyboardInterrupt")
    # No report; and what a slow machine has shown by then is gone.
    shown, emptied = ran.of("display_data"), ran.of("update_display_data")
    assert [m.content["transient"] for m in emptied] == [m.content["transient"] for m in shown]
    assert all(WIDGET in m.content["data"] for m in shown)
    assert all(m.content["data"] == {"text/plain": ""} for m in emptied)
    assert len(ran.of("comm_open")) == len(ran.of("comm_close"))
    assert kernel.ok("type(u) is float, signal.getsignal(signal.SIGINT) is handler").result == "(True, True)"


def test_run_all_stops_at_an_interrupt(kernel: Kernel) -> None:
    """JupyterLab sends all cells at once; the kernel drops those after the one that failed."""
    kernel.ok("x = tf.Variable(1.0)\nafter = False")
    live = Live(kernel, f"%%minimize {LONG}\ny = x**2")
    second = kernel.start("after = True")
    # What the kernel does about the click says that it has the cell that came before it.
    live.click("Pause")
    live.until("Resume")
    live.click("Pause")
    live.until("Pause")
    kernel.manager.interrupt_kernel()
    assert live.finish().reply["ename"] == "KeyboardInterrupt"
    assert kernel.finish(second).status == "aborted"
    assert kernel.ok("after").result == "False"


# -- programs that run notebooks ----------------------------------------------------------------------------


NOTEBOOK = [
    "import sys\n%load_ext tape_magic\nassert 'tensorflow' not in sys.modules",
    "import tensorflow as tf\n"
    "x = tf.Variable(0.0)\na, b, c = tf.constant(1.0), tf.constant(-2.0), tf.constant(1.0)",
    "%%minimize y --over x --optimizer sgd --lr 0.01 --steps 1000\ny = a*tf.pow(x, 2) + b*x + c",
    "print(f'{x.numpy():.7f} {y.numpy()} {minimum.steps} {minimum.engine} {minimum.reason.name}')",
    "from tape_magic.display.live import progress\n"
    "progress.QUIET_SECONDS = 0.0  # a panel would open at once\n"
    "u, p, q, r = 0.0, 1.0, -2.0, 1.0",
    "%%minimize --over u --optimizer sgd --lr 0.01 --steps 1000 -q\np*u**2 + q*u + r",
    "type(u), round(u, 5)",
    "%%minimize y --over u --optimizer sgd --lr 1e-5 --steps 70 --engine eager\ny = p*u**2 + q*u + r",
    "%%minimize loss --over u\nls = u**2",
]


@pytest.fixture(scope="module")
def run_by_nbclient(apart: Path) -> Any:
    import nbclient  # takes seconds, which only the tests that need it are to pay
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in NOTEBOOK])
    client = nbclient.NotebookClient(
        notebook,
        timeout=PATIENCE,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(apart)}},
    )
    return client.execute()


def outputs(notebook: Any, index: int) -> list[Any]:
    return list(notebook.cells[index].outputs)


def test_the_tutorial_in_nbclient(run_by_nbclient: Any) -> None:
    assert not outputs(run_by_nbclient, 0), "loading the extension imports TensorFlow"
    (report,) = outputs(run_by_nbclient, 2)
    assert report.output_type == "display_data"
    assert set(report.data) == {"text/html", "text/plain"}
    assert report.data["text/plain"].startswith("y = 0 at step 1,000")
    (printed,) = outputs(run_by_nbclient, 3)
    x, y, *rest = printed.text.split()
    assert float(x) == pytest.approx(0.9999985, abs=1e-6)
    assert float(y) == 0
    assert rest[0::2] == ["1000", "STEPS"]
    assert rest[1] in ("graph", "xla")
    (value,) = outputs(run_by_nbclient, 5)
    assert value.output_type == "execute_result"
    assert "0.0" in value.data["text/plain"]
    (kind,) = outputs(run_by_nbclient, 6)
    assert kind.data["text/plain"] == "(float, 1.0)"


def test_a_long_run_in_nbclient_has_one_final_display_and_no_widget(run_by_nbclient: Any) -> None:
    (report,) = outputs(run_by_nbclient, 7)
    assert report.output_type == "display_data"
    assert set(report.data) == {"text/html", "text/plain"}
    assert "at step 70" in report.data["text/plain"]
    assert WIDGET not in str(run_by_nbclient)
    assert "widgets" not in run_by_nbclient.metadata
    assert "\r" not in str([output for cell in run_by_nbclient.cells for output in cell.outputs])


def test_a_refusal_in_nbclient_is_one_line(run_by_nbclient: Any) -> None:
    (said,) = outputs(run_by_nbclient, 8)
    assert (said.output_type, said.name) == ("stream", "stderr")
    assert said.text.startswith("UsageError: the cell never assigns loss")
    assert said.text.count("\n") == 1


def test_python_is_the_one_of_the_tests(kernel: Kernel) -> None:
    assert kernel.ok("import sys\nsys.executable").result == repr(sys.executable)


# -- Tab ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jedi", [True, False], ids=["Jedi", "without Jedi"])
def test_a_front_end_is_offered_names_only(kernel: Kernel, jedi: bool) -> None:
    kernel.ok(f"%config IPCompleter.use_jedi = {jedi}\nimport tape_magic")
    kernel.ok("tab_w, tab_x, tab_n = tf.Variable(2.0), 1.0, 1\ndef tab_f(): pass")
    for before, after, expected in (
        ("%%minimize --over tab", "tab_x * tab_w", ["tab_w", "tab_x"]),
        ("%%grad y, dy/dtab", "y = tab_x", ["dy/dtab_x", "dy/dtab_w"]),
        ("tape_magic.mi", "", ["minimize"]),
    ):
        reply = kernel.reply(kernel.client.complete(f"{before}\n{after}", len(before)))
        assert [name.rpartition(".")[2] for name in reply["matches"]] == expected
        assert reply["cursor_end"] == len(before)
