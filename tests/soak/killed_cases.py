"""A run over data with all that it can keep, which a SIGKILL ends somewhere; each in a process of its own."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization.keras_loop import checkpoint, engines
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.steps import Step

ENGINES = ("eager", "graph", "xla", "auto")
DATA = {"arrays": "cosine", "known length": "one-cycle", "unknown length": "plateau:0.5"}
"""The kinds of data, each with a schedule."""

EPOCHS, STEPS_PER_EPOCH, CHANGE = 30, 6, 100
"""With ``auto``, XLA takes over after so many steps."""

ROWS = 96


def run(engine: str, kind: str, folder: str | None, cut: tuple[str, float] | None) -> dict[str, Any]:
    """What a run leaves, to the bit, and its seconds from the first step on; or the process kills itself.

    A `cut` is ``("step", 7)``, once so many steps are applied; ``("validation", 2)``, within that one;
    ``("save", 3)``, when that checkpoint is written; or ``("seconds", 0.5)``, after the first step.
    """
    checkpoint.SECONDS = 0.0
    engines.counted_change = lambda *_, **__: CHANGE
    what, when = cut or ("", 0.0)
    if what == "save":
        _die_at_save(int(when))
    seen: dict[str, Any] = {"validation": 0}

    def tell(step: Step) -> None:
        seen.setdefault("began", time.perf_counter())
        if what == "seconds" and not seen.setdefault("killer", 0):
            seen["killer"] = subprocess.Popen(["sh", "-c", f"sleep {when}; kill -9 {os.getpid()}"]).pid
        seen["validation"] += step.validating
        if seen.get(what, step.step if what == "step" else -1) >= when and what in ("step", "validation"):
            os.kill(os.getpid(), signal.SIGKILL)

    net, loss = _network()
    result = tape_magic.minimize(
        loss,
        None,
        "adam",
        lr=0.02,
        schedule=DATA[kind],
        data=_rows(kind, 0),
        batch=ROWS // STEPS_PER_EPOCH if kind == "arrays" else None,
        val=_rows(kind, 1),
        keep="best",
        epochs=EPOCHS,
        seed=5,
        engine=engine,
        checkpoint=folder,
        resume=folder is not None,
        on_progress=tell,
    )
    return {**_left(result, net), "seconds": time.perf_counter() - seen["began"]}


def _die_at_save(number: int) -> None:
    """Kill the process when it has written a checkpoint, before TensorFlow says that it is the last one."""
    made, write = [0], tf.train.Checkpoint._write

    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        written = write(self, *arguments, **named)
        made[0] += 1
        if made[0] >= number:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    tf.train.Checkpoint._write = wrapped


def _network() -> tuple[Any, Any]:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    net = keras.Sequential(
        [
            keras.Input([4]),
            layers.Dense(8, "relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.2, seed=3),
            layers.Dense(3),
        ]
    )

    def loss(xb: Any, yb: Any, training: bool) -> Any:
        logits = net(xb, training=training)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=yb, logits=logits))

    return net, loss


def _rows(kind: str, seed: int) -> Any:
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(ROWS, 4)).astype("float32"), generator.integers(0, 3, ROWS)
    if kind == "arrays":
        return x, y
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(ROWS, seed=2).batch(ROWS // STEPS_PER_EPOCH)
    return data if kind == "known length" else data.filter(lambda *_: True)


def _left(result: MinimizeResult, net: Any) -> dict[str, Any]:
    assert result.epochs is not None
    assert result.epochs.val_loss is not None
    arrays = {
        "weights": np.concatenate([one.ravel() for one in net.get_weights()]),
        "history": result.history,
        "epochs": np.asarray(result.epochs.loss),
        "validation": np.asarray(result.epochs.val_loss),
    }
    bits = {name: hashlib.sha256(array.tobytes()).hexdigest()[:16] for name, array in arrays.items()}
    return {**bits, "steps": result.steps, "best": result.best_step, "engine": result.engine}
