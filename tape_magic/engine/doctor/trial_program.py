"""A program: has TensorFlow list its GPUs, and multiply two matrices on one of them.

A broken GPU may crash the process that uses it, so that the doctor runs this program in a process of its own.
The argument is the index of the GPU; without one, the program only lists the GPUs. The output is lines of
JSON.
"""

from __future__ import annotations

import json
import sys
import time

SIZE = 256
"""Rows and columns of the matrices."""


def main(index: int | None) -> None:
    """List the GPUs, and compute; print TensorFlow's own words if it refuses."""
    try:
        _try(index)
    except Exception as error:
        text = next(iter(str(error).splitlines()), "")
        print(json.dumps({"error": f"{type(error).__name__}: {text}"}), flush=True)


def _try(index: int | None) -> None:
    import numpy as np
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    print(json.dumps({"gpus": len(gpus)}), flush=True)
    if index is None:
        return
    tf.config.set_visible_devices([gpus[index]], "GPU")
    tf.config.experimental.set_memory_growth(gpus[index], True)
    values = np.arange(SIZE * SIZE, dtype="float32").reshape(SIZE, SIZE) % 7
    began = time.monotonic()
    with tf.device("/GPU:0"):
        matrix = tf.constant(values)
        product = (matrix @ matrix).numpy()
    # Each sum is a whole number below 2**24, and each factor is below 7: exact in float32 and TensorFloat-32.
    right = bool((product == values @ values).all())
    print(json.dumps({"seconds": time.monotonic() - began, "right": right}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
