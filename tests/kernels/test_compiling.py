"""Stop, the interrupt and the end of the kernel while XLA compiles: nothing waits for XLA."""

from __future__ import annotations

from pathlib import Path

from tests.support.kernels import PATIENCE, WIDGET, Kernel, Live, started, state

CELL = "%%minimize y --over x --optimizer sgd --lr 1e-9 --steps 5 --engine xla\ny = tf.reduce_sum(x**2)*{0}"

HELD = """
from tape_magic.engine.minimization import compiling
BackgroundCompile = compiling.BackgroundCompile
def hold():
    global gate
    gate = threading.Event()
    compiling.BackgroundCompile = lambda call, gate=gate: BackgroundCompile(lambda: (gate.wait(600), call()))
def let_go():
    compiling.BackgroundCompile = BackgroundCompile
def open_gate():
    let_go()
    gate.set()
    for one in threading.enumerate():
        if one.name == compiling.THREAD:
            one.join(300)
"""
"""What a run has compiled from `hold` to `let_go` on is not, until the gate opens."""

LATER = """
from tape_magic.engine.minimization.compiling import CompileWaiter
def untold(self, call, engine, lay_out=CompileWaiter.lay_out):
    step_of, self._step_of = self._step_of, None
    try:
        return lay_out(self, call, engine)
    finally:
        self._step_of = step_of
CompileWaiter.lay_out = untold"""
"""The panel opens when Python has done its part, and XLA is at work."""


START = (
    "%load_ext tape_magic\nimport threading\nimport tensorflow as tf\nx = tf.Variable(tf.ones([4, 4]))\n"
    "from tape_magic.display.live import progress; progress.QUIET_SECONDS = 0.0\n"
    "def state():\n"
    "    compiles = any(one.name == 'tape_magic: compiling' for one in threading.enumerate())\n"
    "    return minimum.reason.name, minimum.steps, bool(tf.reduce_all(x == 1.0)), compiles"
)


HOLDING = (START, HELD, LATER)
"""What a kernel runs to hold what is compiled."""

SETUP = (*HOLDING, "%%minimize z --over x --lr 1e-9 --steps 2 --engine xla\nz = tf.reduce_sum(x)")


def test_an_interrupt_while_xla_compiles(kernel: Kernel) -> None:
    kernel.ok("hold()")
    live = Live(kernel, CELL.format(2))
    (first,) = [message for message in live.seen if message.kind == "display_data"]
    assert first.content["data"]["text/plain"] == "step 0 of 5 · compiling with XLA"
    shown = " ".join(str(state(message).get("value", "")) for message in live.seen)
    assert "compiling with XLA" in shown
    assert "nan" not in shown
    kernel.manager.interrupt_kernel()
    ran = live.finish()
    assert (ran.status, ran.reply["ename"]) == ("error", "KeyboardInterrupt")
    assert kernel.ok("state()").result == "('INTERRUPTED', 0, True, True)"
    # What still compiles is in nobody's way.
    kernel.ok("let_go()")
    kernel.ok("%%minimize z --over x --lr 1e-9 --steps 4 --engine xla\nz = 2*tf.reduce_sum(x)")
    assert kernel.ok("minimum.steps, minimum.loss, minimum.engine").result == "(4, 32.0, 'xla')"
    kernel.ok("x.assign(tf.ones([4, 4])); open_gate()")


def test_stop_while_xla_compiles_and_the_same_cell_again(kernel: Kernel) -> None:
    cell = CELL.format(3)
    kernel.ok("hold()")
    live = Live(kernel, cell)
    live.click("Stop")
    ran = live.finish()
    assert ran.status == "ok"
    assert kernel.ok("state()").result == "('STOPPED', 0, True, True)"
    (report,) = ran.of("update_display_data")
    assert "stopped" in report.content["data"]["text/plain"]
    kernel.ok("open_gate()")
    kernel.ok(cell)
    assert kernel.ok("minimum.steps, minimum.engine, state()[3]").result == "(5, 'xla', False)"
    kernel.ok("x.assign(tf.ones([4, 4]))")


LARGE = """%%minimize y --over x --optimizer sgd --lr 1e-9 --steps 5 --engine xla
y = x
for _ in range(100):
    y = y + 1e-3*tf.reduce_sum(y)
y = tf.reduce_sum(y**2)"""
"""XLA takes far longer for it than a kernel to end."""


def test_a_kernel_that_compiles_can_be_shut_down(apart: Path) -> None:
    """Nothing waits for XLA then, either, and the browser of derivatives that is left open goes."""
    kernel = started(apart, HOLDING)
    try:
        report, browser = kernel.ok("%%grad y --wrt x --inspect\ny = tf.reduce_sum(x**2)").of("display_data")
        assert "∂y/∂x" in report.content["data"]["text/plain"]
        assert WIDGET in browser.content["data"]
        kernel.ok("hold()")
        live = Live(kernel, LARGE)
        live.click("Stop")
        live.finish()
        kernel.ok("let_go(); gate.set()")  # XLA begins now
        kernel.client.shutdown()
        message = kernel.client.get_iopub_msg(timeout=PATIENCE)
        while message["msg_type"] != "update_display_data":
            message = kernel.client.get_iopub_msg(timeout=PATIENCE)
        assert message["content"]["transient"] == browser.content["transient"]
        assert message["content"]["data"] == {"text/plain": ""}
        assert kernel.manager.provisioner.process.wait(PATIENCE) == 0
    finally:
        kernel.close()
