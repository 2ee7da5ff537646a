"""Cells of a notebook that starts two engines of ipyparallel on this machine, and joins them as workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

START = (
    "import ipyparallel as ipp, socket\n"
    "cluster = ipp.Cluster(n=2, log_level=40)\n"
    "rc = cluster.start_and_connect_sync(activate=True)\n"
    "%pxconfig --progress-after 600",
    "places = [socket.create_server(('localhost', 0)) for _ in range(2)]\n"
    "addresses = ', '.join(f'localhost:{one.getsockname()[1]}' for one in places)\n"
    "[one.close() for one in places]\n"
    "rc[:].push({'addresses': addresses}); rc[:].scatter('index', range(2), flatten=True); None",
    "%%px\n%load_ext tape_magic\n%tfgpu --workers addresses --worker index --wait 5m -q",
    "%%px\n"
    "import numpy as np, tensorflow as tf\n"
    "x = np.random.default_rng(0).normal(size=(200, 4)).astype('float32')\n"
    "w = tf.Variable(tf.zeros(4))",
)
"""The last cell defines data `x` and a variable `w` in both."""

RAN = "print(rc[:].apply_sync(lambda: (minimum.steps, minimum.reason.name)))"


def training(options: str) -> str:
    """A cell in which both train, until it is stopped or its options end it."""
    line = '--over w --for "xb in x" --batch 20 --optimizer sgd --lr 1e-6 --strategy workers'
    return f"%%px\n%%minimize loss {line} {options}\nloss = tf.reduce_mean((xb @ w[:, None] - 1) ** 2)"


@contextmanager
def ended(folder: Path) -> Iterator[None]:
    """Have engines and their controllers ended at last whose folder for IPython this is."""
    try:
        yield
    finally:
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                of_engines = any("ipyparallel" in part for part in process.cmdline())
                if of_engines and process.environ().get("IPYTHONDIR") == str(folder):
                    process.kill()
