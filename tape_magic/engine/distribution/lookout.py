"""Whether all workers are there, asked in plain Python before TensorFlow waits for them without an end.

The call of TensorFlow's that joins a cluster holds Python's lock until the last worker has come: no interrupt
is served meanwhile, and no limit of time applies (TensorFlow 2.21). So worker 0 listens at its own address
first. The others say there who they are. Once all have come, worker 0 asks each whether it holds on, and then
has all go; from its answer on, a worker takes no interrupt until it has joined. A message is a line of JSON.
"""

from __future__ import annotations

import errno
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from tape_magic.errors import DeviceError, describe_error, shorten
from tape_magic.results.devices import Membership

SLICE = 0.1
"""Seconds between two looks at the time, or two attempts to reach worker 0."""

PATIENCE = 5.0
"""Seconds for what takes milliseconds: a stranger's first line, and the answers at the end."""

_MOST = 1 << 16
"""The most bytes of a line; 2,000 addresses fit."""

_STRANGERS = 64
"""The most connections that have not yet said who they are."""


def await_workers(
    place: Membership, seconds: float, hold: Callable[[], None], versions: Mapping[str, str] | None = None
) -> None:
    """Return at once in all workers when all are there.

    Parameters
    ----------
    place
        The workers, and which of them this is.
    seconds
        How long to wait for the others.
    hold
        Called when interrupts have to wait from now on.
    versions
        What has to be the same in all workers, by name.

    Raises :class:`DeviceError` for a worker that has not come, one that says something else, and a port that
    is in use.
    """
    hello = {"worker": place.worker, "workers": [*place.addresses], "versions": dict(versions or {})}
    deadline = time.monotonic() + seconds
    with _own_port(place) as port:
        if len(place.addresses) == 1:
            hold()
        elif place.worker == 0:
            with _RollCall(place, port, hello) as call:
                call.wait(deadline, hold)
        else:
            _report(place, deadline, hold, hello)


def _own_port(place: Membership) -> socket.socket:
    """Return a socket at this worker's port, which TensorFlow will have next; worker 0's listens.

    TensorFlow's server shares a port with another one without a word.
    """
    host, number = _parted(place.addresses[place.worker])
    sockets: Sequence[tuple[Any, str]] = ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0"))
    if host == "localhost" or host.startswith("127."):
        sockets = ((socket.AF_INET, "127.0.0.1"),)
    for family, address in sockets:
        port = socket.socket(family, socket.SOCK_STREAM)
        try:
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also right after an earlier look-out
            if family == socket.AF_INET6:
                port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            port.bind((address, number))
            if place.worker == 0:
                port.listen(_STRANGERS)
        except OSError as error:
            port.close()
            if error.errno == errno.EADDRINUSE:
                raise DeviceError(
                    f"port {number} of this machine is in use: does an earlier {place.name_of(place.worker)} "
                    "still run? End it, or give another port."
                ) from None
            refused = error
        except BaseException:
            port.close()
            raise
        else:
            return port
    raise DeviceError(f"port {number} of this machine cannot be used ({describe_error(refused)}).")


def _parted(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class _Line:
    """A connection that sends and takes messages, and raises ``OSError`` for whatever else comes."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.began = connection, time.monotonic()
        self._buffer = b""
        connection.settimeout(PATIENCE)

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message."""
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def take(self) -> list[dict[str, Any]]:
        """Return the messages that have come, once the socket has something to read."""
        read = self.socket.recv(4096)
        self._buffer += read
        *lines, self._buffer = self._buffer.split(b"\n")
        if not read or len(self._buffer) > _MOST:
            raise ConnectionError("closed")
        try:
            found = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            raise ConnectionError("no message") from None
        if not all(isinstance(one, dict) for one in found):
            raise ConnectionError("no message")
        return found


class _RollCall:
    """What worker 0 does: hear who comes, and tell the others who is missing.

    Parameters
    ----------
    place
        The workers.
    port
        The socket that listens.
    hello
        What this worker says of itself.
    """

    def __init__(self, place: Membership, port: socket.socket, hello: Mapping[str, Any]) -> None:
        self._place, self._port, self._hello = place, port, hello
        self._here: dict[int, _Line] = {}
        self._strangers: list[_Line] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(port, selectors.EVENT_READ)

    def __enter__(self) -> _RollCall:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for line in (*self._here.values(), *self._strangers):
            line.close()

    @property
    def _missing(self) -> list[int]:
        return [one for one in range(1, len(self._place.addresses)) if one not in self._here]

    def wait(self, deadline: float, hold: Callable[[], None]) -> None:
        """Wait until all are there, and have them go."""
        try:
            while missing := self._missing:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise DeviceError(not_come(self._place, missing))
                self._hear(min(left, SLICE))
            hold()
            self._go()
        except DeviceError as error:
            for line in self._here.values():
                _send(line, {"refused": str(error)})
            raise

    def _hear(self, seconds: float) -> None:
        """Take what comes within some seconds."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._port:
                with suppress(OSError):
                    self._meet(_Line(self._port.accept()[0]))
                continue
            line = key.fileobj
            assert isinstance(line, _Line)
            try:
                for message in line.take():
                    self._introduce(line, message)
            except OSError:
                self._part(line)
        late = [one for one in self._strangers if time.monotonic() - one.began > PATIENCE]
        for line in (*late, *self._strangers[len(late) : -_STRANGERS]):
            self._part(line)

    def _meet(self, line: _Line) -> None:
        self._strangers.append(line)
        self._selector.register(line, selectors.EVENT_READ)

    def _part(self, line: _Line) -> None:
        """Close a connection; a worker at its other end has to come once more."""
        self._selector.unregister(line)
        line.close()
        self._strangers = [one for one in self._strangers if one is not line]
        before = len(self._here)
        self._here = {number: one for number, one in self._here.items() if one is not line}
        if len(self._here) < before:
            self._tell_missing()

    def _introduce(self, line: _Line, message: Mapping[str, Any]) -> None:
        """Take a stranger's message; raise ``OSError`` where it is not that of a worker."""
        number = message.get("worker")
        if line not in self._strangers or type(number) is not int or "workers" not in message:
            raise ConnectionError("no worker")
        wrong = self._difference(message)
        if number in self._here:
            wrong, number = f"worker {number} is there already: give each process a number of its own.", -1
        if wrong:
            _send(line, {"refused": wrong})
            if number >= 0:
                raise DeviceError(wrong)
            raise ConnectionError("refused")
        self._strangers.remove(line)
        self._here[number] = line
        self._tell_missing()

    def _difference(self, message: Mapping[str, Any]) -> str:
        """Return what another worker was told otherwise than this one; empty for nothing."""
        number, given, versions = message["worker"], message["workers"], message.get("versions")
        if given != self._hello["workers"] or not 0 < number < len(given):
            listed = ", ".join(map(str, given)) if isinstance(given, list) else repr(given)
            return (
                f"worker {number} was given the workers {shorten(listed)}, and worker 0 "
                f"{shorten(', '.join(self._place.addresses))}: give all the same."
            )
        own = self._hello["versions"]
        if versions != own and isinstance(versions, dict):
            name = next((name for name in own if versions.get(name) != own[name]), "")
            return (
                f"{self._place.name_of(number)} has {name} {shorten(str(versions.get(name)))}, and worker 0 "
                f"{own.get(name)}: all need the same."
            )
        return ""

    def _tell_missing(self) -> None:
        for line in self._here.values():
            _send(line, {"missing": self._missing})

    def _go(self) -> None:
        """Ask each worker whether it holds on; then tell all to go."""
        for line in self._here.values():
            _send(line, {"holds": True})
        for number, line in self._here.items():
            try:
                if {"holds": True} not in line.take():
                    raise ConnectionError("no answer")
            except OSError:
                raise DeviceError(gone_again(self._place, number)) from None
        for line in self._here.values():
            _send(line, {"go": True})


def _send(line: _Line, message: Mapping[str, Any]) -> None:
    """Send a message to a worker; whether it still listens is seen elsewhere."""
    with suppress(OSError):
        line.send(message)


def _report(place: Membership, deadline: float, hold: Callable[[], None], hello: Mapping[str, Any]) -> None:
    """Say to worker 0 that this worker is there, and wait until it has all go."""
    missing, why = [0], ""
    while (left := deadline - time.monotonic()) > 0:
        try:
            with ExitStack() as stack:
                line = _Line(_connected(place.addresses[0], min(left, 1.0)))
                stack.callback(line.close)
                line.send(hello)
                missing, why = _followed(line, place, deadline, hold, missing), ""
            if not missing:
                return
        except OSError as error:
            missing = [0]
            why = "" if isinstance(error, ConnectionError | TimeoutError) else describe_error(error)
            time.sleep(min(SLICE, left))
    raise DeviceError(not_come(place, missing, why))


def _followed(
    line: _Line, place: Membership, deadline: float, hold: Callable[[], None], missing: list[int]
) -> list[int]:
    """Follow what worker 0 says until a time; return who is missing, nobody once all are to go.

    Raises ``OSError`` where worker 0 goes away.
    """
    held = False
    while held or time.monotonic() < deadline:
        line.socket.settimeout(PATIENCE if held else SLICE)
        try:
            messages = line.take()
        except OSError as error:
            if held:
                raise DeviceError(gone_again(place, 0)) from None
            if isinstance(error, TimeoutError):
                continue
            raise
        for message in messages:
            if "refused" in message:
                raise DeviceError(shorten(str(message["refused"]), 500))
            if isinstance(given := message.get("missing"), list):
                numbers = range(len(place.addresses))
                missing = [one for one in given if type(one) is int and one in numbers] or missing
            if message.get("holds"):
                hold()
                held = True
                line.send({"holds": True})
            if message.get("go") and held:
                return []
    return missing


def _connected(address: str, seconds: float) -> socket.socket:
    """Return a connection to an address; a look at names that takes long can be interrupted."""
    found: list[Any] = []
    host, port = _parted(address)

    def look() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look, name="tape_magic: looking up a host", daemon=True)
    thread.start()
    thread.join(seconds)
    if not found or isinstance(found[0], OSError):
        raise found[0] if found else TimeoutError(host)
    refused: OSError = ConnectionError(address)
    for family, kind, protocol, _, place in found[0]:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(seconds)
            connection.connect(place)
        except OSError as error:
            connection.close()
            refused = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise refused


def not_come(place: Membership, missing: Sequence[int], why: str = "") -> str:
    """Return in one line which workers have not come."""
    names = [place.name_of(number) for number in missing[:4]]
    more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
    has = "has" if len(missing) == 1 else "have"
    return f"{', '.join(names)}{more} {has} not come{f' ({shorten(why)})' if why else ''}."


def gone_again(place: Membership, worker: int) -> str:
    """Return in one line that a worker has come, and is gone."""
    return f"{place.name_of(worker)} has come and is gone again: run this line once more on all workers."
