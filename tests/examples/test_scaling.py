"""The page on how many devices pay has the figures that its code reckons."""

from __future__ import annotations

import ast
import re

import pytest

from benchmarks.workers import measure
from docs import scaling
from docs.simulation import Design, Link, communication_seconds, ring_seconds
from tests.support.pages import cells_of

TEXT = scaling.PAGE.read_text(encoding="utf-8")


def test_each_table_is_what_the_code_reckons() -> None:
    """python -m docs.scaling writes them."""
    assert scaling.filled(TEXT) == TEXT


def test_all_tables_are_on_the_page_and_no_other() -> None:
    named = re.findall(r"<!-- reckoned: (\w+) -->", TEXT)
    assert sorted(named) == sorted([*scaling.TABLES, "said"])
    without = re.sub(r"<!-- reckoned.*?<!-- end -->", "", TEXT, flags=re.DOTALL)
    assert not re.search(r"^\|", without, re.MULTILINE)


def test_a_changed_figure_would_be_seen() -> None:
    assert scaling.filled(TEXT.replace("| 2 | 1 P |", "| 2 | 3 P |")) == TEXT
    assert "| 2 | 1 P |" in TEXT


def test_the_cell_on_the_page_reckons_as_the_tables_do() -> None:
    (cell,) = cells_of(TEXT)
    found = [
        scaling.speed_up(scaling.MLP, Design.MIRRORED, scaling.ETHERNET[0], count, grown=True)
        for count in (2, 4, 8)
    ]
    assert ast.literal_eval(cell.shown or "") == [round(one, 2) for one in found]


@pytest.mark.parametrize(
    "link", [scaling.PCIE4, scaling.NVLINK3, *scaling.ETHERNET], ids=lambda link: link.name
)
def test_the_formula_of_the_page_is_the_simulation(link: Link) -> None:
    for size in (1e3, 1e6, 1e9):
        assert scaling.simulated(link, size, 8) == pytest.approx(ring_seconds(link, size, 8))


def test_the_loopback_is_foretold_from_its_other_sizes() -> None:
    """Within a factor of 1.6, which tells a ring of two from one that moves twice the bytes or rounds."""
    for size, seconds, guess in scaling.left_out():
        assert 1 / 1.6 < guess / seconds < 1.6, size


def test_a_fit_finds_the_link_that_made_the_points() -> None:
    link = Link("", 2e9, 3e-5)
    points = [(size, ring_seconds(link, size, 2)) for size in (1e3, 1e5, 1e7)]
    found = scaling.loopback(points)
    assert (found.bandwidth, found.latency) == pytest.approx((link.bandwidth, link.latency))


def test_speed_ups() -> None:
    """Two devices and a link that takes as long as the step: half of twice."""
    size = 1e6
    link = Link("", size / 0.5, 0.0)  # the ring of two moves P, which takes 0.5 s
    work = scaling.Work("", size, 1, 0.5, 1)
    assert communication_seconds(Design.MIRRORED, link, size, 2) == pytest.approx(0.5)
    assert scaling.speed_up(work, Design.MIRRORED, link, 2, grown=True) == pytest.approx(1.0)
    assert scaling.speed_up(work, Design.MIRRORED, link, 2, grown=False) == pytest.approx(0.5 / 0.75)
    assert scaling.speed_up(work, Design.ONE_SET, link, 2, grown=True) == pytest.approx(2 / 3)


def test_published_speed_ups_are_not_beyond_what_is_reckoned() -> None:
    for _, found, guess in list(scaling.published_table())[1:]:
        assert float(found) <= float(guess) <= 1.1 * float(found)


def test_short_answers_agree_with_the_tables() -> None:
    assert scaling.first_beyond(scaling.RESNET, scaling.PCIE4, 0.05, grown=True) == 5
    for link in (scaling.PCIE4, scaling.NVLINK3):
        assert scaling.speed_up(scaling.RESNET, Design.ONE_SET, link, 4, grown=True) > 0.9 * 4


def test_two_workers_are_measured_and_end_alike() -> None:
    """What they took depends on the machine; that they end at the same values is looked at by `measure`."""
    (found,) = measure(workers=2, rounds=1, sizes=[1000])
    assert (found.bytes, len(found.together), len(found.alone)) == (1000, 1, 1)
