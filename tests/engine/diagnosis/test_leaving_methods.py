"""A value that leaves TensorFlow within a method: of the object that holds the source, and of no other."""

from __future__ import annotations

import re

import pytest

from tests.support.notebook import Notebook
from tests.support.reasons import shown, the_reason_is_found

LAYER = """class S(keras.layers.Layer):
    def build(self, shape):
        half = keras.initializers.Constant(0.5)
        self.s = self.add_weight(shape=(), initializer=half, name="s")
        self.rate = self.add_weight(shape=(), initializer=half, name="rate", trainable=False)
        self.alpha, self.table = 0.5, np.array([1.0, 2.0, 3.0])
    def scale(self):
        return np.array(self.table) * self.rate.numpy()
    def call(self, x):
        return {}
data = tf.ones((2, 3))
"""
ALONE = "layer = S(); layer(data)\n"
WITHIN = """class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = [keras.layers.Dense(3), S(), keras.layers.Dense(1)]
    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x
layer = Net(); layer(data)
"""
MODULE = """class M(tf.Module):
    def __init__(self):
        self.s, self.other = tf.Variable(0.5), tf.Variable(2.0)
    def __call__(self, x):
        return {}
layer, data = M(), tf.ones((2, 3))
"""
CELL = "%%grad loss --wrt layer\nloss = tf.reduce_mean(layer(data)**2)"

LEFT = {
    "float": ("x * float(self.s)", r"line 10 leaves TensorFlow: float\(self\.s\)"),
    "numpy": ("x * self.s.numpy()", r"line 10 leaves TensorFlow: self\.s\.numpy\(\)"),
    "an array": ("x * np.array(self.s)", r"line 10 leaves TensorFlow: np\.array\(self\.s\)"),
    "a function of NumPy": (
        "keras.ops.multiply(x, np.exp(self.s))",
        r"leaves TensorFlow: np\.exp\(self\.s\)",
    ),
    "a value made of it": ("x * float(tf.exp(self.s))", r"leaves TensorFlow: float\(tf\.exp\(self\.s\)\)"),
    "beside others": ("x * float(self.rate) * float(self.s) * self.alpha", r"TensorFlow: float\(self\.s\)"),
}
HEALTHY = {
    "a number of the layer's": "x * float(self.alpha)",
    "an array of the layer's": "x * np.exp(self.table)",
    "another variable": "x * float(self.rate)",
    "a method": "x * self.scale()",
    "all of them": "x * self.scale() * np.exp(self.table) * float(self.alpha) * float(self.rate)",
}


@pytest.mark.parametrize("built", [ALONE, WITHIN], ids=["alone", "within a model"])
@pytest.mark.parametrize("name", LEFT)
def test_the_line_in_a_layer(shell: Notebook, name: str, built: str) -> None:
    returned, why = LEFT[name]
    the_reason_is_found(shell, LAYER.format(returned) + built, CELL, why, "", "does not read")


@pytest.mark.parametrize("built", [ALONE, WITHIN], ids=["alone", "within a model"])
@pytest.mark.parametrize("name", HEALTHY)
def test_what_is_not_the_source_has_not_left(shell: Notebook, name: str, built: str) -> None:
    shown(shell, LAYER.format(HEALTHY[name]) + built, CELL)
    whys = [row.why for row in shell.ns["grads"].rows if row.value is None]
    assert len(whys) == 1
    assert whys[0].startswith("loss does not read ")


def test_a_module_that_is_called(shell: Notebook) -> None:
    before = MODULE.format("x * float(self.s) * self.other")
    the_reason_is_found(
        shell, before, CELL, r"line 5 leaves TensorFlow: float\(self\.s\)", "", "does not read"
    )
    shown(
        shell, MODULE.format("x * float(self.other)"), "%%grad loss --wrt layer.s\nloss = layer(data)[0, 0]"
    )
    assert shell.ns["grads"].rows[0].why == "loss does not read layer.s"


def test_of_two_layers_of_a_class_the_one_that_lets_out(shell: Notebook) -> None:
    before = LAYER.format("x * (self.s.numpy() if self.lets_out else self.s)") + (
        "S.lets_out = False\nlayer = keras.Sequential([S(), S()]); layer(data)\n"
        "layer.layers[1].lets_out = True"
    )
    shown(shell, before, CELL)
    whys = [row.why for row in shell.ns["grads"].rows]
    assert sorted(map(bool, whys)) == [False, True]
    assert "leaves TensorFlow: self.s.numpy()" in "".join(whys)


CURES = {
    "an index": ("x = tf.Variable(1.7); a = tf.ones(3)", "y = a[int(x)]**2", "an index has no derivative"),
    "a named index": ("x = tf.Variable(1.7); a = tf.ones(3)", "i = int(x)\ny = a[i]**2", "an index has no"),
    "NumPy of an array": ("x = tf.Variable(0.3)", "y = tf.constant(np.sin(x.numpy()))", "and use tf.sin$"),
    "by a name": ("x = tf.Variable(0.3)", "h = x.numpy()\ny = tf.constant(np.sin(h))", "and use tf.sin$"),
    "a number": ("x = tf.Variable(0.3)", "y = tf.ones(()) * float(x)", r"^leave out float\(\)$"),
    "an array alone": ("x = tf.Variable(0.3)", "y = tf.constant(x.numpy())", r"^leave out \.numpy\(\)$"),
}


@pytest.mark.parametrize("name", CURES)
def test_the_cure_can_help(shell: Notebook, name: str) -> None:
    before, cell, cure = CURES[name]
    shown(shell, before, f"%%grad dy/dx\n{cell}")
    assert re.search(cure, shell.ns["grads"].rows[0].reason.cure), shell.ns["grads"].rows[0].reason


DECIDES = {
    "an if": (
        "if x > 0.0:\n    y = tf.constant(1.0)\nelse:\n    y = tf.constant(2.0)",
        "line 2: if x > 0.0:",
    ),
    "tf.cond": ("y = tf.cond(x > 0.0, lambda: tf.ones(()), lambda: tf.zeros(()))", "line 2: y = tf.cond("),
    "a choice": ("y = tf.constant(1.0 if x > 0.0 else 2.0)", "line 2: y = tf.constant(1.0 if x > 0.0"),
    "a compiled branch": ("y = branch(x)", "line 4: if v > 0.0:"),
    "one that prints": ("if x > 0.0:\n    print(1)\ny = tf.constant(1.0) * w", "line 2: if x > 0.0:"),
}


@pytest.mark.parametrize("name", DECIDES)
def test_what_a_source_only_decides(shell: Notebook, name: str) -> None:
    cell, line = DECIDES[name]
    before = "x, w = tf.Variable(0.3), tf.Variable(2.0)\n@tf.function\ndef branch(v):\n    if v > 0.0:\n"
    before += "        return tf.constant(1.0)\n    return tf.constant(2.0)"
    shown(shell, before, f"%%grad dy/dx\n{cell}")
    why = shell.ns["grads"].rows[0].why
    assert why.startswith("y does not read x; a condition does, ")
    assert line in why


def test_a_number_that_no_operation_made_has_not_left(shell: Notebook) -> None:
    shown(
        shell,
        "x, rows = tf.Variable(1.0), []",
        "%%grad y --wrt x\ny = 0.0\nfor row in rows:\n    y += x * row",
    )
    assert shell.ns["grads"].rows[0].why == "y is a float, not a tensor"


def test_a_metric_is_no_tensor_to_be_made_anew(shell: Notebook) -> None:
    shown(
        shell,
        "x = tf.Variable([0.2, 0.7]); mse = keras.metrics.MeanSquaredError()",
        "%%grad y --wrt x\nmse.update_state([0.0, 1.0], x)\ny = mse.result()",
    )
    assert shell.ns["grads"].rows[0].reason.cure.startswith("a metric only counts")
