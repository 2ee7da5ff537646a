"""Losses that are not finite somewhere: a search turns back from there, and only an iterate ends the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import scipy.interpolate
import scipy.optimize
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization.scipy_methods import METHODS
from tape_magic.engine.minimization.scipy_solver.barrier import Barrier
from tape_magic.engine.minimization.scipy_solver.points import Point
from tape_magic.results.minimum import StopReason
from tests.support.covering import covering
from tests.support.notebook import Notebook

SCALAR = [method.name for method in METHODS.values() if not method.residuals]
LEAST_SQUARES = [method.name for method in METHODS.values() if method.residuals]


@dataclass(frozen=True)
class Domain:
    """A loss with a domain, a start from which a first step leaves it, and the minimum."""

    loss: Callable[[Any], Any]
    start: tuple[float, ...]
    minimum: tuple[float, ...]


LOGS = tf.constant([1.0, 2.0, 0.5], tf.float64)
DOMAINS = {
    # x − a log x has its minimum at a.
    "logarithm": Domain(
        lambda x: tf.reduce_sum(x - LOGS * tf.math.log(x)), (40.0, 0.01, 3.0), (1.0, 2.0, 0.5)
    ),
    # x log x has its minimum at 1/e.
    "entropy": Domain(lambda x: tf.reduce_sum(x * tf.math.log(x)), (2.0, 5.0), (np.exp(-1), np.exp(-1))),
    # 2x = x^−1/2 where x = 4^−1/3 … of x² − √x.
    "root": Domain(lambda x: tf.reduce_sum(x**2 - tf.sqrt(x)), (6.0, 0.01), (16 ** (-1 / 3),) * 2),
    # The sum of −log(1 − x²) + c x is least where 2x/(1 − x²) = −c; for c = −3/2·… c = −4/3 gives x = 1/2.
    "interval": Domain(lambda x: tf.reduce_sum(-tf.math.log(1 - x**2) - 4 / 3 * x), (-0.9, 0.99), (0.5, 0.5)),
    # Infinite, and not NaN, beyond the domain.
    "infinite": Domain(lambda x: tf.reduce_sum(tf.where(x > 0, x + 1 / x, np.inf)), (30.0, 0.2), (1.0, 1.0)),
}


@pytest.mark.parametrize(
    ("method", "name"), [*covering(SCALAR, DOMAINS), *(("bfgs", name) for name in DOMAINS)]
)
def test_the_minimum_is_reached_across_points_that_are_not_finite(method: str, name: str) -> None:
    case = DOMAINS[name]
    tol = None if METHODS[method].tolerances == ("gtol",) else 1e-10
    result = tape_magic.minimize(
        case.loss, {"x": np.array(case.start)}, method, 2000, engine="graph", tol=tol
    )
    assert result.divergence is None
    assert np.isfinite(result.history).all()
    accuracy = 2e-3 if method == "tnc" else 3e-4
    np.testing.assert_allclose(result.variables["x"].end, case.minimum, atol=accuracy)


@pytest.mark.parametrize("method", LEAST_SQUARES)
def test_residuals_that_are_not_finite_at_a_trial_point(method: str) -> None:
    """From far below, the full step of Gauss and Newton leads to negative numbers."""
    result = tape_magic.minimize(
        lambda x: tf.math.log(x) - np.log([1.0, 2.0]), {"x": np.array([20.0, 30.0])}, method, engine="graph"
    )
    assert result.converged
    np.testing.assert_allclose(result.variables["x"].end, [1, 2], atol=1e-5)


def epidemic(beta: Any, gamma: Any) -> list[Any]:
    susceptible, infected, new_cases = 9990.0, 10.0, []
    for _ in range(60):
        new = beta * susceptible * infected / 10000
        susceptible, infected = susceptible - new, infected + new - gamma * infected
        new_cases.append(new)
    return new_cases


@pytest.mark.parametrize("method", ["bfgs", "slsqp"])
def test_the_likelihood_of_an_epidemic(shell: Notebook, method: str) -> None:
    cases = np.random.default_rng(33).poisson(epidemic(0.4, 0.15)).astype(float)
    shell.ns.update(tf=tf, simulate=epidemic, cases=cases, beta=np.array(0.3), gamma=np.array(0.1))
    shell.ok(
        f"%%minimize nll --over beta gamma --optimizer {method} --tol 1e-9\n"
        "lam = tf.stack(simulate(beta, gamma))\n"
        "nll = tf.reduce_sum(lam - cases*tf.math.log(lam))"
    )
    assert shell.ns["minimum"].divergence is None
    assert (shell.ns["beta"], shell.ns["gamma"]) == pytest.approx((0.39062, 0.14018), abs=1e-5)


@pytest.mark.parametrize("engine", ["xla", "eager"])
def test_on_each_engine(engine: str) -> None:
    case = DOMAINS["logarithm"]
    result = tape_magic.minimize(case.loss, {"x": np.array(case.start)}, "bfgs", engine=engine)
    assert result.converged
    np.testing.assert_allclose(result.variables["x"].end, case.minimum, atol=1e-4)


def test_a_slope_that_is_not_finite_at_a_trial_point() -> None:
    """The loss is 0 up to x = 0, with a slope that is NaN; from 4 the first steps lead there."""
    result = tape_magic.minimize(
        lambda x: tf.where(x > 0, x, 0.0) ** 0.5 * (x - 1.0) ** 2 + x,
        {"x": np.float64(4.0)},
        "bfgs",
        engine="graph",
    )
    assert result.divergence is None
    assert np.isfinite(result.history).all()


def test_bounds_and_a_domain_within_them() -> None:
    case = DOMAINS["logarithm"]
    result = tape_magic.minimize(
        case.loss,
        {"x": np.array(case.start)},
        "l-bfgs-b",
        bounds={"x": (-5.0, 1.5)},
        engine="graph",
    )
    np.testing.assert_allclose(result.variables["x"].end, [1.0, 1.5, 0.5], atol=1e-4)


# -- where nothing of it may show ---------------------------------------------------------------------


FINITE: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], list[float]]] = {
    "quadratic": (
        lambda x: (x[0] - 1) ** 2 + 10 * (x[1] + 2) ** 2,
        lambda x: np.array([2 * (x[0] - 1), 20 * (x[1] + 2)]),
        [4.0, 3.0],
    ),
    "banana": (
        lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2,
        lambda x: np.array([-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)]),
        [-1.2, 1.0],
    ),
}


@pytest.mark.parametrize(
    ("method", "name"),
    covering(["bfgs", "cg", "l-bfgs-b", "slsqp", "nelder-mead", "powell"], FINITE),
)
def test_where_all_is_finite_the_steps_are_scipys_own(method: str, name: str) -> None:
    loss, gradient, start = FINITE[name]
    own = scipy.optimize.minimize(
        loss, start, method=method, jac=gradient if METHODS[method].gradient else None
    )
    result = tape_magic.minimize(loss, {"x": np.array(start)}, method, engine="graph")
    np.testing.assert_allclose(result.variables["x"].end, own.x, rtol=1e-4, atol=1e-6)
    assert result.steps in (own.nit, own.nit - 1)  # the last iteration may not move


@pytest.mark.parametrize("method", ["bfgs", "slsqp", "l-bfgs-b", "cg"])
def test_each_step_is_an_iterate_and_none_a_trial(method: str) -> None:
    """Iterates of these methods fall; slsqp tells its callback of the first trial of an iteration."""
    loss, _, start = FINITE["banana"]
    result = tape_magic.minimize(loss, {"x": np.array(start)}, method, engine="graph")
    assert (np.diff(result.history) <= 0).all()


@pytest.mark.parametrize("method", ["bfgs", "nelder-mead", "slsqp", "lm", "trf"])
def test_a_start_that_is_not_finite_is_told_as_such(shell: Notebook, method: str) -> None:
    shell.ns.update(tf=tf, x=np.array([-1.0, 2.0]))
    body = "tf.math.log(x)" if METHODS[method].residuals else "tf.reduce_sum(tf.math.log(x))"
    run = shell.ok(f"%%minimize loss --over x --optimizer {method}\nloss = {body}")
    assert run.displayed[-1].text.startswith("not finite at the start: the loss is nan")
    assert shell.ns["minimum"].reason is StopReason.DIVERGED
    assert shell.ns["x"].tolist() == [-1.0, 2.0]


@pytest.mark.parametrize("method", ["bfgs", "l-bfgs-b"])
def test_a_loss_that_is_infinitely_low_is_no_convergence(method: str) -> None:
    result = tape_magic.minimize(lambda x: -tf.exp(x), {"x": np.float64(1.0)}, method, engine="graph")
    assert not result.converged
    assert np.isfinite(result.variables["x"].end)


# -- the wall -----------------------------------------------------------------------------------------


def point(x: list[float], loss: float, gradient: list[float] | None) -> Point:
    return Point(np.array(x), loss, None if gradient is None else np.array(gradient))


def test_a_finite_point_is_seen_as_it_is() -> None:
    base, tried = point([0.0], 1.0, [-2.0]), point([1.0], 5.0, [3.0])
    assert Barrier().seen(tried, base) is tried


@pytest.mark.parametrize("length", [1e-8, 1.0, 1e60])
@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
def test_a_wall_is_higher_and_leads_back(loss: float, length: float) -> None:
    base = point([0.0, 1.0], 3.0, [-2.0, 0.0])
    seen = Barrier().seen(point([length, 1.0], loss, [np.nan, np.nan]), base)
    assert seen.gradient is not None
    assert np.isfinite([seen.loss, *seen.gradient]).all()
    assert seen.loss > base.loss
    assert seen.gradient[0] > 0


def test_the_interpolation_between_an_iterate_and_a_wall_is_a_tenth_of_the_step() -> None:
    base = point([0.0], 3.0, [-2.0])
    seen = Barrier().seen(point([5.0], np.nan, [np.nan]), base)
    assert seen.gradient is not None
    cubic = scipy.interpolate.CubicHermiteSpline([0.0, 5.0], [3.0, seen.loss], [-2.0, seen.gradient[0]])
    (least,) = (root for root in cubic.derivative().roots() if 0 < root < 5)
    assert least == pytest.approx(0.5)


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_without_a_slope_a_wall_is_above_all_that_was_seen_and_rises(loss: float) -> None:
    barrier, base = Barrier(), point([0.0], 1.0, None)
    for finite in (1.0, 50.0, -3.0):
        barrier.seen(point([finite], finite, None), base)
    walls = [barrier.seen(point([x], loss, None), base).loss for x in (1.0, 2.0, -4.0)]
    assert 50 < walls[0] < walls[1] < walls[2] < np.inf


@pytest.mark.parametrize("x", [np.nan, np.inf, 0.0])
def test_a_point_that_is_nowhere_is_a_wall_too(x: float) -> None:
    base = point([0.0], 1.0, [-2.0])
    seen = Barrier().seen(point([x], np.nan, [np.nan]), base)
    assert np.isfinite(seen.loss)
    assert seen.loss > 1.0
