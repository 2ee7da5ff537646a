"""Comm messages of widgets, read while a cell runs.

A kernel reads its messages between cells, so that a click would wait for the end of the cell that it is to
stop. All of this is private to ipykernel 6 and 7: where anything is not as it was there, nothing is read, and
what was read already is handed back.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

COMM = ("comm_open", "comm_msg", "comm_close")


class Comms:
    """Reads what has arrived, without waiting; dispatches comm messages, and holds all others.

    Parameters
    ----------
    kernel
        ``get_ipython().kernel``.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._held: list[Any] = []
        self._stream: Any = None
        self._callback: Any = None
        self._tasks: set[Any] = set()  # an event loop may forget tasks that nobody keeps
        try:
            # Only the thread that runs the kernel's loop may read its socket.
            asyncio.get_running_loop()
            if threading.current_thread() is threading.main_thread():
                stream = _stream(kernel)
                self._callback = stream._recv_callback
                self._stream = stream if callable(self._callback) else None
        except Exception:  # an ipykernel of another kind, or none
            self._stream = None

    @property
    def working(self) -> bool:
        """Whether messages can be read; once that has failed, it stays so."""
        return self._stream is not None

    def poll(self) -> bool:
        """Dispatch the comm messages that have arrived; whether that still works."""
        while self._stream is not None:
            try:
                frames = self._received()
                if frames is None:
                    break
                self._take(frames)
            except Exception:  # whatever it is, it must not end the user's run
                self._kernel.log.warning("tape_magic: comm messages cannot be read", exc_info=True)
                self._stream = None
        return self.working

    def _received(self) -> Any:
        """The next message, or nothing."""
        import zmq

        try:
            return self._stream.socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None

    def _take(self, frames: Any) -> None:
        session = self._kernel.session
        self._held.append(frames)
        if len(frames) == 1:
            return  # what ipykernel 7 says to itself
        identities, parts = session.feed_identities(frames, copy=False)
        # The header alone: a message that was deserialized once is refused the second time.
        kind = session.unpack(parts[1].bytes)["msg_type"]
        if kind not in COMM:
            return
        self._held.pop()
        message = session.deserialize(parts, content=True, copy=False)
        # A front end sends the next change of a widget when it hears that the last one is done.
        self._tell("busy", message)
        try:
            self._kernel.shell_handlers[kind](self._stream, identities, message)
        finally:
            self._tell("idle", message)
            self._tell("busy", self._kernel.get_parent("shell"))

    def _tell(self, state: str, parent: Any) -> None:
        kernel = self._kernel
        kernel.session.send(
            kernel.iopub_socket,
            "status",
            {"execution_state": state},
            parent=parent,
            ident=kernel._topic("status"),
        )

    def hand_back(self) -> None:
        """Give the kernel what was held, in the order in which it arrived."""
        held, self._held = self._held, []
        for frames in held:
            scheduled = self._callback(frames)
            if inspect.isawaitable(scheduled):
                task = asyncio.ensure_future(scheduled)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)


def _stream(kernel: Any) -> Any:
    """The stream whose socket gives the thread of the cells its messages."""
    thread = getattr(kernel, "shell_channel_thread", None)
    if thread is None:
        return kernel.shell_stream
    return thread.manager._shell_channel_to_main.to_stream


@contextmanager
def reading_comms(kernel: Any) -> Iterator[Comms]:
    """Comm messages can be read within this; what else arrived is handed back at the end."""
    comms = Comms(kernel)
    try:
        yield comms
    finally:
        comms.hand_back()
