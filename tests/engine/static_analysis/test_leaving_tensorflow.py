"""Where a value leaves TensorFlow, from the text alone; the cells themselves never run."""

from __future__ import annotations

import itertools
import linecache
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tape_magic.engine.static_analysis.carried import TensorFlowExit
from tape_magic.engine.static_analysis.leaving_tensorflow import ExitSearch

NUMBERS = itertools.count()


def written(text: str) -> str:
    """Give a text to ``linecache``; return its file name."""
    filename = f"<leaving {next(NUMBERS)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    return filename


def exit_of(text: str, sources: set[str], target: str, **namespace: Any) -> TensorFlowExit | None:
    names = {"tf": tf, "np": np, "math": math, **namespace}
    search = ExitSearch(written(text), (0, 0), names, sources)
    return next(iter(search.exits_to(target).exits), None)


@pytest.mark.parametrize(
    ("text", "line", "expression", "cure"),
    [
        ("h = np.sin(x)\ny = tf.reduce_sum(h)", 1, "np.sin(x)", "use tf.sin"),
        ("h = x * 2.0\ny = np.mean(h)", 2, "np.mean(h)", "use tf.reduce_mean"),
        ("y = x.numpy() ** 2", 1, "x.numpy()", "leave out .numpy()"),
        ("y = float(x) ** 2", 1, "float(x)", "leave out float()"),
        ("y = sum(np.exp(one) for one in tf.unstack(x))", 1, "np.exp(one)", "use tf.exp"),
        ("y = model.predict(x)", 1, "model.predict(x)", "call model(…) itself"),
        ("y = tf.numpy_function(np.sin, [x], tf.float32)", 1, None, "use TensorFlow's own operations"),
        ("a = np.zeros(3)\na[0] = x\ny = tf.constant(a)", 2, "a[0] = x", "keep the values in a list, and"),
        ("h = 0.0\nfor _ in range(2):\n    y = np.sin(h)\n    h = x", 3, "np.sin(h)", "use tf.sin"),
    ],
)
def test_the_first_exit_before_the_target(text: str, line: int, expression: str | None, cure: str) -> None:
    found = exit_of(text, {"x"}, "y")
    assert found is not None
    assert found.line == line
    assert expression is None or found.text == expression
    assert found.cure.startswith(cure)


@pytest.mark.parametrize(
    "text",
    [
        "y = tf.sin(x)",
        "y = tf.sin(x)\nprint(np.mean(y))",
        "n = np.prod(x.shape)\ny = x * n",
        "y = tf.zeros(len(x)) + np.sin(2.0)",
        "z = np.sin(x)\ny = tf.cos(x)",
    ],
)
def test_no_exit_on_the_way_to_the_target(text: str) -> None:
    assert exit_of(text, {"x"}, "y") is None


def test_a_variable_that_is_made_a_constant() -> None:
    found = exit_of("y = tf.constant(v) ** 2", {"v"}, "y", v=tf.Variable(2.0))
    assert found is not None
    assert (found.text, found.cure) == ("tf.constant(v)", "use tf.convert_to_tensor")
    assert exit_of("y = tf.constant(v) ** 2", {"v"}, "y", v=2.0) is None


def test_within_a_function_that_is_called() -> None:
    filename = written("def f(a, b):\n    return tf.sin(a) + np.cos(b)\n")
    names: dict[str, Any] = {"tf": tf, "np": np}
    exec(compile("".join(linecache.getlines(filename)), filename, "exec"), names)
    found = exit_of("y = f(1.0, b=x)", {"x"}, "y", f=names["f"])
    assert found == TensorFlowExit(filename, 2, "np.cos(b)", "use tf.cos")
    assert exit_of("y = f(x, 1.0)", {"x"}, "y", f=names["f"]) is None
