"""SciPy's methods as data: what each takes, the names of its options, and what it cannot do."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.minimization.settings import Settings
from tape_magic.errors import LineError

_EPSILON = 2.0**-52
"""The epsilon of float64: some methods refuse a smaller tolerance, 0 included."""

_MANY = 2**31 - 1
"""A limit that no run reaches, the largest C int: the run counts steps, and not SciPy evaluations."""


@dataclass(frozen=True)
class Method:
    """One method of SciPy.

    Attributes
    ----------
    name
        As SciPy spells it.
    tolerances
        The options that a tolerance sets, as SciPy's own ``tol`` does.
    gtol
        The option for the norm of the gradient; empty where there is none.
    limits
        The options that would end it after a number of iterations, or of evaluations.
    second
        What it is given of the second derivatives: ``hessp``, ``hess`` or nothing.
    gradient
        Whether it is given the gradient.
    bounds
        Whether it keeps within bounds.
    residuals
        Whether it minimises half the sum of the squares of a vector.
    square
        Whether it keeps a matrix with a row and a column for each number that it moves.
    at_gradients
        Whether its iterates are told by where it asks for a gradient or Jacobian, once in each iteration: lm
        has no callback, and slsqp gives its callback the first point that it tries from an iterate.
    """

    name: str
    tolerances: tuple[str, ...]
    gtol: str = ""
    limits: tuple[str, ...] = ("maxiter",)
    second: str = ""
    gradient: bool = True
    bounds: bool = False
    residuals: bool = False
    square: bool = False
    at_gradients: bool = False

    @property
    def description(self) -> str:
        """The name of the method in a report."""
        return f"SciPy {self.name}"

    def options(self, settings: Settings, steps: int) -> dict[str, Any]:
        """Return the settings as SciPy's options, as far as it has them."""
        # Two iterations more than asked for, so that the run's own count of steps ends it first: a method
        # that converges in its last step should say so.
        found: dict[str, Any] = {
            name: min(steps + 2, _MANY) if name == "maxiter" else _MANY for name in self.limits
        }
        if self.name == "cobyla":  # counts each evaluation as an iteration, and keeps a record of each
            found["maxiter"] = min(4 * steps + 1000, _MANY)
        if settings.tol is not None:
            found |= dict.fromkeys(self.tolerances, max(settings.tol, _EPSILON))
        if settings.gtol is not None and self.gtol:
            found[self.gtol] = max(settings.gtol, _EPSILON)
            if self.name in ("bfgs", "cg"):
                found["norm"] = 2  # by default they take the largest component
        return found


_LEAST_SQUARES = {
    "tolerances": ("ftol", "xtol", "gtol"),
    "gtol": "gtol",
    "limits": ("max_nfev",),
    "residuals": True,
}

METHODS = {
    method.name: method
    for method in (
        Method("bfgs", ("gtol",), "gtol", square=True),
        Method("l-bfgs-b", ("ftol", "gtol"), "gtol", ("maxiter", "maxfun"), bounds=True),
        Method("cg", ("gtol",), "gtol"),
        Method("newton-cg", ("xtol",), second="hessp"),
        Method("tnc", ("ftol", "xtol", "gtol"), "gtol", ("maxfun",), bounds=True),
        Method("slsqp", ("ftol",), bounds=True, square=True, at_gradients=True),
        Method("trust-ncg", ("gtol",), "gtol", second="hessp"),
        Method("trust-krylov", ("gtol",), "gtol", second="hessp"),
        Method("trust-exact", ("gtol",), "gtol", second="hess", square=True),
        Method("trust-constr", ("xtol", "gtol", "barrier_tol"), "gtol", second="hessp", bounds=True),
        Method("nelder-mead", ("xatol", "fatol"), gradient=False, bounds=True, square=True),
        Method("powell", ("xtol", "ftol"), gradient=False, bounds=True, square=True),
        Method("cobyla", ("tol",), gradient=False, bounds=True, square=True),
        Method("lm", at_gradients=True, **_LEAST_SQUARES),  # type: ignore[arg-type]
        Method("trf", bounds=True, **_LEAST_SQUARES),  # type: ignore[arg-type]
        Method("dogbox", bounds=True, **_LEAST_SQUARES),  # type: ignore[arg-type]
    )
}

NAMES = tuple(METHODS)


_PLAIN = {name.replace("-", ""): method for name, method in METHODS.items()} | {
    "levenbergmarquardt": METHODS["lm"],
    "conjugategradient": METHODS["cg"],
    "simplex": METHODS["nelder-mead"],
}


def find(optimizer: Any) -> Method | None:
    """Return the method of a name, however its words are joined; ``None`` for anything else.

    >>> find("L-BFGS-B").name, find("LBFGSB").name, find("Nelder_Mead").name
    ('l-bfgs-b', 'l-bfgs-b', 'nelder-mead')
    """
    return _PLAIN.get(re.sub(r"[-_ ]", "", optimizer).lower()) if isinstance(optimizer, str) else None


def require_scipy(method: Method) -> None:
    """Raise :class:`LineError` where SciPy is not installed."""
    if importlib.util.find_spec("scipy") is None:
        raise LineError(f'--optimizer {method.name} needs SciPy: pip install "tape_magic[scipy]"')


def check_settings(method: Method, settings: Settings) -> None:
    """Raise :class:`LineError` for a setting that the method has no use for."""
    name = method.name
    if settings.lr is not None:
        raise LineError(
            f"--lr goes with Keras optimizers; {name} finds its own step lengths: leave --lr out."
        )
    for flag, given in (("--schedule", settings.schedule), ("--clip", settings.clip)):
        if given is not None:
            raise LineError(
                f"{flag} goes with Keras optimizers; {name} finds its own step lengths: leave {flag} out."
            )
    if settings.strategy is not None:
        raise LineError(
            f"{name} evaluates the whole loss at once; --strategy goes with Keras optimizers over batches."
        )
    if settings.data is not None:
        raise LineError(
            f"--for goes with Keras optimizers; {name} needs one loss over all of the data at each step."
        )
    if settings.resume or settings.checkpoint is not None:
        given = "--resume" if settings.resume else "--checkpoint"
        raise LineError(
            f"{given} goes with Keras optimizers; {name} goes on from the variables, so run the cell again."
        )
    if settings.patience is not None:
        raise LineError(f"--patience goes with Keras optimizers; {name} has a rule of its own for --tol.")
    if settings.gtol is not None and not method.gradient:
        raise LineError(f"--gtol is for the norm of a gradient, and {name} takes none: give --tol.")
    if settings.bounds and not method.bounds:
        raise LineError(f"{name} knows no bounds; these do: {', '.join(with_bounds(method))}.")


def with_bounds(method: Method) -> list[str]:
    """Return the methods that keep within bounds, and minimise the same as one that does not."""
    return [one.name for one in METHODS.values() if one.bounds and one.residuals == method.residuals]


def refuse_size(method: Method, size: int, residuals: int, limit: int) -> None:
    """Raise :class:`LineError` before a matrix takes more than `limit` bytes, and for too few residuals.

    `size` is how many numbers are moved, `residuals` how many there are of those.
    """
    if method.name == "lm" and 0 < residuals < size:
        raise LineError(
            f"lm needs as many residuals as numbers to find, and there are {residuals:,} for {size:,}: "
            "trf and dogbox do with fewer."
        )
    rows = residuals if method.residuals else size
    if not (method.square or method.residuals) or rows * size * 8 <= limit:
        return
    others = "l-bfgs-b and newton-cg do without one"
    if method.residuals:
        others = f"{others}, on tf.reduce_sum(r**2)"
    raise LineError(
        f"{method.name} keeps a matrix of {rows:,} × {size:,} numbers, which takes "
        f"{rows * size * 8 / 2**30:.4g} GiB: {others}."
    )
