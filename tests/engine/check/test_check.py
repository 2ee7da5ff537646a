"""`--check`: derivatives beside central differences, and nothing of the further runs that remains."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.results.check import CheckOutcome
from tests.support.clock import Clock
from tests.support.doors import Case, Door
from tests.support.notebook import Notebook

V = np.linspace(0.3, 2.0, 6)


@tf.custom_gradient
def one_percent(x: Any) -> Any:
    """A sine whose gradient is wrong by a hundredth."""
    return tf.sin(x), lambda upstream: upstream * tf.cos(x) * 1.01


@tf.custom_gradient
def one_element(x: Any) -> Any:
    """A sum of cubes whose gradient is wrong in the element 2."""
    factor = tf.tensor_scatter_nd_update(tf.ones_like(x), [[2]], [tf.cast(1.3, x.dtype)])
    return tf.reduce_sum(x**3), lambda upstream: upstream * 3 * x**2 * factor


@tf.custom_gradient
def forgotten(x: Any) -> Any:
    """A square whose gradient is not finite, as by a careless tf.where."""
    return x**2, lambda upstream: upstream * x * float("nan")


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no comparison end for want of time: how many there are is a matter of the cell alone."""
    for module in ("sampling", "explanation"):
        monkeypatch.setattr(f"tape_magic.engine.check.{module}.time", Clock(runs=False))


OWN = {"tf": tf, "np": np, "one_percent": one_percent, "one_element": one_element, "forgotten": forgotten}


def case(cell: str, line: str, **names: Any) -> Case:
    return Case(cell, f"{line} --check", {**OWN, **names})


RIGHT = [
    ("y = 3*x**2 + 2*x + 1", "dy/dx", 2.0),
    ("y = tf.sin(x)*tf.exp(-x)", "dy/dx, d2y/dx2, d3y/dx3", 1.2),
    ("y = x**5", "d4y/dx4", 1.2),
    ("y = tf.reduce_sum(tf.math.log(1 + x**2))", "dy/dx", V),
    ("y = tf.sigmoid(x)", "y --wrt x", V.astype("float32")),
    ("y = tf.nn.softmax(x)[1]", "y --wrt x", tf.constant(V, tf.float32)),
    (
        "y = tf.reduce_sum(tf.linalg.inv(x + 3*tf.eye(2, dtype=x.dtype)))",
        "y --wrt x",
        tf.reshape(V[:4], (2, 2)),
    ),
    ("y = tf.math.lgamma(x) + tf.math.erf(x)", "y --wrt x", V),
    ("y = tf.gather(x, [0, 0, 3])", "y --wrt x", tf.Variable(V)),
    ("y = tf.cumsum(x)*x", "y --wrt x --jacobian", V),
    ("y = x*tf.reduce_sum(x, axis=1, keepdims=True)", "y --wrt x --batch-jacobian", V.reshape(3, 2)),
    ("y = tf.reduce_sum(tf.exp(x)*x[::-1])", "y --wrt x --hessian", V),
    ("y = tf.reduce_sum(tf.exp(x)*x[::-1])", "y --hvp x=2*x", V),
    ("y = tf.exp(x)*x[::-1]", "y --jvp x=3*x", V),
    ("y = tf.abs(x**2 + 1)**2", "y --wrt x", np.complex128(1 + 0.5j)),
    ("y = x**3", "y --wrt x", tf.constant([1 + 0.5j, 2j], tf.complex64)),
    ("y = x**3", "y --jvp x=x*2j", np.complex128([1 + 0.5j, 2j])),
    ("y = {'a': x**2, 'b': [tf.sin(x)]}", "y --wrt x", V),
    ("y = tf.nn.embedding_lookup(x, [0, 1, 1])", "y --wrt x", tf.Variable(V.reshape(3, 2))),
    ("y = tf.RaggedTensor.from_row_lengths(x**2, [2, 4])", "y --wrt x", V),
]


@pytest.mark.parametrize(("cell", "line", "x"), RIGHT)
def test_right_derivatives_agree(door: Door, cell: str, line: str, x: Any) -> None:
    report = door.grad(case(cell, line, x=x))
    assert len(report.checks) == len(report) > 0
    for check, row in zip(report.checks, report, strict=True):
        assert check.key == row.key
        assert check.agrees, check
        assert check.dtype == "float64"
        assert check.compared == check.elements == np.prod(row.shape)
        assert check.error < 1e-4
        assert check.note == ""


@pytest.mark.parametrize(
    ("cell", "line", "place"),
    [
        ("y = one_percent(x[0])", "y --wrt x", (0,)),
        ("y = one_element(x)", "y --wrt x", (2,)),
        ("y = x*one_element(x)", "y --wrt x --jacobian", (2,)),
        ("y = tf.reduce_sum(one_percent(x)*x)", "y --wrt x --hessian", None),
        ("y = x*one_percent(x)", "d2y/dx2", None),
        ("y = tf.reshape(one_percent(x)*x, (6, 1))", "y --wrt x --batch-jacobian", None),
    ],
)
@pytest.mark.both_doors("line")
def test_wrong_derivatives_are_found(door: Door, cell: str, line: str, place: Any) -> None:
    report = door.grad(case(cell, line, x=tf.constant(V, tf.float32)))
    (check,) = report.checks
    assert check.outcome is CheckOutcome.DIFFERS
    if place is not None:
        assert check.place[-1:] == place
    wrong, right = (1.3, 1.0) if "element" in cell else (1.01, 1.0)
    if line == "y --wrt x":
        np.testing.assert_allclose(check.error, 1 - right / wrong, rtol=1e-4)
        np.testing.assert_allclose(check.derivative / check.difference, wrong / right, rtol=1e-4)


def test_a_gradient_that_is_not_finite_where_differences_are(door: Door) -> None:
    (check,) = door.grad(case("y = forgotten(x)", "y --wrt x", x=3.0)).checks
    assert check.outcome is CheckOutcome.DIFFERS
    assert np.isnan(check.derivative)
    np.testing.assert_allclose(check.difference, 6.0)


@pytest.mark.parametrize(
    ("cell", "x", "slope"),
    [
        ("y = x**2 + tf.stop_gradient(x)", 1.0, 3.0),
        ("y = tf.stop_gradient(x)**2", 1.0, 2.0),
        ("y = tf.constant(float(x)**2)", 1.0, 2.0),
    ],
)
def test_what_the_tape_does_not_see(door: Door, cell: str, x: float, slope: float) -> None:
    report = door.grad(case(cell, "y --wrt x", x=x))
    (check,) = report.checks
    assert check.outcome is CheckOutcome.DIFFERS
    np.testing.assert_allclose(check.difference, slope, rtol=1e-3)


def test_no_connection_and_none_found(door: Door) -> None:
    (check,) = door.grad(case("y = 2*a", "y --wrt x", x=1.0, a=tf.constant(3.0))).checks
    assert check.agrees
    assert check.difference == 0


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("y = tf.nn.relu(x)", "a kink, 0 from below and 1 from above"),
        ("y = tf.abs(x)", "a kink, −1 from below and 1 from above"),
        ("y = tf.where(x > 0, x + 1, x)", "a jump"),
        ("y = tf.sqrt(x)", "it is not finite nearby"),
    ],
)
@pytest.mark.both_doors("cell")
def test_where_there_is_no_derivative(door: Door, cell: str, why: str) -> None:
    (check,) = door.grad(case(cell, "y --wrt x", x=tf.constant([0.0, 0.7]))).checks
    assert check.agrees
    assert (check.compared, check.elements) == (1, 2)
    assert check.note == f"not compared at [0]: {why}"


def test_nothing_to_compare(door: Door) -> None:
    report = door.grad(case("y = tf.nn.relu(x)", "y --wrt x", x=tf.constant(0.0)))
    assert report.checks[0].outcome is CheckOutcome.NOT_COMPARED


def test_a_kink_that_is_near(door: Door) -> None:
    (check,) = door.grad(
        case("y = tf.nn.relu(x)*x + tf.abs(x - 1e-5)", "y --wrt x", x=tf.constant([3e-4, 2.0]))
    ).checks
    assert check.agrees
    assert check.compared == 2


@pytest.mark.parametrize("constant", ["1.0", "tf.constant(1.0)"])  # the latter allows float32 alone
def test_the_kinks_of_a_network(door: Door, constant: str) -> None:
    rng = np.random.default_rng(4)
    names = {"w1": rng.normal(size=(5, 8)), "w2": rng.normal(size=(8, 1)), "data": rng.normal(size=(12, 5))}
    tensors = {name: tf.constant(value / 2, tf.float32) for name, value in names.items()}
    cell = f"y = tf.reduce_mean(tf.matmul(tf.nn.relu(data @ w1), w2)**2)*{constant}"
    report = door.grad(case(cell, "y --wrt w1,w2", **tensors))
    assert all(check.agrees for check in report.checks), report.checks


def test_many_outputs(door: Door) -> None:
    """Each direction gives many numbers at once."""
    x = tf.constant(np.linspace(0, 1, 30))
    (check,) = door.grad(case("y = tf.sin(x[:, None]*x)", "y --wrt x --jacobian", x=x)).checks
    assert check.agrees
    assert check.compared == check.elements == 30**3


def test_rows_of_a_batch_that_are_not_apart(door: Door) -> None:
    """Such a derivative is not what it is taken for, as TensorFlow's own documentation warns."""
    x = tf.constant([[1.0], [2.0]])
    (check,) = door.grad(case("y = x*tf.reduce_sum(x)", "y --wrt x --batch-jacobian", x=x)).checks
    assert check.outcome is CheckOutcome.DIFFERS


def test_float32_alone(door: Door) -> None:
    cell = "y = tf.constant(3.0)*{}(x)"  # a constant of float32, which takes no float64
    (check,) = door.grad(case(cell.format("tf.sin"), "y --wrt x", x=tf.constant(V, tf.float32))).checks
    assert check.agrees
    assert check.dtype == "float32"
    assert "does not compute in float64" in check.note
    (check,) = door.grad(case(cell.format("one_percent"), "y --wrt x", x=tf.constant(V, tf.float32))).checks
    assert check.outcome is CheckOutcome.DIFFERS
    report = door.grad(case("y = tf.constant(1e6) + tf.sin(x)", "y --wrt x", x=tf.constant(1.0)))
    assert report.checks[0].outcome is CheckOutcome.NOT_COMPARED  # rounding is all that is seen


def test_a_derivative_lost_to_rounding(door: Door) -> None:
    (check,) = door.grad(case("y = 1000 + (1 - tf.cos(x))/x**2", "dy/dx", x=tf.constant(1e-3))).checks
    assert check.outcome is CheckOutcome.DIFFERS
    assert "lost that to rounding" in check.note
    np.testing.assert_allclose(check.difference, -1e-3 / 12, rtol=1e-4)


@pytest.mark.parametrize("door", ["function"], indirect=True)
def test_a_sample_of_many(door: Door) -> None:
    x = tf.constant(np.linspace(0, 3, 5000), tf.float32)
    (check,) = door.grad(case("y = tf.reduce_sum(tf.sin(x)*x)", "dy/dx", x=x)).checks
    assert check.agrees
    assert check.compared == 198  # 200 directions, of which two are random
    assert check.elements == 5000
    assert check.note.startswith("a sample of the elements, and two random directions")
    (check,) = door.grad(case("y = tf.reduce_sum(one_percent(x)*x)", "dy/dx", x=x)).checks
    assert check.outcome is CheckOutcome.DIFFERS


def test_no_more_differences_after_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(runs=False)
    monkeypatch.setattr("tape_magic.engine.check.sampling.time", clock)

    def loss(x: Any) -> Any:  # each run takes a second, and each direction four runs
        clock.sleep(1.0)
        return tf.reduce_sum(tf.sin(x) * x)

    (check,) = tape_magic.grad(loss, {"x": tf.constant(np.linspace(0, 3, 50))}, check=True).checks
    assert check.agrees
    assert check.note == "the rest not compared: 10 s were over"
    assert check.compared == 3


# -- random cells ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "factor",
    [
        "tf.random.normal(())",
        "tf.random.get_global_generator().normal(())",
        "np.random.normal()",
        "random.random()",
        "tf.reduce_sum(tf.nn.dropout(tf.ones(50), 0.5))*tf.random.uniform(())",
    ],
)
@pytest.mark.parametrize("seeded", [False, True])
def test_random_cells_are_refused(door: Door, factor: str, seeded: bool) -> None:
    import random

    if seeded:  # elsewhere: the next run of the cell draws something else all the same
        tf.random.set_seed(1)
        np.random.seed(1)
        random.seed(1)
    said = door.refused_grad(case(f"y = x*{factor}", "dy/dx", x=tf.constant(2.0), random=random))
    assert said.startswith(
        "the cell gives two different answers for the same input: y differs from run to run"
    )
    assert "seed the random numbers in the cell" in said


@pytest.mark.parametrize(
    "cell",
    [
        "tf.random.set_seed(3)\ny = x*tf.random.normal(())",
        "np.random.seed(3)\ny = x*np.random.normal()",
        "y = x*tf.random.stateless_normal((), [1, 2])",
        "y = x*tf.random.Generator.from_seed(3).normal(())",
        "y = x*generator.normal(())",
        "y = x*rng.normal()",
    ],
)
def test_seeded_cells_are_not(door: Door, cell: str) -> None:
    names = {"generator": tf.random.Generator.from_seed(1), "rng": np.random.default_rng(1)}
    (check,) = door.grad(case(cell, "dy/dx", x=tf.constant(2.0), **names)).checks
    assert check.agrees


def test_random_numbers_go_on_as_without_it(shell: Notebook) -> None:
    import random

    def draws(option: str) -> list[float]:
        tf.random.set_seed(7)
        tf.random.get_global_generator().reset_from_seed(7)
        np.random.seed(7)
        random.seed(7)
        rng = np.random.default_rng(7)
        shell.ns.update(tf=tf, np=np, random=random, x=tf.constant(2.0), rng=rng)
        shell.ok(f"%%grad y --wrt x {option}\nrng.normal()\ny = x**2")
        further = [tf.random.normal(()), tf.random.get_global_generator().normal(())]
        return [*map(float, further), np.random.normal(), random.random(), rng.normal()]

    assert draws("--check") == draws("")


# -- what remains ----------------------------------------------------------------------------------

STATE = """\
import tensorflow as tf
import numpy as np
class Counter:
    seen = 0
    def __init__(self):
        self.calls = 0
        self.notes = []
count = 0
def bump(v):
    global count
    count += 1
    counter.calls += 1
    Counter.seen += 1
    counter.notes.append(count)
    return v
counter = Counter()
items, table, some, array = [], {}, set(), np.zeros(3)
n = tf.Variable(0)
w = tf.Variable([1.0, 2.0])
x = tf.constant([0.5, 0.7])
layers = [tf.keras.layers.Dense(3), tf.keras.layers.BatchNormalization(), tf.keras.layers.Dense(1)]
model = tf.keras.Sequential(layers)
_ = model(tf.ones((2, 2)))
opt = tf.keras.optimizers.SGD(0.1)
rng = np.random.default_rng(3)
"""

CELL = """
print("once")
items.append(len(items))
table["k"] = table.get("k", 0) + 1
some.add(len(some))
array += 1
n.assign_add(1)
fresh = [1]
first = rng.normal()
y = tf.reduce_sum(bump(x)**2*w) + tf.reduce_sum(model(tf.reshape(x, (1, 2)), training=True))
opt.apply_gradients([(tf.ones_like(w), w)])
"""

LOOK = """[count, counter.calls, Counter.seen, list(counter.notes), list(items), dict(table),
 set(some), array.tolist(),
 n.numpy(), w.numpy().tolist(), fresh, first, rng.normal(), float(y), opt.iterations.numpy(),
 [v.numpy().tolist() for v in model.variables], len(model.variables)]"""


def state(shell: Notebook, option: str) -> tuple[Any, str]:
    tf.keras.utils.set_random_seed(5)
    shell.ok(STATE)
    run = shell.ok(f"%%grad y --wrt x {option}{CELL}")
    return shell.ok(LOOK).out, run.stdout


def test_side_effects_happen_once(shell: Notebook) -> None:
    with_it, printed = state(shell, "--check")
    checks = shell.ns["grads"].checks
    assert [check.agrees for check in checks] == [True]
    without, _ = state(shell, "")
    assert with_it == without
    assert printed.count("once") == 1


def test_the_very_same_objects(shell: Notebook) -> None:
    shell.ok(STATE)
    kept = {
        name: shell.ns[name] for name in ("counter", "items", "array", "n", "w", "x", "model", "opt", "bump")
    }
    inner = shell.ns["items"], list(shell.ns["model"].variables), shell.ns["counter"].notes
    shell.ok(f"%%grad y --wrt x,w --check{CELL}")
    assert all(shell.ns[name] is value for name, value in kept.items())
    assert inner[0] is shell.ns["items"]
    assert all(a is b for a, b in zip(inner[1], shell.ns["model"].variables, strict=True))
    assert inner[2] is shell.ns["counter"].notes


def test_sources_are_bit_identical_afterwards(door: Door) -> None:
    rng = np.random.default_rng(1)
    names = {
        "v": tf.Variable(rng.normal(size=(3, 2)).astype("float32")),
        "a": rng.normal(size=4),
        "p": {"w": rng.normal(size=2), "t": tf.constant(rng.normal(size=2)), "n": [1.5, tf.Variable(2.5)]},
    }
    before = [names["v"].numpy().tobytes(), names["a"].tobytes(), names["p"]["w"].tobytes()]
    held = dict(names["p"])
    report = door.grad(
        case(
            "y = tf.reduce_sum(tf.sin(v)) + tf.reduce_sum(tf.cast(a, tf.float32)**3)"
            " + tf.reduce_sum(tf.cast(p['w']*p['t'], tf.float32))"
            " + tf.cast(p['n'][0], tf.float32)*tf.cast(p['n'][1], tf.float32)",
            "y --wrt v,a,p",
            **names,
        )
    )
    assert all(check.agrees for check in report.checks)
    assert [names["v"].numpy().tobytes(), names["a"].tobytes(), names["p"]["w"].tobytes()] == before
    assert names["p"].items() == held.items()
    assert float(names["p"]["n"][1]) == 2.5


def test_ctrl_c_leaves_what_the_one_run_left(shell: Notebook) -> None:
    shell.ok(STATE)
    shell.ns.update(signal=signal, runs=iter(range(10**6)), calls=[])

    def press() -> None:
        press.times += 1  # type: ignore[attr-defined]
        if press.times == 7:  # type: ignore[attr-defined]
            shell.ns["w"].assign([9.0, 9.0])
            signal.raise_signal(signal.SIGINT)

    press.times = 0  # type: ignore[attr-defined]
    shell.ns["press"] = press
    before = signal.getsignal(signal.SIGINT)
    run = shell.run(
        "%%grad y --wrt w,x --check\npress()\nitems.append(1)\nn.assign_add(1)\ny = tf.reduce_sum(x*w)"
    )
    assert isinstance(run.error, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is before
    assert not tf.config.functions_run_eagerly()
    assert shell.ns["items"] == [1]
    assert int(shell.ns["n"]) == 1
    assert shell.ns["w"].numpy().tolist() == [1.0, 2.0]
    assert "dy_dx" not in shell.ns


def test_an_error_in_a_further_run(door: Door) -> None:
    names = {"x": tf.constant(2.0), "log": []}
    calls: list[int] = []

    def fail_later(x: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("no more")
        return x

    said = door.refused_grad(case("y = fail_later(x)**2", "dy/dx", fail_later=fail_later, **names))
    assert "fails when it runs again" in said
    assert "ValueError" in said


def test_a_cell_that_fails_elsewhere_is_compared_where_it_does_not(door: Door) -> None:
    cell = "assert float(x) >= 1.0\ny = x**2"
    (check,) = door.grad(case(cell, "dy/dx", x=tf.constant(1.0, tf.float64))).checks
    assert check.outcome is CheckOutcome.NOT_COMPARED
    assert check.note == "not compared: it is not finite nearby"


def test_iterators_are_refused(door: Door) -> None:
    iterator = iter([1.0, 2.0, 3.0])
    said = door.refused_grad(case("y = x*next(iterator)", "dy/dx", x=tf.constant(1.0), iterator=iterator))
    assert "gives something else each time" in said
    assert next(iterator) == 1.0


def test_a_cell_of_its_own_is_not_checked_twice_by_def(shell: Notebook) -> None:
    said = shell.refused("%%grad dy/dx --def f --check\ny = x**2")
    assert said == "--def makes a function, and nothing runs to report on: leave out --check."


# -- what the program reaches ----------------------------------------------------------------------


def test_functions_of_other_cells_and_closures(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nx = tf.constant(2.0)\ndef f():\n    return x**3")
    shell.ok(
        "def outer(t):\n    return lambda: tf.sin(t)\ng = outer(x)\n@tf.function\ndef h(u):\n    return u*x"
    )
    shell.ok("%%grad dy/dx --check\ny = f() + g() + h(x)")
    (check,) = shell.ns["grads"].checks
    assert check.agrees
    assert check.dtype == "float64"
    np.testing.assert_allclose(check.difference, 12 + np.cos(2) + 4, rtol=1e-6)


def test_sources_that_the_cell_assigns(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf")
    shell.ok("%%grad dy/dx, dy/dh --check\nx = 3.0\nx = x + 1.0\nh = x**2\ny = h*tf.sin(h)")
    checks = shell.ns["grads"].checks
    assert [check.agrees for check in checks] == [True, True]
    np.testing.assert_allclose(checks[0].difference, 8 * (np.sin(16) + 16 * np.cos(16)), rtol=1e-6)
    assert shell.ns["x"] == 4.0
    shell.ok("x = 3.0")
    shell.ok("%%grad dy/dx --check\nx = x + 1.0\ny = x**2")
    assert [check.agrees for check in shell.ns["grads"].checks] == [True]


def test_last_expression(door: Door) -> None:
    (check,) = door.grad(case("tf.sin(x)", "--wrt x", x=1.0)).checks
    assert check.agrees
    np.testing.assert_allclose(check.difference, np.cos(1))


class Scaled(tf.Module):
    """A module of variables alone."""

    def __init__(self) -> None:
        super().__init__()
        self.w = tf.Variable([1.0, 2.0])
        self.b = tf.Variable(0.5)

    def __call__(self, x: Any) -> Any:
        return tf.reduce_sum(self.w * x**2) + self.b


def test_models(door: Door) -> None:
    tf.keras.utils.set_random_seed(2)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Dense(5, activation="tanh"),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.Dropout(0.5),
            tf.keras.layers.Dense(1),
        ]
    )
    x = tf.constant(np.random.default_rng(0).normal(size=(4, 3)), tf.float32)
    model(x)
    before = [variable.numpy().tobytes() for variable in model.variables]
    report = door.grad(case("loss = tf.reduce_mean(model(x)**2)", "loss --wrt model", model=model, x=x))
    assert len(report.checks) == len(report) == 6
    assert all(check.agrees for check in report.checks), report.checks
    assert {check.dtype for check in report.checks} == {"float64"}
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert model(x).dtype == tf.float32
    assert [variable.numpy().tobytes() for variable in model.variables] == before
    (check, *_) = door.grad(
        case("y = scaled(x)", "y --wrt scaled", scaled=Scaled(), x=V[:2].astype("float32"))
    ).checks
    assert check.agrees


def test_a_layer_that_the_cell_builds(shell: Notebook) -> None:
    shell.ok("import tensorflow as tf\nlayer = tf.keras.layers.Dense(2)\nx = tf.ones((1, 3))")
    shell.ok("%%grad y --wrt x --check\ny = tf.reduce_sum(layer(x)**2)")
    assert [check.agrees for check in shell.ns["grads"].checks] == [True]
    assert len(shell.ns["layer"].variables) == 2


def test_the_python_function() -> None:
    report = tape_magic.grad(one_percent, {"x": 1.0}, check=True)
    (check,) = report.checks
    np.testing.assert_allclose([check.derivative, check.difference], [1.01 * np.cos(1), np.cos(1)], rtol=1e-6)
    assert tape_magic.grad(tf.sin, 1.0).checks == ()


@pytest.mark.parametrize("call", ["globals()['seen'] = globals().get('seen', 0) + 1", "note()"])
def test_names_that_are_bound_in_passing_are_those_of_the_one_run(shell: Notebook, call: str) -> None:
    """Their names stand nowhere in the text, so all names are put back."""
    shell.ok("def note():\n    globals()['seen'] = globals().get('seen', 0) + 1")
    shell.ns["x"] = tf.Variable(2.0)
    shell.ok(f"%%grad dy/dx --check -q\ny = x**2\n{call}")
    assert shell.ns["seen"] == 1


def test_a_refusal_takes_back_what_was_bound_in_passing(shell: Notebook) -> None:
    shell.ns.update(x=tf.Variable(2.0), tf=tf)
    shell.refused("%%minimize y --over x --engine eager\ny = x*tf.ones(2)\nglobals()['seen'] = 1")
