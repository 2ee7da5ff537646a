"""Loops of more rounds than can be opened: the last of them say what all of them do."""

from __future__ import annotations

import pytest

from tape_magic.engine.diagnosis import loop_expansion
from tests.support.notebook import Notebook
from tests.support.reasons import nothing_is_said, the_reason_is_found

FOUND: dict[str, tuple[str, ...]] = {
    "5000 sqrt": (
        (
            "x = tf.Variable(0.0)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = 0.0\n"
            "    for i in tf.range(5000):\n"
            "        s += tf.sqrt(v)\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "the gradient of Sqrt is inf for 0, cell \\d+, line 6: s \\+= tf.sqrt",
        "add a little",
        "custom gradient",
    ),
    "3000 round": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        s = tf.round(s) + 1.0\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "0 wherever it exists: Round, cell \\d+, line 6: s = tf.round",
        "",
        "custom gradient",
    ),
    "overflow masked": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        s = s * s + 1.0\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Mul is inf.*line 6",
        "",
        "",
    ),
    "gradient explodes": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        s = 3.9 * s * (1.0 - s)\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "not known.*rounds",
        "",
        "",
    ),
    "sign each": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        s = tf.sign(s)\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Sign.*line 6",
        "",
        "",
    ),
    "stop each": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        s = tf.stop_gradient(s) + 1.0\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "stop_gradient.*line 6",
        "",
        "",
    ),
    "round after": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        s = s * 0.999 + 0.01\n"
            "    return tf.round(s)"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Round.*line 7",
        "",
        "",
    ),
    "nested loops": (
        (
            "x = tf.Variable(0.0)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = 0.0\n"
            "    for i in tf.range(210):\n"
            "        for j in tf.range(4):\n"
            "            s += tf.sqrt(v)\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Sqrt.*line 7|not known.*rounds",
        "",
        "",
    ),
    "assigns in loop": (
        (
            "acc = tf.Variable(0.0)\n"
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        acc.assign_add(1.0)\n"
            "        s = tf.round(s)\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "not known.*(operations|rounds)",
        "",
        "",
    ),
    "random in loop": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        s = tf.round(s) + tf.random.uniform([])\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "not known.*(operations|rounds)",
        "",
        "",
    ),
    "tensorarray": (
        (
            "x = tf.Variable(0.0)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    kept = tf.TensorArray(tf.float32, 3000)\n"
            "    for i in tf.range(300):\n"
            "        kept = kept.write(i, tf.sqrt(v))\n"
            "    return tf.reduce_sum(kept.stack())"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Sqrt.*line 6|not known.*rounds",
        "",
        "",
    ),
    "cond in loop": (
        (
            "x = tf.Variable(0.0)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = 0.0\n"
            "    for i in tf.range(300):\n"
            "        if i > 5:\n"
            "            s += tf.sqrt(v)\n"
            "        else:\n"
            "            s += v\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
        "Sqrt.*line 7",
        "",
        "",
    ),
}
"""The cell before, the cell, what a reason is like, what else the report shows, and what not."""


@pytest.fixture(autouse=True)
def few_rounds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a tenth of the rounds be too many; the first case has as many as are too many in earnest."""
    if "5000" not in request.node.name:
        monkeypatch.setattr(loop_expansion, "MAX_ROUNDS", loop_expansion.MAX_ROUNDS // 10)


@pytest.mark.parametrize("name", FOUND)
def test_the_reason_is_found(shell: Notebook, name: str) -> None:
    the_reason_is_found(shell, *FOUND[name])


HEALTHY: dict[str, tuple[str, ...]] = {
    "healthy": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        s = s * 0.999 + 0.001\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
    ),
    "square at 0": (
        (
            "x = tf.Variable(0.0)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = 0.0\n"
            "    for i in tf.range(300):\n"
            "        s += v**2\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
    ),
    "vanishing": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        s = s * 0.5\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
    ),
    "round beside": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        s = 0.5 * s + 0.1 * tf.round(s)\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
    ),
    "early stop inside": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = v\n"
            "    for i in tf.range(300):\n"
            "        if i < 10:\n"
            "            s = s * 1.1\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
    ),
    "max from -inf": (
        (
            "x = tf.Variable(0.3)\n"
            "@tf.function\n"
            "def f(v):\n"
            "    s = -np.inf\n"
            "    for i in tf.range(300):\n"
            "        s = tf.maximum(s, v)\n"
            "    return s"
        ),
        ("%%grad dy/dx\ny = f(x)"),
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_where_nothing_is_wrong(shell: Notebook, name: str) -> None:
    nothing_is_said(shell, *HEALTHY[name])
