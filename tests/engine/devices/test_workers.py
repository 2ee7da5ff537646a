"""Which workers there are, and which of them this is: what the line and TF_CONFIG say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tape_magic.engine.devices.workers import read_wait, read_workers
from tape_magic.errors import DeviceError
from tests.support.notebook import Notebook

TWO = "node1:5000, node2:5000"


def environment(cluster: Any, kind: str = "worker", index: Any = 0) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


@pytest.mark.parametrize(
    ("workers", "worker", "environ", "text"),
    [
        (TWO, 0, {}, "worker 0 (node1:5000) of 2"),
        (["node1:5000", "node2:5000"], 1, {}, "worker 1 (node2:5000) of 2"),
        ("[::1]:5000,127.0.0.1:6000", 1, {}, "worker 1 (127.0.0.1:6000) of 2"),
        ("TF_CONFIG", None, environment({"worker": ["a:1", "b:2"]}, index=1), "worker 1 (b:2) of 2"),
        ("TF_CONFIG", 0, environment({"worker": ["a:1", "b:2"]}, index=1), "worker 0 (a:1) of 2"),
        (
            "TF_CONFIG",
            None,
            environment({"chief": ["c:1"], "worker": ["a:1", "b:2"]}, index=1),
            "worker 2 (b:2) of 3",
        ),
        (
            "TF_CONFIG",
            None,
            environment({"chief": ["c:1"], "worker": ["a:1"]}, "chief"),
            "worker 0 (c:1) of 2",
        ),
        ("a:1, b:2", None, environment({"worker": ["a:1", "b:2"]}, index=1), "worker 1 (b:2) of 2"),
    ],
)
def test_who_this_is(workers: Any, worker: Any, environ: dict[str, str], text: str) -> None:
    place = read_workers(workers, worker, environ)
    assert place is not None
    assert place.text == text


@pytest.mark.parametrize(
    ("workers", "worker", "environ", "text"),
    [
        (None, 0, {}, "worker 0 needs workers: --workers "),
        ("node1, node2", 0, {}, "'node1' is no address of a worker: give host:port, such as node1:5000."),
        ("node1:0", 0, {}, "'node1:0' is no address of a worker"),
        ("node1:65536", 0, {}, "'node1:65536' is no address of a worker"),
        ("a b:1", 0, {}, "'a b:1' is no address of a worker"),
        ("", 0, {}, "'' is no address of a worker"),
        ([], 0, {}, "workers names none: give their addresses"),
        (5000, 0, {}, "workers are addresses, as "),
        ([5000], 0, {}, "workers are addresses, as "),
        ("a:1, a:1", 0, {}, "a:1 is named 2 times: each worker has a port of its own."),
        (TWO, None, {}, "which of the 2 workers is this? Give its number, from 0: --worker 0."),
        (TWO, 2, {}, "worker 2 is none of the 2 workers: their numbers are 0 to 1."),
        (TWO, -1, {}, "worker -1 is none of the 2 workers"),
        (TWO, True, {}, "worker True is no number of a worker: give 0, 1 and so on."),
        (TWO, 0.5, {}, "worker 0.5 is no number of a worker"),
        (TWO, None, environment({"worker": ["a:1"]}), "TF_CONFIG names other workers (a:1), so that"),
        ("TF_CONFIG", None, {}, "TF_CONFIG is not set: give --workers "),
        ("TF_CONFIG", None, {"TF_CONFIG": "{"}, "TF_CONFIG cannot be read (JSONDecodeError: "),
        ("TF_CONFIG", None, {"TF_CONFIG": "[]"}, "TF_CONFIG cannot be read (TypeError: "),
        ("TF_CONFIG", None, environment({"worker": ["a:1"], "ps": ["b:2"]}), "TF_CONFIG makes this 'worker'"),
        (
            "TF_CONFIG",
            None,
            environment({"worker": ["a:1"]}, "evaluator"),
            "TF_CONFIG makes this 'evaluator'",
        ),
    ],
)
def test_what_is_refused(workers: Any, worker: Any, environ: dict[str, str], text: str) -> None:
    with pytest.raises(DeviceError) as refusal:
        read_workers(workers, worker, environ)
    assert str(refusal.value).startswith(text)


@pytest.mark.parametrize("wait", [-1, "1m", True, float("nan"), float("inf")])
def test_a_wait_is_a_time(wait: Any) -> None:
    with pytest.raises(DeviceError, match="is no time: give seconds, such as 120"):
        read_wait(wait, 60.0)
    assert read_wait(None, 60.0) == 60.0
    assert read_wait(0, 60.0) == 0.0


LATE = (
    "TensorFlow has already started without other workers. Only a kernel restart can change that: "
    'restart, and put this line first: %tfgpu --workers "node1:5000, node2:5000" --worker 1'
)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (f'%tfgpu --workers "{TWO}" --worker 1', LATE),
        ("%tfgpu --workers nodes --worker index + 1", LATE),
        (
            "%tfgpu --workers nodes --worker missing",
            "--worker missing: NameError: name 'missing' is not defined",
        ),
        ("%tfgpu --workers index --worker 1", "workers are addresses, as "),
        ("%tfgpu --worker 1", "worker 1 needs workers: "),
        ("%tfgpu --wait 3m", "wait says how long to wait for the other workers: give workers as well."),
        (f'%tfgpu --workers "{TWO}" --worker 1 --wait soon', "--wait soon: NameError: "),
        ("%tfgpu --rank 1", "%tfgpu has no option --rank; did you mean --worker?"),
    ],
)
def test_lines_once_tensorflow_has_started(shell: Notebook, line: str, text: str) -> None:
    shell.ok("import tensorflow as tf; tf.constant(1.0); nodes, index = ['node1:5000', 'node2:5000'], 0")
    line = line.replace("index + 1", '"index + 1"')
    assert shell.refused(line).startswith(text)


def test_no_cluster(shell: Notebook) -> None:
    shell.ok("import numpy as np, tensorflow as tf; w = tf.Variable(1.0); x = np.ones(4, 'float32')")
    assert (
        shell.refused(
            '%%minimize loss --over w --for "xb in x" --strategy workers\nloss = tf.reduce_mean((w - xb)**2)'
        )
        == 'no cluster: put %tfgpu --workers "host:port, …" first, before TensorFlow starts.'
    )
