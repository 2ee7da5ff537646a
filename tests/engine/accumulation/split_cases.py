"""Gradients shared out to logical CPUs: cases for a process of their own, which has so many of them."""

from __future__ import annotations

from typing import Any

CELLS = {
    "mean": "loss = loss_fn(yb, model(xb))",
    "mean and penalty": "loss = loss_fn(yb, model(xb)) + 0.01 * tf.nn.l2_loss(model.layers[0].kernel)",
    "sum": "loss = tf.reduce_sum(keras.losses.sparse_categorical_crossentropy(yb, model(xb), True))",
    "lookup": "loss = tf.reduce_mean(tf.reduce_sum(tf.gather(table, yb), 1) * xb[:, 0])",
    "two": "loss = loss_fn(yb, model(xb))\nsize = tf.reduce_sum(model(xb) ** 2)",
}
LINES = {"two": "loss, size", "lookup": "dloss/dtable"}
TABLE = "table = tf.Variable(np.linspace(0, 1, 12).reshape(4, 3).astype('float32'))"
SETUP = f"""
import keras
import numpy as np
import tensorflow as tf
keras.utils.set_random_seed(0)
generator = np.random.default_rng(0)
x = generator.normal(size=(ROWS, 8)).astype("float32")
y = generator.integers(0, 4, ROWS).astype("int32")
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(4)])
loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
{TABLE}
"""


def notebook(devices: int, rows: int = 53) -> Any:
    """A notebook with so many logical CPUs, a model, and data with so many rows."""
    from IPython.core.interactiveshell import InteractiveShell

    from tests.support.notebook import Notebook

    shell = Notebook(InteractiveShell.instance())
    shell.ok("%load_ext tape_magic")
    shell.ok(f"%tfgpu --cpu --split {devices} -q")
    shell.ok(SETUP.replace("ROWS", str(rows)))
    return shell


def _numbers(shell: Any) -> dict[str, Any]:
    import tensorflow as tf

    rows = shell.ns["grads"]
    return {row.key: tf.convert_to_tensor(row.value).numpy() for row in rows}


def distances(devices: int, rows: int) -> dict[str, Any]:
    """For each cell, how far the gradients of all devices are from those of one, and what is said of it."""
    import numpy as np

    shell, found = notebook(devices, rows), {}
    for name, cell in CELLS.items():
        line = LINES.get(name, "loss")
        shell.ok(f"%%grad {line}\nxb, yb = x, y\n{cell}")
        whole, values = (
            _numbers(shell),
            {key: float(shell.ns[key]) for key in line.split("/")[0].split(", ") if key in shell.ns},
        )
        shell.ns.pop("xb"), shell.ns.pop("yb")
        for more in ("", " --batch 20"):
            shell.ok(f'%%grad {line} --for "xb, yb in (x, y)" --strategy mirrored{more}\n{cell}')
            shared = _numbers(shell)
            assert shared.keys() == whole.keys()
            apart = [
                np.abs(shared[key] - whole[key]).max() / max(1, np.abs(whole[key]).max()) for key in whole
            ]
            apart += [abs(float(shell.ns[key]) - one) / max(1, abs(one)) for key, one in values.items()]
            found[name + more] = [float(max(apart)), " ".join(shell.ns["grads"].notes)]
        assert "xb" not in shell.ns
    return found


def places(devices: int) -> list[str]:
    """Where each part was computed, as the cell sees it."""
    shell = notebook(devices)
    shell.ns["seen"] = []
    shell.ok(
        '%%grad loss --for "xb, yb in (x, y)" --strategy mirrored -q\n'
        "logits = model(xb)\nseen.append((logits.device, len(yb)))\nloss = loss_fn(yb, logits)"
    )
    return [f"{device.rpartition('device:')[2]} {rows}" for device, rows in shell.ns["seen"]]


def of_the_notebook(devices: int) -> dict[str, Any]:
    """A strategy of the notebook's, by its name and by an expression."""
    shell = notebook(devices)
    shell.ok("mirror = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1'])")
    found = {}
    for word in ("mirror", "tf.distribute.OneDeviceStrategy('CPU:1')"):
        shell.ok(
            f'%%grad loss --for "xb, yb in (x, y)" --strategy "{word}" -q\nloss = loss_fn(yb, model(xb))'
        )
        found[word] = list(shell.ns["grads"].notes)
    assert not shell.ns["tf"].distribute.has_strategy()
    return found


def made_in_a_scope(devices: int) -> list[float]:
    """A model that was made in the scope of a strategy has the gradients of one that was not."""
    import numpy as np

    shell = notebook(devices)
    shell.ok(
        "keras.utils.set_random_seed(0)\nwith tf.distribute.MirroredStrategy(['CPU:0', 'CPU:1']).scope():\n"
        "    layers = [keras.layers.Dense(16, 'tanh'), keras.layers.Dense(4)]\n"
        "    other = keras.Sequential([keras.Input((8,)), *layers])\n"
        "other.set_weights(model.get_weights())"
    )
    line = '--for "xb, yb in (x, y)" --strategy mirrored -q'
    found = []
    for name in ("model", "other"):
        shell.ok(f"%%grad dloss/d{name} {line}\nloss = loss_fn(yb, {name}(xb))")
        found.append([gradient.numpy() for gradient in shell.ns[f"dloss_d{name}"]])
    return [float(np.abs(one - other).max()) for one, other in zip(*found, strict=True)]


STAYS = "wb goes whole to each device, and is not cut with the rows"
NO_MEAN = "is not made of those of its rows"
PARTS_OF_A_BATCH = {
    "a weight for each class": (
        "class_weights",
        "loss = tf.reduce_mean(tf.gather(wb, yb) * rows_of(yb, model(xb)))",
        STAYS,
    ),
    "a factor for each feature": ("factors", "loss = tf.reduce_mean(rows_of(yb, model(xb * wb)))", STAYS),
    "a sum with weights for each class": (
        "class_weights",
        "loss = tf.reduce_sum(tf.gather(wb, yb) * rows_of(yb, model(xb)))",
        STAYS,
    ),
    "a weight for each row": ("row_weights", "loss = tf.reduce_mean(wb * rows_of(yb, model(xb)))", ""),
    "a second input": ("inputs", "loss = tf.reduce_mean(rows_of(yb, model(xb) + model(wb)))", ""),
    "a part that is not read": ("row_weights", "loss = tf.reduce_mean(rows_of(yb, model(xb)))", ""),
    "rows against each other": (
        "row_weights",
        "v = model(xb)\nloss = tf.reduce_mean(wb * tf.reduce_logsumexp(v @ tf.transpose(v), 1))",
        NO_MEAN,
    ),
}
"""Third parts of a batch of eight rows, a cell, and what is to be said of it; empty for nothing."""


def parts_that_stay_whole(devices: int) -> dict[str, Any]:
    """For each cell, the distance from the gradients of whole batches, and what is said."""
    import numpy as np
    import tensorflow as tf

    shell, found = notebook(devices, 40), {}
    shell.ok(
        "def rows_of(y, logits):\n    return keras.losses.sparse_categorical_crossentropy(y, logits, True)\n"
        "def batches_with(parts):\n    return [(x[at : at + 8], y[at : at + 8], one) for at, one in parts]\n"
        "firsts, ramp = range(0, 40, 8), np.linspace(0.5, 2, 8).astype('float32')\n"
        "class_weights = factors = batches_with([(at, ramp) for at in firsts])\n"
        "row_weights = batches_with([(at, generator.uniform(size=8).astype('float32')) for at in firsts])\n"
        "inputs = batches_with([(at, x[at : at + 8] ** 2) for at in firsts])\n"
        "parts = tf.data.Dataset.from_tensor_slices((x, y)).batch(8, drop_remainder=True)\n"
        "of_tensorflow = parts.map(lambda x, y: (x, y, tf.constant(ramp)))"
    )
    cases = {
        **PARTS_OF_A_BATCH,
        "a dataset": ("of_tensorflow", *PARTS_OF_A_BATCH["a weight for each class"][1:]),
    }
    for name, (data, cell, said) in cases.items():
        gradients = []
        for strategy in ("--strategy mirrored", ""):
            shell.ok(f'%%grad dloss/dmodel --for "xb, yb, wb in {data}" {strategy} -q\n{cell}')
            gradients.append([tf.convert_to_tensor(one).numpy() for one in shell.ns["dloss_dmodel"]])
            notes = " ".join(shell.ns["grads"].notes)
            assert (STAYS in notes) is (said == STAYS and bool(strategy)), (name, notes)
            assert (NO_MEAN in notes) is (said == NO_MEAN), (name, notes)
            assert "taken for" not in notes, (name, notes)
            assert said == NO_MEAN or f"is a {'sum' if 'sum' in name else 'mean'}" in notes, (name, notes)
        apart = [np.abs(one - other).max() for one, other in zip(*gradients, strict=True)]
        found[name] = [float(max(apart)), said]
    return found


def half_precision(devices: int) -> dict[str, str]:
    """What is said of means that are computed in less than float32, and of rows against each other."""
    shell, found = notebook(devices, 40), {}
    for policy in ("mixed_bfloat16", "mixed_float16"):
        shell.ok(
            f"keras.config.set_dtype_policy('{policy}')\n"
            "layers = [keras.layers.Dense(16, 'tanh'), keras.layers.Dense(4)]\n"
            "half = keras.Sequential([keras.Input((8,)), *layers])\n"
            "keras.config.set_dtype_policy('float32')"
        )
        for name, cell in {
            "layers": "logits = tf.cast(half(xb), tf.float32)\nloss = loss_fn(yb, logits)",
            "a function": "logits = tf.cast(tf.function(half)(xb), tf.float32)\nloss = loss_fn(yb, logits)",
            "rows": "v = tf.cast(half(xb), tf.float32)\n"
            "loss = tf.reduce_mean(tf.reduce_logsumexp(v @ tf.transpose(v), 1))",
        }.items():
            shell.ok(f'%%grad dloss/dhalf --for "xb, yb in (x, y)" --strategy mirrored -q\n{cell}')
            found[f"{policy}, {name}"] = " ".join(shell.ns["grads"].notes)
    return found
