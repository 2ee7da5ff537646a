"""What the tests in a browser need; where it is not installed, they are not collected."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.jupyter import Server, chromium

if TYPE_CHECKING:
    from pathlib import Path


def _installed() -> bool:
    try:
        return bool(version("playwright")) and int(version("notebook").partition(".")[0]) >= 7
    except PackageNotFoundError:
        return False


# Where everything else is there, CI fails without a browser.
if not _installed() or not (chromium() or os.environ.get("CI")):
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab and Notebook on one server, apart from the settings of whoever runs the tests."""
    folder: Path = tmp_path_factory.mktemp("browser")
    server = Server(folder)
    yield server
    server.close()


@pytest.fixture(scope="package")  # while Playwright runs, so does its loop of asyncio
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    assert path, "the tests in a browser need Chromium: apt-get install chromium"
    arguments = (
        "--no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments.split())
        yield browser
        browser.close()
