"""Beside threads, tasks and a second notebook: each keeps its own, and no magic minds where it is called from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernels import test_kernel
from tests.kernels.test_kernel import PATIENCE, Kernel

apart = test_kernel.apart

SETUP = """
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
%load_ext tape_magic
import asyncio, contextvars, threading, time
import numpy as np, tensorflow as tf, tape_magic
x, w = tf.Variable(2.0), tf.Variable([1.0, 3.0])
rows = np.linspace(0, 1, 64, dtype="float32")

def beside(work):
    '''Rounds of work in a thread of its own until the event is set, and what it raised.'''
    over, rounds, errors = threading.Event(), [0], []
    def run():
        while not over.is_set():
            try:
                work()
                rounds[0] += 1
            except BaseException as error:
                errors.append(repr(error))
                return
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    def end():
        over.set()
        thread.join(60)
        return rounds[0] > 0, errors, thread.is_alive()
    return end
"""

# What a report must not contain: a square root and a logarithm without a derivative, in line 6.
BUSY = """
own = tf.Variable(1.0, name='own')
traced = []
@tf.function
def step(value):
    traced.append(1); return tf.math.log(value) - tf.cast(tf.argmax([0.0, 1.0]), tf.float32)
def work():
    with tf.GradientTape() as tape:
        y = tf.sqrt(own - 1.0) + step(own - 1.0)
    assert not np.isfinite(tape.gradient(y, own).numpy())
    own.assign_add(1.0); own.assign_sub(1.0)
    assert own.numpy() == 1.0
end = beside(work)
"""


@pytest.fixture(scope="module")
def kernel(apart: Path) -> Iterator[Kernel]:
    kernel = Kernel(apart)
    kernel.ok(SETUP)
    yield kernel
    kernel.close()


@pytest.fixture
def busy(kernel: Kernel) -> Iterator[Kernel]:
    """A thread with tapes, variables and functions of its own, which must be as it was in the end."""
    kernel.ok(BUSY)
    yield kernel
    assert kernel.ok("(*end(), len(traced))").result == "(True, [], False, 1)"


def why(kernel: Kernel) -> str:
    """The reason of the first derivative."""
    return kernel.ok("print(grads.rows[0].reason)").stdout


def test_reports_are_of_the_cell_alone(busy: Kernel) -> None:
    said = busy.ok("%%grad dy/dx\ny = 0.0\nfor k in range(400):\n    y += x*k")
    report = said.of("display_data")[0].content["data"]["text/plain"]
    assert "79,800" in report
    assert "own" not in report
    busy.ok("%%grad dy/dx -q\ny = 0.0\nfor k in range(300):\n    y += tf.cast(tf.cast(x, tf.int32), tf.float32)")
    assert "line 4" in why(busy)
    busy.ok("%%grad dy/dx -q\nz = x - 2.0\nfor k in range(300):\n    z = z*1.0\ny = tf.sqrt(z)")
    assert "Sqrt" in why(busy)
    assert "line 5" in why(busy)


SPEAKING = """
count, rounds, traces = 0, [], []
@tf.function
def doubled(value):
    traces.append(1); return 2*value
def speak():
    global count
    assert float(doubled(tf.constant(3.0))) == 6.0
    assert count == len(rounds) and (not rounds or latest == count)
    count += 1
    globals()['latest'] = count
    rounds.append(count)
    print(f'<{count}>')
    display({'text/plain': f'[{count}]'}, raw=True)
    tf.get_logger().warning('(%d)', count)
    time.sleep(0.01)
globals().pop('latest', None)
end_speaking = beside(speak)
"""


def everything(kernel: Kernel, *cells: str) -> str:
    """All that the kernel shows while cells run, whichever cell it is of."""
    shown = ""
    for cell in cells:
        request = kernel.start(cell)
        ended = False
        while not ended:
            message = kernel.client.get_iopub_msg(timeout=PATIENCE)
            content = message["content"]
            shown += content.get("text", "") + content.get("data", {}).get("text/plain", "")
            ended = message["parent_header"].get("msg_id") == request and (
                content.get("execution_state") == "idle"
            )
        assert kernel.reply(request)["status"] == "ok", cell
    return shown


def test_a_check_keeps_nothing_of_what_a_thread_says_and_binds(kernel: Kernel) -> None:
    """A check runs the cell again and again unseen, puts names back, and runs functions eagerly."""
    said = everything(
        kernel,
        SPEAKING,
        "%%grad dy/dx --check -q\nprint('once'); display('twice')\n"
        "y = tf.reduce_sum(tf.function(lambda v: tf.sin(v)**3)(x)*tf.ones(3))\ntime.sleep(0.1)",
        "print('ended', *end_speaking(), len(traces))",
    )
    assert "ended True [] False 1\n" in said
    assert said.count("once") == said.count("twice") == 1
    count = int(kernel.ok("count").result)
    assert count > 20
    for one, other in ("<>", "[]", "()"):
        numbers = [int(number) for number in re.findall(rf"\{one}(\d+)\{other}", said)]
        assert numbers == list(range(1, count + 1)), f"{one}{other}"


def test_a_refusal_keeps_what_a_thread_binds(kernel: Kernel) -> None:
    kernel.ok(SPEAKING)
    ran = kernel.run("%%minimize y --over x --engine eager\ntime.sleep(0.3)\ny = x*tf.ones(2)\nfirst = 1")
    assert ran.reply["ename"] == "UsageError"
    found = kernel.ok("(*end_speaking(), 'first' in globals())").result
    assert found == "(True, [], False, False)"


@pytest.mark.parametrize(
    "how",
    [
        "--optimizer sgd --lr 0.1 --engine xla",
        "--optimizer sgd --lr 0.1 --engine graph",
        "--optimizer sgd --lr 0.1 --engine eager --steps 60",
        "--optimizer bfgs",
    ],
)
def test_minima_are_found_beside_a_thread(busy: Kernel, how: str) -> None:
    busy.ok("w.assign([1.0, 3.0])")
    busy.ok(f"%%minimize loss --over w --steps 300 {how}\nloss = tf.reduce_sum((w - 2.0)**2)")
    found = busy.ok("list(minimum.variables), bool(abs(w.numpy() - 2).max() < 1e-3)").result
    assert found == "(['w'], True)"
