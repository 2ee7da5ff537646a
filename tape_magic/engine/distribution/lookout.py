"""Whether all workers are there, asked in plain Python before TensorFlow waits for them without an end.

The call of TensorFlow's that joins a cluster holds Python's lock until the last worker has come: no interrupt
is served meanwhile, and no limit of time applies (TensorFlow 2.21). So worker 0 listens at its own address
first. The others say there who they are. Once all have come, worker 0 asks each whether it holds on, and then
has all go; from its answer on, a worker takes no interrupt until it has joined. A message is a line of JSON.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from tape_magic.engine.distribution.wire import (
    PATIENCE,
    STRANGERS,
    Wire,
    connected,
    own_port,
    reach_itself,
    why_not_reached,
)
from tape_magic.errors import DeviceError, describe_error, shorten
from tape_magic.results.devices import Membership

SLICE = 0.1
"""Seconds between two looks at the time, or two attempts to reach worker 0."""


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

    Raises :class:`DeviceError` for a worker that has not come, one that says something else, a port that is
    in use, and an address of worker 0 at which that is not found.
    """
    hello = {"worker": place.worker, "workers": [*place.addresses], "versions": dict(versions or {})}
    deadline = time.monotonic() + seconds
    with own_port(place) as port:
        if place.worker == 0:
            reach_itself(place, port)
        if len(place.addresses) == 1:
            hold()
        elif place.worker == 0:
            with _RollCall(place, port, hello) as call:
                call.wait(deadline, hold)
        else:
            _report(place, deadline, hold, hello)


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
        self._here: dict[int, Wire] = {}
        self._strangers: list[Wire] = []
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
            while (missing := self._missing) or not self._are_found():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise DeviceError(not_come(self._place, missing or self._missing))
                self._hear(min(left, SLICE))
            hold()
            self._go()
        except DeviceError as error:
            for line in self._here.values():
                _send(line, {"refused": str(error)})
            raise

    def _are_found(self) -> bool:
        """Return whether all that are there are found at their addresses; false where one has gone meanwhile.

        Raises :class:`DeviceError` for one that is there, and not at its address.
        """
        for number in range(1, len(self._place.addresses)):
            if why := why_not_reached(self._place.addresses[number]):
                self._hear(0.0)
                if number not in self._here:
                    return False
                raise DeviceError(
                    f"{self._place.name_of(number)} has come, and is not found at that address ({why}): give "
                    "all the address that its machine has."
                )
        return True

    def _hear(self, seconds: float) -> None:
        """Take what comes within some seconds."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._port:
                with suppress(OSError):
                    self._meet(Wire(self._port.accept()[0]))
                continue
            line = key.fileobj
            assert isinstance(line, Wire)
            try:
                for message in line.take():
                    self._introduce(line, message)
            except OSError:
                self._part(line)
        late = [one for one in self._strangers if time.monotonic() - one.began > PATIENCE]
        for line in (*late, *self._strangers[len(late) : -STRANGERS]):
            self._part(line)

    def _meet(self, line: Wire) -> None:
        self._strangers.append(line)
        self._selector.register(line, selectors.EVENT_READ)

    def _part(self, line: Wire) -> None:
        """Close a connection; a worker at its other end has to come once more."""
        self._selector.unregister(line)
        line.close()
        self._strangers = [one for one in self._strangers if one is not line]
        before = len(self._here)
        self._here = {number: one for number, one in self._here.items() if one is not line}
        if len(self._here) < before:
            self._tell_missing()

    def _introduce(self, line: Wire, message: Mapping[str, Any]) -> None:
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


def _send(line: Wire, message: Mapping[str, Any]) -> None:
    """Send a message to a worker; whether it still listens is seen elsewhere."""
    with suppress(OSError):
        line.send(message)


def _report(place: Membership, deadline: float, hold: Callable[[], None], hello: Mapping[str, Any]) -> None:
    """Say to worker 0 that this worker is there, and wait until it has all go."""
    missing, why = [0], ""
    while (left := deadline - time.monotonic()) > 0:
        try:
            with ExitStack() as stack:
                line = Wire(connected(place.addresses[0], min(left, 1.0)))
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
    line: Wire, place: Membership, deadline: float, hold: Callable[[], None], missing: list[int]
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


def not_come(place: Membership, missing: Sequence[int], why: str = "") -> str:
    """Return in one line which workers have not come."""
    names = [place.name_of(number) for number in missing[:4]]
    more = f" and {len(missing) - 4} more" if len(missing) > 4 else ""
    has = "has" if len(missing) == 1 else "have"
    return f"{', '.join(names)}{more} {has} not come{f' ({shorten(why)})' if why else ''}."


def gone_again(place: Membership, worker: int) -> str:
    """Return in one line that a worker has come, and is gone."""
    return f"{place.name_of(worker)} has come and is gone again: run this line once more on all workers."
