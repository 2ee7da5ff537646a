"""The browser over a report: real widgets without a front end, as `--inspect` opens them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from tape_magic.display.live.inspector import ASIDE, Inspector
from tape_magic.display.live.inspector_html import Order, View
from tests.support.notebook import Notebook
from tests.support.reports import derivative, gradients


def report():
    return gradients(
        derivative("y", "first/kernel", value=np.arange(12.0).reshape(3, 4), of_model=True),
        derivative("y", "first/bias", value=np.zeros(4), of_model=True),
        derivative("y", "second/kernel", value=np.full((2, 2), 100.0), of_model=True),
        derivative("y", "second/<script>", value=None, connected=False, of_model=True),
    )


def listed(inspector: Inspector) -> list[str]:
    return [text.split("\u2007")[-1].split("  ")[-1] for text, _ in inspector.list.options]


def test_filter() -> None:
    inspector = Inspector(report())
    assert listed(inspector) == ["first/kernel", "first/bias", "second/kernel", "second/<script>"]
    inspector.filter.value = "KERNEL"
    assert listed(inspector) == ["first/kernel", "second/kernel"]
    assert inspector.count.value == "2 of 4"
    inspector.filter.value = "nothing of that name"
    assert listed(inspector) == []
    assert inspector.page.value == "Nothing has that in its name."
    inspector.filter.value = ""
    assert "first/kernel" in inspector.page.value


@pytest.mark.parametrize(
    ("order", "first"),
    [(Order.NORM, "second/kernel"), (Order.ZEROS, "first/bias"), (Order.NAME, "first/bias")],
)
def test_order(order: Order, first: str) -> None:
    inspector = Inspector(report())
    inspector.order.value = order
    assert listed(inspector)[0] == first


def test_one_after_the_other() -> None:
    inspector = Inspector(report())
    inspector.next.click()
    assert inspector.list.value == 1
    inspector.previous.click()
    inspector.previous.click()
    assert inspector.list.value == 0


def test_nothing_is_drawn_before_it_is_looked_at() -> None:
    whole = report()
    Inspector(whole)
    assert "summary" in vars(whole.rows[0])
    assert "summary" not in vars(whole.rows[2])


def test_views() -> None:
    value = np.linspace(-1.0, 1.0, 50).reshape(5, 10)
    inspector = Inspector(gradients(derivative("y", "w", value=value, source=value**2)))
    assert [view for _, view in inspector.view.options] == list(View)
    pages = set()
    for view in View:
        inspector.view.value = view
        assert "<img" in inspector.page.value
        pages.add(inspector.page.value)
    assert len(pages) == 3


def test_names_are_escaped() -> None:
    inspector = Inspector(report())
    inspector.list.value = 3
    assert "&lt;script&gt;" in inspector.page.value
    assert "<script" not in inspector.page.value


def test_the_magic_leaves_the_report_behind(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=tf.Variable([1.0, 2.0, 3.0]))
    run = shell.ok("%%grad dy/dx --inspect\ny = tf.reduce_sum(x**2)")
    assert "∂y/∂x" in run.displayed[0].text
    assert run.displayed[1].text == ASIDE
    assert "application/vnd.jupyter.widget-view+json" in run.displayed[1].data
    (row,) = shell.ns["grads"]
    assert row.source is shell.ns["x"]
    assert math.isclose(row.summary.norm, math.sqrt(4 + 16 + 36))
    assert not shell.ok("%%grad dy/dx --inspect -q\ny = tf.reduce_sum(x**2)").displayed
