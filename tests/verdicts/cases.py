"""Rows of a table, each of which is a cell of ``%%minimize`` with what it needs and what is true of it.

A row goes on in the next line if that is indented. Its columns are separated by ``|``:

- what is typed before the cell, after ``PRELUDE``;
- the optimizer, its rate and its steps, each of which may be missing from the end or be ``-``, and options;
- the cell, whose lines are separated by ``⏎``; its loss is y;
- the truth, in Python: the ``line`` of the magic's cell that is to be named, a part of what it ``says``, and
  what the evidence holds, floats within 3 %.

A column of ``"`` says the same as in the row before, and what follows the ``"`` of options is added.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

PRELUDE = """
import math
import numpy as np, tensorflow as tf, keras
from keras import layers as L
from keras.layers import Dense, Input
from keras.optimizers import SGD, Adam, AdamW
from keras.initializers import Constant, RandomNormal
keras.utils.clear_session()
keras.utils.set_random_seed({seed})
rng = np.random.default_rng({seed})
normal = lambda *shape: rng.normal(size=shape).astype("float32")
var = lambda value, dtype="float32": tf.Variable(value, dtype=dtype)
double = lambda value: var(value, "float64")
net = lambda *layers, out=1, rows=(8,): keras.Sequential([Input(rows), *layers, Dense(out)])
down = lambda value: math.floor(value * 1.002 / 10 ** (e := math.floor(math.log10(value)))) * 10.0**e
X = normal(64, 8)
t = np.sin(2 * X[:, :1]) + X[:, 1:2]
t1 = t[:, 0].copy()
c = (t1 > 0).astype("float32")
cc = c[:, None]
k = (c + 2 * (X[:, 2] > 0)).astype("int32")
hot = np.eye(4, dtype="float32")[k]
im = rng.random((32, 12, 12, 1), "float32")
il = (im[:, 3:9, 3:9, 0].mean((1, 2)) > 0.5).astype("int32")
ids = rng.integers(0, 20, (32, 10))
il2 = (ids[:, 0] > 9).astype("int32")
S = normal(32, 6, 3)
ts = S.sum((1, 2))[:, None]
ce = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
def bowl(*curvatures):
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=2 * (len(curvatures),)))[0]
    return double(np.ones(len(curvatures))), tf.constant(Q * curvatures @ Q.T)
q = lambda x, H: tf.tensordot(x, tf.linalg.matvec(H, x), 1) / 2
def sets(features, rows, rows_v, noise, seed=0):
    own = np.random.default_rng(100 + seed)
    A, V = (own.normal(size=(n, features)) for n in (rows, rows_v))
    truth = own.normal(size=features) / features**0.5
    b, u = (D @ truth + noise * own.normal(size=len(D)) for D in (A, V))
    return [part.astype("float32") for part in (A, b, V, u)]
def turn(A, b, V, u, rate, epochs, ridge=0.0):
    A, b, V, u = (part.astype(float) for part in (A, b, V, u))
    w, losses = np.zeros(A.shape[1]), []
    for _ in range(epochs):
        w = w - rate * 2 * (A.T @ (A @ w - b) / len(b) + ridge * w)
        losses.append(np.mean((V @ w - u)**2))
    return 1 + int(np.argmin(losses))
mv = tf.linalg.matvec
"""
"""Data, and short names: ``bowl`` gives a point and a Hessian of known eigenvalues, ``q`` half of xᵀHx.

``sets`` gives rows for least squares, and others for a validation; gradient descent from 0 by all rows
at once has its lowest validation at the end of epoch ``turn``.
"""


@dataclass(frozen=True)
class Case:
    """A row: the code before the cell, the line of the magic, the cell, and the truth in Python."""

    setup: str
    line: str
    body: str
    truth: str = ""

    @property
    def cell(self) -> str:
        return f"%%minimize {self.line}\n{self.body}"


def read(table: str) -> Iterator[Case]:
    """Yield the cases of a table."""
    before, kept = ["", "", ""], ""
    for row in table.strip().replace("\n    ", " ").splitlines():
        given, truth = (columns := f" {row} ".split(" | "))[:3], columns[3:]
        before = [old if new.strip() == '"' else new.strip() for old, new in zip(before, given, strict=True)]
        setup, options, body = before
        if options.startswith('"'):
            options = kept + options[1:]
        else:
            kept = options
        before[1] = kept
        yield Case(setup, _line(options), re.sub(" ?⏎ ?", "\n", body), "".join(truth).strip())


def _line(options: str) -> str:
    """Return the line of the magic: ``sgd 0.1 50`` is ``--optimizer sgd --lr 0.1 --steps 50``."""
    short, dashes, rest = options.partition("--")
    values = re.findall(r"\w+\(.*\)|\S+", short)
    named = zip(("--optimizer", "--lr", "--steps"), values, strict=False)
    spelled = [f'{option} "{value}"' for option, value in named if value != "-"]
    return " ".join(["y", *spelled, dashes + rest]).strip()


def is_python(case: Case) -> bool:
    """Return whether all columns of a case can be read."""
    for text in (case.setup, case.body, f"dict({case.truth})"):
        ast.parse(text)
    return True
