"""Measures the seconds and the peak of memory of ``%%minimize`` beside the same loop by hand.

    python -m benchmarks.memory
    python -m benchmarks.memory only "over"
    PYTHONPATH=path/of/another/version python benchmarks/memory.py

Each row runs in a process of its own, which ends itself above a limit of memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

LIMIT = int(float(os.environ.get("LIMIT_GB", "8")) * (1 << 30))
"""Bytes above which a row is given up."""

SECONDS = 600
"""Seconds after which a row is given up."""

IMPORTS = "import numpy as np\nimport tensorflow as tf\n"
ARRAYS = (
    "X = np.random.default_rng(0).normal(size=(60000, 784)).astype('float32')\n"
    "y = X[:, :1].copy()\nw = tf.Variable(tf.zeros((784, 1)))\n"
)
BY_HAND = """
optimizer = tf.keras.optimizers.Adam(1e-3)
optimizer.build([w])
@tf.function
def steps(X, y):
    for _ in tf.range(100):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((X @ w - y)**2)
        optimizer.apply([tape.gradient(loss, w)], [w])
steps(tf.constant(X), tf.constant(y))
"""
REGRESSION = "%%minimize loss --over w --lr 1e-3 --steps 100 -q\nloss = tf.reduce_mean((X @ w - y)**2)"
EULER = (
    "%%minimize loss --over p --lr 0.01 --time 60s -q\nx, v = 1.0, 0.0\nfor _ in range({rounds}):\n"
    "    x, v = x + 0.01*v, v - 0.01*(p[0]*x + p[1]*v)\nloss = (x - 0.2)**2 + (v + 0.1)**2"
)
EULER_STEPS = EULER.replace("--time 60s", "--steps 1000")
EULER_BY_HAND = """
optimizer = tf.keras.optimizers.Adam(0.01)
optimizer.build([p])
@tf.function
def steps():
    for _ in tf.range(1000):
        with tf.GradientTape() as tape:
            x, v = 1.0, 0.0
            for _ in range({rounds}):
                x, v = x + 0.01*v, v - 0.01*(p[0]*x + p[1]*v)
            loss = (x - 0.2)**2 + (v + 0.1)**2
        optimizer.apply([tape.gradient(loss, p)], [p])
steps()
"""
PARAMETERS = "p = tf.Variable([0.3, 0.2])\n"
WEIGHTS = (
    "model = tf.keras.Sequential([tf.keras.layers.Input((4000,)), tf.keras.layers.Dense(5000)])\n"
    "x, y = tf.ones((8, 4000)), tf.ones((8, 5000))\n"
)
MODEL = "%%minimize loss --over model --lr 1e-4 --steps 20{more} -q\nloss = tf.reduce_mean((model(x) - y)**2)"

WEIGHTS_BY_HAND = """
optimizer = tf.keras.optimizers.Adam(1e-4)
optimizer.build(model.trainable_variables)
@tf.function
def steps():
    for _ in tf.range(20):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y)**2)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
steps()
"""
FIT = """
model.compile(tf.keras.optimizers.Adam(1e-4), "mse"{jit})
model.fit(x, y, batch_size=8, epochs=20, verbose=0)
"""
JIT = ", jit_compile=True"
XLA = "@tf.function(jit_compile=True)"
BATCHES = MODEL.replace("--steps 20", '--for "x, y in batches"')

IMAGES = (
    "generator = np.random.default_rng(0)\n"
    "images = generator.integers(0, 256, (60000, 784), dtype=np.uint8)\n"
    "labels = generator.integers(0, 10, 60000).astype('int32')\n"
    "rows = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(10000).batch(128).prefetch(2)\n"
    "layers = tf.keras.layers\n"
    "model = tf.keras.Sequential([layers.Input((784,)), layers.Dense(128, 'relu'), layers.Dense(10)])\n"
    "scaled = tf.keras.Sequential([layers.Input((784,)), layers.Rescaling(1/255), model])\n"
    "given = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)\n"
)
EPOCHS = (
    '%%minimize loss --over model --for "xb, yb in {data}" --epochs {epochs}{more} -q\n'
    "loss = given(yb, model(tf.cast(xb, tf.float32)/255))\n"
)
FIT_EPOCHS = """
scaled.compile(tf.keras.optimizers.Adam(), given{jit})
scaled.fit(rows, epochs={epochs}, verbose=0{more})
"""
FIT_AGAIN = "scaled.fit(rows, epochs=10, verbose=0)"
EPOCHS_BY_HAND = """
optimizer = tf.keras.optimizers.Adam()
optimizer.build(model.trainable_variables)
{function}
def step(xb, yb):
    with tf.GradientTape() as tape:
        loss = given(yb, model(tf.cast(xb, tf.float32)/255))
    optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return loss
@tf.function
def epoch(iterator):
    losses = tf.TensorArray(tf.float32, 469)
    for at in tf.range(469):
        losses = losses.write(at, step(*next(iterator)))
    return losses.stack()
for _ in range({epochs}):
    epoch(iter(rows))
"""
RESTORED = ", callbacks=[tf.keras.callbacks.EarlyStopping('loss', patience=9, restore_best_weights=True)]"


def _rerun(cell: str, times: int = 1) -> str:
    """Return code that runs a cell, and collects what it leaves, so many times."""
    run = f"get_ipython().run_cell({cell!r})"
    return f"import gc\nfor _ in range({times}):\n    {run}\n    _ = gc.collect()\n"


def _more(cell: str, again: str = "") -> tuple[str, str]:
    """Return set-up that runs a cell once, and code that runs it, or `again`, five times more."""
    return _rerun(cell), _rerun(again or cell, 5)


def _epochs(epochs: int, more: str = "", data: str = "rows") -> str:
    return EPOCHS.format(data=data, epochs=epochs, more=more)


def _fit(epochs: int, more: str = "", jit: str = "") -> str:
    return FIT_EPOCHS.format(epochs=epochs, more=more, jit=jit)


ORBIT = (
    "def slope(s, k):\n"
    "    return tf.stack([s[2], s[3], -k[0]*s[0] - k[2]*s[2], -k[1]*s[1] - k[3]*s[3]])\n"
    "def rk4(s, k, h=0.05):\n"
    "    a = slope(s, k); b = slope(s + h/2*a, k); c = slope(s + h/2*b, k); d = slope(s + h*c, k)\n"
    "    return s + h/6*(a + 2*b + 2*c + d)\n"
    "s0 = tf.constant([1.0, 0.5, 0.0, 0.3], tf.float64)\n"
    "seen = np.random.default_rng(0).normal(size=(30, 2))\n"
    "k = tf.Variable([1.1, 1.9, 0.1, 0.05], dtype=tf.float64)\n"
)
UNROLLED = (
    "%%minimize r --over k --optimizer lm -q\ns, path = s0, []\nfor _ in range(30):\n"
    "    s = rk4(s, k)\n    path.append(s[:2])\nr = tf.stack(path) - seen"
)
LOOP = (
    "%%minimize r --over k --optimizer lm -q\ns, path = s0, tf.TensorArray(tf.float64, 30)\n"
    "for i in tf.range(30):\n    s = rk4(s, k)\n    path = path.write(i, s[:2])\nr = path.stack() - seen"
)
DIFFERENCES = """
from scipy.optimize import least_squares
def residuals(values):
    k = tf.constant(values)
    s, path = s0, []
    for _ in range(30):
        s = rk4(s, k)
        path.append(s[:2])
    return (tf.stack(path) - seen).numpy().ravel()
least_squares(residuals, k.numpy(), method="lm")
"""
ROUNDS = "v = tf.Variable([1.0, 2.0])\nimport tape_magic\nloss = lambda: tf.reduce_sum(v**2)\n"
CALLS = (
    "adam = tf.keras.optimizers.Adam(0.01)\n"
    "for _ in range(20):\n    tape_magic.minimize(loss, v, adam, steps=1)"
)

ROWS: dict[str, tuple[str, str]] = (
    {
        "60,000 × 784, a NumPy array": (ARRAYS, REGRESSION),
        "60,000 × 784, `tf.constant`": (ARRAYS + "X, y = tf.constant(X), tf.constant(y)\n", REGRESSION),
        "60,000 × 784, by hand": (ARRAYS, BY_HAND),
        "100 Euler steps that Python unrolls, 60 s": (PARAMETERS, EULER.format(rounds=100)),
        "200 Euler steps that Python unrolls, 60 s": (PARAMETERS, EULER.format(rounds=200)),
        "200 Euler steps, 1,000 steps of Adam": (PARAMETERS, EULER_STEPS.format(rounds=200)),
        "200 Euler steps, 1,000 steps of Adam, by hand": (PARAMETERS, EULER_BY_HAND.format(rounds=200)),
        "20 million weights, Adam": (WEIGHTS, MODEL.format(more="")),
        "20 million weights, Adam, `--keep best`": (WEIGHTS, MODEL.format(more=" --keep best")),
        "20 million weights, Adam, over data": (
            WEIGHTS + "batches = [(x, y)] * 20\n",
            BATCHES.format(more=""),
        ),
        "20 million weights, Adam, over data, `--engine xla`": (
            WEIGHTS + "batches = [(x, y)] * 20\n",
            BATCHES.format(more=" --engine xla"),
        ),
        "20 million weights, Adam, by hand": (WEIGHTS, WEIGHTS_BY_HAND),
        "20 million weights, Adam, by hand, XLA": (WEIGHTS, WEIGHTS_BY_HAND.replace("@tf.function", XLA)),
        "20 million weights, Adam, `fit`": (WEIGHTS, FIT.format(jit="")),
        "20 million weights, Adam, `fit`, XLA": (WEIGHTS, FIT.format(jit=JIT)),
        "MLP over `tf.data`, an epoch": (IMAGES, _epochs(1)),
        "MLP over `tf.data`, ten epochs": (IMAGES, _epochs(10)),
        "MLP over `tf.data`, ten epochs, `--keep best`": (IMAGES, _epochs(10, " --keep best")),
        "MLP over `tf.data`, ten epochs, once more": (IMAGES + _rerun(_epochs(10)), _epochs(10)),
        "MLP over arrays, ten epochs": (IMAGES, _epochs(10, " --batch 128", "(images, labels)")),
        "MLP over `tf.data`, an epoch, `fit`": (IMAGES, _fit(1)),
    }
    | {
        f"MLP over `tf.data`, ten epochs, {name}": (IMAGES + before, cell)
        for name, before, cell in (
            ("graph", "", _epochs(10, " --engine graph")),
            ("graph, `--keep best`", "", _epochs(10, " --engine graph --keep best")),
            ("graph, five times more", *_more(_epochs(10, " --engine graph"))),
            ("graph, `fit`", "", _fit(10)),
            ("graph, `fit` that restores the best", "", _fit(10, RESTORED)),
            ("graph, `fit` five times more", *_more(_fit(10), FIT_AGAIN)),
            ("graph, by hand", "", EPOCHS_BY_HAND.format(epochs=10, function="@tf.function")),
            ("XLA", "", _epochs(10, " --engine xla")),
            ("XLA, `--keep best`", "", _epochs(10, " --engine xla --keep best")),
            ("XLA, five times more", *_more(_epochs(10, " --engine xla"))),
            ("XLA, `fit`", "", _fit(10, jit=JIT)),
            ("XLA, `fit` that restores the best", "", _fit(10, RESTORED, JIT)),
            (
                "XLA, `fit` five times more",
                *_more(_fit(10, jit=JIT), FIT_AGAIN),
            ),
            ("XLA, by hand", "", EPOCHS_BY_HAND.format(epochs=10, function=XLA)),
        )
    }
    | {
        "`lm`, 30 rounds of RK4 that Python unrolls": (ORBIT, UNROLLED),
        "`lm`, 30 rounds of RK4 in `tf.range`": (ORBIT, LOOP),
        "the same by SciPy, finite differences": (ORBIT, DIFFERENCES),
        "20 calls of `minimize(steps=1)`": (ROUNDS, CALLS),
    }
)


def measure(name: str) -> None:
    """Run one row in this process, and print a line of the table."""
    import psutil
    from IPython.core.interactiveshell import InteractiveShell

    process, peak = psutil.Process(), [0]

    def watch() -> None:
        while True:
            peak[0] = max(peak[0], process.memory_info().rss)
            if peak[0] > LIMIT:
                print(f"| {name} | | more than {LIMIT / 1e9:.1f} GB | |", flush=True)
                os._exit(1)
            time.sleep(0.02)

    shell = InteractiveShell.instance()
    set_up, cell = ROWS[name]
    shell.run_cell(f"%load_ext tape_magic\n{IMPORTS}{set_up}")
    before = process.memory_info().rss
    threading.Thread(target=watch, daemon=True).start()
    started = time.perf_counter()
    shell.run_cell(cell)
    seconds = time.perf_counter() - started
    more, kept = (peak[0] - before) / 1e6, (process.memory_info().rss - before) / 1e6
    print(f"| {name} | {seconds:.1f} s | {more:,.0f} MB | {kept:,.0f} MB |", flush=True)
    os._exit(0)  # XLA may still compile


def main() -> None:
    """Print the table, each row from a process of its own."""
    print("| cell | seconds | more at its peak | more afterwards |\n|---|---:|---:|---:|", flush=True)
    words = sys.argv[2:] if sys.argv[1:2] == ["only"] else [""]
    for name in (name for name in ROWS if any(word in name for word in words)):
        command = [sys.executable, os.path.abspath(__file__), name]
        try:
            subprocess.run(command, timeout=SECONDS, stderr=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired:
            print(f"| {name} | more than {SECONDS} s | | |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] != "only":
        measure(sys.argv[1])
    else:
        main()
