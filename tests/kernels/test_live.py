"""Pause and Stop while the cell runs, as a front end sends them, and what is queued behind the cell."""

from __future__ import annotations

import random

import pytest

from tests.support.kernels import LONG, WIDGET, Kernel, Live, state

CELL = f"%%minimize {LONG}\ny = x**2"

SETUP = (
    "%load_ext tape_magic\nimport tensorflow as tf, tape_magic\nx = tf.Variable(1.0)",
    "%%minimize y --over x --lr 1e-9 --steps 300_000 --engine xla\ny = x**2",
)


def test_stop_ends_the_cell_with_its_report_and_what_was_queued_runs_in_order(kernel: Kernel) -> None:
    kernel.ok("x.assign(1.0); order = []")
    live = Live(kernel, CELL)
    queued = [kernel.start(f"order.append({number})") for number in (1, 2)]
    completion = kernel.client.complete("minim")
    queued += [kernel.start("order.append(3); print(minimum.reason.name)")]
    live.until("steps/s")  # it was shown while XLA compiled
    live.click("Stop")
    ran = live.finish()
    assert ran.status == "ok"
    (last,) = ran.of("update_display_data")
    assert " · stopped · " in last.content["data"]["text/plain"].replace("\n", " ")
    assert len(ran.of("comm_open")) == len(ran.of("comm_close")) > 0
    runs = [kernel.finish(request) for request in queued[:2]]
    assert "minimum" in kernel.reply(completion)["matches"]
    runs.append(kernel.finish(queued[2]))
    assert [one.status for one in runs] == ["ok"] * 3
    assert runs[2].stdout == "STOPPED\n"
    assert kernel.ok("order").result == "[1, 2, 3]"
    kernel.ok("steps, reached = minimum.steps, x.numpy()\nx.assign(1.0)")
    again = kernel.ok(
        "tape_magic.minimize(lambda: x**2, None, 'sgd', steps, lr=1e-9, engine='xla')\n"
        "0 < steps, bool(x.numpy() == reached), float(y) == float(reached**2)"
    )
    assert again.result == "(True, True, True)"


def test_pause_freezes_the_run_and_resume_goes_on(kernel: Kernel) -> None:
    """The pause lasts a second at least, which is how often a paused run is made to ask here."""
    kernel.ok(
        "x.assign(1.0)\nfrom tape_magic.engine.minimization import control; control.PAUSE_SECONDS = 1.0"
    )
    live = Live(kernel, CELL)
    live.click("Pause")
    live.until("Resume")
    live.until("paused")
    before = len(live.seen)
    live.click("Pause")  # by the word that it was opened with
    live.until("Pause")
    still = [message for message in live.seen[before:] if "value" in state(message)]
    assert not any("paused" in state(message)["value"] for message in still)
    live.until("steps/s")
    live.click("Stop")
    ran = live.finish()
    assert ran.status == "ok"
    span = ran.messages[-1].at - ran.messages[0].at
    kernel.ok("control.PAUSE_SECONDS = 0.02")
    assert float(kernel.ok("minimum.seconds").result) < span - 0.9


def test_no_stop_of_many_is_missed_and_each_leaves_whole_steps(kernel: Kernel) -> None:
    """Each at another moment; also while the run is paused, and at first while XLA compiles."""
    kernel.ok(
        "w = tf.Variable(0.0, dtype=tf.float64); v = tf.Variable(0.0, dtype=tf.float64)\n"
        "def whole():\n    return minimum.reason.name, bool(w == v), round(float(w)) == minimum.steps"
    )
    cell = f"%%minimize {LONG.replace('x', 'w v', 1).replace('1e-9', '1.0')}\ny = -w - v"
    moments = random.Random(0)
    with kernel.opens(0.0):
        for number in range(20):
            kernel.ok("w.assign(0.0); v.assign(0.0)")
            live = Live(kernel, cell)
            for _ in range(moments.choice([0, 0, 1, 2, 5])):
                live.seen += kernel.wait_for(live.request, "comm_msg")
            if number == 19:
                live.until("steps/s")
            if number % 5 == 4:
                live.click("Pause")
            live.click("Stop")
            assert live.finish().status == "ok"
            assert kernel.ok("whole()").result == "('STOPPED', True, True)"
    assert kernel.ok("minimum.steps > 0").result == "True"


def test_a_paused_run_can_be_interrupted_and_what_is_queued_is_dropped(kernel: Kernel) -> None:
    kernel.ok("after = False; x.assign(1.0)")
    live = Live(kernel, CELL)
    live.click("Pause")
    live.until("paused")
    queued = kernel.start("after = True")
    # What the kernel does about the clicks says that it has what came before them.
    live.click("Pause")
    live.until("Pause")
    live.click("Pause")
    live.until("Resume")
    kernel.manager.interrupt_kernel()
    ran = live.finish()
    assert (ran.status, ran.reply["ename"]) == ("error", "KeyboardInterrupt")
    assert kernel.finish(queued).status == "aborted"
    assert kernel.ok("after, minimum.reason.name").result == "(False, 'INTERRUPTED')"


def test_scipy_stops_too(kernel: Kernel) -> None:
    pytest.importorskip("scipy")
    kernel.ok("z = tf.Variable(tf.zeros(40))")
    live = Live(
        kernel,
        # With numbers that are drawn anew, the simplex never has the same losses at all of its corners.
        "%%minimize y --over z --optimizer nelder-mead --tol 0 --steps 1_000_000_000\n"
        "y = tf.reduce_sum((z - tf.range(40.0))**2) + tf.random.uniform([])",
    )
    live.click("Stop")
    assert live.finish().status == "ok"
    assert kernel.ok("minimum.reason.name, minimum.steps > 0").result == "('STOPPED', True)"


def test_a_front_end_without_widgets_gets_the_report_as_an_output_of_its_own(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "shows", False)
    kernel.ok("times = []")
    with kernel.opens(3600.0):
        ran = kernel.ok(
            "%%minimize y --over x --lr 1e-9 --steps 60 --engine eager\n"
            "y = x**2\ntimes.append(1)\nif len(times) == 20:\n    progress.QUIET_SECONDS = 0.0"
        )
    widget, report = ran.of("display_data")
    assert WIDGET in widget.content["data"]
    assert "steps/s" in widget.content["data"]["text/plain"]
    assert "at step 60" in report.content["data"]["text/plain"]
    (emptied,) = ran.of("update_display_data")
    assert emptied.content["data"] == {"text/plain": ""}
