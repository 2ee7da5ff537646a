"""Beside threads, tasks and a second notebook each keeps its own, wherever a magic is called from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernels import PATIENCE, Kernel, Live, started

TOOLS = """
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
        thread.join(300)
        return rounds[0] > 0, errors, thread.is_alive()
    return end
"""

SETUP = (TOOLS,)

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
    busy.ok(
        "%%grad dy/dx -q\ny = 0.0\nfor k in range(300):\n    y += tf.cast(tf.cast(x, tf.int32), tf.float32)"
    )
    assert "line 4" in why(busy)
    busy.ok("%%grad dy/dx -q\nz = x - 2.0\nfor k in range(300):\n    z = z*1.0\ny = tf.sqrt(z)")
    assert "Sqrt" in why(busy)
    assert "line 5" in why(busy)


SPEAKING = """
count, rounds, traces, begun, speaking = 0, [], [], [0], [False]
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
    begun[0], speaking[0] = begun[0] + 1, True
    print(f'<{count}>')
    display({'text/plain': f'[{count}]'}, raw=True)
    tf.get_logger().warning('(%d)', count)
    speaking[0] = False
    time.sleep(0.01)
def listen():
    '''Until the thread speaks; where nothing is to be seen, it may have to wait with that.'''
    before = begun[0]
    while begun[0] == before and not speaking[0]: time.sleep(0.001)
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
        "y = tf.reduce_sum(tf.function(lambda v: tf.sin(v)**3)(x)*tf.ones(3))\nlisten()",
        "for _ in range(30): time.sleep(0.01); listen()",
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
    ran = kernel.run("%%minimize y --over x --engine eager\nlisten()\ny = x*tf.ones(2)\nfirst = 1")
    assert ran.reply["ename"] == "UsageError"
    found = kernel.ok("(*end_speaking(), 'first' in globals())").result
    assert found == "(True, [], False, False)"


@pytest.mark.parametrize(
    "how",
    [
        "--optimizer sgd --lr 0.1 --engine xla --steps 300",
        "--optimizer sgd --lr 0.1 --engine graph --steps 300",
        "--optimizer sgd --lr 0.1 --engine eager --steps 60",
        "--optimizer bfgs",
    ],
)
def test_minima_are_found_beside_a_thread(busy: Kernel, how: str) -> None:
    busy.ok("w.assign([1.0, 3.0])")
    busy.ok(f"%%minimize loss --over w {how}\nloss = tf.reduce_sum((w - 2.0)**2)")
    found = busy.ok("list(minimum.variables), bool(abs(w.numpy() - 2).max() < 1e-3)").result
    assert found == "(['w'], True)"


IN_A_THREAD = """
from IPython.core.error import UsageError
done = {}
def call(name, kind, line, cell=None):
    try:
        if cell is None:
            get_ipython().run_line_magic(kind, line)
        else:
            get_ipython().run_cell_magic(kind, line, cell)
        done[name] = 'ok'
    except BaseException as error:
        done[name] = f'{type(error).__name__}: {error}'
def together(*calls):
    done.clear()
    threads = [threading.Thread(target=call, args=one) for one in calls]
    for one in threads: one.start()
    for one in threads: one.join(300)
"""


def test_magics_in_threads(kernel: Kernel) -> None:
    """All at once, where no signal can be set and no message read."""
    kernel.ok(IN_A_THREAD)
    kernel.ok(
        "u, v, z = tf.Variable(0.0), tf.Variable(0.0), tf.Variable([1.0, 2.0])\nh = signal.getsignal(2)"
    )
    kernel.ok(
        "together(\n"
        "    ('xla', 'minimize', 'a --over u --optimizer sgd --lr 0.1 --steps 200 -o m1',"
        " 'a = (u - 1)**2'),\n"
        "    ('eager', 'minimize', 'b --over v --optimizer sgd --lr 0.1 --steps 200 --engine eager -o m2',"
        " 'b = (v - 2)**2'),\n"
        "    ('bfgs', 'minimize', 'c --over z --optimizer bfgs -o m3', 'c = tf.reduce_sum((z - 3)**2)'),\n"
        "    ('check', 'grad', 'dd/dx --check -o g1', 'd = x**3'),\n"
        "    ('hessian', 'grad', 'e --hessian --wrt w -o g2', 'e = tf.reduce_sum(w**4)'),\n"
        "    ('refused', 'grad', 'f --wrt nothing', 'f = x'),\n"
        "    ('failed', 'grad', '', '1/0'),\n"
        "    ('devices', 'tfgpu', '-q -o d1'))"
    )
    said = kernel.ok("print(*(f'{name} {end}' for name, end in sorted(done.items())), sep='\\n')").stdout
    assert said.splitlines() == [
        "bfgs ok",
        "check ok",
        "devices ok",
        "eager ok",
        "failed ZeroDivisionError: division by zero",
        "hessian ok",
        "refused UsageError: nothing is not defined",
        "xla ok",
    ]
    kernel.ok("assert signal.getsignal(2) is h and m1.steps == m2.steps == 200\nassert 'f' not in globals()")
    kernel.ok("assert np.allclose([u.numpy(), v.numpy(), *z.numpy()], [1, 2, 3, 3], atol=1e-3)")
    assert kernel.ok("g1.checks[0].outcome.name, float(dd_dx)").result == "('AGREES', 12.0)"


def test_a_run_in_a_thread_and_one_in_a_cell_are_each_shown(kernel: Kernel) -> None:
    kernel.ok(IN_A_THREAD)
    # Each goes on until both have taken twenty steps.
    kernel.ok("p, q, ones, twos = tf.Variable(1.0), tf.Variable(1.0), [], []")
    line = "--lr 1e-9 --steps 1_000_000_000 --target 0 --engine eager"
    said = everything(
        kernel,
        f"t = threading.Thread(target=call, args=('long', 'minimize', 'one --over p {line} -o m1', "
        "'ones.append(1)\\none = p**2 if min(len(ones), len(twos)) < 20 else 0*p')); t.start()",
        f"%%minimize two --over q {line} -o m2\n"
        "twos.append(1)\ntwo = q**2 if min(len(ones), len(twos)) < 20 else 0*q",
        "t.join(300); print(done, t.is_alive())",
    )
    assert "{'long': 'ok'} False" in said
    for report in ("one = 0", "two = 0"):
        assert report in said
    assert kernel.ok("m1.reason.name, m2.reason.name").result == "('TARGET', 'TARGET')"


TICKING = """
ticks = []
async def tick():
    while True:
        ticks.append(1)
        await asyncio.sleep(0.005)
task = asyncio.ensure_future(tick())
async def ticked():
    before = len(ticks)
    while len(ticks) == before:
        await asyncio.sleep(0.001)
    return not task.done()
assert await ticked()
"""


def test_beside_a_task_and_within_an_async_cell(kernel: Kernel) -> None:
    """A task of the kernel's loop waits while a magic's cell runs, as for any cell, and goes on after it."""
    kernel.ok(IN_A_THREAD)
    kernel.ok(TICKING)
    with kernel.opens(0.0):
        shown = kernel.ok("%%minimize y --over x --lr 1e-9 --steps 60 --engine graph\ny = x**2")
        assert shown.of("comm_open")
        kernel.ok("%%grad dy/dx -q\ny = x**2")
        assert kernel.ok("await ticked()").result == "True"
        line = "'minimize', 'y --over x --lr 1e-9 --steps 60 --engine graph', 'y = x**2'"
        within = kernel.ok(
            f"await asyncio.sleep(0)\nget_ipython().run_cell_magic({line})\n"
            "await asyncio.sleep(0)\nminimum.steps"
        )
    assert within.result == "60"
    assert within.of("comm_open")
    assert "at step 60" in within.of("update_display_data")[-1].content["data"]["text/plain"]
    # The run ends once the loop has gone on beside it.
    off = "'minimize', 'y --over x --lr 1e-9 --time 240h --target 0 --engine eager', "
    off += "'y = x**2 if len(ticks) < before + 20 else 0*x'"
    kernel.ok(f"before = len(ticks); await asyncio.to_thread(call, 'off', {off})")
    assert kernel.ok("done['off'], minimum.reason.name, task.cancel()").result == "('ok', 'TARGET', True)"


def test_two_notebooks_share_nothing(kernel: Kernel, apart: Path) -> None:
    """Two kernels in one folder: the same cells at once, and no file that both or either leave."""
    before = sorted(apart.rglob("*"))
    other = started(apart, SETUP)
    try:
        line = "y --over x --optimizer sgd --lr 1e-12 --steps 1_000_000_000_000_000 --engine graph"
        kernel.ok("x.assign(2.0)")
        other.ok("x.assign(3.0)")
        with kernel.opens(0.0), other.opens(0.0):
            runs = [Live(one, f"%%minimize {line}\ny = x**2") for one in (kernel, other)]
            for run in runs:
                run.until("steps/s")
            for run in runs:
                run.click("Stop")
            assert [run.finish().status for run in runs] == ["ok", "ok"]
        for cell in ("%%grad dy/dx\ny = x**2", "%tfgpu -o d"):
            requests = [(one, one.start(cell)) for one in (kernel, other)]
            assert [one.finish(request).status for one, request in requests] == ["ok", "ok"]
        asked = "round(float(x), 3), round(float(dy_dx), 3), minimum.reason.name"
        ends = [one.ok(asked).result for one in (kernel, other)]
        assert ends == ["(2.0, 4.0, 'STOPPED')", "(3.0, 6.0, 'STOPPED')"]
    finally:
        other.close()
    left = [path for path in sorted(apart.rglob("*")) if path not in before]
    assert left == []
