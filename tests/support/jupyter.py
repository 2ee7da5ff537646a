"""A Jupyter server, and a notebook in a browser as a person uses it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 300  # seconds until something counts as lost; no test waits for them to pass
TOKEN = "browser"

SETTINGS = {
    # Cells that are out of sight stay in the page.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}


def chromium() -> str | None:
    """The path of Chromium or Chrome, if there is one."""
    names = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
    return next((path for path in map(shutil.which, names) if path), None)


class Server:
    """A server of notebooks in a folder, with settings of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "notebooks"
        self.folder.mkdir()
        settings = folder / "settings"
        for name, values in SETTINGS.items():
            file = settings / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values), encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        kernels = folder / "kernels" / "python3"
        kernels.mkdir(parents=True)
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": command, "display_name": "Python 3", "language": "python"}
        (kernels / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
        environment = {
            **os.environ,
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(settings),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        self._log = (folder / "server.log").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
                *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"),
                *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={self.folder}"),
                f"--KernelSpecManager.kernel_dirs=['{folder / 'kernels'}']",
                "--KernelSpecManager.ensure_native_kernel=False",
                "--LabApp.extension_manager=readonly",
            ],
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        until(self._answers, "the server answers")

    def _answers(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text(encoding="utf-8")
        try:
            self.api("GET", "status")
        except OSError:
            return False
        return True

    def api(self, method: str, path: str) -> Any:
        """What the server's API answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/api/{path}", method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def end_kernels(self) -> None:
        """End all kernels, as closing a session does."""
        for session in self.api("GET", "sessions"):
            self.api("DELETE", f"sessions/{session['id']}")

    def write(self, name: str, cells: Sequence[str]) -> Path:
        """A notebook of these cells."""
        import nbformat  # takes seconds, which only the tests that need it are to pay

        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        path = self.folder / name
        nbformat.write(notebook, path)
        return path

    def address(self, name: str, *, lab: bool = True) -> str:
        """Where a notebook opens in JupyterLab, or in Notebook."""
        return f"http://127.0.0.1:{self.port}/{'lab/tree' if lab else 'notebooks'}/{name}?token={TOKEN}"

    def close(self) -> None:
        """End the kernels and the server."""
        try:
            self.end_kernels()
        finally:
            self._process.send_signal(signal.SIGINT)
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._log.close()


def until(holds: Callable[[], Any], what: str, every: float = 0.05) -> Any:
    """Wait for a condition; what it gives then."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = holds()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"never came: {what}")


def exported(path: Path) -> Path:
    """The page that nbconvert makes of a notebook."""
    from nbconvert import HTMLExporter

    page = path.with_suffix(".html")
    page.write_text(HTMLExporter().from_filename(str(path))[0], encoding="utf-8")
    return page


class Page:
    """A notebook in a browser."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.page = browser.new_page(**{"viewport": {"width": 1100, "height": 900}, **options})
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.goto(address)
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell .cm-content")

    def cell(self, number: int) -> Any:
        """A cell, counted from 0."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def prompt(self, number: int) -> str:
        """``[3]:`` of a cell that has run, ``[*]:`` of one that runs."""
        return str(self.cell(number).locator(".jp-InputPrompt").inner_text()).strip()

    def run(self, number: int) -> None:
        """Run a cell; what is pressed while the session connects is lost, so press again."""
        from playwright.sync_api import TimeoutError as PlaywrightTimeout

        before = self.prompt(number)
        for _ in range(40):
            try:
                self.cell(number).locator(".cm-content").click(timeout=3000)
            except PlaywrightTimeout:
                self._asked()
                continue
            self.page.keyboard.press("Shift+Enter")
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline and not self._asked():
                if self.prompt(number) != before:
                    return
                self.page.wait_for_timeout(50)
        raise AssertionError(f"cell {number} does not run")

    def _asked(self) -> bool:
        """Whether a dialog stood before the page, as where a kernel is slow to start. It is agreed to."""
        accept = self.page.locator(".jp-Dialog .jp-mod-accept")
        if not accept.count():
            return False
        accept.first.click()
        return True

    def done(self, number: int) -> None:
        """Wait until a cell has run."""
        self.until(lambda: self.prompt(number)[1:2].isdigit(), f"the end of cell {number}")

    def output(self, number: int) -> Any:
        """All that stands below a cell."""
        return self.cell(number).locator(".jp-OutputArea")

    def text(self, number: int) -> str:
        """The words there; that some spaces do not break is no matter."""
        output = self.output(number)
        return str(output.first.inner_text()).replace("\xa0", " ") if output.count() else ""

    def button(self, number: int, word: str) -> Any:
        """A button below a cell."""
        return self.output(number).get_by_role("button", name=word, exact=True)

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait for a condition while the page lives on."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = holds()
            if found:
                return found
            self.page.wait_for_timeout(100)
        said = self.page.locator("body").inner_text()
        raise AssertionError(f"never came: {what}; the page says\n{said}")

    def says(self, number: int, words: str) -> None:
        """Wait for words below a cell."""
        self.until(lambda: words in self.text(number), f"{words!r} below cell {number}")

    def save(self, path: Path) -> None:
        """Press the keys that save, and wait until the outputs are in the file."""
        before = path.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        self.until(lambda: path.stat().st_mtime_ns > before, "the saved notebook")

    def close(self) -> None:
        """Close the tab, whatever is unsaved."""
        self.page.close(run_before_unload=False)
