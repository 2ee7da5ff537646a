"""What left TensorFlow and came back is told with its line; what left and did not is no reason."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tape_magic.results.reasons import Cause
from tests.support.notebook import Notebook

HELPERS = """\
import numpy as np
import tensorflow as tf

KEPT = []


def to_array(v):
    return np.array(v)


def scalar(v):
    return float(tf.reduce_sum(v))


def keep(v):
    KEPT.append(float(tf.reduce_sum(v)))


def last():
    return KEPT[-1]


def loss_and_metric(v, w):
    metric = float(tf.reduce_mean(v))
    return {"loss": tf.constant(2.0) * w, "metric": metric}


class Meter:
    def update(self, v):
        self.value = float(tf.norm(v))
"""


@pytest.fixture
def notebook(shell: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A notebook with two sources, a variable beside them, and a module of the user's own."""
    (tmp_path / "users_helpers.py").write_text(HELPERS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    shell.ok(
        "import collections, dataclasses, functools, json, math, random\n"
        "import keras, numpy as np, pandas as pd, tensorflow as tf, users_helpers\n"
        "from scipy import special\n"
        "from users_helpers import to_array\n"
        "x, w, a = tf.Variable([1.0, 2.0]), tf.Variable(3.0), tf.Variable(2.0)\n"
        "rng = np.random.default_rng(0)"
    )
    yield shell
    sys.modules.pop("users_helpers", None)


def why(notebook: Notebook, cell: str, before: str = "", line: str = "dy/dx") -> str:
    if before:
        notebook.ok(before)
    notebook.ok(f"%%grad {line} -q\n{cell}")
    (row, *_) = notebook.ns["grads"].rows
    assert row.value is None
    return str(row.why)


# Each cell takes a value of x out of TensorFlow, and y is computed without it.
BESIDE = {
    "a dict": 'out = {"norm": float(tf.norm(x)), "y": tf.constant(2.0) * w}\ny = out["y"]',
    "nested dicts": (
        'out = {"logs": {"norm": float(tf.norm(x))}, "losses": {"y": tf.constant(2.0) * w}}\n'
        'y = out["losses"]["y"]'
    ),
    "a dict that grows": (
        'logs = {}\nlogs["norm"] = float(tf.norm(x))\nlogs["scale"] = 2.0\ny = logs["scale"] * w'
    ),
    "a call of dict": 'logs = dict(norm=float(tf.norm(x)), scale=2.0)\ny = logs["scale"] * w',
    "a tuple": "out = (float(tf.norm(x)), tf.constant(2.0) * w)\ny = out[1]",
    "names at once": "n, s = float(tf.norm(x)), 2.0\ny = s * w",
    "names at once, nested": "(n, s), k = (float(tf.norm(x)), 2.0), 3\ny = s * w",
    "bound again": "h = np.sin(x)\nh = tf.constant(1.0)\ny = h * w",
    "a number bound again": "h = float(x[0])\nh = 2.0\ny = h * w",
    "a list of metrics": "kept = []\nfor _ in range(2):\n    kept.append(float(tf.norm(x)))\n    y = w * 2.0",
    "a text": 'text = f"{x[0]:.3f}"\nprint(text)\ny = tf.constant(2.0) * w',
    "JSON": 's = json.dumps({"n": float(tf.norm(x))})\ny = tf.constant(2.0) * w',
    "NumPy, beside NumPy": "norm = np.linalg.norm(x)\ny = tf.reduce_sum(np.ones(3, 'float32') * w)",
    "a comparison": "if float(tf.norm(x)) > 1.0:\n    print('large')\ny = tf.constant(2.0) * w",
    "a choice between numbers": "s = 2.0 if float(tf.norm(x)) > 1 else 1.0\ny = s * w",
    "a check of TensorFlow's": "tf.debugging.assert_greater(tf.norm(x), 0.0)\ny = tf.constant(2.0) * w",
    "a comprehension": (
        "n = [float(v) for v in x]\nys = [tf.constant(float(i)) * w for i in range(3)]\ny = ys[0]"
    ),
    "a loop over pairs": ("for n, v in zip(['a', 'b'], [float(x[0]), 1.0]):\n    print(n, v)\ny = w * 2.0"),
    "a schedule": (
        "for k in range(3):\n    n = float(tf.norm(x))\n    lr = 0.1 * 0.5**k\ny = tf.constant(lr) * w"
    ),
    "a handler": (
        "try:\n    m = float(tf.norm(x))\nexcept ValueError:\n    m = 0.0\ny = tf.constant([1.0]) * w"
    ),
    "a metric of Keras": (
        "m = keras.metrics.Mean()\nm.update_state(x)\nvalue = float(m.result())\ny = tf.constant(2.0) * w"
    ),
    "a module's function": 'out = users_helpers.loss_and_metric(x, w)\ny = out["loss"]',
    "a module that keeps it": "users_helpers.keep(x)\ny = w * 2.0",
    "a match": ("match int(x[0]):\n    case 1:\n        y = w * 2.5\n    case _:\n        y = w * 3.5"),
    "the best so far": "b, n = 10.0, float(tf.norm(x))\nif n < b:\n    b = n\ny = tf.constant(2.0) * w",
    "a loop's end": (
        "for i in range(3):\n    y = w * (2.0 + i)\n    if float(tf.norm(x)) < 0.1:\n        break"
    ),
    "an accuracy": ("k = np.mean(np.argmax(x.numpy()) == 1)\ny = tf.reduce_mean((w - np.float32(1.0)) ** 2)"),
    "a grid of NumPy's": (
        "n = np.linalg.norm(x)\ng = np.sin(np.linspace(0, 1, 5)).astype('float32')\ny = tf.reduce_sum(w * g)"
    ),
    "a loss of Keras": (
        "n = float(tf.norm(x))\ny = keras.losses.Huber()(tf.constant([[1.0]]), tf.reshape(w, (1, 1)))"
    ),
    "a shape": "n = float(tf.shape(x)[0])\ny = a / n",
}

# The same, with a cell before.
BESIDE_WITH = {
    "a step": (
        "def step(v):\n    metric = float(tf.reduce_mean(v))\n    return tf.constant(2.0) * w, metric",
        "y, metric = step(x)",
    ),
    "a step with logs": (
        'def step(v):\n    logs = {}\n    logs["n"] = tf.norm(v).numpy()\n'
        '    logs["loss"] = w * tf.constant(3.0)\n    return logs',
        'y = step(x)["loss"]',
    ),
    "a method": (
        "class Trainer:\n    def __init__(self):\n        self.history = []\n"
        "    def step(self, v):\n        m = float(tf.reduce_mean(v))\n        self.history.append(m)\n"
        "        return tf.constant(2.0) * w, m\ntrainer = Trainer()",
        "y, m = trainer.step(x)",
    ),
    "an attribute": (
        "class Log: pass\nlog = Log()\nlog.scale = 2.0",
        "log.norm = float(tf.norm(x))\ny = w * log.scale",
    ),
    "a named tuple": (
        'Out2 = collections.namedtuple("Out2", "norm loss")',
        "y = Out2(float(tf.norm(x)), tf.constant(2.0) * w).loss",
    ),
    "a data class": (
        "@dataclasses.dataclass\nclass Step:\n    norm: float\n    scale: float",
        "r = Step(norm=float(tf.norm(x)), scale=2.0)\ny = w * r.scale",
    ),
    "lists in a dict": (
        'losses = {"n": [], "k": [2.0]}',
        'losses["n"].append(float(tf.norm(x)))\ny = w * losses["k"][0]',
    ),
    "a table of functions": (
        'table = {"norm": lambda v: float(tf.norm(v))}',
        'h = table["norm"](x)\ny = w * 2.0',
    ),
    "an argument": (
        "def report(loss, metric):\n    print(metric)\n    return loss * 1.5",
        "y = report(w * 2.0, float(tf.norm(x)))",
    ),
    "a callback": (
        "seen = []\ndef note(v):\n    seen.append(v.numpy())",
        "note(x)\ny = tf.constant(1.5) * w",
    ),
    "numbers from before": (
        'settings = {"data": np.ones(3, "float32"), "lr": 0.1}',
        'n = np.linalg.norm(x)\ny = tf.reduce_sum(settings["data"] * w) * settings["lr"]',
    ),
    "a model": (
        "m = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, activation='gelu'),\n"
        "    keras.layers.LayerNormalization(), keras.layers.Dense(1)])\nd = tf.ones((3, 2))",
        "n = float(tf.norm(x))\ny = tf.reduce_mean((m(d) - 1.0) ** 2)",
    ),
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_does_not_come_back_is_no_reason(notebook: Notebook, name: str) -> None:
    assert why(notebook, BESIDE[name]) == "y does not read x"


@pytest.mark.parametrize("name", BESIDE_WITH)
def test_what_does_not_come_back_from_a_function_is_no_reason(notebook: Notebook, name: str) -> None:
    before, cell = BESIDE_WITH[name]
    assert why(notebook, cell, before) == "y does not read x"


# Each cell takes a value of x out, and computes y with it: where it left.
BACK = {
    "a dict": (
        'out = {"norm": float(tf.norm(x)), "s": 2.0}\ny = w * out["norm"]',
        "line 2",
        "float(tf.norm(x))",
    ),
    "a text": ('s = f"{x[0]:.3f}"\ny = w * float(s)', "line 2", "f'{x[0]:.3f}'"),
    "the value 1": ("y = w * float(x[0])", "line 2", "float(x[0])"),
    "beside an equal number": ("y = tf.add(float(x[0]), 1.0) * w", "line 2", "float(x[0])"),
    "times a number, so that it is that": ("y = tf.constant(float(x[0]) * 2.0) * w", "line 2", "float(x[0])"),
    "a generator": (
        "def gen():\n    for v in x:\n        yield float(v)\ny = tf.reduce_sum(tf.constant(list(gen())))",
        "line 4",
        "float(v)",
    ),
    "an array's own method": ("y = tf.reduce_sum(tf.constant(x.__array__()))", "line 2", "x.__array__()"),
    "noise of a generator": (
        "noise = rng.normal(0.0, x[0], size=3)\ny = tf.reduce_sum(tf.constant(noise))",
        "line 2",
        "rng.normal(0.0, x[0], size=3)",
    ),
    "pandas": (
        "s = pd.Series(np.asarray(x))\ny = tf.constant(s.to_numpy()) * 2.0",
        "line 2",
        "np.asarray(x)",
    ),
    "SciPy": ("v = special.expit(x)\ny = tf.reduce_sum(tf.constant(v)) * w", "line 2", "special.expit(x)"),
    "math": ("y = w * math.sin(x[0])", "line 2", "math.sin(x[0])"),
    "random": (
        "k = random.uniform(0.0, float(x[0]))\ny = w * k",
        "line 2",
        "float(x[0])",
    ),
    "a static value": (
        "y = tf.reduce_sum(tf.constant(tf.get_static_value(x + 0.0)))",
        "line 2",
        "tf.get_static_value(x + 0.0)",
    ),
    "Keras's conversion": (
        "y = tf.reduce_sum(keras.ops.convert_to_numpy(x)) * w",
        "line 2",
        "keras.ops.convert_to_numpy(x)",
    ),
    "DLPack": (
        "c = tf.experimental.dlpack.to_dlpack(x + 0.0)\n"
        "y = tf.reduce_sum(tf.experimental.dlpack.from_dlpack(c))",
        "line 2",
        "tf.experimental.dlpack.to_dlpack(x + 0.0)",
    ),
    "a memory view": (
        "y = tf.reduce_sum(tf.constant(np.asarray(memoryview(x + 0.0))))",
        "line 2",
        "np.asarray(memoryview(x + 0.0))",
    ),
    "a list that grows": (
        "kept = []\nfor v in x:\n    kept.append(float(v))\ny = tf.reduce_sum(tf.constant(kept))",
        "line 4",
        "float(v)",
    ),
    "a dict comprehension": ("d = {i: float(x[i]) for i in range(2)}\ny = w * d[0]", "line 2", "float(x[i])"),
    "an array that is filled at once": (
        "b = np.zeros((1, 2))\nb[0, :] = x\ny = tf.reduce_sum(tf.constant(b))",
        "line 3",
        "b[0, :] = x",
    ),
    "an argument that is called": (
        "def run(f):\n    return f()\ny = w * run(lambda: float(tf.norm(x)))",
        "line 4",
        "float(tf.norm(x))",
    ),
    "a function within": (
        "def f(v):\n    def g(u):\n        return float(u)\n    return g(v[0])\ny = w * f(x)",
        "line 4",
        "float(u)",
    ),
    "NumPy's function by another name": (
        'f = getattr(np, "sin")\ny = tf.reduce_sum(tf.constant(f(x)))',
        "line 3",
        "f(x)",
    ),
    "NumPy's copy": (
        "h = np.zeros(2)\nnp.copyto(h, x)\ny = tf.reduce_sum(tf.constant(h))",
        "line 3",
        "np.copyto(h, x)",
    ),
    "NumPy's out": (
        "h = np.zeros(2)\nnp.multiply(x, 2.0, out=h)\ny = tf.reduce_sum(tf.constant(h))",
        "line 3",
        "np.multiply(x, 2.0, out=h)",
    ),
    "a queue": (
        "q = collections.deque()\nq.append(float(tf.norm(x)))\ny = w * q[0]",
        "line 3",
        "float(tf.norm(x))",
    ),
    "the next of a generator": ("y = w * next(float(v) for v in x)", "line 2", "float(v)"),
    "a branch": (
        "if w > 0:\n    h = np.sin(x)\nelse:\n    h = tf.zeros(2)\ny = tf.reduce_sum(tf.constant(h))",
        "line 3",
        "np.sin(x)",
    ),
    "an index": ("i = int(x[0])\ny = tf.gather([1.0, 2.0], i) * w", "line 2", "int(x[0])"),
    "a module's array": (
        "y = tf.reduce_sum(tf.constant(to_array(x)))",
        "users_helpers.py, line 8",
        "np.array(v)",
    ),
    "a module's number": (
        "y = w * users_helpers.scalar(x)",
        "users_helpers.py, line 12",
        "float(tf.reduce_sum(v))",
    ),
    "what a module keeps": (
        "users_helpers.keep(x)\ny = w * users_helpers.last()",
        "users_helpers.py, line 16",
        "float(tf.reduce_sum(v))",
    ),
    "what an object of a module keeps": (
        "meter = users_helpers.Meter()\nmeter.update(x)\ny = w * meter.value",
        "users_helpers.py, line 30",
        "float(tf.norm(v))",
    ),
}

BACK_WITH = {
    "a generator": (
        "def gen(v):\n    for one in v:\n        yield one.numpy()",
        "y = tf.reduce_sum(tf.constant(list(gen(x))))",
        "line 3 leaves TensorFlow: one.numpy()",
    ),
    "a table of functions": (
        'table = {"to": lambda v: v.numpy() * 2.0}',
        'h = table["to"](x)\ny = tf.reduce_sum(tf.constant(h))',
        "line 1 leaves TensorFlow: v.numpy()",
    ),
    "a table with NumPy": (
        'table = {"to": lambda v: np.asarray(v) * 2.0}',
        'h = table["to"](x)\ny = tf.reduce_sum(tf.constant(h))',
        "line 1 leaves TensorFlow: np.asarray(v)",
    ),
    "an object that is called": (
        "class Norm:\n    def __call__(self, v):\n        return float(tf.norm(v))\nnorm = Norm()",
        "y = w * norm(x)",
        "line 3 leaves TensorFlow: float(tf.norm(v))",
    ),
    "a class": (
        "class Norm:\n    def __init__(self, v):\n        self.value = float(tf.norm(v))",
        "n = Norm(x)\ny = w * n.value",
        "line 3 leaves TensorFlow: float(tf.norm(v))",
    ),
    "a closure": (
        "def make(v):\n    def inner():\n        return float(tf.norm(v))\n    return inner",
        "f = make(x)\ny = w * f()",
        "line 3 leaves TensorFlow: float(tf.norm(v))",
    ),
    "an operator": (
        "class Norm:\n    def __init__(self, v):\n        self.v = v\n"
        "    def __matmul__(self, k):\n        return float(tf.norm(self.v)) * k",
        "y = w * (Norm(x) @ 2)",
        "line 5 leaves TensorFlow: float(tf.norm(self.v))",
    ),
    "an object that is iterated": (
        "class Values:\n    def __init__(self, v):\n        self.v = v\n"
        "    def __iter__(self):\n        for one in self.v:\n            yield float(one)",
        "y = w * sum(Values(x))",
        "line 6 leaves TensorFlow: float(one)",
    ),
    "a property": (
        "class Norm:\n    def __init__(self, v):\n        self.v = v\n"
        "    @property\n    def value(self):\n        return float(tf.norm(self.v))",
        "n = Norm(x)\ny = w * n.value",
        "line 6 leaves TensorFlow: float(tf.norm(self.v))",
    ),
    "a decorated function": (
        "def plain(f):\n    @functools.wraps(f)\n    def g(*given):\n        return f(*given)\n    return g\n"
        "@plain\ndef norm(v):\n    return float(tf.norm(v))",
        "y = w * norm(x)",
        "line 8 leaves TensorFlow: float(tf.norm(v))",
    ),
    "a dict outside": (
        'STATE = {}\ndef store(v):\n    STATE["n"] = float(tf.norm(v))',
        'store(x)\ny = w * STATE["n"]',
        "line 3 leaves TensorFlow: float(tf.norm(v))",
    ),
    "a global name": (
        "N = 0.0\ndef store(v):\n    global N\n    N = float(tf.norm(v))",
        "store(x)\ny = w * N",
        "line 4 leaves TensorFlow: float(tf.norm(v))",
    ),
    "a layer": (
        "class Mine(keras.layers.Layer):\n    def call(self, v):\n"
        "        return tf.constant(v.numpy() * 2.0)",
        "y = tf.reduce_sum(Mine()(x + 0.0)) * w",
        "line 3 leaves TensorFlow: v.numpy()",
    ),
    "a variable that is assigned": (
        "v = tf.Variable([0.0, 0.0])",
        "v.assign(np.sin(x))\ny = tf.reduce_sum(v * 2.0)",
        "line 2 leaves TensorFlow: np.sin(x)",
    ),
}


@pytest.mark.parametrize("name", BACK)
def test_what_comes_back_is_told_with_its_line(notebook: Notebook, name: str) -> None:
    cell, line, text = BACK[name]
    assert why(notebook, cell).startswith(f"{line} leaves TensorFlow: {text}")
    assert notebook.ns["grads"].rows[0].reason.cause is Cause.LEFT


@pytest.mark.parametrize("name", BACK_WITH)
def test_what_comes_back_from_a_function_is_told_with_its_line(notebook: Notebook, name: str) -> None:
    before, cell, told = BACK_WITH[name]
    assert told in why(notebook, cell, before)
    assert notebook.ns["grads"].rows[0].reason.cause is Cause.LEFT


PERHAPS = {
    "a function that is not known": (
        "f = functools.partial(np.sum, axis=0)",
        "h = f(x)\ny = tf.reduce_sum(tf.constant(h)) * w",
        ", line 2: h = f(x)",
    ),
    "a number that became an attribute": (
        "",
        "slope = float(x[1])\ny = tf.nn.leaky_relu(w, alpha=slope)",
        ", line 2: slope = float(x[1])",
    ),
}


@pytest.mark.parametrize("name", PERHAPS)
def test_what_may_have_come_back_is_said_to_be_so(notebook: Notebook, name: str) -> None:
    before, cell, where = PERHAPS[name]
    assert why(notebook, cell, before) == (
        f"y reads x by no operation, but its value may have left TensorFlow{where}"
    )
    assert notebook.ns["grads"].rows[0].reason.cause is Cause.UNKNOWN


def test_what_leaves_before_a_second_derivative(notebook: Notebook) -> None:
    told = "line 2 leaves TensorFlow: float(x[1])"
    assert why(notebook, "y = x[0] * float(x[1])", "", "d2y/dx2").startswith(told)
    assert why(notebook, "y = 3.0 * x[0]\nk = float(x[1])", "", "d2y/dx2") == "∂y/∂x does not depend on x"


MODEL = (
    "layers = keras.layers\n"
    "m = keras.Sequential([keras.Input((2,)), layers.Dense(4, activation='gelu'), layers.Dense(1)])\n"
    "d, other = tf.ones((3, 2)), keras.layers.Dense(1)\nother.build((3, 4))"
)


def test_the_layers_of_a_model_that_are_not_read_beside_metrics(notebook: Notebook) -> None:
    cell = "n = float(tf.norm(other.kernel))\ny = tf.reduce_mean((m(d) - 1.0) ** 2) * 0.5"
    assert why(notebook, cell, MODEL, "y --wrt other") == "y does not read kernel"
    cell = "n = float(tf.norm(other.kernel))\ny = tf.reduce_mean((m(d) - 1.0) ** 2) * n"
    assert "line 2 leaves TensorFlow: float(tf.norm(other.kernel))" in why(
        notebook, cell, "", "y --wrt other"
    )
    assert notebook.ns["grads"].rows[1].why == "y does not read bias"


def test_where_nothing_can_be_heard_the_text_is_read(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a new TensorFlow has moved its private functions."""
    from tensorflow.python.framework import constant_op, ops

    from tape_magic.engine.internals import conversions

    monkeypatch.setattr(conversions, "_hearers", lambda *given: (_ for _ in ()).throw(AttributeError))
    assert constant_op.convert_to_eager_tensor is not None
    assert ops.EagerTensor is not None
    assert why(notebook, "h = np.sin(x)\ny = tf.constant(h) * 2.0").startswith(
        "line 2 leaves TensorFlow: np.sin(x)"
    )
    assert why(notebook, BESIDE["a dict"]) == "y does not read x"
