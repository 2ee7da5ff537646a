"""The names of optimizers that a line completes, before TensorFlow or NumPy is there."""

from __future__ import annotations

from tape_magic.engine.minimization import scipy_methods
from tape_magic.engine.minimization.settings import DEFAULT_OPTIMIZER

LBFGS = "lbfgs"
"""The L-BFGS of this package, which runs in the compiled loop."""

KERAS_NAMES = (
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "ftrl",
    "lamb",
    "lion",
    "muon",
    "nadam",
    "rmsprop",
    "sgd",
)
"""Keras 3's optimizers, for completion before Keras is imported; a version may lack some or have more."""

MEANT = {
    word: name
    for name, words in {
        "sgd": "gradientdescent gd steepestdescent stochasticgradientdescent",
        "sgd(0.01, momentum=0.9)": "momentum nesterov",
        "lbfgs": "quasinewton fminunc scipy",
        "nelder-mead": "fminsearch simplex",
        "slsqp": "fmincon",
        "trf": "leastsquares lsqnonlin",
        "lm": "levenbergmarquardt",
        "cg": "conjugategradient",
        "newton-cg": "newton newtonraphson",
        "auto": "none default",
    }.items()
    for word in words.split()
}
"""What other libraries call methods, without hyphens → their names here."""

NAMES = (DEFAULT_OPTIMIZER, LBFGS, *KERAS_NAMES, *scipy_methods.NAMES)
"""The names that ``--optimizer`` completes."""
