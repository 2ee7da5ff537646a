"""The soak's short form; ``python -m tests.soak`` is the long one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.soak.cells import Cell
from tests.soak.soak import Soak


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Soak]:
    """One kernel, with a few dozen cells typed into it."""
    soak = Soak(tmp_path_factory.mktemp("soak"), seed=1)
    yield soak
    soak.close()


SLIPS = {
    "u.assign_sub(2.0**-20)": "no whole step: [1.0, -0.0, -0.0, -0.0, -0.0]",
    "f = 2.0 + 1e-9": "other objects behind the names ['f']",
    "import threading as t_; t_.Thread(target=time.sleep, args=(90,), name='T', daemon=True).start()": "'T'",
    "f_ = open('left', 'w')": "left over: files",
    "get_ipython().events.register('post_run_cell', lambda *a: None)": "left over: events",
    "from tensorflow.python.framework import op_callbacks as o_\n"
    "o_.add_op_callback(lambda *a, **k: None)": "left over: listeners",
    "1/0": "ZeroDivisionError",
}


def test_thirty_cells_and_what_would_have_been_found(soak: Soak) -> None:
    report = soak.run(30)
    assert report.faults == [], str(report)
    assert report.counts["interrupts"] > 0
    assert report.counts["refused"] > 0
    # A soak that finds nothing must be able to find something.
    soak.setup()
    for text, said in SLIPS.items():
        before = len(report.faults)
        soak.one(Cell(text))
        assert said in "\n".join(report.faults[before:]), text
