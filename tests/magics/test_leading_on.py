"""Cells and lines that cannot be minimised as they are: the refusal leads on; what can be meant works."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.covering import covering
from tests.support.notebook import Notebook

SETUP = "import keras, numpy as np, tensorflow as tf\nx = tf.Variable(3.0)\n"
CELL = "loss = (x - 1)**2"
MODEL = (
    "m = keras.Sequential([keras.Input([2]), keras.layers.Dense(2, name='d'), "
    "keras.layers.Dense(1, name='head')])\n"
)
D = "D = np.ones((3, 2), 'float32')\n"
FROZEN = f"{MODEL}m.trainable = False\n"

REFUSED = [
    ("v = 1.0", "z", "z = v**2", "nothing to minimise over was named: --over v."),
    ("v = tf.constant(1.0)", "z", "z = v**2", "nothing to minimise over was named: --over v."),
    ("v, c = 1.0, 2.0", "z", "z = (v - c)**2", "nothing to minimise over was named: --over v or --over c."),
    ("v = np.ones(3)", "z", "z = tf.reduce_sum(v**2)", "nothing to minimise over was named: --over v."),
    ("", "z", "z = 3.0", "z is a float, not a tensor: compute it with TensorFlow."),
    ("", "z --over x", "z = 3.0", "z is a float, not a tensor: compute it with TensorFlow."),
    ("w = 2.0", "z", "z = x.numpy()*w", "z is a float32, not a tensor: compute it with TensorFlow."),
    (
        "",
        "z",
        "z = tf.constant(3.0)",
        "no trainable variable was read: name what to minimise over, for example --over x.",
    ),
    ("e = []", "loss --over e", CELL, "e is empty: there is no variable, tensor, float or array in it."),
    ("e = {}", "loss --over e", CELL, "e is empty: there is no variable, tensor, float or array in it."),
    (
        FROZEN,
        "loss --over m",
        CELL,
        "m has no trainable variables (m.trainable is False): set m.trainable = True.",
    ),
    (
        f"{MODEL}for l in m.layers: l.trainable = False",
        "loss --over m",
        CELL,
        "m has no trainable variables: each of its layers is frozen, or has none; "
        "set trainable = True for one of them.",
    ),
    (
        "f = keras.layers.Flatten()",
        "loss --over f",
        CELL,
        "f has no variables yet: a layer makes them when called, and the cell does not call it.",
    ),
    (
        "loss = 3.0",
        "loss",
        "y = x**2",
        "the cell never assigns loss; it is assigned in an earlier cell, "
        "and the loss has to be computed in this one, at each step",
    ),
    ("", "los", CELL, "the cell never assigns los; did you mean loss?"),
    (
        "def f():\n    return x**2",
        "f",
        "y = 1",
        "f is a function, and the cell never calls it: write f() in the cell.",
    ),
    ("", "loss --over x[:1]", CELL, "--over x[:1]: InvalidArgumentError"),
    (
        "v = tf.Variable([1.0, 2.0])",
        "loss --over v[:1]",
        CELL,
        "v[:1] gives a new tensor, which nothing was computed from: name the variable itself.",
    ),
    ("", "loss --over 3", CELL, "'3' is not a name; write a name such as x, layer.kernel or p['w']."),
    ("", "loss --over f(x)", CELL, "--over f(x): NameError: name 'f' is not defined"),
    (
        "ds = None",
        'loss --for "b in ds"',
        CELL,
        "--for: ds is None, and no data; a function that makes the data has to return them.",
    ),
    (
        "def make(): pass\nb = 3",
        'loss --for "b in make()"',
        CELL,
        "--for: make() is None, and no data; a function that makes the data has to return them.",
    ),
    (
        "it = iter([1])",
        'loss --for "b in it"',
        CELL,
        "it is of type list_iterator, which can be read only once: give a list of the batches, "
        "or the function that makes them.",
    ),
    (
        "ds = [(1, 2)]",
        'loss --for "(a, b), c in ds"',
        CELL,
        "ds gives one value in a batch, and for names 2: a, b.",
    ),
    (
        "ds = [((1, 2), 3)]",
        'loss --for "(a, b), c, d in ds"',
        CELL,
        "ds gives 2 values, and for names 3: (a, b), c, d.",
    ),
    (
        "",
        'loss --for "a, *b in ds"',
        CELL,
        "--for takes \"xb, yb in train\": plain names, each once, not '(a, *b)'.",
    ),
]


@pytest.mark.parametrize(("before", "line", "cell", "message"), REFUSED)
def test_the_refusal_leads_on(shell: Notebook, before: str, line: str, cell: str, message: str) -> None:
    shell.ok(f"{SETUP}{before}")
    said = shell.refused(f"%%minimize {line}\n{cell}")
    assert said == message or (message.endswith("Error") and said.startswith(message))


# -- what works -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('m.get_layer("head")', ["kernel", "bias"]),
        ("m.trainable_variables[:2]", ["d/kernel", "d/bias"]),
        ("\"[v for v in m.trainable_variables if 'bias' in v.path]\"", ["d/bias", "head/bias"]),
        ("m.layers[0]", ["kernel", "bias"]),
        ('"(m.layers[0].kernel, m.layers[1].kernel)"', ["m.layers[0].kernel", "m.layers[1].kernel"]),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "bfgs"])
def test_an_expression_as_a_source(shell: Notebook, source: str, names: list[str], optimizer: str) -> None:
    shell.ok(f"{SETUP}{MODEL}{D}before = [v.numpy() for v in m.trainable_variables]")
    for _ in range(2):
        shell.ok(
            f"%%minimize loss --over {source} --optimizer {optimizer} --steps 3 -q\n"
            "loss = tf.reduce_mean((m(D) - 1)**2)"
        )
    changes = shell.ns["minimum"].variables
    assert [name.partition("sequential")[2].partition("/")[2] or name for name in changes] == names
    moved = [
        not np.array_equal(v.numpy(), b)
        for v, b in zip(shell.ns["m"].trainable_variables, shell.ns["before"], strict=True)
    ]
    assert sum(moved) <= len(names)
    assert any(moved)


def test_a_list_of_places_on_the_line(shell: Notebook) -> None:
    shell.ok(f"{SETUP}a, b, p = tf.Variable(1.0), [tf.Variable(2.0)], 4.0")
    shell.ok(
        '%%minimize loss --over "[a, b[0], p]" --optimizer l-bfgs-b --bounds "a=5:" -q\n'
        "loss = a**2 + b[0]**2 + (p - 1)**2"
    )
    assert list(shell.ns["minimum"].variables) == ["a", "b[0]", "p"]
    assert shell.ns["a"].numpy() == 5.0
    assert type(shell.ns["p"]) is float
    assert shell.ns["p"] == pytest.approx(1.0, abs=1e-4)


DATA = (
    f"{SETUP}X = np.arange(12, dtype='float32').reshape(6, 2)\nt = np.arange(6, dtype='float32')\n"
    "w, calls = tf.Variable([0.0, 0.0]), []\n"
    "ds = tf.data.Dataset.from_tensor_slices((X, t)).batch(2)\n"
    "def gen():\n    calls.append(1)\n    for i in range(3):\n        yield X[2*i:2*i + 2], t[2*i:2*i + 2]\n"
)
STEP = "loss = tf.reduce_mean((tf.reduce_sum(a*w, -1) - y)**2)"


def by_hand(rows: int, epochs: int = 2, lr: float = 0.001) -> list[float]:
    x, t = np.arange(12.0).reshape(6, 2), np.arange(6.0)
    w = np.zeros(2)
    for _ in range(epochs):
        for i in range(0, 6, rows):
            w -= lr * 2 * ((x[i : i + rows] @ w - t[i : i + rows]) @ x[i : i + rows]) / rows
    return [float(one) for one in w]


LOOPS = [
    ("a, y in gen()", 2),
    ("a, y in gen", 2),
    ("a, y in iter(list(gen()))", 2),
    ("a, y in zip(X, t)", 1),
    ("i, (a, y) in enumerate(ds)", 2),
    ("i, (a, y) in enumerate(gen())", 2),
    ("(a, z), y in nested", 2),
    ("((a,), (z, y)) in deeper", 2),
    ("(a, z), y in [((one, two), two) for one, two in gen()]", 2),
    ("[a, y] in ds", 2),
    ("a, y in ds", 2),
    ("a, y in list(gen())", 2),
]


@pytest.mark.parametrize(("loop", "engine"), covering(LOOPS, ["graph", "eager"]))
def test_loops_as_in_python(shell: Notebook, loop: tuple[str, int], engine: str) -> None:
    written, rows = loop
    shell.ok(
        f"{DATA}nested = tf.data.Dataset.from_tensor_slices(((X, t), t)).batch(2)\n"
        "deeper = tf.data.Dataset.from_tensor_slices(((X,), (t, t))).batch(2)"
    )
    shell.ok(
        "%%minimize loss --over w --optimizer sgd --lr 1e-3 --epochs 2 "
        f'--engine {engine} -q --for "{written}"\n{STEP}'
    )
    assert shell.ns["minimum"].steps == 12 // rows
    np.testing.assert_allclose(shell.ns["w"].numpy(), by_hand(rows), rtol=1e-4)
    assert not {"a", "y", "z", "i"} & set(shell.names)


def test_nested_arrays_are_shuffled_alike(shell: Notebook) -> None:
    shell.ok(DATA)
    shell.ok(
        '%%minimize loss --over w --epochs 2 --batch 2 --for "(a, z), y in ((X, t), t)" -q\n'
        f"{STEP} + tf.reduce_sum((z - y)**2)"
    )
    assert shell.ns["minimum"].steps == 6
    assert shell.ns["minimum"].start_loss < 30


def test_a_call_that_can_be_read_again_is_made_once(shell: Notebook) -> None:
    shell.ok(f"{DATA}def make():\n    calls.append(1)\n    return ds\n")
    shell.ok(f'%%minimize loss --over w --epochs 3 --for "a, y in make()" -q\n{STEP}')
    assert len(shell.ns["calls"]) == 1


# -- a cell that steps the variable itself ----------------------------------------------------------------


GRADIENT = "with tf.GradientTape() as t:\n    loss = (x - 1)**2\ng = t.gradient(loss, x)\n"


@pytest.mark.parametrize(
    ("before", "cell", "line"),
    [
        ("", f"{GRADIENT}x.assign_sub(0.1*g)", 5),
        ("", f"{GRADIENT}x.assign(x - 0.1*g)", 5),
        ("opt = keras.optimizers.SGD(0.1)", f"{GRADIENT}opt.apply([g], [x])", 5),
        ("opt = keras.optimizers.Adam(0.1)", f"{GRADIENT}opt.apply_gradients([(g, x)])", 5),
        ("", f"{CELL}\nif loss > 0.5:\n    x.assign_add(0.1)", 4),
        ("", f"{CELL}\nfor _ in tf.range(2):\n    x.assign_sub(0.1)", 4),
        ("@tf.function\ndef f():\n    x.assign_sub(0.1)\n    return (x - 1)**2", "y = 1\nloss = f()", 3),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "bfgs"])
def test_a_step_of_the_cells_own_is_noted_once(
    shell: Notebook, before: str, cell: str, line: int, optimizer: str
) -> None:
    shell.ok(f"{SETUP}{before}")
    shell.ok(f"%%minimize loss --over x --optimizer {optimizer} --steps 3 --engine graph -q\n{cell}")
    said = [note for note in shell.ns["minimum"].notes if "steps x itself" in note]
    assert said == [f"line {line} steps x itself, and so does the optimizer: two steps in one"]


@pytest.mark.parametrize(
    "cell",
    [
        f"{CELL}\nx.assign(tf.maximum(x, 0.0))",
        f"x.assign(tf.clip_by_value(x, -1.0, 5.0))\n{CELL}",
        f"{CELL}\nx.assign(x/tf.norm(x))",
        f"{CELL}\nn.assign_add(1)",
        f"{CELL}\nmean.assign(0.9*mean + 0.1*x)",
        f"{CELL}\nmean.assign_add(0.1*(x - mean))",
        "loss = tf.reduce_sum((norm(x*tf.ones([4, 2]), training=True) - 1)**2)",
    ],
)
def test_what_is_no_step_of_x_is_not_noted(shell: Notebook, cell: str) -> None:
    shell.ok(
        f"{SETUP}n, mean = tf.Variable(0, trainable=False), tf.Variable(0.0, trainable=False)\n"
        "norm = keras.layers.BatchNormalization()"
    )
    shell.ok(f"%%minimize loss --over x --optimizer sgd --steps 3 -q\n{cell}")
    assert not any("itself" in note for note in shell.ns["minimum"].notes)
