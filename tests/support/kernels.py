"""Real kernels as a front end talks to them, and the panel of a cell that runs in one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

WIDGET = "application/vnd.jupyter.widget-view+json"
PATIENCE = 300  # seconds until a kernel counts as lost; no test waits for them to pass


@dataclass(frozen=True)
class Message:
    """One message on the channel for outputs, and when the kernel made it."""

    kind: str
    content: dict[str, Any]
    at: float


@dataclass(frozen=True)
class Ran:
    """What running one cell brought."""

    reply: dict[str, Any]
    messages: tuple[Message, ...]

    @property
    def status(self) -> str:
        return str(self.reply["status"])

    def of(self, *kinds: str) -> list[Message]:
        return [message for message in self.messages if message.kind in kinds]

    @property
    def stdout(self) -> str:
        return "".join(m.content["text"] for m in self.of("stream") if m.content["name"] == "stdout")

    @property
    def result(self) -> str:
        (shown,) = self.of("execute_result")
        return str(shown.content["data"]["text/plain"])


class Kernel:
    """A kernel as JupyterLab talks to it: its client takes input."""

    def __init__(self, folder: Path) -> None:
        self.shows = True  # whether it has a view for widgets
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder), extra_arguments=["--HistoryManager.hist_file=:memory:"])
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def start(self, cell: str) -> str:
        return str(self.client.execute(cell, allow_stdin=True))

    def finish(self, request: str) -> Ran:
        """All messages of a request until the kernel is idle, and the reply."""
        messages: list[Message] = []
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message = self._message(request)
            messages.append(message)
            if message.kind == "status" and message.content["execution_state"] == "idle":
                return Ran(self.reply(request), tuple(messages))
        raise AssertionError("the kernel did not become idle")

    def _message(self, request: str) -> Message:
        """The next message of a request. A widget that it shows is shown, and the kernel hears of that."""
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") == request:
                break
        content = message["content"]
        if self.shows and message["msg_type"] == "display_data" and WIDGET in content["data"]:
            self.tell(content["data"][WIDGET]["model_id"], method="update", state={"_view_count": 1})
        return Message(message["msg_type"], content, message["header"]["date"].timestamp())

    def tell(self, model: str, **data: Any) -> None:
        """What the view of a widget sends."""
        content = {"comm_id": model, "data": {"buffer_paths": [], **data}}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))

    def reply(self, request: str) -> dict[str, Any]:
        while True:
            reply = self.client.get_shell_msg(timeout=PATIENCE)
            if reply["parent_header"].get("msg_id") == request:
                return dict(reply["content"])

    def run(self, cell: str) -> Ran:
        ran = self.finish(self.start(cell))
        while ran.status == "aborted":  # a kernel does not run what comes right after an error
            time.sleep(0.1)
            ran = self.finish(self.start(cell))
        return ran

    def ok(self, cell: str) -> Ran:
        ran = self.run(cell)
        assert ran.status == "ok", ran.reply
        return ran

    def wait_for(self, request: str, kind: str) -> list[Message]:
        """The messages until the first of a kind; the request goes on."""
        seen: list[Message] = []
        while not any(message.kind == kind for message in seen):
            seen.append(self._message(request))
        return seen

    @contextlib.contextmanager
    def opens(self, after: float) -> Iterator[None]:
        """Within this, runs open a panel from so many seconds on."""
        self.ok(f"from tape_magic.display.live import progress; progress.QUIET_SECONDS = {after}")
        yield
        self.ok("progress.QUIET_SECONDS = 0.5")

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def started(folder: Path, cells: Iterable[str]) -> Kernel:
    """Return a kernel that can be interrupted and has run cells."""
    kernel = Kernel(folder)
    # What starts the tests in the background may have the kernel ignore interrupts.
    kernel.ok("import signal; signal.signal(signal.SIGINT, signal.default_int_handler)")
    for cell in cells:
        kernel.ok(cell)
    return kernel


LONG = "y --over x --optimizer sgd --lr 1e-9 --steps 1_000_000_000_000_000 --engine xla"
"""Weeks on any machine."""


class Live:
    """A cell that runs, and the buttons of its panel."""

    def __init__(self, kernel: Kernel, cell: str) -> None:
        self.kernel = kernel
        self.request = kernel.start(cell)
        self.seen = kernel.wait_for(self.request, "display_data")

    def click(self, word: str) -> None:
        """Click the button with a word on it."""
        (model,) = [
            message.content["comm_id"]
            for message in self.seen
            if message.kind == "comm_open" and state(message).get("description") == word
        ]
        self.kernel.tell(model, method="custom", content={"event": "click"})

    def until(self, word: str) -> None:
        """Until the panel shows a word."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            new = self.kernel.wait_for(self.request, "comm_msg")
            self.seen += new
            if any(word in str(state(message).values()) for message in new):
                return
        raise AssertionError(f"the panel never shows {word}")

    def finish(self) -> Ran:
        ran = self.kernel.finish(self.request)
        return Ran(ran.reply, (*self.seen, *ran.messages))


def state(message: Message) -> dict[str, Any]:
    """What a message of a widget changes."""
    return dict(message.content.get("data", {}).get("state", {}))
