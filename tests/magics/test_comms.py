"""What reads a kernel's messages while a cell runs, when the kernel is not as it was."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from tape_magic.magics.comms import Comms, reading_comms

zmq = pytest.importorskip("zmq")


class Session:
    """As much of a session as is asked of it."""

    def feed_identities(self, frames: list[Any], copy: bool) -> tuple[list[Any], list[Any]]:
        return [], frames

    def unpack(self, text: bytes) -> Any:
        return json.loads(text)

    def deserialize(self, frames: list[Any], content: bool, copy: bool) -> Any:
        return json.loads(frames[1].bytes)

    def send(self, *arguments: Any, **named: Any) -> None:
        pass


def message(kind: str, number: int = 0) -> list[Any]:
    return [zmq.Frame(b""), zmq.Frame(json.dumps({"msg_type": kind, "number": number}).encode())]


class Kernel(SimpleNamespace):
    """A kernel like ipykernel 6 with some messages; `dispatched` and `back` are what becomes of them."""

    def __init__(self, *messages: Any) -> None:
        waiting = iter(messages)
        self.back: list[Any] = []
        self.dispatched: list[Any] = []

        def receive(flags: int, copy: bool) -> Any:
            found = next(waiting, None)
            if found is None:
                raise zmq.Again
            if isinstance(found, Exception):
                raise found
            return found

        stream = SimpleNamespace(
            socket=SimpleNamespace(recv_multipart=receive), _recv_callback=self.back.append
        )
        super().__init__(
            shell_stream=stream,
            session=Session(),
            iopub_socket=None,
            log=logging.getLogger("quiet"),
            shell_handlers={"comm_msg": lambda stream, ident, told: self.dispatched.append(told["number"])},
            get_parent=lambda channel: {},
            _topic=lambda name: name,
        )
        self.log.disabled = True

    def poll(self, times: int = 1) -> bool:
        """Poll within a cell; whether it still works."""

        async def cell() -> bool:
            with reading_comms(self) as comms:
                for _ in range(times):
                    assert comms.poll() is comms.working
                assert not self.back
                return comms.working

        return asyncio.run(cell())


def test_comm_messages_are_dispatched_and_the_rest_comes_back_in_order() -> None:
    rest = [message("execute_request"), message("complete_request"), [zmq.Frame(b"stop aborting")]]
    kernel = Kernel(rest[0], message("comm_msg", 1), rest[1], rest[2], message("comm_msg", 2))
    assert kernel.poll()
    assert kernel.dispatched == [1, 2]
    assert kernel.back == rest


def test_what_cannot_be_read_ends_the_polling_and_loses_nothing() -> None:
    rest = [message("execute_request"), [zmq.Frame(b""), zmq.Frame(b"no json")]]
    kernel = Kernel(*rest, message("comm_msg", 1))
    assert not kernel.poll(times=3)
    assert kernel.dispatched == []
    assert kernel.back == rest
    assert not Kernel(OSError("gone")).poll()


def test_a_handler_that_fails_does_not_end_the_run() -> None:
    kernel = Kernel(message("execute_request"), message("comm_msg"))
    kernel.shell_handlers = {}
    assert not kernel.poll()
    assert len(kernel.back) == 1


@pytest.mark.parametrize("kernel", [None, SimpleNamespace(), SimpleNamespace(shell_channel_thread=object())])
def test_other_kernels_are_left_alone(kernel: Any) -> None:
    async def cell() -> bool:
        comms = Comms(kernel)
        assert not comms.poll()
        comms.hand_back()
        return comms.working

    assert not asyncio.run(cell())


def test_without_the_kernels_loop_nothing_is_read() -> None:
    assert not Comms(Kernel()).working
