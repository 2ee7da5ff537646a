"""The cases of `test_joining.py`, each for a process that has imported TensorFlow and started nothing."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from tensorflow.python.eager import context

from tests.support.notebook import Notebook
from tests.support.ports import free_ports

NODES = "node1:5000, node2:5000"
GIVE = "is no address of a worker: give host:port, such as node1:5000."
ASCII = "is no address of a worker: give host:port in ASCII, such as node1:5000."
BRACKETS = "is no address of a worker: an address of IPv6 stands in brackets, such as [::1]:5000."
QUOTES = 'is not the index of a GPU; addresses stand in quotes: --workers "a:1, b:2".'
NONE_OF = "is none of the 2 workers: their numbers are 0 to 1."
NO_NUMBER = "is no number of a worker: give 0, 1 and so on."
ADDRESSES = 'workers are addresses, as "node1:5000, node2:5000", and not '
FOUND = "): give an address of this machine, or another --worker."
READ = "TF_CONFIG cannot be read ("
WORKERS = "here, all are workers, so give --workers and --worker."
INDEX = "which its cluster does not have (addresses of type"

LINES: dict[str, list[tuple[str, str]]] = {
    "no address": [
        ("", "--workers takes ADDRESSES, not ''"),
        ("localhost", f"'localhost' {GIVE}"),
        ("localhost:", f"'localhost:' {GIVE}"),
        (":5000", f"':5000' {GIVE}"),
        ("localhost:0", f"'localhost:0' {GIVE}"),
        ("localhost:99999", f"'localhost:99999' {GIVE}"),
        ("localhost:-1", f"'localhost:-1' {GIVE}"),
        ("localhost:http", f"'localhost:http' {GIVE}"),
        ("localhost:1e3", f"'localhost:1e3' {GIVE}"),
        ("user@node1:5000", f"'user@node1:5000' {GIVE}"),
        ("node1:5000/job", f"'node1:5000/job' {GIVE}"),
        ("a..b:5000", f"'a..b:5000' {GIVE}"),
        (f"{'n' * 64}:5000", f"… {GIVE}"),
        ("münchen:5000, node2:5000", f"'münchen:5000' {ASCII}"),
        ("localhost:٥٠٠٠", f"'localhost:٥٠٠٠' {ASCII}"),
        ("::1:5000", f"'::1:5000' {BRACKETS}"),
        ("[::1:5000", f"'[::1:5000' {GIVE}"),
        ("[]:5000", f"'[]:5000' {GIVE}"),
        ("[::1]", f"'[::1]' {GIVE}"),
        ("[zz::1]:5000", f"'[zz::1]:5000' {GIVE}"),
        ("[1:2]:5000", f"'[1:2]:5000' {GIVE}"),
        ("[node1]:5000", f"'[node1]:5000' {GIVE}"),
        ("tf_config", "'tf_config' is no address of a worker: did you mean TF_CONFIG?"),
        ("http://node1:5000/", "is no address of a worker: leave out http:// and what follows the port."),
        ("grpc://node1:5000", "is no address of a worker: leave out grpc:// and what follows the port."),
        ("node1:5000 node2:5000", "is no address of a worker: give a comma between two addresses."),
        ("node1:5000; node2:5000", "is no address of a worker: give a comma between two addresses."),
    ],
    "several": [
        ("node1:5000,", "a comma of 'node1:5000,' has no address beside it: leave it out."),
        (",node1:5000", "a comma of ',node1:5000' has no address beside it: leave it out."),
        ("node1:5000,,node2:5000", "a comma of 'node1:5000,,node2:5000' has no address beside it: leave"),
        ("node1:5000, node1:5000", "node1:5000 is named 2 times: each worker has a port of its own."),
        ("node1:5000, Node1:05000", "node1:5000 is named 2 times: each worker has a port of its own."),
    ],
    "values": [
        ("mapping", ADDRESSES + "{'worker': ['a:1']}."),
        ("letters", ADDRESSES + "b'a:1'."),
        ("pairs", ADDRESSES + "[('a', 1)]."),
        ("hosts", f"'node1' {GIVE}"),
        ("nothing", 'worker 0 needs workers: --workers "node1:5000, node2:5000".'),
    ],
    "number": [
        ("2", f"worker 2 {NONE_OF}"),
        ("-1", f"worker -1 {NONE_OF}"),
        ("9" * 30, f"worker {'9' * 30} {NONE_OF}"),
        ("0.5", f"worker 0.5 {NO_NUMBER}"),
        ("True", f"worker True {NO_NUMBER}"),
        ("1e400", f"worker inf {NO_NUMBER}"),
        ("[0]", f"worker [0] {NO_NUMBER}"),
        ("rank", "--worker rank: NameError: name 'rank' is not defined"),
        ("ranks[3]", "--worker ranks[3]: IndexError: list index out of range"),
        ("first", "--worker takes a whole number, not 'first one'"),
    ],
    "environment": [
        ("", "TF_CONFIG is not set: give --workers "),
        ("{", f"{READ}JSONDecodeError: "),
        ("node1:5000", f"{READ}JSONDecodeError: "),
        ("[]", f"{READ}TypeError: "),
        ("null", f"{READ}TypeError: "),
        ("[" * 100_000, f"{READ}RecursionError: "),
        ('{"task": {"type": "worker", "index": 0}}', f"{READ}KeyError: 'cluster'"),
        ('{"cluster": {"worker": ["a:1"]}}', f"{READ}KeyError: 'task'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}', f"{READ}KeyError: 'type'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}', f"{READ}KeyError: 'index'"),
        ('{"cluster": ["a:1"], "task": {"type": "worker", "index": 0}}', f"{READ}AttributeError: "),
        (
            '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}',
            f"{READ}TypeError: worker is no list): it needs a text such as ",
        ),
        (
            '{"cluster": {"worker": [1]}, "task": {"type": "worker", "index": 0}}',
            f"{ADDRESSES}[1].",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}',
            f"TF_CONFIG makes this 'evaluator' among worker: {WORKERS}",
        ),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
            f"TF_CONFIG makes this 'ps' among ps, worker: {WORKERS}",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": null, "index": 0}}',
            f"TF_CONFIG makes this None among worker: {WORKERS}",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
            f"TF_CONFIG makes this chief 0, {INDEX} chief, numbered from 0: 0): correct one of the two.",
        ),
        (
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 1}}',
            f"TF_CONFIG makes this chief 1, {INDEX} chief, numbered from 0: 1)",
        ),
        (
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": -1}}',
            f"TF_CONFIG makes this worker -1, {INDEX} worker, numbered from 0: 1)",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": "0"}}',
            f"TF_CONFIG makes this worker '0', {INDEX}",
        ),
        (
            '{"cluster": {}, "task": {"type": "worker", "index": 0}}',
            f"TF_CONFIG makes this worker 0, {INDEX} worker, numbered from 0: 0)",
        ),
    ],
}
"""What is given, by kind, and what the one line has of it."""

VALUES = """
mapping, letters, pairs, hosts, nothing = {'worker': ['a:1']}, b'a:1', [('a', 1)], 'node1, node2', None
ranks = [0]
"""


def lines(kind: str) -> None:
    """Each is refused in one line, nothing starts, and a right line works afterwards."""
    shell = Notebook(InteractiveShell.instance())
    shell.ok("%load_ext tape_magic")
    shell.ok(VALUES)
    for given, said in LINES[kind]:
        if kind == "environment":
            os.environ["TF_CONFIG"] = given
            line = "%tfgpu --workers TF_CONFIG"
        elif kind == "number":
            line = f'%tfgpu --workers "{NODES}" --worker "{given.replace("first", "first one")}"'
        else:
            line = f'%tfgpu --workers "{given}" --worker 0'
        assert said in shell.refused(line), (line, shell.refused(line))
        assert context.context()._context_handle is None
    os.environ.pop("TF_CONFIG", None)
    _joins(shell)


def places() -> None:
    """Addresses that no worker can be at, and those that another program has."""
    shell = Notebook(InteractiveShell.instance())
    shell.ok("%load_ext tape_magic")
    port, other, taken = free_ports(3)
    with socket.create_server(("", taken)):
        for line, said in (
            (f'"localhost:{taken}" --worker 0', f"port {taken} of this machine is in use: does an earlier"),
            (f'"localhost:{port}, localhost:{taken}" --worker 1', f"port {taken} of this machine is in use"),
            (f'"no-such-host.invalid:{port}" --worker 0', FOUND),
            (f'"256.256.256.256:{port}" --worker 0', FOUND),
            (f'"no-such-host.invalid:{port}, localhost:{other}" --worker 1 --wait 0.5', "has not come ("),
            (f'"localhost:{port}, localhost:{other}" --worker 0 --wait 0', ") has not come."),
            (f'"localhost:{port}" --worker 0 --wait -1', "wait -1 is no time: give seconds, such as 120."),
            (f"localhost:{port}, localhost:{other} --worker 0", f"'localhost:{other}' {QUOTES}"),
            (f"localhost:{port} localhost:{other} --worker 0", f"'localhost:{other}' {QUOTES}"),
        ):
            assert said in shell.refused(f"%tfgpu --workers {line}"), line
            assert context.context()._context_handle is None
    _joins(shell)


def _joins(shell: Any) -> None:
    task = {"cluster": {"worker": [f"localhost:{free_ports(1)[0]}"]}, "task": {"type": "worker", "index": 0}}
    os.environ["TF_CONFIG"] = json.dumps(task)
    shell.ok("%tfgpu --workers TF_CONFIG -o report")
    assert shell.ns["report"].cluster.worker == 0
    shell.ok("import tensorflow as tf; assert float(tf.constant(1.0) + 1) == 2")
