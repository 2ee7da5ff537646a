"""The compact estimate of the inverse Hessian against the BFGS formula, applied pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tape_magic.engine.minimization.quasi_newton.inverse_hessian import MEMORY, InverseHessian

SIZE = 5


def by_formula(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """H from γI by (6.17) of Nocedal and Wright for each of the last pairs, the oldest first."""
    step, change = pairs[-1]
    estimate = np.eye(SIZE) * (step @ change) / (change @ change)
    for step, change in pairs[-MEMORY:]:
        rho = 1 / (step @ change)
        left = np.eye(SIZE) - rho * np.outer(step, change)
        estimate = left @ estimate @ left.T + rho * np.outer(step, step)
    return estimate


def pair_of(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A step and the change of the gradient of a quadratic whose curvatures lie between 1 and 4."""
    turned = np.linalg.qr(random.normal(size=(SIZE, SIZE)))[0]
    step = random.normal(size=SIZE)
    return step, turned @ np.diag(np.linspace(1, 4, SIZE)) @ turned.T @ step


@pytest.mark.parametrize(("dtype", "digits"), [("float64", 1e-10), ("float32", 2e-4)])
def test_products_are_those_of_the_formula_for_any_number_of_pairs(dtype: str, digits: float) -> None:
    random = np.random.default_rng(0)
    estimate = InverseHessian(SIZE, tf.as_dtype(dtype))
    vector = random.normal(size=SIZE)
    np.testing.assert_array_equal(estimate.times(tf.constant(vector, dtype)), vector.astype(dtype))
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for number in range(2 * MEMORY + 4):  # twice around the ring
        step, change = pair_of(random)
        useful = number % 5 != 3
        estimate.add(tf.constant(step, dtype), tf.constant(change, dtype), tf.constant(useful))
        pairs += [(step, change)] if useful else []
        found = estimate.times(tf.constant(vector, dtype)).numpy()
        np.testing.assert_allclose(found, by_formula(pairs) @ vector, rtol=digits, atol=digits)


def test_what_is_forgotten_has_no_effect() -> None:
    random = np.random.default_rng(1)
    estimate, vector = InverseHessian(SIZE, tf.float64), random.normal(size=SIZE)
    for _ in range(MEMORY + 3):
        estimate.add(*map(tf.constant, pair_of(random)), tf.constant(True))
        estimate.times(tf.constant(vector))
    estimate.forget(tf.constant(False))
    assert bool(estimate.known)
    estimate.forget()
    assert not bool(estimate.known)
    np.testing.assert_array_equal(estimate.times(tf.constant(vector)), vector)
    pairs = [pair_of(random) for _ in range(2)]
    for pair in pairs:
        estimate.add(*map(tf.constant, pair), tf.constant(True))
        found = estimate.times(tf.constant(vector)).numpy()
    np.testing.assert_allclose(found, by_formula(pairs) @ vector, rtol=1e-10)
