"""L-BFGS in the loop: minima that are known, all engines, rules, bounds, and going on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.minimization.quasi_newton.lbfgs import Lbfgs
from tape_magic.errors import LineError
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step
from tests.engine.minimization.classics import CLASSICS, Classic
from tests.support.covering import covering
from tests.support.notebook import Notebook

ENGINES = ("xla", "graph", "eager")


def valley(v: Any) -> Any:
    """Rosenbrock's function in any number of dimensions, 0 at (1, …, 1)."""
    return tf.reduce_sum(100 * (v[1:] - v[:-1] ** 2) ** 2 + (1 - v[:-1]) ** 2)


def minimized(
    function: Any, start: Any, dtype: str = "float64", **options: Any
) -> tuple[MinimizeResult, Any]:
    v = tf.Variable(start, dtype=dtype)
    result = tape_magic.minimize(lambda: function(v), None, "lbfgs", **options)
    return result, v.numpy()


@pytest.mark.parametrize("classic", CLASSICS[::2], ids=lambda classic: classic.name)
def test_the_minima_of_classical_functions(shell: Notebook, classic: Classic) -> None:
    shell.ns.update(tf=tf, np=np, v=tf.Variable(classic.start, dtype=tf.float64))
    shell.ok(f"%%minimize y --over v --optimizer lbfgs --engine graph -q\n{classic.cell}")
    result = shell.ns["minimum"]
    assert result.loss == pytest.approx(classic.least, abs=1e-8)
    np.testing.assert_allclose(shell.ns["v"].numpy(), classic.end, atol=max(classic.close, 1e-4))


@pytest.mark.parametrize(("engine", "dtype"), covering(ENGINES, ["float64", "float32"]))
def test_a_curved_valley_to_the_precision_of_its_dtype(engine: str, dtype: str) -> None:
    size = 2 if engine == "eager" else 40
    start = np.tile([-1.2, 1.0], size // 2)
    result, end = minimized(valley, start, dtype, engine=engine)
    assert result.reason is StopReason.METHOD_CONVERGED
    assert result.converged
    assert result.optimizer == "L-BFGS"
    np.testing.assert_allclose(end, np.ones(size), rtol=2e-3 if dtype == "float32" else 1e-9)
    assert (np.diff(result.history) <= 1e-6 * result.history[:-1]).all()


def test_a_quadratic_ends_at_its_exact_minimum() -> None:
    result, end = minimized(lambda v: (v - 3) ** 2, 0.0, "float32")
    assert (float(end), result.loss, result.steps) == (3.0, 0.0, 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype: str) -> None:
    result, end = minimized(lambda v: tf.reduce_sum((v - [1.5, -2.0]) ** 2), [0.0, 0.0], dtype)
    np.testing.assert_allclose(end.astype(float), [1.5, -2.0], atol=0.02)
    assert result.loss < 1e-3


def test_several_variables_of_different_dtypes_are_one_vector() -> None:
    a, b = tf.Variable(0.0), tf.Variable([[0.0, 0.0]], dtype=tf.float64)
    result = tape_magic.minimize(
        lambda: (tf.cast(a, tf.float64) - 1) ** 2 + tf.reduce_sum((b - [2.0, 3.0]) ** 2), [a, b], "lbfgs"
    )
    assert result.converged
    np.testing.assert_allclose([a.numpy(), *b.numpy().ravel()], [1.0, 2.0, 3.0], rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_within_bounds(engine: str) -> None:
    """Where v₀ ≤ 1/2, the minimum of the valley is (1/2, 1/4), and the loss there (1 − 1/2)²."""
    v = tf.Variable([-1.2, 1.0], dtype=tf.float64)
    tried: list[float] = []

    def loss(v: Any) -> Any:
        if engine == "eager":
            tried.append(float(v[0]))
        return valley(v)

    result = tape_magic.minimize(
        loss, {"v": v}, "lbfgs", bounds={"v": (None, np.array([0.5, np.inf]))}, engine=engine
    )
    assert result.loss == pytest.approx(0.25, abs=1e-12)
    np.testing.assert_allclose(v.numpy(), [0.5, 0.25], rtol=1e-6)
    assert all(value <= 0.5 for value in tried)


def test_a_box_that_holds_most_of_the_numbers_at_its_walls() -> None:
    """The nearest point of a box: each coordinate is clipped."""
    aim = np.linspace(-3, 3, 30)
    v = tf.Variable(np.zeros(30))
    tape_magic.minimize(
        lambda v: tf.reduce_sum((v - aim) ** 2 * np.arange(1, 31.0)),
        {"v": v},
        "lbfgs",
        bounds={"v": (-1, 0.5)},
    )
    np.testing.assert_allclose(v.numpy(), np.clip(aim, -1, 0.5), atol=1e-8)


def test_losses_that_are_not_finite_at_trial_points_shorten_the_step() -> None:
    """x − log x is least at 1, and undefined below 0, where the first steps lead."""
    result, end = minimized(lambda v: tf.reduce_sum(v - tf.math.log(v)), [10.0, 0.01, 300.0])
    assert result.converged
    np.testing.assert_allclose(end, np.ones(3), rtol=1e-6)


def test_a_start_that_is_not_finite_is_said() -> None:
    result, end = minimized(lambda v: tf.math.log(v), -1.0)
    assert (result.reason, result.steps, float(end)) == (StopReason.DIVERGED, 0, -1.0)


def test_a_loss_without_a_minimum_is_no_success() -> None:
    result, _ = minimized(lambda v: -v, 0.0, steps=50)
    assert not result.converged


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"steps": 5}, StopReason.STEPS),
        ({"target": 1.0}, StopReason.TARGET),
        ({"gtol": 1.0}, StopReason.GRADIENT),
        ({"tol": 10.0, "patience": 2}, StopReason.TOLERANCE),
    ],
)
def test_every_rule_ends_it(options: dict[str, Any], reason: StopReason) -> None:
    for engine in ENGINES[1:]:
        result, end = minimized(valley, [-1.2, 1.0], engine=engine, **options)
        assert result.reason is reason
        assert result.loss == pytest.approx(float(valley(tf.constant(end))))
        assert len(result.history) == result.steps + 1


def test_what_is_tracked_and_kept_best_belongs_to_the_steps(shell: Notebook) -> None:
    shell.ns.update(tf=tf, v=tf.Variable([-1.2, 1.0], dtype=tf.float64))
    shell.ok(
        "%%minimize y --optimizer lbfgs --steps 12 --track a --keep best --engine graph -q\n"
        "a = (1 - v[0])**2\ny = 100*(v[1] - v[0]**2)**2 + a"
    )
    tracked, plain = shell.ns["minimum"], minimized(valley, [-1.2, 1.0], steps=12, engine="graph")[0]
    np.testing.assert_allclose(tracked.history, plain.history, rtol=1e-9)
    assert tracked.tracked["a"][0] == pytest.approx(2.2**2)
    assert len(tracked.tracked["a"]) == 13


@pytest.mark.parametrize("engine", ["xla", "graph"])
def test_a_run_that_goes_on_gives_the_same_bits_as_one_that_was_not_cut(engine: str, tmp_path: Path) -> None:
    ends = []
    for number, cuts in enumerate(([], [{"steps": 11}], [{"target": 20.0}, {"gtol": 30.0}])):
        for cut in [*cuts, {"steps": 30}]:  # a new variable each time, as in a new process
            v = tf.Variable(np.tile([-1.2, 1.0], 5), dtype=tf.float64)
            options: dict[str, Any] = {"steps": 30, "checkpoint": str(tmp_path / str(number)), **cut}
            result = tape_magic.minimize(
                lambda v: valley(v),
                {"v": v},
                "lbfgs",
                engine=engine,
                resume=True,
                **options,
            )
            assert (result.steps < 30) == (cut != {"steps": 30})
        ends.append((v.numpy().tobytes(), result.history.tobytes()))
    assert ends[0] == ends[1] == ends[2]


def test_steps_that_are_not_wanted_change_nothing() -> None:
    ends = []
    for pauses in ((), (3, 4, 6)):
        v = tf.Variable([-1.2, 1.0, 0.5])

        def evaluate(v: Any = v) -> tuple[Any, list[Any]]:
            with tf.GradientTape() as tape:
                loss = valley(v)
            return loss, [tape.gradient(loss, v)]

        optimizer = Lbfgs()
        optimizer.build([v])
        optimizer.remember(*evaluate())
        for number in range(8 + len(pauses)):
            before = v.numpy()
            loss, gradients = optimizer.remembered(tf.float32)
            optimizer.move(loss, gradients, evaluate, [None], [None], wanted=number not in pauses)
            assert (before == v.numpy()).all() == (number in pauses)
        ends.append(v.numpy().tobytes())
    assert ends[0] == ends[1]


def test_a_run_that_goes_on_looks_at_a_loss_that_has_changed(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nx, aim = tf.Variable(0.0), tf.Variable(3.0, trainable=False)")
    cell = "%%minimize --optimizer lbfgs --over x --steps {} -q {}\n(x - aim)**2 + 0.1*x**4"
    shell.ok(cell.format(50, ""))
    at_three = shell.ns["x"].numpy()
    shell.ok("aim.assign(-3.0)")
    shell.ok(cell.format(100, "--resume"))
    assert shell.ns["x"].numpy() == pytest.approx(-at_three, rel=1e-4)


def test_a_second_run_begins_anew(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nx = tf.Variable([-1.2, 1.0])")
    cell = "%%minimize --optimizer lbfgs --engine graph -q\n100*(x[1] - x[0]**2)**2 + (1 - x[0])**2"
    histories = []
    for _ in range(2):
        shell.ok("x.assign([-1.2, 1.0])")
        shell.ok(cell)
        histories.append(shell.ns["minimum"].history.tolist())
    assert histories[0] == histories[1]


def test_what_the_program_counts_is_counted_once_a_step() -> None:
    """Trial points leave no trace in what the program assigns itself."""
    for engine in ENGINES:
        v, count = tf.Variable([-1.2, 1.0], dtype=tf.float64), tf.Variable(0)

        def loss(v: Any, count: Any = count) -> Any:
            count.assign_add(1)
            return valley(v)

        result = tape_magic.minimize(loss, {"v": v}, "lbfgs", 6, engine=engine)
        assert result.steps == 6
        assert int(count) == 7


def test_a_stop_leaves_a_lower_point() -> None:
    v = tf.Variable(np.tile([-1.2, 1.0], 50), dtype=tf.float64)
    seen: list[int] = []

    def listener(step: Step) -> None:
        seen.append(step.step)
        if step.step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tape_magic.minimize(lambda: valley(v), None, "lbfgs", engine="eager", on_progress=listener)
    assert float(valley(v)) < 24926
    assert np.isfinite(v.numpy()).all()


def test_one_batch_is_data_enough() -> None:
    rows = np.arange(12.0)
    v = tf.Variable(0.0, dtype=tf.float64)
    result = tape_magic.minimize(
        lambda v, x: tf.reduce_sum((x - v) ** 2), {"v": v}, "lbfgs", data=rows, batch=12, epochs=20
    )
    assert result.converged
    assert float(v) == pytest.approx(5.5, rel=1e-9)
    with pytest.raises(LineError, match="one loss over all of the data"):
        tape_magic.minimize(lambda v, x: tf.reduce_sum((x - v) ** 2), {"v": v}, "lbfgs", data=rows, batch=3)


def test_a_rate_is_refused(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nx = tf.Variable(1.0)")
    said = shell.refused("%%minimize --optimizer lbfgs --lr 0.1\nx**2")
    assert "lbfgs finds its own step lengths" in said
