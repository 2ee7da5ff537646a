"""Plain sockets of the look-out: a worker's own port, and connections that carry a message a line."""

from __future__ import annotations

import errno
import json
import select
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tape_magic.errors import DeviceError, describe_error, shorten
from tape_magic.results.devices import Membership

PATIENCE = 5.0
"""Seconds for what takes milliseconds: a stranger's first line, and the answers at the end."""

_MOST = 1 << 16
"""The most bytes of a line; 2,000 addresses fit."""

STRANGERS = 64
"""The most connections that have not yet said who they are."""


def own_port(place: Membership) -> socket.socket:
    """Return a socket that listens at this worker's port, which TensorFlow will have next.

    TensorFlow's server shares a port with another one without a word.
    """
    host, number = _parted(place.addresses[place.worker])
    sockets: Sequence[tuple[Any, str]] = ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0"))
    if host == "localhost" or host.startswith("127."):
        sockets = ((socket.AF_INET, "127.0.0.1" if host == "localhost" else host),)
    for family, address in sockets:
        port = socket.socket(family, socket.SOCK_STREAM)
        try:
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # also right after an earlier look-out
            if family == socket.AF_INET6:
                port.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            port.bind((address, number))
            port.listen(STRANGERS)
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


def reach_itself(place: Membership, port: socket.socket) -> None:
    """Raise :class:`DeviceError` where worker 0 does not reach its own port by its address.

    TensorFlow's worker 0 comes to itself in that way, and would wait without an end.
    """
    address = place.addresses[0]
    why = why_not_reached(address) or (
        "" if select.select([port], [], [], PATIENCE)[0] else "another program answers there"
    )
    if why:
        raise DeviceError(
            f"this process is to be worker 0, and is not found at {address} ({why}): give an address of this "
            "machine, or another --worker."
        )


def why_not_reached(address: str) -> str:
    """Return why nobody listens at an address, as far as can be seen from here; empty where someone does."""
    try:
        connected(address, PATIENCE).close()
    except OSError as error:
        return shorten(error.strerror or describe_error(error))
    return ""


def _parted(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


class Wire:
    """A connection that sends and takes messages, and raises ``OSError`` for whatever else comes."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self.began = connection, time.monotonic()
        self._buffer = b""
        connection.settimeout(PATIENCE)

    def fileno(self) -> int:
        """Return the number of the socket, for who waits for several."""
        return self.socket.fileno()

    def close(self) -> None:
        """Close the socket."""
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


def connected(address: str, seconds: float) -> socket.socket:
    """Return a connection to an address; a look at names that takes long can be interrupted."""
    found: list[Any] = []
    host, port = _parted(address)

    def look() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)
        except UnicodeError as error:  # of a name that no host can have
            found.append(OSError(str(error)))

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
