"""What the engines of a notebook show in it while they train together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import engines
from tests.support.kernels import Kernel, started

ROOT = Path(__file__).parents[2]
LATER = "%px from tape_magic.display.live import progress; progress.QUIET_SECONDS = 0.0"


@pytest.fixture(scope="module")
def kernel(apart: Path) -> Iterator[Kernel]:
    """The kernel of a notebook with two workers, as Jupyter Server starts it."""
    if find_spec("ipyparallel") is None:
        pytest.skip("ipyparallel is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
        with engines.ended(Path(os.environ["IPYTHONDIR"])):
            kernel = started(apart, [*engines.START, LATER])
            yield kernel
            kernel.close()


def test_worker_0_shows_a_line_and_then_the_report(kernel: Kernel) -> None:
    ran = kernel.ok(engines.training("--epochs 40"))
    line, *later = [one for one in ran.of("display_data") if "[std" in one.content["data"]["text/plain"]]
    assert later == []
    written = [one.content for one in (line, *ran.of("update_display_data"))]
    assert len({one["transient"]["display_id"] for one in written}) == 1
    texts = [one["data"]["text/plain"] for one in written]
    assert all(one.startswith("[stdout:0] ") for one in texts)
    assert "loss" in texts[-2]
    assert " of 400 · " in texts[-2]
    assert texts[-1].strip() == "[stdout:0]"
    assert not any("\r" in one for one in texts)
    reports = [one for one in ran.of("display_data") if "text/html" in one.content["data"]]
    assert ["at step 400" in one.content["data"]["text/plain"] for one in reports] == [True]
    assert ran.of("comm_open") == []
    assert kernel.ok(engines.RAN).stdout == "[(400, 'EPOCHS'), (400, 'EPOCHS')]\n"


def test_what_no_notebook_started_shows_the_report_alone(kernel: Kernel) -> None:
    kernel.ok("%px import os; name = os.environ.pop('JPY_SESSION_NAME')")
    ran = kernel.ok(engines.training("--epochs 40"))
    kernel.ok("%px os.environ['JPY_SESSION_NAME'] = name")
    label, report = ran.of("display_data")
    assert label.content["data"] == {"text/plain": "[output:0]"}
    assert "at step 400" in report.content["data"]["text/plain"]
    assert ran.of("comm_open", "update_display_data") == []
