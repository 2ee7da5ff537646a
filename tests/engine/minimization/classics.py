"""Classical test functions with their minima, as cells over one vector `v` in float64.

Sources: MGH is J. J. Moré, B. S. Garbow and K. E. Hillstrom, "Testing unconstrained optimization
software", ACM Transactions on Mathematical Software 7 (1981) 17–41; JY is M. Jamil and X.-S. Yang,
"A literature survey of benchmark functions for global optimization problems", International Journal of
Mathematical Modelling and Numerical Optimisation 4 (2013) 150–194. The number is that of the function there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Classic:
    """A function to be minimised.

    Attributes
    ----------
    name, source
        As it is called, and where its minimum is stated or follows from.
    cell
        Computes `y` from the vector `v`.
    start, end
        Where to begin, and the minimum that is reached from there.
    least
        The value there.
    rate
        A learning rate with which gradient descent with momentum is stable.
    steps
        In how many steps the optimizers get there.
    close
        How close in each coordinate; less where the minimum is flat, or has no derivative.
    """

    name: str
    source: str
    cell: str
    start: tuple[float, ...]
    end: tuple[float, ...]
    least: float
    rate: float
    steps: int = 6000
    close: float = 1e-4


ROSENBROCK = "y = tf.reduce_sum(100.0 * (v[1:] - v[:-1]**2)**2 + (1.0 - v[:-1])**2)"
POWELL = (
    "a, b, c, d = tf.unstack(v)\n"
    "y = (a + 10.0 * b)**2 + 5.0 * (c - d)**2 + (b - 2.0 * c)**4 + 10.0 * (a - d)**4"
)
WOOD = (
    "a, b, c, d = tf.unstack(v)\n"
    "y = 100.0 * (b - a**2)**2 + (1.0 - a)**2 + 90.0 * (d - c**2)**2 + (1.0 - c)**2\n"
    "y = y + 10.0 * (b + d - 2.0)**2 + 0.1 * (b - d)**2"
)
ACKLEY = (
    "y = -20.0 * tf.exp(-0.2 * tf.sqrt(tf.reduce_mean(v**2)))\n"
    "y = y - tf.exp(tf.reduce_mean(tf.cos(2.0 * np.pi * v))) + 20.0 + np.e"
)
GOLDSTEIN = (
    "p, q = tf.unstack(v)\n"
    "first = 1.0 + (p + q + 1.0)**2 * (19.0 - 14.0*p + 3.0*p**2 - 14.0*q + 6.0*p*q + 3.0*q**2)\n"
    "second = 30.0 + (2.0*p - 3.0*q)**2 * (18.0 - 32.0*p + 12.0*p**2 + 48.0*q - 36.0*p*q + 27.0*q**2)\n"
    "y = first * second"
)
BEALE = (
    "p, q = tf.unstack(v)\n"
    "y = (1.5 - p*(1.0 - q))**2 + (2.25 - p*(1.0 - q**2))**2 + (2.625 - p*(1.0 - q**3))**2"
)
BRANIN = (
    "p, q = tf.unstack(v)\n"
    "y = (q - 5.1/(4.0*np.pi**2)*p**2 + 5.0/np.pi*p - 6.0)**2\n"
    "y = y + 10.0*(1.0 - 1.0/(8.0*np.pi))*tf.cos(p) + 10.0"
)

# 4x³ − 32x + 5 = 0 at the lowest point of x⁴ − 16x² + 5x.
_STYBLINSKI = float(min(np.roots([4.0, 0.0, -32.0, 5.0]).real))
_STYBLINSKI_LEAST = (_STYBLINSKI**4 - 16.0 * _STYBLINSKI**2 + 5.0 * _STYBLINSKI) / 2.0
_SCALES = 10.0 ** np.linspace(0.0, 3.0, 10)

CLASSICS = [
    Classic("Rosenbrock", "MGH 1", ROSENBROCK, (-1.2, 1.0), (1.0, 1.0), 0.0, 1e-3, 10_000, 1e-3),
    Classic("Rosenbrock-100", "JY 105", ROSENBROCK, (0.0,) * 100, (1.0,) * 100, 0.0, 5e-4, 20_000),
    Classic(
        "Himmelblau",
        "JY 65",
        "p, q = tf.unstack(v)\ny = (p**2 + q - 11.0)**2 + (p + q**2 - 7.0)**2",
        (1.0, 1.0),
        (3.0, 2.0),
        0.0,
        1e-3,
    ),
    Classic("Beale", "MGH 5", BEALE, (1.0, 1.0), (3.0, 0.5), 0.0, 5e-3),
    Classic(
        "Booth",
        "JY 17",
        "p, q = tf.unstack(v)\ny = (p + 2.0*q - 7.0)**2 + (2.0*p + q - 5.0)**2",
        (-5.0, 5.0),
        (1.0, 3.0),
        0.0,
        2e-2,
    ),
    Classic("Powell", "MGH 13", POWELL, (3.0, -1.0, 0.0, 1.0), (0.0,) * 4, 0.0, 1e-3, 20_000, 0.1),
    Classic("Wood", "MGH 14", WOOD, (-3.0, -1.0, -3.0, -1.0), (1.0,) * 4, 0.0, 2e-4, 20_000, 1e-3),
    Classic("Ackley", "JY 1", ACKLEY, (0.3, -0.2), (0.0, 0.0), 0.0, 1e-2, close=1e-3),
    Classic(
        "Styblinski-Tang",
        "JY 144",
        "y = 0.5 * tf.reduce_sum(v**4 - 16.0 * v**2 + 5.0 * v)",
        (-1.0, -4.0, -2.0),
        (_STYBLINSKI,) * 3,
        3 * _STYBLINSKI_LEAST,
        3e-3,
    ),
    Classic(
        "Matyas",
        "JY 71",
        "p, q = tf.unstack(v)\ny = 0.26 * (p**2 + q**2) - 0.48 * p * q",
        (4.0, -3.0),
        (0.0, 0.0),
        0.0,
        0.1,
    ),
    Classic(
        "three-hump camel",
        "JY 29",
        "p, q = tf.unstack(v)\ny = 2.0*p**2 - 1.05*p**4 + p**6/6.0 + p*q + q**2",
        (0.8, -0.7),
        (0.0, 0.0),
        0.0,
        5e-2,
    ),
    Classic(
        "six-hump camel",
        "JY 30",
        "p, q = tf.unstack(v)\ny = (4.0 - 2.1*p**2 + p**4/3.0)*p**2 + p*q + 4.0*(q**2 - 1.0)*q**2",
        (0.3, -0.5),
        (0.08984201, -0.71265640),
        -1.0316284535,
        1e-2,
    ),
    Classic(  # sin(p + q) = −√3/2 and p − q = 1 there
        "McCormick",
        "JY 73",
        "p, q = tf.unstack(v)\ny = tf.sin(p + q) + (p - q)**2 - 1.5*p + 2.5*q + 1.0",
        (0.0, 0.0),
        (0.5 - math.pi / 3.0, -0.5 - math.pi / 3.0),
        -math.sqrt(3.0) / 2.0 - math.pi / 3.0,
        5e-2,
    ),
    Classic(
        "Easom",
        "JY 50",
        "p, q = tf.unstack(v)\ny = -tf.cos(p) * tf.cos(q) * tf.exp(-((p - np.pi)**2 + (q - np.pi)**2))",
        (2.5, 3.5),
        (math.pi, math.pi),
        -1.0,
        5e-2,
    ),
    Classic("Goldstein-Price", "JY 58", GOLDSTEIN, (0.1, -0.9), (0.0, -1.0), 3.0, 2e-5, 20_000),
    Classic(
        "Branin",
        "JY 22",
        BRANIN,
        (2.5, 3.5),
        (math.pi, 2.275),
        5.0 / (4.0 * math.pi),
        2e-2,
    ),
    Classic(  # ½ vᵀDv − sᵀv with D of condition 1,000 is least where v = s/D
        "stiff quadratic",
        "the minimum solves a linear system",
        "d = tf.constant(10.0 ** np.linspace(0.0, 3.0, 10))\n"
        "y = 0.5 * tf.reduce_sum(d * v**2) - tf.reduce_sum(v)",
        (0.0,) * 10,
        tuple(1.0 / _SCALES),
        float(-0.5 * np.sum(1.0 / _SCALES)),
        1e-3,
        10_000,
    ),
]
