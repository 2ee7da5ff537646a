"""The look-out for other workers, in threads of one process: who comes, who does not, who is a stranger."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tape_magic.engine.distribution import lookout
from tape_magic.engine.distribution.lookout import await_workers
from tape_magic.errors import DeviceError
from tape_magic.results.devices import Membership
from tests.support.ports import free_ports

PATIENCE = 60.0


@pytest.fixture
def addresses() -> tuple[str, ...]:
    return tuple(f"localhost:{port}" for port in free_ports(3))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Comes:
    """One worker that looks out, in a thread of its own."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        addresses: Sequence[str],
        worker: int,
        seconds: float = PATIENCE,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self.held = threading.Event()
        place = Membership(worker, tuple(addresses))
        self.done: Future[None] = pool.submit(await_workers, place, seconds, self.held.set, versions)

    @property
    def line(self) -> str:
        error = self.done.exception(PATIENCE)
        assert isinstance(error, DeviceError), error
        assert not self.held.is_set()
        return str(error)


def test_all_go_once_all_are_there(pool: ThreadPoolExecutor, addresses: tuple[str, ...]) -> None:
    last, first = Comes(pool, addresses, 2), Comes(pool, addresses, 0)
    assert not first.held.wait(0.3)
    middle = Comes(pool, addresses, 1)
    for one in (first, middle, last):
        one.done.result(PATIENCE)
        assert one.held.is_set()
    # The ports are free again, for TensorFlow.
    for address in addresses:
        with socket.create_server(("", int(address.rpartition(":")[2]))):
            pass


def test_one_alone_goes_at_once(pool: ThreadPoolExecutor, addresses: tuple[str, ...]) -> None:
    one = Comes(pool, addresses[:1], 0)
    one.done.result(PATIENCE)
    assert one.held.is_set()


def test_who_does_not_come_is_named_to_all(pool: ThreadPoolExecutor, addresses: tuple[str, ...]) -> None:
    here, first = Comes(pool, addresses, 1), Comes(pool, addresses, 0, seconds=2.0)
    text = f"worker 2 ({addresses[2]}) has not come."
    assert first.line == text
    assert here.line == text


def test_who_waits_for_worker_0_names_it(pool: ThreadPoolExecutor, addresses: tuple[str, ...]) -> None:
    assert Comes(pool, addresses, 1, seconds=0.5).line == f"worker 0 ({addresses[0]}) has not come."


def test_an_unknown_host_is_named(pool: ThreadPoolExecutor, addresses: tuple[str, ...]) -> None:
    line = Comes(pool, ["no-such-host.invalid:5000", *addresses[1:]], 1, seconds=0.5).line
    assert line.startswith("worker 0 (no-such-host.invalid:5000) has not come")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "256.256.256.256"])
def test_a_worker_that_is_not_found_at_its_address(
    pool: ThreadPoolExecutor, addresses: tuple[str, ...], host: str
) -> None:
    """It reaches worker 0, and the others would not reach it; nobody goes."""
    wrong = f"{host}:{addresses[2].rpartition(':')[2]}"
    given = (*addresses[:2], wrong)
    workers = [Comes(pool, given, number) for number in range(3)]
    for one in workers:
        error = one.done.exception(PATIENCE)
        assert str(error).startswith(f"worker 2 ({wrong}) has come, and is not found at that address (")
        assert str(error).endswith("): give all the address that its machine has.")


def test_other_workers_are_refused_on_both_sides(
    pool: ThreadPoolExecutor, addresses: tuple[str, ...]
) -> None:
    first, other = Comes(pool, addresses, 0), Comes(pool, addresses[:2], 1)
    text = f"worker 1 was given the workers {', '.join(addresses[:2])}, and worker 0 "
    for one in (first, other):
        assert one.line == f"{text}{', '.join(addresses)}: give all the same."


def test_other_versions_are_refused_on_both_sides(
    pool: ThreadPoolExecutor, addresses: tuple[str, ...]
) -> None:
    first = Comes(pool, addresses, 0, versions={"TensorFlow": "2.21.0"})
    other = Comes(pool, addresses, 1, versions={"TensorFlow": "2.20.0"})
    text = f"worker 1 ({addresses[1]}) has TensorFlow 2.20.0, and worker 0 2.21.0: all need the same."
    assert first.line == text
    assert other.line == text


def test_a_number_is_given_once(pool: ThreadPoolExecutor, addresses: tuple[str, ...]) -> None:
    first = Comes(pool, addresses, 0)
    with _said(addresses, 1) as one, _said(addresses, 1) as again:
        assert "refused" in _heard(again) or "refused" in _heard(one)
        assert not first.done.done()
    workers = [
        Comes(pool, addresses, number) for number in (1, 2)
    ]  # the first one is gone, and may come again
    for each in (first, *workers):
        each.done.result(PATIENCE)


def test_worker_0_that_is_not_found_at_its_address(
    pool: ThreadPoolExecutor, addresses: tuple[str, ...]
) -> None:
    given = (f"no-such-host.invalid:{addresses[0].rpartition(':')[2]}", *addresses[1:])
    line = Comes(pool, given, 0).line
    assert line.startswith(f"this process is to be worker 0, and is not found at {given[0]} (")


def test_a_port_in_use_is_told(pool: ThreadPoolExecutor, addresses: tuple[str, ...]) -> None:
    port = int(addresses[1].rpartition(":")[2])
    with socket.create_server(("", port), reuse_port=True):  # as TensorFlow's server opens it
        line = Comes(pool, addresses, 1).line
    assert line.startswith(f"port {port} of this machine is in use: does an earlier worker 1 ")


STRANGERS = [
    b"",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00\xff\n\n\n",
    b"[" * 100_000 + b"\n",
    b"x" * 200_000,
    b"[]\n3\nnull\n",
    b'{"worker": 1}\n',
    b'{"worker": true, "workers": []}\n',
    b'{"worker": 1e400, "workers": []}\n',
    b'{"go": true}\n{"holds": true}\n{"refused": "no"}\n',
]


def test_strangers_change_nothing(pool: ThreadPoolExecutor, addresses: tuple[str, ...]) -> None:
    first = Comes(pool, addresses, 0)
    open_ones = []
    for text in STRANGERS:
        stranger = _connected(addresses)
        open_ones.append(stranger)
        with contextlib.suppress(OSError):  # it may be closed by then
            stranger.sendall(text)
    workers = [Comes(pool, addresses, number) for number in (1, 2)]
    for each in (first, *workers):
        each.done.result(PATIENCE)
    for stranger in open_ones:
        stranger.close()


def test_a_stranger_in_place_of_worker_0(pool: ThreadPoolExecutor, addresses: tuple[str, ...]) -> None:
    with socket.create_server(("localhost", int(addresses[0].rpartition(":")[2]))) as server:
        line = Comes(pool, addresses, 1, seconds=1.0)
        server.settimeout(PATIENCE)
        for text in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b'{"go": true}\n', b'{"missing": [-1, "x", 99]}\n'):
            connection, _ = server.accept()
            connection.sendall(text)
            connection.close()
        assert line.line == f"worker 0 ({addresses[0]}) has not come."


def test_a_worker_that_goes_has_to_come_again(pool: ThreadPoolExecutor, addresses: tuple[str, ...]) -> None:
    first = Comes(pool, addresses, 0)
    with _said(addresses, 1) as gone:
        assert _heard(gone) == {"missing": [2]}
    with _said(addresses, 2) as other:
        while _heard(other) != {"missing": [1]}:
            pass
    for number in (1, 2):
        Comes(pool, addresses, number)
    first.done.result(PATIENCE)


def test_a_worker_that_goes_at_the_last_moment(
    pool: ThreadPoolExecutor, addresses: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Worker 2 is there, and does not answer whether it holds on: nobody goes."""
    monkeypatch.setattr(lookout, "PATIENCE", 1.0)
    first, here = Comes(pool, addresses, 0), Comes(pool, addresses, 1)
    port = int(addresses[2].rpartition(":")[2])
    with _said(addresses, 2) as gone, socket.create_server(("localhost", port)):
        while "holds" not in _heard(gone):
            pass
    for one in (first, here):
        error = one.done.exception(PATIENCE)
        assert str(error) == (
            f"worker 2 ({addresses[2]}) has come and is gone again: run this line once more on all workers."
        )


def test_an_interrupt_ends_the_wait(addresses: tuple[str, ...]) -> None:
    """The wait is for a day, which no test has: it is over because of the interrupt."""
    for worker in (0, 1):
        timer = threading.Timer(0.3, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            await_workers(Membership(worker, addresses), 86_400.0, lambda: None)
        timer.join()


def _connected(addresses: Sequence[str]) -> socket.socket:
    """A connection to worker 0, once it listens."""
    host, _, port = addresses[0].rpartition(":")
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return socket.create_connection((host, int(port)), PATIENCE)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _said(addresses: Sequence[str], worker: int) -> socket.socket:
    """A connection that has said that it is a worker."""
    connection = _connected(addresses)
    message = {"worker": worker, "workers": [*addresses], "versions": {}}
    connection.sendall(json.dumps(message).encode() + b"\n")
    return connection


def _heard(connection: socket.socket) -> dict[str, object]:
    """The next message of worker 0."""
    line = b""
    while not line.endswith(b"\n"):
        read = connection.recv(1)
        assert read, "closed"
        line += read
    return dict(json.loads(line))
