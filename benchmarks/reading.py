"""Times how many rows one core reads in a second: JPEG files, images in memory, rows of numbers.

    python -m benchmarks.reading [--json measured.json]

The time is that of the process on all cores, so that other programs on the machine change it little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.side_by_side import environment

JPEG, IMAGES, NUMBERS = (
    "a JPEG of 500 × 375, decoded and resized to 224 × 224",
    "an image of 224 × 224 × 3 bytes from an array, shuffled",
    "784 float32 from an array, shuffled",
)


def readers() -> dict[str, tuple[int, Callable[[], Iterable[Any]]]]:
    """Return what is read: the rows of a pass, and what gives their batches."""
    import tensorflow as tf

    from tape_magic.engine.minimization.data.feed import Feed

    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (47, 63, 3)).astype("float32")
    image = tf.image.resize(coarse, (375, 500), "bicubic") + generator.normal(0, 6, (375, 500, 3))
    file = tf.io.encode_jpeg(tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8), quality=90)

    def decoded(content: Any) -> Any:
        return tf.cast(tf.image.resize(tf.io.decode_jpeg(content, 3), (224, 224)), tf.uint8)

    files = tf.data.Dataset.from_tensors(file).repeat(400).map(decoded).batch(32)
    images = generator.integers(0, 256, (2048, 224, 224, 3), dtype=np.uint8)
    numbers = generator.normal(size=(60_000, 784)).astype("float32")
    of_images = Feed((images, np.arange(2048)), ("x", "y"), 256, seed=0)
    of_numbers = Feed((numbers, np.arange(60_000)), ("x", "y"), 1024, seed=0)
    return {JPEG: (400, lambda: files), IMAGES: (2048, of_images.start), NUMBERS: (60_000, of_numbers.start)}


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the rows that a core reads in a second, in each of some passes in turn."""
    rates: dict[str, list[float]] = {}
    kinds = readers()
    for number in range(rounds + 1):
        for name, (rows, batches) in kinds.items():
            started = time.process_time()
            for _ in batches():
                pass
            if number:  # the first pass only makes all ready
                rates.setdefault(name, []).append(rows / (time.process_time() - started))
    return rates


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="a file for what was measured")
    arguments = parser.parse_args()
    said = environment("tensorflow", "numpy")
    print(f"{said}\nload before: {', '.join(f'{one:.2f}' for one in os.getloadavg())}\n")
    rates = measure(arguments.rounds)
    print("| a row | rows a second and core | quartiles |\n|---|---:|---:|")
    for name, found in rates.items():
        low, middle, high = statistics.quantiles(found, n=4)
        print(f"| {name} | {middle:,.0f} | {low:,.0f}–{high:,.0f} |")
    if arguments.json:
        medians = {name: round(statistics.median(found)) for name, found in rates.items()}
        arguments.json.write_text(json.dumps(medians, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
