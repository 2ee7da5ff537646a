"""Real data, which scikit-learn ships, against the optimum that scikit-learn's own solvers find."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

import tape_magic
from tests.support.doors import Case, Door

ALPHA = 2.5
"""The penalty on the squares of the weights."""


@pytest.fixture(scope="module")
def patients() -> dict[str, Any]:
    """442 patients, ten measurements each, and how far their diabetes went a year later."""
    inputs, targets = load_diabetes(return_X_y=True)
    return {"tf": tf, "inputs": StandardScaler().fit_transform(inputs), "targets": targets}


@pytest.fixture(scope="module")
def tumours() -> dict[str, Any]:
    """569 tumours, thirty measurements each, and whether they were benign."""
    inputs, labels = load_breast_cancer(return_X_y=True)
    return {"tf": tf, "inputs": StandardScaler().fit_transform(inputs), "labels": labels.astype(np.float64)}


RIDGE = """
predicted = tf.linalg.matvec(inputs, w) + b
loss = tf.reduce_sum((predicted - targets)**2) + 2.5*tf.reduce_sum(w**2)
"""

LOGISTIC = """
logits = tf.linalg.matvec(inputs, w) + b
losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
loss = tf.reduce_sum(losses) + 0.5*tf.reduce_sum(w**2)
"""


@pytest.mark.parametrize("method", ["bfgs", "l-bfgs-b", "newton-cg", "trust-krylov", "trust-exact"])
def test_ridge_regression(door: Door, patients: dict[str, Any], method: str) -> None:
    solver = Ridge(ALPHA, solver="cholesky").fit(patients["inputs"], patients["targets"])
    namespace = {**patients, "w": np.zeros(10), "b": np.float64(0)}
    line = f"loss --over w b --optimizer {method} --tol 1e-9 --engine graph"
    result = door.minimize(Case(RIDGE.strip(), line, namespace))
    np.testing.assert_allclose(result.variables["w"].end, solver.coef_, rtol=1e-4, atol=1e-4)
    assert result.variables["b"].end == pytest.approx(solver.intercept_, rel=1e-6)
    residuals = solver.predict(patients["inputs"]) - patients["targets"]
    optimum = (residuals**2).sum() + ALPHA * (solver.coef_**2).sum()
    assert result.loss == pytest.approx(optimum, rel=1e-10)


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
def test_linear_regression_by_its_residuals(patients: dict[str, Any], method: str) -> None:
    solver = LinearRegression().fit(patients["inputs"], patients["targets"])
    inputs, targets = tf.constant(patients["inputs"]), tf.constant(patients["targets"])
    result = tape_magic.minimize(
        lambda w, b: tf.linalg.matvec(inputs, w) + b - targets,
        {"w": np.zeros(10), "b": np.float64(0)},
        method,
        engine="graph",
        tol=1e-12,
    )
    assert result.converged
    np.testing.assert_allclose(result.variables["w"].end, solver.coef_, rtol=1e-6, atol=1e-6)
    assert result.variables["b"].end == pytest.approx(solver.intercept_, rel=1e-9)


@pytest.mark.parametrize("method", ["bfgs", "l-bfgs-b", "newton-cg", "trust-ncg", "trust-exact"])
def test_logistic_regression(door: Door, tumours: dict[str, Any], method: str) -> None:
    solver = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
    solver.fit(tumours["inputs"], tumours["labels"])
    namespace = {**tumours, "w": np.zeros(30), "b": np.float64(0)}
    line = f"loss --over w b --optimizer {method} --tol 1e-11 --engine graph"
    result = door.minimize(Case(LOGISTIC.strip(), line, namespace))
    w, b = result.variables["w"].end, result.variables["b"].end
    np.testing.assert_allclose(w, solver.coef_[0], atol=2e-4)
    assert b == pytest.approx(solver.intercept_[0], abs=2e-4)
    accuracy = ((tumours["inputs"] @ w + b > 0) == tumours["labels"]).mean()
    assert accuracy == pytest.approx(solver.score(tumours["inputs"], tumours["labels"]))
    assert accuracy > 0.98


def test_adam_comes_to_the_same_logistic_regression(tumours: dict[str, Any]) -> None:
    solver = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000)
    solver.fit(tumours["inputs"], tumours["labels"])
    inputs, labels = tf.constant(tumours["inputs"]), tf.constant(tumours["labels"])

    def loss(w: Any, b: Any) -> Any:
        logits = tf.linalg.matvec(inputs, w) + b
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_sum(losses) + 0.5 * tf.reduce_sum(w**2)

    start = {"w": np.zeros(30), "b": np.float64(0)}
    result = tape_magic.minimize(loss, start, "adam", 5000, lr=0.01, engine="graph")
    np.testing.assert_allclose(result.variables["w"].end, solver.coef_[0], atol=1e-3)
