"""The cells that the soak types: good ones, edited ones, and those that people get wrong."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

SETUP = """%tfgpu --cpu --split 2 -q
import tensorflow as tf, numpy as np, time
u = tf.Variable(0.0, dtype=tf.float64); v = 0.0; w = tf.Variable(tf.zeros(3, tf.float64))
x = tf.Variable(1.5); p = tf.Variable([1.0, 2.0]); zero = tf.Variable(0.0); f = 2.0
b = tf.Variable([3.0, -2.0, 1.0]); c = tf.constant([1.0, 0.5, -1.0]); whole = 3; text = "three"
inputs = np.linspace(-1, 1, 48).astype("float32"); outputs = 2*inputs + 1
m = tf.Variable(0.0); n = tf.Variable(0.0)
"""
NAMES = frozenset([*"uvwxpfbcmn", "tf", "np", "time", "zero", "whole", "text", "inputs", "outputs"])


@dataclass(frozen=True)
class Cell:
    """One cell, what it may bind, how it may fail, and what must hold when it has run.

    Attributes
    ----------
    binds
        Names that may be other objects after it.
    fails
        The names of the exceptions that it raises; empty for a cell that succeeds.
    check
        An expression of the user's names that is true when it has succeeded.
    long
        Whether it runs until it is interrupted.
    """

    text: str
    binds: frozenset[str] = frozenset()
    fails: frozenset[str] = frozenset()
    check: str = ""
    long: bool = False


def _cell(text: str, binds: str = "", check: str = "", fails: str = "", long: bool = False) -> Cell:
    return Cell(text, frozenset(binds.split()), frozenset(fails.split()), check, long)


@dataclass
class Author:
    """Who writes the cells: the same for the same seed."""

    chance: random.Random
    before: list[Cell] = field(default_factory=list)

    def good(self) -> Cell:
        """A cell that succeeds where :data:`SETUP` has run; every third is one from before."""
        if self.before and self.chance.random() < 0.33:
            return self.chance.choice(self.before[-30:])
        cell = self.chance.choice([self._grad, self._minimize, self._plain])()
        self.before.append(cell)
        return cell

    def bad(self) -> Cell:
        """A cell that is refused in one line, or fails of its own fault."""
        if self.chance.random() < 0.7:
            return _cell(self.chance.choice(REFUSED), fails="UsageError")
        return self.chance.choice(FAILING)

    def long(self) -> Cell:
        """A cell that ends only when it is interrupted."""
        engine = self.chance.choice(["auto", "eager", "graph", "xla"])
        rest = f"--steps 2_000_000_000 --engine {engine}"
        return self.chance.choice(
            [
                _linear(rest, long=True),
                _cell(f"%%minimize bowl --over b --lr 1e-9 {rest}\n{BOWL}", "bowl minimum", long=True),
                _cell(
                    "%%minimize misfit --over m n --lr 1e-9 --for 'xb, yb in (inputs, outputs)' --batch 8 "
                    f"--epochs 1_000_000 --engine {engine}\nmisfit = tf.reduce_mean((m*xb + n - yb)**2)",
                    "misfit minimum xb yb",
                    long=True,
                ),
                _shared("--epochs 1_000_000", long=True),
                _cell(
                    f"%%minimize bowl --over b --optimizer nelder-mead --tol 0 --steps 100_000_000\n{BOWL}"
                    " + tf.random.uniform([])",
                    "bowl minimum",
                    long=True,
                ),
                _cell(
                    "%%grad dy/dx, d2y/dx2\ny = x\nfor _ in range(100_000_000):\n    y = tf.sin(y) + f*x",
                    "y _ dy_dx d2y_dx2 grads",
                    long=True,
                ),
                _cell("%%grad de/df\ntime.sleep(600)\ne = f*f", "e de_df grads", long=True),
            ]
        )

    def _number(self) -> str:
        return self.chance.choice(["0.5", "1.5", "2.0", "3.0", f"{self.chance.uniform(0.1, 4.0):.3f}"])

    def _grad(self) -> Cell:
        a = self._number()
        return self.chance.choice(
            [
                _cell(
                    f"%%grad dy/dx, d2y/dx2\ny = {a}*x*x + x",
                    "y dy_dx d2y_dx2 grads",
                    f"abs(float(dy_dx) - 2*{a}*float(x) - 1) < 1e-3 and abs(float(d2y_dx2) - 2*{a}) < 1e-3",
                ),
                _cell(
                    f"%%grad dg/dt\nt = tf.linspace(0.0, 1.0, {self.chance.randint(2, 300)})\n"
                    f"g = {a}*tf.sin(t)",
                    "t g dg_dt grads",
                    f"abs(float(dg_dt[0]) - {a}) < 1e-4",
                ),
                _cell(
                    f"%%grad r --wrt p --jacobian -o table\nr = tf.stack([p[0]*p[1], {a}*p[0]])",
                    "r table",
                    "'table' in dir()",
                ),
                _cell(f"%%grad q --wrt p --hessian\nq = {a}*tf.reduce_sum(p**4)", "q grads"),
                _cell(
                    f"%%grad dk/dx\ni = tf.argmax([x, {a}])\nk = tf.cast(i, tf.float32)", "i k dk_dx grads"
                ),
                _cell(f"%%grad ds/dzero\ns = tf.sqrt(zero)*{a}", "s ds_dzero grads"),
                _cell(f"%%grad de/df\ne = {a}*f*f", "e de_df grads", f"abs(float(de_df) - 2*{a}*f) < 1e-4"),
                _cell(f"%%grad dy/dx --check\ny = {a}*tf.exp(x)", "y dy_dx grads"),
                _cell(f"%%grad y --jvp x=tf.constant({a})\ny = x**3", "y grads"),
                _cell(f"%%grad dy/dx --def slope\ny = {a}*x**2", "slope"),
                _cell(f"%%grad -q\n{a}*x*x;", "grads"),
                _cell(
                    f"%%grad dmisfit/dm --for 'xb, yb in (inputs, outputs)' --batch 16 --strategy mirrored\n"
                    f"misfit = tf.reduce_mean({a}*m*xb - yb)",
                    "misfit dmisfit_dm grads",
                    f"abs(float(dmisfit_dm) - {a}*float(inputs.mean())) < 1e-4",
                ),
            ]
        )

    def _minimize(self) -> Cell:
        engine = self.chance.choice(["auto", "eager", "graph", "xla"])
        steps = self.chance.randint(1, 60)
        optimizer = self.chance.choice(
            ["adam", "sgd", "lion", "rmsprop", '"tf.keras.optimizers.SGD(0.01, momentum=0.9)"']
        )
        method = self.chance.choice(["bfgs", "l-bfgs-b", "cg", "nelder-mead", "trust-krylov", "slsqp"])
        settled = "abs(float(tf.reduce_sum((b - c)**2)) - float(bowl)) < 1e-4 + 1e-4*abs(float(bowl))"
        more = self.chance.choice(
            ["", "--keep best", "--tol 1e-6", "--bounds 'b=-5:5'", "--track far", "--seed 3", "--time 20s"]
        )
        quiet = self.chance.choice(["", "-q"])
        far = "\nfar = tf.reduce_max(abs(b - c))" if "far" in more else ""
        return self.chance.choice(
            [
                _linear(f"--steps {steps} --engine {engine}", f"minimum.steps == {steps}"),
                _linear(f"--steps {steps} --engine {engine} -q", f"minimum.steps == {steps}"),
                _cell(
                    f"%%minimize bowl --over b --optimizer {optimizer} --steps {steps} --engine {engine} "
                    f"{more}\n{BOWL}{far}",
                    "bowl minimum far",
                    settled,
                ),
                _cell(f"%%minimize bowl --over b --optimizer {method}\n{BOWL}", "bowl minimum", settled),
                _cell(
                    f"%%minimize bowl --over b --steps {steps} --engine {engine}\n"
                    f"kept = %pwd\nfrom string import *\n{BOWL}\n%pwd",
                    "bowl minimum kept ascii_letters ascii_lowercase ascii_uppercase capwords digits "
                    "hexdigits octdigits printable punctuation whitespace Formatter Template",
                    settled,
                ),
                _cell(
                    "%%minimize misfit --over m n --for 'xb, yb in (inputs, outputs)' "
                    f"--batch {self.chance.choice([7, 16, 48])} --epochs 2 --engine {engine}\n"
                    "misfit = tf.reduce_mean((m*xb + n - yb)**2)",
                    "misfit minimum xb yb",
                    "minimum.steps > 0",
                ),
                _shared(f"--epochs {1 + steps // 10}", f"minimum.steps == 3*{1 + steps // 10}"),
                _shared(
                    f"--epochs 2 --seed 3 --val 'xb in inputs' {quiet}",
                    "minimum.steps == 6",
                ),
                _cell(
                    "%%minimize misfit --over m n --optimizer lm\nmisfit = m*inputs + n - outputs",
                    "misfit minimum",
                    "abs(float(m) - 2) < 1e-3 and abs(float(n) - 1) < 1e-3",
                ),
                _cell(
                    f"%%minimize bowl --over b --lr 0.01 --steps {steps} --checkpoint saved --resume\n{BOWL}",
                    "bowl minimum",
                ),
                _cell(
                    f"%%minimize e --over f --optimizer sgd --lr 0.01 --steps {steps} -o least\n"
                    "e = (f - 2)**2",
                    "e f least",
                    "type(f) is float",
                ),
            ]
        )

    def _plain(self) -> Cell:
        return self.chance.choice(
            [
                _cell("%tfgpu"),
                _cell("%tfgpu --cpu --split 2 -q -o machine", "machine"),
                _cell("%reload_ext tape_magic"),
                _cell("%unload_ext tape_magic\n%load_ext tape_magic"),
                _cell("x = tf.Variable(1.5)", "x"),
                _cell("x.assign(-0.5); f = 2.5", "f"),
                _cell("%%time\nstill = x + 1", "still"),
                _cell("grads if 'grads' in dir() else None"),
                _cell("minimum if 'minimum' in dir() else None"),
                _cell("import asyncio\nawait asyncio.sleep(0)", "asyncio"),
                _cell("import gc\ngc.collect();", "gc"),
            ]
        )


BOWL = "bowl = tf.reduce_sum((b - c)**2)"


def _linear(rest: str, check: str = "", long: bool = False) -> Cell:
    """Steps that take u, v and w down by exactly 2⁻²⁰ each: any half of a step would be seen."""
    line = f"%%minimize slope --over u v w --optimizer sgd --lr {2.0**-20!r} {rest}"
    return _cell(f"{line}\nslope = u + v + tf.reduce_sum(w)", "slope v minimum", check, long=long)


def _shared(rest: str, check: str = "", long: bool = False) -> Cell:
    """The same over batches, whose halves are on two devices; half of a mean twice is exact."""
    line = f"%%minimize slope --over u v w --optimizer sgd --lr {2.0**-20!r} --strategy mirrored"
    cell = "slope = u + v + tf.reduce_sum(w) + 0*tf.reduce_mean(tf.cast(xb, tf.float64))"
    return _cell(
        f"{line} --for 'xb in inputs' --batch 16 {rest}\n{cell}", "slope v minimum xb", check, long=long
    )


REFUSED = (
    "%%grad dy/dunheard_of\ny = x*x",
    "%%grad dy/dx --ordr 2\ny = x*x",
    "%%grad d3y/dx\ny = x",
    "%%grad dz/dx\ny = x",
    "%%grad dy/dwhole\ny = whole*x",
    "%%grad dy/dtext\ny = x",
    "%%grad dy/dx (\ny = x",
    "%%grad dy/dx",
    "%%grad dy/dx\n",
    "%%grad dy/dx --wrt x\ny = x",
    "%%grad dy/dx --jvp x=1/0\ny = x*x",
    "%%grad dy/dx --hessian --jacobian\ny = x",
    "%%grad dy/dx\nawait x",
    "%%grad dy/dx --def 3\ny = x",
    "%%grad dy/dx\u202e\ny = x",
    "%%minimize slop --over u\nslope = u",
    "%%minimize bowl --over nothing\nbowl = x*x",
    "%%minimize bowl --over b\nbowl = b",
    "%%minimize bowl --over b --optimizer adm\nbowl = tf.reduce_sum(b)",
    "%%minimize bowl --over b --optimizer '1/0'\nbowl = tf.reduce_sum(b)",
    "%%minimize bowl --over b --lr -1\nbowl = tf.reduce_sum(b)",
    "%%minimize bowl --over b --steps many\nbowl = tf.reduce_sum(b)",
    "%%minimize bowl --over b --engine fast\nbowl = tf.reduce_sum(b)",
    "%%minimize bowl --over whole\nbowl = x*whole",
    "%%minimize bowl --over b --for 'xb in nothing'\nbowl = tf.reduce_sum(b*xb)",
    "%%minimize bowl --over b --bounds 'b=1:0'\nbowl = tf.reduce_sum(b)",
    "%%minimize bowl --over b --bounds b\nbowl = tf.reduce_sum(b)",
    "%%minimize bowl --over b --checkpoint /dev/null\nbowl = tf.reduce_sum(b)",
    "%%minimize bowl --over b --track other\nbowl = tf.reduce_sum(b)",
    "%%minimize bowl --over b --engine xla\nbowl = tf.reduce_sum(tf.numpy_function(np.sin, [b], tf.float32))",
    "%%minimize a, b",
    "%%minimize slop --over b\nfrom string import *\nbowl = tf.reduce_sum(b)",
    "%%minimize bowl --over b\n%pwd",
    "%%minimize bowl --over b\nbowl = tf.Variable(1.0)*tf.reduce_sum(b)",
    "%%minimise bowl\nbowl = 1",
    "%%minimize misfit --over m --for 'xb in inputs' --strategy workers\nmisfit = tf.reduce_mean(m*xb)",
    "%%minimize misfit --over m --for 'xb in inputs' --strategy miror\nmisfit = tf.reduce_mean(m*xb)",
    "%%minimize misfit --over m --strategy mirrored\nmisfit = m*m",
    "%%grad misfit --for 'xb in inputs' --batch 0 --strategy mirrored\nmisfit = tf.reduce_mean(m*xb)",
    "%%grad misfit --for 'xb in inputs' --strategy workers\nmisfit = tf.reduce_mean(m*xb)",
    "%tfgpu --workers localhost:1,localhost:1 --worker 0",
    "%tfgpu --workers 'localhost:1, localhost:2' --worker 2",
    "%tfgpu --workers 'localhost:1, localhost:2' --worker 0 --wait never",
    "%tfgpu --nonsense",
    "%tfgpu --limit huge 0",
    "%tfgpu 0 --require",
    "%tfgpu one",
    "%tfgpu --growth --limit 4G 0",
    "%tfgpu 0 --growth",
)

FAILING = (
    _cell("%%grad dy/dx\ny = x*x\n1/0", "y", fails="ZeroDivisionError"),
    _cell("%%grad dy/dx\ny = x*\n", fails="SyntaxError"),
    _cell("%%grad dy/dx\ny = tf.matmul(x, p)", fails="InvalidArgumentError ValueError"),
    _cell("%%grad dy/dx\ny = missing*x", fails="NameError UsageError"),
    _cell("%%grad dy/dx\nraise RuntimeError('<b>\\u202e' + 'x'*10_000)", fails="RuntimeError UsageError"),
    _cell("%%minimize bowl --over b\nbowl = tf.reduce_sum(b)/len(missing)", fails="NameError UsageError"),
    _cell("%%minimize bowl --over b\nbowl = tf.reduce_sum(b\n", fails="SyntaxError"),
    _cell(
        "%%minimize bowl --over b --engine eager\nbowl = tf.reduce_sum(b)\nraise KeyError('k')",
        "bowl",
        fails="KeyError",
    ),
    _cell("%%minimize bowl --over b\nbowl = tf.reduce_sum(b) + tf.constant([1, 2])[5]", fails="any"),
    _cell("raise ValueError('mine')", fails="ValueError"),
)
