"""Stop and the interrupt while XLA compiles, in a kernel of its own: nothing waits for XLA."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import test_kernel
from tests.kernels.test_kernel import Kernel
from tests.kernels.test_live import Live, state

apart = test_kernel.apart

SLOW = """%%minimize y --over x --optimizer sgd --lr 1e-9 --steps 5 --engine xla
y = x
for _ in range({0}):
    y = y + 1e-3*tf.reduce_sum(y)
y = tf.reduce_sum(y**2)"""
"""XLA takes a large part of a second for each of such sums after the other, and Python next to nothing."""

SOON = 2.0  # seconds, on a busy machine; what XLA takes is more than twice that


LATER = """
from tape_magic.engine.minimization.compiling import Waiting
def untold(self, call, engine, lay_out=Waiting.lay_out):
    tell, self._tell = self._tell, None
    try:
        return lay_out(self, call, engine)
    finally:
        self._tell = tell
Waiting.lay_out = untold"""
"""The panel opens when Python has done its part, and XLA is at work."""


@pytest.fixture(scope="module")
def kernel(apart: Path) -> Iterator[Kernel]:
    kernel = Kernel(apart)
    kernel.ok(
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "%load_ext tape_magic\nimport threading\nimport tensorflow as tf\nx = tf.Variable(tf.ones([4, 4]))\n"
        "def state():\n"
        "    compiles = any(one.name == 'tape_magic: compiling' for one in threading.enumerate())\n"
        "    return minimum.reason.name, minimum.steps, bool(tf.reduce_all(x == 1.0)), compiles"
    )
    kernel.ok(LATER)
    kernel.ok("%%minimize z --over x --lr 1e-9 --steps 2 --engine xla\nz = tf.reduce_sum(x)")
    yield kernel
    kernel.close()


def test_an_interrupt_while_xla_compiles(kernel: Kernel) -> None:
    live = Live(kernel, SLOW.format(25))
    (first,) = [message for message in live.seen if message.kind == "display_data"]
    assert first.content["data"]["text/plain"] == "step 0 of 5 · compiling with XLA"
    shown = " ".join(str(state(message).get("value", "")) for message in live.seen)
    assert "compiling with XLA" in shown
    assert "nan" not in shown
    began = time.monotonic()
    kernel.manager.interrupt_kernel()
    ran = live.finish()
    assert time.monotonic() - began < SOON
    assert (ran.status, ran.reply["ename"]) == ("error", "KeyboardInterrupt")
    assert kernel.ok("state()").result == "('INTERRUPTED', 0, True, True)"
    # What still compiles is in nobody's way.
    kernel.ok("%%minimize z --over x --lr 1e-9 --steps 4 --engine xla\nz = 2*tf.reduce_sum(x)")
    assert kernel.ok("minimum.steps, minimum.loss, minimum.engine").result == "(4, 32.0, 'xla')"


def test_stop_while_xla_compiles_and_the_same_cell_again(kernel: Kernel) -> None:
    cell = SLOW.format(14)
    live = Live(kernel, cell)
    began = time.monotonic()
    live.click("Stop")
    ran = live.finish()
    assert time.monotonic() - began < SOON
    assert ran.status == "ok"
    assert kernel.ok("state()").result == "('STOPPED', 0, True, True)"
    (report,) = ran.of("update_display_data")
    assert "stopped" in report.content["data"]["text/plain"]
    kernel.ok(cell)
    assert kernel.ok("minimum.steps, minimum.engine, state()[3]").result.startswith("(5, 'xla'")


def test_a_kernel_that_compiles_can_be_shut_down(kernel: Kernel) -> None:
    """The last test: nothing waits for XLA then, either."""
    live = Live(kernel, SLOW.format(100))
    live.click("Stop")
    live.finish()
    kernel.client.shutdown()
    process = kernel.manager.provisioner.process
    assert process.wait(30) == 0
