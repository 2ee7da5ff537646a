"""A kernel for the soak: cells in, replies out, and interrupts in between."""

from __future__ import annotations

import ast
import json
import os
import queue
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

PATIENCE = 300.0  # seconds until a kernel counts as hung


class Hung(Exception):
    """The kernel does not answer."""


@dataclass
class Ran:
    """What one cell brought."""

    status: str = ""
    reply: dict[str, Any] = field(default_factory=dict)
    stderr: str = ""
    stdout: str = ""
    shown: list[dict[str, Any]] = field(default_factory=list)
    buttons: dict[str, str] = field(default_factory=dict)


class Driver:
    """A kernel in a folder of its own, apart from the settings of whoever runs the soak."""

    def __init__(self, folder: Path) -> None:
        here = str(Path(__file__).parent)
        root = str(Path(__file__).parents[2])
        home = {name: str(folder / name.lower()) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR")}
        environment = {
            **os.environ,
            **home,
            "PYTHONPATH": os.pathsep.join([root, here, os.environ.get("PYTHONPATH", "")]),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(
            cwd=str(folder), env=environment, extra_arguments=["--HistoryManager.hist_file=:memory:"]
        )
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self._replies: dict[str, dict[str, Any]] = {}
        self._outputs: dict[str, Ran] = {}
        self._idle: set[str] = set()

    def send(self, text: str, **more: Any) -> str:
        request = str(self.client.execute(text, allow_stdin=True, **more))
        self._outputs[request] = Ran()
        return request

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def click(self, request: str, word: str) -> bool:
        """Click the button with a word on it, if the cell has shown one."""
        model = self._outputs[request].buttons.get(word)
        if model is None:
            return False
        content = {"comm_id": model, "data": {"method": "custom", "content": {"event": "click"}}}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", content))
        return True

    def wait(self, seconds: float) -> None:
        """Take in what the kernel sends, for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._take(min(left, 0.05))

    def ended(self, request: str) -> bool:
        return request in self._idle and request in self._replies

    def finish(self, request: str, patience: float = PATIENCE, lost: bool = False) -> Ran:
        """Wait until a cell has ended.

        An interrupt that falls into the kernel's own code costs the reply: that is the kernel's doing,
        and the cell then has the status ``"lost"``, where that may be.
        """
        deadline = time.monotonic() + patience
        while not self.ended(request):
            self._take(0.2)
            if time.monotonic() > deadline:
                if lost:
                    break
                raise Hung(f"no answer within {patience:.0f} s")
        ran = self._outputs.pop(request)
        ran.reply = self._replies.pop(request, {"status": "lost"})
        ran.status = str(ran.reply["status"])
        self._idle.discard(request)
        return ran

    def look(self, check: str = "") -> dict[str, Any]:
        """What the probe sees."""
        expression = f"__import__('soak_probe').look(get_ipython(), {check!r})"
        while True:
            ran = self.finish(self.send("", silent=True, user_expressions={"seen": expression}))
            if ran.status != "aborted":  # a kernel does not run what comes right after an error
                break
            time.sleep(0.05)
        seen = ran.reply.get("user_expressions", {}).get("seen", {})
        if seen.get("status") != "ok":
            raise Hung(f"the probe failed: {ran.reply}")
        return dict(json.loads(ast.literal_eval(seen["data"]["text/plain"])))

    def _take(self, timeout: float) -> None:
        try:
            message = self.client.get_iopub_msg(timeout=timeout)
        except queue.Empty:
            message = None
        if message is not None:
            self._note(message)
        try:
            while True:
                reply = self.client.get_shell_msg(timeout=0)
                self._replies[reply["parent_header"].get("msg_id", "")] = dict(reply["content"])
        except queue.Empty:
            if not self.manager.is_alive():
                raise Hung("the kernel has died") from None

    def _note(self, message: dict[str, Any]) -> None:
        request = message["parent_header"].get("msg_id", "")
        ran, kind, content = self._outputs.get(request), message["msg_type"], message["content"]
        if ran is None:
            return
        if kind == "status" and content["execution_state"] == "idle":
            self._idle.add(request)
        elif kind == "stream":
            if content["name"] == "stderr":
                ran.stderr += content["text"]
            else:
                ran.stdout += content["text"]
        elif kind in ("display_data", "update_display_data", "execute_result"):
            ran.shown.append(content["data"])
        elif kind == "comm_open":
            state = content["data"].get("state", {})
            if "Button" in str(state.get("_model_name")):
                ran.buttons[str(state.get("description"))] = content["comm_id"]

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
