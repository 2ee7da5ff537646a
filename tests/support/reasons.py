"""Cells of ``%%grad`` with a reason that the report must give, and healthy cells of which it says nothing."""

from __future__ import annotations

import re

from tests.support.notebook import Notebook

BASE = "import tensorflow as tf, numpy as np, keras\n"


def shown(shell: Notebook, before: str, cell: str) -> str:
    """What a cell of the magic shows after an ordinary cell, in one line."""
    shell.ok(BASE)
    shell.ok(before)
    return " ".join(shell.ok(cell).displayed[0].text.split())


def the_reason_is_found(shell: Notebook, before: str, cell: str, why: str, besides: str, never: str) -> None:
    """A row has a reason like `why`; `besides` is shown, and `never` or a name of TensorFlow's is not."""
    text = shown(shell, before, cell)
    rows = shell.ns["grads"].rows
    assert any(re.search(why, row.why) for row in rows), [row.why for row in rows]
    assert re.search(besides, text), text
    assert not re.search(never or "__forward|__inference|CustomGradient|gradient of inner", text), text


def nothing_is_said(shell: Notebook, before: str, cell: str) -> None:
    """No row has a reason, and no note tells of what is not finite, zero or too long."""
    text = shown(shell, before, cell)
    assert [row.why for row in shell.ns["grads"].rows if row.why] == []
    assert not re.search("itself is|at this point|too long", text)
