"""SciPy's methods: known minima, bounds, verdicts, interrupts, and curves with certified values."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.api.minimize import MinimizeInterrupted
from tape_magic.engine.minimization import log
from tape_magic.engine.minimization.scipy_methods import METHODS, Method
from tape_magic.engine.minimization.scipy_solver import evaluations, iterations
from tape_magic.errors import LineError, TapeMagicError, TargetError
from tape_magic.magics.line.minimize import MINIMIZE
from tape_magic.results.minimum import StopReason
from tape_magic.results.steps import Step
from tests.engine.minimization.scipy_solver.nist import REFERENCES, Reference
from tests.support.clock import Clock
from tests.support.covering import covering
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

SCALAR = [method.name for method in METHODS.values() if not method.residuals]
LEAST_SQUARES = [method.name for method in METHODS.values() if method.residuals]
SMOOTH = [name for name in SCALAR if METHODS[name].gradient]
BOUNDED = [method for method in METHODS.values() if method.bounds]


def tight(method: str) -> float:
    """A tolerance that doubles can still meet: of a gradient's norm, or of the loss."""
    return 1e-7 if METHODS[method].tolerances == ("gtol",) else 1e-11


# -- known minima -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Classic:
    """A function of x (and, for least squares, its residuals), where to start, and the minima near by."""

    cell: str
    start: tuple[float, ...]
    minima: tuple[tuple[float, ...], ...]
    residuals: str


CLASSICS = {
    "quadratic": Classic(
        "y = 3*(x[0] - 1)**2 + 2*(x[0] - 1)*(x[1] + 2) + (x[1] + 2)**2",
        (4.0, 3.0),
        ((1.0, -2.0),),
        "y = tf.stack([x[0] - 1, x[0] - 1, x[0] + x[1] + 1])",
    ),
    "rosenbrock": Classic(
        "y = 100*(x[1] - x[0]**2)**2 + (1 - x[0])**2",
        (-1.2, 1.0),
        ((1.0, 1.0),),
        "y = tf.stack([10*(x[1] - x[0]**2), 1 - x[0]])",
    ),
    "booth": Classic(
        "y = (x[0] + 2*x[1] - 7)**2 + (2*x[0] + x[1] - 5)**2",
        (-5.0, 5.0),
        ((1.0, 3.0),),
        "y = tf.stack([x[0] + 2*x[1] - 7, 2*x[0] + x[1] - 5])",
    ),
    "beale": Classic(
        "y = tf.reduce_sum((tf.constant([1.5, 2.25, 2.625], x.dtype)\n"
        "                   - x[0]*(1 - x[1]**tf.constant([1., 2., 3.], x.dtype)))**2)",
        (1.0, 0.8),
        ((3.0, 0.5),),
        "y = tf.constant([1.5, 2.25, 2.625], x.dtype) - x[0]*(1 - x[1]**tf.constant([1., 2., 3.], x.dtype))",
    ),
    "himmelblau": Classic(
        "y = (x[0]**2 + x[1] - 11)**2 + (x[0] + x[1]**2 - 7)**2",
        (1.0, 1.0),
        ((3.0, 2.0), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)),
        "y = tf.stack([x[0]**2 + x[1] - 11, x[0] + x[1]**2 - 7])",
    ),
}

HARD = {("cobyla", "rosenbrock"), ("cobyla", "beale")}
"""A linear model needs thousands of evaluations along a curved valley."""


@pytest.mark.parametrize(
    ("method", "name"),
    [pair for pair in covering(METHODS, CLASSICS) if pair not in HARD],
)
def test_known_minima(method: str, name: str) -> None:
    classic = CLASSICS[name]
    x = tf.Variable(classic.start, dtype=tf.float64)
    loss = _loss(classic.residuals if METHODS[method].residuals else classic.cell, x)
    result = tape_magic.minimize(loss, None, method, 5000, engine="graph", tol=tight(method))
    (change,) = result.variables.values()
    accuracy = 5e-4 if method == "tnc" else 2e-5  # its tolerances are far from those of the minimum
    assert min(np.abs(change.end - minimum).max() for minimum in classic.minima) < accuracy
    assert result.loss < 1e-7
    assert x.numpy().tolist() == change.end.tolist()
    assert len(result.history) == result.steps + 1
    assert result.history[-1] == result.loss


@pytest.mark.parametrize(
    ("method", "engine"),
    [*((method, "graph") for method in METHODS), ("nelder-mead", "xla"), ("nelder-mead", "eager")],
)
def test_both_doors(door: Door, method: str, engine: str) -> None:
    booth = CLASSICS["booth"]
    x = tf.Variable(booth.start, dtype=tf.float64)
    cell = booth.residuals if METHODS[method].residuals else booth.cell
    line = f"y --over x --optimizer {method} --tol 1e-10 --engine {engine}"
    result = door.minimize(Case(cell, line, {"tf": tf, "x": x}))
    assert result.engine == engine
    np.testing.assert_allclose(result.variables["x"].end, [1, 3], atol=2e-5)
    assert result.variables["x"].end.dtype == np.float64
    assert result.converged
    assert result.start_loss == result.history[0]
    assert result.optimizer == f"SciPy {method}"
    assert result.learning_rate is None


def _loss(cell: str, x: Any) -> Any:
    expression = " ".join(cell.removeprefix("y = ").split())
    return eval(f"lambda: {expression}", {"tf": tf, "x": x})


def chain(x: Any) -> Any:
    return tf.reduce_sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def chain_residuals(x: Any) -> Any:
    return tf.concat([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]], axis=0)


@pytest.mark.parametrize("method", ["bfgs", "l-bfgs-b", "newton-cg", "tnc", "lm", "trf"])
def test_rosenbrock_in_a_hundred_dimensions(method: str) -> None:
    """XLA takes seconds for each program, and compiles second derivatives anew at each call."""
    loss = chain_residuals if METHODS[method].residuals else chain
    engine = "xla" if method in ("bfgs", "lm") else "graph"
    result = tape_magic.minimize(
        loss, {"x": np.full(100, 0.5)}, method, 5000, engine=engine, tol=tight(method)
    )
    assert result.engine == engine
    np.testing.assert_allclose(result.variables["x"].end, np.ones(100), atol=2e-4)
    assert result.loss < 1e-8
    assert result.variables["x"].gradient_norm < 1e-3


@pytest.mark.parametrize(
    ("method", "engine"),
    covering([name for name in METHODS if name != "nelder-mead"], ["graph", "eager", "xla", "graph"]),
)
def test_a_matrix_a_vector_and_a_number(method: str, engine: str) -> None:
    """Eight numbers, which are too many for Nelder and Mead's simplex."""
    generator = np.random.default_rng(3)
    least = {"w": generator.normal(size=(2, 2)), "b": generator.normal(size=3), "c": generator.normal()}
    scales = {"w": np.array([[1.0, 2.0], [0.5, 1.5]]), "b": np.array([1.0, 0.7, 1.2]), "c": 0.8}

    def residuals(w: Any, b: Any, c: Any) -> Any:
        parts = {"w": w, "b": b, "c": c}
        return tf.concat([tf.reshape((parts[n] - least[n]) * scales[n], [-1]) for n in parts], axis=0)

    def loss(w: Any, b: Any, c: Any) -> Any:
        return 0.5 * tf.reduce_sum(residuals(w, b, c) ** 2) - 1.0

    residual = METHODS[method].residuals
    start = {"w": np.zeros((2, 2)), "b": np.ones(3), "c": np.float64(2.0)}
    result = tape_magic.minimize(
        residuals if residual else loss, start, method, 2000, engine=engine, tol=tight(method)
    )
    assert result.engine == engine
    assert result.converged
    for name, value in least.items():
        np.testing.assert_allclose(result.variables[name].end, value, atol=1e-4)
        assert result.variables[name].end.dtype == np.float64
    assert result.loss == pytest.approx(0.0 if residual else -1.0, abs=1e-8)


@pytest.mark.parametrize("method", ["newton-cg", "trust-ncg", "trust-krylov", "trust-exact", "trust-constr"])
def test_with_the_exact_hessian_a_quadratic_takes_few_steps(method: str) -> None:
    """Newton's step is the whole way; the trust region only grows to it."""
    generator = np.random.default_rng(0)
    root = generator.normal(size=(8, 8))
    matrix, least = root @ root.T + np.eye(8), generator.normal(size=8)
    a, m = tf.constant(matrix), tf.constant(least)
    result = tape_magic.minimize(
        lambda x: 0.5 * tf.tensordot(x - m, tf.linalg.matvec(a, x - m), 1),
        {"x": np.zeros(8)},
        method,
        engine="graph",
        tol=1e-8,
    )
    assert result.steps <= 12
    np.testing.assert_allclose(result.variables["x"].end, least, atol=1e-7)


def test_single_precision_stays_single_precision() -> None:
    """SciPy moves doubles; the variables round them, and the loss is that of the variables."""
    x = tf.Variable([-1.2, 1.0])
    result = tape_magic.minimize(lambda: chain(x), None, "bfgs", engine="graph")
    assert x.dtype == tf.float32
    assert result.variables["Variable"].end.dtype == np.float32
    assert result.loss == pytest.approx(float(chain(x)), rel=1e-6)
    np.testing.assert_allclose(x.numpy(), [1, 1], atol=2e-2)


def test_variables_of_several_dtypes(door: Door) -> None:
    names = {"x": tf.Variable(3.0, dtype=tf.float64), "h": tf.Variable([2.0, 1.0], dtype=tf.float32)}
    cell = "y = (x - 0.1)**2 + tf.cast(tf.reduce_sum((h + 0.5)**2), tf.float64)"
    result = door.minimize(Case(cell, "y --over x h --optimizer l-bfgs-b", {"tf": tf, **names}))
    assert names["x"].numpy() == pytest.approx(0.1, abs=1e-6)
    np.testing.assert_allclose(names["h"].numpy(), [-0.5, -0.5], atol=1e-4)
    assert [change.end.dtype for change in result.variables.values()] == [np.float64, np.float32]


def test_a_keras_model_fits_a_line(shell: Notebook) -> None:
    """Ordinary least squares through (0, 1), (1, 3), (2, 4): the normal equations give 1.5 x + 7/6."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    shell.ns.update(tf=tf, model=model, inputs=np.array([[0.0], [1.0], [2.0]]), targets=[[1.0], [3.0], [4.0]])
    shell.ok("%%minimize --over model --optimizer bfgs\ntf.reduce_sum((model(inputs) - targets)**2)")
    kernel, bias = (variable.numpy() for variable in model.trainable_variables)
    assert kernel[0, 0] == pytest.approx(1.5, abs=1e-4)
    assert bias[0] == pytest.approx(7 / 6, abs=1e-4)
    shell.ok("%%minimize --over model --optimizer lm\nmodel(inputs) - targets")
    assert shell.ns["minimum"].converged
    assert model.trainable_variables[0].numpy()[0, 0] == pytest.approx(1.5, abs=1e-5)


def test_floats_arrays_and_structures_come_back_as_they_were(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=3.0, p={"w": np.array([1.0, 2.0]), "b": [0.5]})
    shell.ok(
        "%%minimize loss --over x p --optimizer l-bfgs-b --tol 1e-12\n"
        "loss = (x - 1)**2 + tf.reduce_sum((p['w'] + 1)**2) + (p['b'][0] - 2)**2\ntwice = 2*x"
    )
    x, p = shell.ns["x"], shell.ns["p"]
    assert type(x) is float
    assert type(p["w"]) is np.ndarray
    assert type(p["b"][0]) is float
    assert x == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose([*p["w"], *p["b"]], [-1, -1, 2], atol=1e-6)
    # What the cell assigns is that of the end.
    assert float(shell.ns["twice"]) == pytest.approx(2 * x)
    assert float(shell.ns["loss"]) == pytest.approx(shell.ns["minimum"].loss)


def test_branches_and_loops_of_the_cell(door: Door) -> None:
    cell = "s = 0*x\nfor k in tf.range(3):\n    s += (x - 2)**2\nif s > 1:\n    s = 2*s\ny = s"
    for engine in ("xla", "graph", "eager"):
        x = tf.Variable(9.0, dtype=tf.float64)
        result = door.minimize(
            Case(cell, f"y --over x --optimizer bfgs --engine {engine}", {"tf": tf, "x": x})
        )
        assert result.engine == engine
        assert x.numpy() == pytest.approx(2, abs=1e-5)


def test_auto_steps_down_and_says_why(door: Door) -> None:
    namespace = {"tf": tf, "np": np, "x": tf.Variable(3.0, dtype=tf.float64)}
    result = door.minimize(
        Case("k = np.sqrt(x.numpy()**2)\ny = x**2 + 0*k", "y --over x --optimizer bfgs", namespace)
    )
    assert result.engine == "eager"
    assert result.engine_reason
    assert namespace["x"].numpy() == pytest.approx(0, abs=1e-5)
    assert "cannot run this" in door.refused_minimize(
        Case(
            "k = np.sqrt(x.numpy()**2)\ny = x**2 + 0*k", "y --over x --optimizer bfgs --engine xla", namespace
        )
    )


# -- what the program sees ----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_gradient_norms_are_those_at_the_end(engine: str) -> None:
    for method in ("l-bfgs-b", "nelder-mead", "trf"):
        w, b = tf.Variable([3.0, -4.0], dtype=tf.float64), tf.Variable(1.0, dtype=tf.float64)

        def residuals(w: Any = w, b: Any = b) -> Any:
            return tf.concat([w**2 - 1, [b - 2]], axis=0)

        def loss(w: Any = w, b: Any = b) -> Any:
            return 0.5 * tf.reduce_sum(residuals(w, b) ** 2)

        result = tape_magic.minimize(residuals if method == "trf" else loss, None, method, 2, engine=engine)
        with tf.GradientTape() as tape:
            value = loss()
        expected = [np.linalg.norm(gradient) for gradient in tape.gradient(value, [w, b])]
        norms = [change.gradient_norm for change in result.variables.values()]
        assert sorted(norms) == pytest.approx(sorted(expected), rel=1e-9)
        assert result.loss == pytest.approx(float(value), rel=1e-12)
        assert result.steps <= 2


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_what_the_loss_does_not_depend_on(door: Door, engine: str) -> None:
    namespace = {"tf": tf, "x": tf.Variable(3.0), "z": tf.Variable(1.0)}
    line = f"y --over x z --optimizer bfgs --engine {engine}"
    result = door.minimize(Case("y = x**2", line, namespace))
    assert any("does not depend on z" in note for note in result.notes)
    assert result.variables["z"].gradient_norm is None
    assert namespace["z"].numpy() == 1.0
    assert "nothing to minimise" in door.refused_minimize(
        Case("y = tf.constant(1.0)", f"y --over z --optimizer bfgs --engine {engine}", namespace)
    )


def test_methods_without_gradient_need_none() -> None:
    """Rounding has no gradient, and the floor of a bowl of steps is found all the same."""
    result = tape_magic.minimize(
        lambda x: tf.reduce_sum(tf.round(4 * (x - 3)) ** 2), {"x": np.array([0.0, 5.0])}, "powell"
    )
    assert result.loss == 0
    with pytest.raises(TargetError, match="does not depend on x"):
        tape_magic.minimize(lambda x: tf.round(x), {"x": 1.0}, "bfgs")


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_a_counter_of_the_cell_counts_losses_alone(engine: str) -> None:
    """As a counter in a loop by hand would; Hessian products and the report add nothing to it."""
    counts = {}
    for method in ("trust-exact", "nelder-mead"):
        calls, x = tf.Variable(0, trainable=False), tf.Variable([-1.2, 1.0], dtype=tf.float64)

        def loss(calls: Any = calls, x: Any = x) -> Any:
            calls.assign_add(1)
            return chain(x)

        result = tape_magic.minimize(loss, None, method, 4, engine=engine)
        assert result.steps == 4
        counts[method] = int(calls.numpy())
    assert counts["nelder-mead"] >= 5
    if engine != "eager":
        assert 5 <= counts["trust-exact"] <= 8


# -- bounds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "start"), covering(BOUNDED, [(-4.0, -7.0), (0.5, 0.5), (0.0, 3.0), (-4.0, -7.0)])
)
def test_the_minimum_on_the_bounds(method: Method, start: tuple[float, float]) -> None:
    """(x − 2)² + (y + 1)² over 0 ≤ x ≤ 1, 0 ≤ y falls towards (1, 0) from everywhere: 2 there."""

    def loss(x: Any, y: Any) -> Any:
        residuals = tf.stack([x - 2, y[0] + 1])
        return residuals if method.residuals else tf.reduce_sum(residuals**2)

    result = tape_magic.minimize(
        loss,
        {"x": np.float64(start[0]), "y": np.array([start[1]])},
        method.name,
        engine="graph",
        tol=1e-9,
        bounds={"x": (0, 1), "y": (0, None)},
    )
    accuracy = 1e-3 if method.name in ("trust-constr", "powell") else 1e-6
    x, y = result.variables["x"].end, result.variables["y"].end
    assert x == pytest.approx(1, abs=accuracy)
    assert y[0] == pytest.approx(0, abs=accuracy)
    assert 0 <= x <= 1
    assert y[0] >= 0
    assert result.loss == pytest.approx(1 if method.residuals else 2, abs=3 * accuracy)
    moved = [note for note in result.notes if "began outside its bounds" in note]
    assert len(moved) == 2 * (start[0] < 0)


def test_bounds_on_the_line(door: Door) -> None:
    namespace = {"tf": tf, "x": np.float64(0.5), "most": np.array([0.25, 9.0]), "y": np.zeros(2)}
    line = 'z --over x y --optimizer l-bfgs-b --bounds "x=-1:, y=:most"'
    result = door.minimize(Case("z = (x + 4)**2 + tf.reduce_sum((y - 3)**2)", line, namespace))
    assert result.variables["x"].end == pytest.approx(-1)
    assert result.variables["y"].end.tolist() == pytest.approx([0.25, 3.0], abs=1e-5)


def test_bounds_of_arrays_and_models() -> None:
    result = tape_magic.minimize(
        lambda w: tf.reduce_sum((w - 5.0) ** 2),
        {"w": np.zeros((2, 2))},
        "l-bfgs-b",
        engine="graph",
        bounds={"w": (None, np.array([1.0, 9.0]))},
    )
    np.testing.assert_allclose(result.variables["w"].end, [[1, 5], [1, 5]], atol=1e-6)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    inputs, targets = np.array([[0.0], [1.0]]), np.array([[-1.0], [1.0]])
    tape_magic.minimize(
        lambda model: tf.reduce_mean((model(inputs) - targets) ** 2),
        {"model": model},
        "l-bfgs-b",
        engine="graph",
        bounds={"model": (0, None)},
    )
    kernel, bias = (variable.numpy().item() for variable in model.trainable_variables)
    # With the intercept held at 0, the slope that is left is 1.
    assert bias == pytest.approx(0, abs=1e-6)
    assert kernel == pytest.approx(1, abs=1e-5)


# -- verdicts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "steps"), [*((method, 3) for method in METHODS), ("bfgs", 0), ("lm", 0)])
def test_the_step_limit(method: str, steps: int) -> None:
    x = tf.Variable([-1.2, 1.0], dtype=tf.float64)
    cell = CLASSICS["rosenbrock"].residuals if METHODS[method].residuals else CLASSICS["rosenbrock"].cell
    loss = _loss(cell, x)
    result = tape_magic.minimize(loss, None, method, steps, engine="graph")
    assert result.reason is StopReason.STEPS
    assert not result.converged
    assert result.steps == steps == len(result.history) - 1
    value = np.array(loss())
    assert result.loss == pytest.approx(0.5 * (value**2).sum() if value.ndim else value, rel=1e-12)
    assert result.history[0] == pytest.approx(12.1 if METHODS[method].residuals else 24.2)


@pytest.mark.parametrize("method", [name for name in SMOOTH if name not in ("tnc", "trust-constr")])
def test_steps_are_those_of_scipy_itself(method: str) -> None:
    """The losses after each iteration are those that SciPy's own callback sees on NumPy functions.

    slsqp's callback sees the first trial of an iteration; its iterates are where it asks for a gradient.
    """
    from scipy.optimize import minimize, rosen, rosen_der, rosen_hess, rosen_hess_prod

    start = np.array([-1.2, 1.0, 0.3])
    second = {"hessp": {"hessp": rosen_hess_prod}, "hess": {"hess": rosen_hess}}
    seen, asked = [rosen(start)], []

    def slope(x: Any) -> Any:
        asked.append(rosen(x))
        return rosen_der(x)

    minimize(
        rosen,
        start,
        jac=slope,
        method=method,
        callback=lambda x: seen.append(rosen(x)),
        **second.get(METHODS[method].second, {}),
    )
    seen = asked if METHODS[method].at_gradients else seen
    result = tape_magic.minimize(chain, {"x": start}, method, engine="graph")
    count = min(15, len(seen))
    np.testing.assert_allclose(result.history[:count], seen[:count], rtol=1e-6, atol=1e-9)


def test_a_run_that_converges_in_its_last_step_says_so() -> None:
    for method in ("bfgs", "l-bfgs-b", "newton-cg", "trust-exact", "trf", "lm"):
        cell = CLASSICS["booth"].residuals if METHODS[method].residuals else CLASSICS["booth"].cell
        ends = []
        for steps in (1000, None):
            x = tf.Variable([-5.0, 5.0], dtype=tf.float64)
            steps = ends[0].steps if steps is None else steps
            ends.append(tape_magic.minimize(_loss(cell, x), None, method, steps, engine="graph"))
        assert ends[0].reason is ends[1].reason is StopReason.METHOD_CONVERGED
        assert ends[1].steps == ends[1].steps_asked == ends[0].steps


def test_a_failure_says_what_scipy_says_of_it(door: Door) -> None:
    """A slope that is not the function's: BFGS finds no lower point along it."""
    cell = "y = x**2 + tf.stop_gradient(-2*x**2)"
    namespace = {"tf": tf, "x": tf.Variable(1.0, dtype=tf.float64)}
    result = door.minimize(Case(cell, "y --over x --optimizer bfgs --engine graph", namespace))
    assert result.reason is StopReason.METHOD_FAILED
    assert not result.converged
    assert any(note.startswith("bfgs: no step lowers the loss any more") for note in result.notes)
    assert namespace["x"].numpy() == result.variables["x"].end


@pytest.mark.parametrize("method", METHODS)
def test_not_finite_at_the_start(method: str) -> None:
    x = tf.Variable([-1.0, 2.0], dtype=tf.float64)
    loss = (lambda: tf.math.log(x)) if METHODS[method].residuals else (lambda: tf.reduce_sum(tf.math.log(x)))
    result = tape_magic.minimize(loss, None, method, engine="graph")
    assert result.reason is StopReason.DIVERGED
    assert result.divergence is not None
    assert (result.divergence.step, result.divergence.what) == (0, "loss")
    assert x.numpy().tolist() == [-1.0, 2.0]


def test_a_way_down_without_end_is_no_convergence() -> None:
    """x falls without bound, until the loss is −∞."""
    result = tape_magic.minimize(lambda x: -tf.exp(x), {"x": np.float64(1.0)}, "bfgs", engine="graph")
    assert not result.converged
    assert np.isfinite(result.variables["x"].end)


@pytest.mark.parametrize("method", [*METHODS][::2])
def test_target(method: str) -> None:
    x = tf.Variable([-1.2, 1.0], dtype=tf.float64)
    cell = CLASSICS["rosenbrock"].residuals if METHODS[method].residuals else CLASSICS["rosenbrock"].cell
    result = tape_magic.minimize(_loss(cell, x), None, method, engine="graph", target=4.0)
    assert result.reason is StopReason.TARGET
    assert result.converged
    assert result.history[-1] <= 4.0 < result.history[-2]
    again = tape_magic.minimize(_loss(cell, x), None, method, engine="graph", target=4.0)
    assert (again.steps, again.reason) == (0, StopReason.TARGET)


@pytest.mark.parametrize("method", ["bfgs", "l-bfgs-b", "slsqp", "newton-cg", "trust-exact", "lm", "trf"])
def test_gtol(method: str) -> None:
    """Where SciPy has an option for it, and by our own rule where it has none."""
    x = tf.Variable([-1.2, 1.0], dtype=tf.float64)
    cell = CLASSICS["rosenbrock"].residuals if METHODS[method].residuals else CLASSICS["rosenbrock"].cell
    result = tape_magic.minimize(_loss(cell, x), None, method, engine="graph", gtol=1e-2)
    assert result.converged
    if METHODS[method].gtol == "":
        assert result.reason is StopReason.GRADIENT
    if method not in ("l-bfgs-b", "tnc", *LEAST_SQUARES):  # which stop for other reasons, too
        assert result.variables["Variable"].gradient_norm <= 1e-2
        tight = tf.Variable([-1.2, 1.0], dtype=tf.float64)
        further = tape_magic.minimize(_loss(cell, tight), None, method, engine="graph", gtol=1e-5, tol=1e-14)
        assert further.steps >= result.steps


def test_tol_is_the_methods_own() -> None:
    steps = []
    for tol in (1e-2, 1e-12):
        result = tape_magic.minimize(
            chain, {"x": np.array([-1.2, 1.0])}, "nelder-mead", engine="graph", tol=tol
        )
        assert result.reason is StopReason.METHOD_CONVERGED
        steps.append(result.steps)
    assert steps[0] < steps[1]


def test_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for part in (log, iterations):
        monkeypatch.setattr(part, "time", clock)
    monkeypatch.setattr(iterations, "PROGRESS_SECONDS", 0.0)

    def tell(step: Step) -> None:
        clock.sleep(86_400.0 if step.step else 0.0)

    start = {"x": np.full(30, -1.0)}
    result = tape_magic.minimize(
        chain, start, "nelder-mead", 10**6, engine="graph", time=86_400.0, tol=0.0, on_progress=tell
    )
    assert result.reason is StopReason.TIME
    assert not result.converged
    assert result.steps > 0


def test_keep_best() -> None:
    """COBYLA's iterates go up and down; kept is the lowest of them."""
    ends = {}
    for keep in ("last", "best"):
        x = tf.Variable([-1.2, 1.0], dtype=tf.float64)
        result = tape_magic.minimize(lambda x=x: chain(x), None, "cobyla", 12, engine="graph", keep=keep)
        assert float(chain(x)) == pytest.approx(result.loss, rel=1e-12)
        ends[keep] = result
    np.testing.assert_array_equal(ends["last"].history, ends["best"].history)
    assert ends["best"].loss == ends["best"].best_loss == ends["best"].history.min()
    assert ends["last"].loss == ends["last"].history[-1]


# -- interrupts, errors, progress ---------------------------------------------------------------------


def test_an_interrupt_keeps_what_was_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterations, "PROGRESS_SECONDS", 0.0)
    x, steps = tf.Variable(np.full(30, -1.0)), []

    def press(step: Step) -> None:
        steps.append(step)
        if len(steps) == 100:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(MinimizeInterrupted) as caught:
        tape_magic.minimize(
            lambda: chain(x), None, "nelder-mead", 10**6, engine="graph", tol=0.0, on_progress=press
        )
    result = caught.value.result
    assert result.reason is StopReason.INTERRUPTED
    assert len(result.history) == result.steps + 1 > 1
    assert float(chain(x)) == pytest.approx(result.history[-1], rel=1e-12)
    assert result.variables["Variable"].end.tolist() == x.numpy().tolist()
    assert [step.step for step in steps] == sorted(step.step for step in steps)
    assert steps[-1].step == result.steps
    assert {step.engine for step in steps} == {"graph"}


def test_the_second_interrupt_gets_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterations, "PROGRESS_SECONDS", 0.0)
    x, losses = tf.Variable(np.full(30, -1.0)), []

    def press(step: Step) -> None:
        losses.append(step.loss)
        if len(losses) == 100:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        tape_magic.minimize(
            lambda: chain(x), None, "nelder-mead", 10**6, engine="graph", tol=0.0, on_progress=press
        )
    assert not isinstance(caught.value, MinimizeInterrupted)
    # The variables are those of the last iteration, not those that were being tried.
    assert float(chain(x)) == pytest.approx(losses[-1], rel=1e-12)


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_the_users_own_error_passes(engine: str) -> None:
    x = tf.Variable([-1.2, 1.0], dtype=tf.float64)

    def loss() -> Any:
        tf.debugging.assert_less(x[0], tf.constant(0.5, tf.float64), "too far")
        return chain(x)

    with pytest.raises(tf.errors.InvalidArgumentError, match="too far"):
        tape_magic.minimize(loss, None, "bfgs", engine=engine)
    assert x.numpy()[0] < 0.5
    assert float(chain(x)) < 24.2


@pytest.mark.parametrize("engine", ["xla", "graph", "eager"])
def test_tracked_scalars(door: Door, engine: str) -> None:
    x = tf.Variable([-1.2, 1.0], dtype=tf.float64)
    cell = f"{CLASSICS['rosenbrock'].cell}\nfirst = x[0]\ntwice = 2*y"
    line = f"y --over x --optimizer bfgs --track first twice --engine {engine}"
    result = door.minimize(Case(cell, line, {"tf": tf, "x": x}))
    np.testing.assert_allclose(result.tracked["twice"], 2 * result.history, rtol=1e-6)
    assert result.tracked["first"][0] == -1.2
    assert result.tracked["first"][-1] == x.numpy()[0]
    assert result.tracked_steps["first"].tolist() == list(range(result.steps + 1))


@pytest.mark.parametrize("method", ["l-bfgs-b", "trust-exact", "nelder-mead", "trf"])
def test_an_unchanged_cell_is_not_compiled_again(
    shell: Notebook, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = []
    original = evaluations.Traced.__init__

    def counted(self: Any, *args: Any, **options: Any) -> None:
        traces.append(self)
        original(self, *args, **options)

    monkeypatch.setattr(evaluations.Traced, "__init__", counted)
    cell = "r = w - k" if METHODS[method].residuals else "r = tf.reduce_sum((w - k)**2)"
    w = tf.Variable([3.0, 4.0], dtype=tf.float64)
    shell.ns.update(tf=tf, w=w, z=np.array([1.0, 1.0]), k=tf.constant(1.0, tf.float64))
    for _ in range(2):
        w.assign([3.0, 4.0])
        shell.ok(f"%%minimize r --over w --optimizer {method}\n{cell}")
        np.testing.assert_allclose(w.numpy(), [1, 1], atol=1e-4)
    assert len(traces) == 1
    for start in ([3.0, 4.0], [-3.0, 5.0]):  # an array is another variable in each run, or seems to be
        shell.ns["z"] = np.array(start)
        shell.ok(f"%%minimize r --over z --optimizer {method}\n{cell.replace('w', 'z')}")
        np.testing.assert_allclose(shell.ns["z"], [1, 1], atol=1e-4)
        assert shell.ns["minimum"].start_loss > 1
    assert len(traces) == 2
    shell.ok(f"%%minimize r --over z --optimizer {method}\n{cell.replace('w', 'z')} + 0*z[0]")
    assert len(traces) == 3


# -- refusals -----------------------------------------------------------------------------------------


REFUSED = [
    ("y --over x --optimizer bfgs --lr 0.1", "y = x**2", ("--lr goes with Keras optimizers", "bfgs")),
    (
        'y --over x --optimizer bfgs --bounds "x=0:1"',
        "y = x**2",
        ("bfgs knows no bounds", "l-bfgs-b", "slsqp"),
    ),
    (
        'y --over x --optimizer lm --bounds "x=0:1"',
        "y = tf.stack([x, x])",
        ("lm knows no bounds", "trf, dogbox."),
    ),
    ("y --over x --optimizer powell --gtol 1e-3", "y = x**2", ("--gtol", "powell", "--tol")),
    ("y --over x --optimizer lm", "y = x**2", ("a scalar", "residuals", "bfgs")),
    ("y --over x --optimizer bfgs", "y = tf.stack([x, x])", ("shape (2,)", "tf.reduce_mean(")),
    ('y --over x --optimizer bfgs --for "b in data"', "y = x**2 + b", ("--for", "bfgs")),
    ("y --over x --optimizer bfgs --patience 3 --tol 1e-3", "y = x**2", ("--patience", "bfgs")),
    ("y --over p --optimizer lm", "y = tf.stack([p[0] + p[1]])", ("1 for 2", "trf")),
    ("y --over x --optimizer bfgss", "y = x**2", ("unknown optimizer 'bfgss'", "did you mean bfgs?")),
    (
        "y --over x --optimizer newton-gc",
        "y = x**2",
        ("unknown optimizer 'newton-gc'", "did you mean newton-cg?"),
    ),
    ("y --over x --optimizer sdg", "y = x**2", ("did you mean sgd?",)),
    ("y --over x --optimizer lm", "y = tf.cast(tf.stack([x, x]), tf.int32)", ("int32", "real")),
]


@pytest.mark.parametrize(("line", "cell", "said"), REFUSED)
@pytest.mark.both_doors("line", "cell")
def test_refusals(door: Door, line: str, cell: str, said: tuple[str, ...]) -> None:
    x, p = tf.Variable(1.0), tf.Variable([1.0, 2.0])
    sentence = door.refused_minimize(Case(cell, line, {"tf": tf, "x": x, "p": p, "data": [1.0]}))
    for part in said:
        assert part in sentence
    assert "\n" not in sentence
    assert x.numpy() == 1.0


@pytest.mark.parametrize("engine", ["auto", "graph", "eager"])
def test_an_operation_without_gradient_is_named(engine: str) -> None:
    with pytest.raises(TapeMagicError, match=r"has no gradient of"):
        tape_magic.minimize(
            lambda x: tf.reduce_sum(tf.image.adjust_saturation(x, 2.0)),
            {"x": np.ones((2, 2, 3), "float32")},
            "bfgs",
            engine=engine,
        )


@pytest.mark.parametrize("method", METHODS)
def test_without_scipy_one_line_says_what_to_install(
    door: Door, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    sentence = door.refused_minimize(
        Case("y = x**2", f"y --over x --optimizer {method}", {"tf": tf, "x": tf.Variable(1.0)})
    )
    assert sentence == f'--optimizer {method} needs SciPy: pip install "tape_magic[scipy]"'


def test_what_is_too_large_is_refused_before_it_is_made() -> None:
    x = tf.Variable(tf.zeros([20_000]))
    with pytest.raises(LineError, match=r"bfgs keeps a matrix of 20,000 × 20,000 numbers.*l-bfgs-b"):
        tape_magic.minimize(lambda: tf.reduce_sum(x**2), None, "bfgs", engine="graph")
    with pytest.raises(LineError, match=r"trf keeps a matrix of 20,000 × 20,000"):
        tape_magic.minimize(lambda: x * 1.0, None, "trf", engine="graph")
    result = tape_magic.minimize(lambda: tf.reduce_sum((x - 1) ** 2), None, "l-bfgs-b", engine="graph")
    assert result.converged


def test_the_completion_offers_the_methods() -> None:
    (option,) = [option for option in MINIMIZE.options if option.name == "optimizer"]
    assert set(METHODS) <= set(option.choices)


def test_a_difference_of_the_notebook_is_an_expression(shell: Notebook) -> None:
    """`l-bfgs-b` is a name only where there are no such variables."""
    shell.ns.update(tf=tf, x=tf.Variable(1.0), newton=3, cg=2)
    sentence = shell.refused("%%minimize y --over x --optimizer newton-cg\ny = x**2")
    assert "int" in sentence
    del shell.ns["cg"]
    shell.ok("%%minimize y --over x --optimizer Newton-CG\ny = x**2")
    assert shell.ns["minimum"].optimizer == "SciPy newton-cg"


def test_the_report_names_the_method_and_its_message(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=tf.Variable(3.0))
    shown = shell.ok("%%minimize y --over x --optimizer l-bfgs-b\ny = x**2").displayed[-1]
    assert "SciPy l-bfgs-b" in shown.text
    assert "the method converged" in shown.text
    assert "l-bfgs-b: the gradient is small enough" in shown.text
    assert "SciPy l-bfgs-b" in shown.html


# -- curves with certified values ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "name", "start"),
    [
        (method, name, start)
        for method in LEAST_SQUARES
        for name in REFERENCES
        for start in ((0, 1) if method == "lm" else (1,))
        # From the far start, the rectangular region of dogbox leads into another valley.
        if (method, name, start) != ("dogbox", "Rat43", 0)
    ],
)
def test_certified_values(method: str, name: str, start: int) -> None:
    """NIST certifies the parameters and the sum of squares to eleven digits."""
    reference: Reference = REFERENCES[name]
    model = eval(f"lambda b: {reference.model} - y", {"tf": tf, "x": reference.x, "y": reference.y})
    result = tape_magic.minimize(
        model, {"b": np.array(reference.starts[start], np.float64)}, method, engine="graph", tol=1e-14
    )
    assert result.converged
    np.testing.assert_allclose(result.variables["b"].end, reference.certified, rtol=2e-7)
    assert 2 * result.loss == pytest.approx(reference.squares, rel=1e-9)


@pytest.mark.usefixtures("no_xla_beside")
def test_certified_values_through_both_doors(door: Door) -> None:
    reference = REFERENCES["Misra1a"]
    namespace = {"tf": tf, "x": reference.x, "y": reference.y, "b": np.array(reference.starts[0], np.float64)}
    line = "r --over b --optimizer lm --tol 1e-14"
    result = door.minimize(Case(f"r = {reference.model} - y", line, namespace))
    assert (result.engine, result.engine_reason) == ("graph", "over before XLA would have been ready")
    np.testing.assert_allclose(result.variables["b"].end, reference.certified, rtol=2e-7)


@pytest.mark.parametrize("method", ["bfgs", "trust-exact"])
def test_a_loss_of_squares_reaches_the_certified_values_too(method: str) -> None:
    reference = REFERENCES["Eckerle4"]
    x, y = tf.constant(reference.x), tf.constant(reference.y)

    def loss(b: Any) -> Any:
        return tf.reduce_sum((b[0] / b[1] * tf.exp(-0.5 * ((x - b[2]) / b[1]) ** 2) - y) ** 2)

    result = tape_magic.minimize(
        loss, {"b": np.array(reference.starts[1])}, method, engine="graph", gtol=1e-12
    )
    np.testing.assert_allclose(result.variables["b"].end, reference.certified, rtol=1e-6)
    assert result.loss == pytest.approx(reference.squares, rel=1e-9)


def by_a_loop(p: Any) -> Any:
    """p₁·(1 + p₀ + … + p₀⁴), by Horner."""
    total = tf.constant(0.0)
    for _ in tf.range(5):
        total = total * p[0] + p[1]
    return total


@pytest.mark.parametrize(
    ("method", "engine"), covering(["trust-exact", "newton-cg", "lm", "trf"], ["graph", "eager", "xla"])
)
def test_derivatives_of_a_loop_in_single_precision(method: str, engine: str) -> None:
    def residuals(p: Any) -> Any:
        return tf.stack([by_a_loop(p) - 3.0, p[0] - 1.0])

    def loss(p: Any) -> Any:
        return tf.reduce_sum(residuals(p) ** 2)

    what = residuals if method in ("lm", "trf") else loss
    result = tape_magic.minimize(what, {"p": tf.Variable([1.5, 0.5])}, method, engine=engine)
    # 5p₁ = 3 where p₀ is 1.
    np.testing.assert_allclose(result.variables["p"].end, [1.0, 0.6], rtol=1e-3)
    assert result.converged


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_the_hessian_of_a_loop_over_variables_of_two_dtypes(engine: str) -> None:
    def loss(a: Any, b: Any) -> Any:
        total = tf.constant(0.0)
        for _ in tf.range(3):
            total = total + a * tf.cast(b, tf.float32)
        return (total - 6.0) ** 2 + (a - 1.0) ** 2

    variables = {"a": tf.Variable(2.0), "b": tf.Variable(1.0, dtype=tf.float64)}
    result = tape_magic.minimize(loss, variables, "trust-exact", engine=engine)
    assert float(result.variables["a"].end) == pytest.approx(1.0, rel=1e-3)
    assert float(result.variables["b"].end) == pytest.approx(2.0, rel=1e-3)
