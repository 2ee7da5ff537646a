"""A program by itself: has TensorFlow list its GPUs, and multiply two matrices on one of them.

What is wrong with a GPU may end the process, so the doctor runs this apart. It takes the index of the GPU, or
nothing to list them only, and writes lines of JSON.
"""

from __future__ import annotations

import json
import sys
import time

SIZE = 256
"""Rows and columns of the matrices."""


def main(index: int | None) -> None:
    """List, and compute; what TensorFlow refuses is told in its own words."""
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
    # whole numbers below 2**24, so that each is exact in float32 and TensorFloat-32
    right = bool((product == values @ values).all())
    print(json.dumps({"seconds": time.monotonic() - began, "right": right}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else None)
