"""Comm messages of widgets, read while a cell runs.

A kernel reads its messages between cells, so that a click on Stop would wait for the end of the cell. The
parts of the kernel that are used here are private to ipykernel 6 and 7. Where one of them is missing or
fails, reading ends, and the messages that were read already are handed back.
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
    """Reads the messages that have arrived, without waiting; dispatches comm messages, and holds all others.

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
        self._tasks: set[Any] = set()  # an event loop keeps weak references to tasks only
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
        """Whether messages can be read; after one failure, no more are read."""
        return self._stream is not None

    def poll(self) -> bool:
        """Dispatch the comm messages that have arrived, and return whether messages can still be read."""
        while self._stream is not None:
            try:
                frames = self._received()
                if frames is None:
                    break
                self._take(frames)
            except Exception:  # no failure here may end the user's run
                self._kernel.log.warning("tape_magic: comm messages cannot be read", exc_info=True)
                self._stream = None
        return self.working

    def _received(self) -> Any:
        """Return the next message, or ``None``."""
        import zmq

        try:
            return self._stream.socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None

    def _take(self, frames: Any) -> None:
        session = self._kernel.session
        self._held.append(frames)
        if len(frames) == 1:
            return  # a message of ipykernel 7 to itself
        identities, parts = session.feed_identities(frames, copy=False)
        # The header alone is read: the session refuses a message that it has deserialized before.
        kind = session.unpack(parts[1].bytes)["msg_type"]
        if kind not in COMM:
            return
        self._held.pop()
        message = session.deserialize(parts, content=True, copy=False)
        # A front end sends the next change of a widget after the kernel was idle once more.
        self._send_state("busy", message)
        try:
            self._kernel.shell_handlers[kind](self._stream, identities, message)
        finally:
            self._send_state("idle", message)
            self._send_state("busy", self._kernel.get_parent("shell"))

    def _send_state(self, state: str, parent: Any) -> None:
        """Send the kernel's state to the front end, as the answer to a message."""
        kernel = self._kernel
        kernel.session.send(
            kernel.iopub_socket,
            "status",
            {"execution_state": state},
            parent=parent,
            ident=kernel._topic("status"),
        )

    def hand_back(self) -> None:
        """Give the kernel the messages that were held, in the order in which they arrived."""
        held, self._held = self._held, []
        for frames in held:
            scheduled = self._callback(frames)
            if inspect.isawaitable(scheduled):
                task = asyncio.ensure_future(scheduled)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)


def _stream(kernel: Any) -> Any:
    """Return the stream whose socket gives the thread of the cells its messages."""
    thread = getattr(kernel, "shell_channel_thread", None)
    if thread is None:
        return kernel.shell_stream
    return thread.manager._shell_channel_to_main.to_stream


@contextmanager
def reading_comms(kernel: Any) -> Iterator[Comms]:
    """Read comm messages within the context; other messages are handed back at its end."""
    comms = Comms(kernel)
    try:
        yield comms
    finally:
        comms.hand_back()
