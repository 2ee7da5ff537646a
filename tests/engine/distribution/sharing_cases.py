"""The cases of `test_sharing.py`, each for a process that has imported TensorFlow and started nothing.

What is found in pieces on two and four logical CPUs is compared with what one device finds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.distribution.shared_evaluation import SharedEvaluation
from tape_magic.engine.tracing.traced import Traced
from tape_magic.errors import TapeMagicError
from tape_magic.results.minimum import MinimizeResult, StopReason

ROWS, BATCH = 203, 50
"""Batches of 50 rows are no multiple of four, and the last one has three rows: fewer than four devices."""


def split(count: int = 4) -> None:
    """Have so many logical CPUs."""
    tape_magic.devices(cpu=True, split=count)


def two() -> Any:
    return tf.distribute.MirroredStrategy(["CPU:1", "CPU:3"])


def data(seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(ROWS, 6)).astype("float32"), rng.integers(0, 3, ROWS)


def network(*layers: Any, units: int = 3) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.layers.Dense(8, "tanh", name="first"), *layers, keras.layers.Dense(units, name="head")]
    )
    model.build((None, 6))
    return model


def cross_entropy(targets: Any, logits: Any) -> Any:
    return tf.reduce_mean(rows_of_cross_entropy(targets, logits))


def rows_of_cross_entropy(targets: Any, logits: Any) -> Any:
    return keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)


def same(one: MinimizeResult, other: MinimizeResult, tolerance: float = 1e-6) -> None:
    """Assert that two runs took the same steps to the same numbers."""
    ends = [(run.steps, run.reason, run.best_step) for run in (one, other)]
    assert ends[0] == ends[1], ends
    np.testing.assert_allclose(one.history, other.history, rtol=tolerance, atol=tolerance)
    assert list(one.tracked) == list(other.tracked)
    for name, values in one.tracked.items():
        np.testing.assert_allclose(values, other.tracked[name], rtol=tolerance, atol=tolerance)
    ends = zip(one.variables.values(), other.variables.values(), strict=True)
    for first, second in ends:
        np.testing.assert_allclose(first.end, second.end, rtol=tolerance, atol=tolerance)


def compared(
    make: Callable[[], Any],
    given: Any,
    tolerance: float = 1e-6,
    *,
    strategy: Any = "mirrored",
    **settings: Any,
) -> list[Any]:
    """Compare a run on four devices with that on one; return both results."""
    settings = {"batch": BATCH, "epochs": 2, "seed": 5, "optimizer": "adam", "lr": 0.05, **settings}
    if not isinstance(given, tuple):
        del settings["batch"]
    one = tape_magic.minimize(make(), data=given, engine="graph", **settings)
    shared = tape_magic.minimize(make(), data=given, strategy=strategy, **settings)
    same(one, shared, tolerance)
    assert one.devices == 1
    return [one, shared]


# -- the same numbers as on one device -------------------------------------------------------------


def a_mean() -> None:
    split()

    def make() -> Any:
        model = network()
        return lambda x, y: cross_entropy(y, model(x))

    for strategy, count in (("mirrored", 4), (two(), 2)):
        _, found = compared(make, data(), strategy=strategy)
        assert found.notes == ("the loss is the mean over the rows: each part counts by its rows",)
        assert found.devices == count
        assert f"graph on {count} devices" in str(found)


def a_sum() -> None:
    split()

    def make() -> Any:
        model = network()
        return lambda x, y: tf.reduce_sum(rows_of_cross_entropy(y, model(x)))

    for strategy in ("mirrored", two()):
        _, found = compared(make, data(), lr=1e-3, strategy=strategy)
        assert found.notes == ("the loss adds the rows up, and so do the parts",)


def a_mean_with_a_penalty_of_the_weights() -> None:
    split()

    def make() -> Any:
        model = network()
        return lambda x, y: cross_entropy(y, model(x)) + 0.1 * tf.reduce_sum(model.layers[0].kernel ** 2)

    compared(make, data())


def float64() -> None:
    split()
    x, y = data()

    def make() -> Any:
        w = tf.Variable(np.zeros([6, 3]))
        return lambda x, y: cross_entropy(y, tf.cast(x, tf.float64) @ w)

    compared(make, (x, y), 1e-12)


def an_embedding_and_an_lstm() -> None:
    split()
    rng = np.random.default_rng(2)
    words, y = rng.integers(0, 11, (ROWS, 5)), rng.integers(0, 3, ROWS)

    def make() -> Any:
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Embedding(11, 4), keras.layers.LSTM(5), keras.layers.Dense(3)]
        model = keras.Sequential(layers)
        model(words[:2])
        return lambda x, y: cross_entropy(y, model(x))

    compared(make, (words, y))


def parts_of_other_forms() -> None:
    """A dict, a ragged tensor, a sparse one, and a scalar that belongs to no row."""
    split()
    x, y = data()
    ragged = tf.RaggedTensor.from_row_lengths(x.ravel()[:ROWS], np.ones(ROWS, "int64"))
    sparse = tf.sparse.from_dense(np.where(x > 0.5, x, 0))
    rows = tf.data.Dataset.from_tensor_slices(({"x": x, "y": y}, ragged, sparse)).batch(BATCH)
    batches = rows.map(lambda one, two, three: (one, two, three, tf.constant(0.5)))

    def make() -> Any:
        model, w = network(), tf.Variable(tf.ones([6, 3]))

        def loss(one: Any, two: Any, three: Any, scale: Any) -> Any:
            extra = tf.reduce_sum(two, 1)[:, None] + tf.sparse.sparse_dense_matmul(three, w)
            return scale * cross_entropy(one["y"], model(one["x"]) + extra)

        return loss

    compared(make, batches)


def parts_that_have_no_rows() -> None:
    """A weight for each class, a factor for each feature: of other lengths than a batch, and of the same."""
    split()
    x, y = data()
    told = "w goes whole to each device, and is not cut with the rows"

    def by_class() -> Any:
        model = network()
        return lambda x, y, w: tf.reduce_mean(tf.gather(w, y) * rows_of_cross_entropy(y, model(x)))

    def by_feature() -> Any:
        model = network()
        return lambda x, y, w: cross_entropy(y, model(x * w))

    rows = tf.data.Dataset.from_tensor_slices((x, y))

    def with_weights(size: int, count: int, *, drop: bool = False) -> Any:
        weights = tf.linspace(0.5, 2.0, count)
        batches = rows.batch(size, drop_remainder=drop)
        return batches.map(lambda x, y: (x, y, weights))

    for make, size, count, drop in (
        (by_class, 50, 3, False),  # and the last batch has three rows
        (by_class, 8, 8, True),
        (by_feature, 50, 6, False),
        (by_feature, 6, 6, True),
    ):
        batches = with_weights(size, count, drop=drop)
        _, found = compared(make, batches, steps=20)
        assert (told in found.notes) is (size == count), found.notes
        # Batches that Python makes say nothing of which lengths stay.
        lists = [tuple(part.numpy() for part in batch) for batch in batches.take(4)]
        _, found = compared(make, lists)
        assert (told in found.notes) is (size == count), found.notes

    def by_scalar() -> Any:
        model = network()
        return lambda w, x, y: w * cross_entropy(y, model(x))

    compared(by_scalar, rows.batch(50).map(lambda x, y: (tf.constant(2.0), x, y)))


def parts_by_which_nothing_can_be_cut() -> None:
    """What comes first has the rows."""
    split()
    x, y = data()
    model = network()
    batches = [(np.ones(3, "float32"), x[:50], y[:50])] * 2
    with pytest.raises(TapeMagicError) as caught:
        tape_magic.minimize(
            lambda w, x, y: tf.reduce_mean(tf.gather(w, y) * rows_of_cross_entropy(y, model(x))),
            data=batches,
            strategy="mirrored",
        )
    said = str(caught.value)
    assert said.startswith(
        "--strategy cuts w, x, y by the rows of w, and the cell does not run on parts of a"
    )
    assert said.partition("InvalidArgumentError: ")[2].startswith("indices[")


def an_error_of_one_device() -> None:
    """The sentence of TensorFlow's that tells something, though only one piece has such a row."""
    from IPython.core.interactiveshell import InteractiveShell

    from tests.support.notebook import Notebook

    split()
    shell = Notebook(InteractiveShell.instance())
    shell.ok("%load_ext tape_magic")
    shell.ok(
        "import tensorflow as tf, numpy as np\nw = tf.Variable(tf.zeros(4))\n"
        "rows = np.arange(32) % 4\nrows[29] = 7"
    )
    line = '%%minimize loss --over w --for "row in data" --steps 100 --strategy mirrored'
    cell = f"{line}\nloss = tf.reduce_mean((tf.gather(w, row) - 1.0) ** 2)"
    shell.ok("data = tf.data.Dataset.from_tensor_slices([*[rows * 0] * 4, rows])")
    said = shell.refused(cell)
    assert said.startswith("%%minimize failed: InvalidArgumentError: indices[5] = 7 is not in [0, 4)"), said
    shell.ok("w.assign(tf.zeros(4)); data = [rows * 0] * 4")
    shell.ok(cell.replace("100", "4"))


def half_precision() -> None:
    """Its rounding is no reason to say that a mean is none."""
    split()
    x, y = data()
    for policy in ("mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        model = network()
        keras.config.set_dtype_policy("float32")
        found = tape_magic.minimize(
            lambda x, y, model=model: cross_entropy(y, tf.cast(model(x), tf.float32)),
            data=(x, y),
            batch=BATCH,
            strategy="mirrored",
        )
        assert found.notes == ("the loss is the mean over the rows: each part counts by its rows",)


def fewer_rows_than_devices() -> None:
    split()
    x, y = data()

    def make() -> Any:
        model = network()
        return lambda x, y: cross_entropy(y, model(x))

    for size in (1, 3):
        compared(make, (x[:7], y[:7]), batch=size)


def rules_end_at_the_same_step() -> None:
    split()

    def make() -> Any:
        model = network()

        def loss(x: Any, y: Any) -> Any:
            logits = model(x)
            hits = tf.equal(tf.argmax(logits, 1), tf.cast(y, tf.int64))
            loss = cross_entropy(y, logits)
            right, norm = tf.reduce_sum(tf.cast(hits, tf.float32)), tf.norm(model.layers[-1].kernel)
            return {"loss": loss, "right": right, "norm": norm}["loss"] + 0 * (right + norm)

        return loss

    for rule, reason in (
        ({"target": 1.0}, StopReason.TARGET),
        ({"gtol": 0.15}, StopReason.GRADIENT),
        ({"keep": "best", "lr": 0.4}, StopReason.EPOCHS),
        ({"bounds": {}, "clip": 0.05}, StopReason.EPOCHS),
        ({"schedule": "cosine"}, StopReason.EPOCHS),
        ({"schedule": "plateau:0.5", "val": data(7)}, StopReason.EPOCHS),
        ({"val": data(7), "keep": "best", "patience": 2, "epochs": 8, "lr": 0.3}, None),
    ):
        one, *_ = compared(make, data(), **{"epochs": 6, **rule})
        assert reason is None or one.reason is reason, (rule, one.reason)


def a_divergence_is_told_at_the_same_step() -> None:
    split()
    x, y = data()

    def make() -> Any:
        w = tf.Variable(0.4)
        return lambda x, _: tf.math.log(w) * tf.reduce_mean(x**2)

    one, other = compared(make, (x, y), optimizer="sgd", lr=0.05, epochs=20)
    assert one.reason is StopReason.DIVERGED
    assert one.divergence is not None
    assert other.divergence.step == one.divergence.step > 1


def numbers_that_are_not_finite_in_one_part() -> None:
    """The report is that of one device: the step, the row or the operation, and where it goes back to."""
    split()
    x, y = data()
    lost, early, negative = x.copy(), x.copy(), abs(x) + 1
    lost[137, 2], early[7, 2], negative[137, 2] = np.nan, np.nan, -1
    listed = [(lost[at : at + BATCH], y[at : at + BATCH]) for at in range(0, ROWS, BATCH)]

    def reported(found: MinimizeResult) -> str:
        return str(replace(found, notes=(), seconds=0.0, compile_seconds=0.0))

    mean = cross_entropy

    def total(targets: Any, logits: Any) -> Any:
        return tf.reduce_sum(rows_of_cross_entropy(targets, logits))

    def run(given: Any, reduce: Any, change: Any, strategy: Any, **settings: Any) -> MinimizeResult:
        keras.backend.clear_session()  # each model has the same names
        model = network()
        if isinstance(given, tuple):
            settings = {"batch": BATCH, **settings}
        engine = "graph" if strategy is None else "auto"
        settings |= {"epochs": 2, "seed": 5, "optimizer": "sgd", "lr": 1e-3, "engine": engine}
        return tape_magic.minimize(
            lambda x, y: reduce(y, model(change(x))), data=given, strategy=strategy, **settings
        )

    for number, (given, reduce, change, settings, said) in enumerate(
        (
            ((lost, y), mean, tf.identity, {}, "row 137 of "),
            ((lost, y), total, tf.identity, {}, "row 137 of "),
            (listed, mean, tf.identity, {}, "row 37 of batch 3 of "),
            ((early, y), mean, tf.identity, {"batch": ROWS}, "row 7 of "),
            ((lost, y), mean, tf.identity, {"keep": "last"}, "row 137 of "),
            ((negative, y), mean, tf.math.log, {}, ""),
        )
    ):
        one = run(given, reduce, change, None, **settings)
        assert one.reason is StopReason.DIVERGED
        assert said in str(one)
        other = run(given, reduce, change, two() if number % 2 else "mirrored", **settings)
        assert reported(other) == reported(one), (reported(one), reported(other))
        for start, end in zip(one.variables.values(), other.variables.values(), strict=True):
            np.testing.assert_allclose(start.end, end.end, rtol=1e-6, atol=1e-6)
        assert all(("mean" in note) is (reduce is mean) for note in other.notes)
        assert bool(other.notes) is (given[0] is not early)  # of such numbers, nothing follows


def optimizers_take_the_same_steps() -> None:
    split()

    def run(optimizer: Any, **settings: Any) -> MinimizeResult:
        model = network()
        return tape_magic.minimize(
            lambda model, x, y: cross_entropy(y, model(x)),
            {"model": model},
            optimizer,
            data=data(),
            batch=BATCH,
            seed=5,
            **settings,
        )

    kinds = keras.optimizers
    for make in (
        lambda: kinds.SGD(0.1, momentum=0.9),
        lambda: kinds.AdamW(0.05),
        lambda: kinds.Lamb(0.05),
        lambda: kinds.Muon(0.005),  # whose directions magnify the rounding of a small gradient
        lambda: kinds.Adafactor(0.05),
        lambda: kinds.Adam(0.05, clipnorm=0.05),
        lambda: kinds.Adam(0.05, global_clipnorm=0.05),
        lambda: kinds.Adam(0.05, use_ema=True, ema_momentum=0.9),
        lambda: kinds.Adam(0.05, gradient_accumulation_steps=2),
    ):
        same(run(make(), engine="graph"), run(make(), strategy=two()))


def a_batch_that_does_not_fit_one_device() -> None:
    split()
    model, made = network(), SharedEvaluation.__init__

    def small(self: SharedEvaluation, *given: Any) -> None:
        made(self, *given)
        call = self.whole.call

        def fits(*batch: Any, **handles: Any) -> Any:
            if (batch[0].shape[0] or 0) > 20:
                raise tf.errors.ResourceExhaustedError(None, None, "no memory for more than 20 rows")
            return call(*batch, **handles)

        self.whole = replace(self.whole, call=fits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SharedEvaluation, "__init__", small)
        found = tape_magic.minimize(
            lambda x, y: cross_entropy(y, model(x)),
            data=data(),
            batch=BATCH,
            steps=3,
            seed=5,
            strategy="mirrored",
        )
    model = network()
    one = tape_magic.minimize(
        lambda x, y: cross_entropy(y, model(x)), data=data(), batch=BATCH, steps=3, seed=5, engine="graph"
    )
    same(one, found)
    assert "the last batch does not fit one device: the names have what its first part gave" in found.notes


# -- where they cannot be the same -----------------------------------------------------------------


def rows_that_meet_are_told() -> None:
    split()

    def make() -> Any:
        model = network()

        def loss(x: Any, _: Any) -> Any:
            vectors = model(x)
            return tf.reduce_mean(tf.reduce_logsumexp(vectors @ tf.transpose(vectors), 1))

        return loss

    found = tape_magic.minimize(make(), data=data(), batch=BATCH, seed=5, strategy=two(), steps=2)
    (note,) = found.notes
    assert "the loss of a batch is not made of that of its rows (" in note
    assert "in 2 parts): one device finds another" in note


def batch_normalization() -> None:
    split()

    def run(strategy: Any) -> tuple[Any, Any]:
        model = network(keras.layers.BatchNormalization())
        settings: dict[str, Any] = {"batch": 100, "steps": 30, "epochs": 20, "seed": 5, "strategy": strategy}
        found = tape_magic.minimize(
            lambda x, y: cross_entropy(y, model(x, training=True)), data=data(), **settings
        )
        return found, model.layers[1]

    (_, one), (found, shared) = run(None), run(two())
    assert any(note.startswith("BatchNormalization normalises each part by itself") for note in found.notes)
    assert not any("not made of" in note for note in found.notes)
    np.testing.assert_allclose(shared.moving_mean, one.moving_mean, atol=0.01)
    np.testing.assert_allclose(shared.moving_variance, one.moving_variance, rtol=0.02, atol=0.01)


def dropout() -> None:
    split()

    def run() -> tuple[Any, Any]:
        model = network(keras.layers.Dropout(0.5, seed=3))
        found = tape_magic.minimize(
            lambda x, y: cross_entropy(y, model(x, training=True)),
            data=data(),
            batch=BATCH,
            seed=5,
            strategy=two(),
            steps=7,
        )
        return found, np.array(model.layers[1].seed_generator.state)

    (one, state), (other, _) = run(), run()
    assert "each part draws random numbers of its own: results differ from those of one device" in one.notes
    assert not any("not made of" in note for note in one.notes)
    assert one.history.tolist() == other.history.tolist()
    model = network(keras.layers.Dropout(0.5, seed=3))
    alone = tape_magic.minimize(
        lambda x, y: cross_entropy(y, model(x, training=True)), data=data(), batch=BATCH, seed=5, steps=7
    )
    assert alone.steps == one.steps
    assert state.tolist() == np.array(model.layers[1].seed_generator.state).tolist()


def parts_have_other_masks() -> None:
    """All rows are alike: with one mask for all parts, so would their losses be."""
    split(2)
    layer = keras.layers.Dropout(0.5, seed=3)
    w = tf.Variable(1.0)
    x = np.ones([2, 64], "float32")
    found = tape_magic.minimize(
        lambda x: w * tf.reduce_sum(layer(x, training=True)[:, :32]),
        data=(x,),
        batch=2,
        steps=1,
        strategy="mirrored",
        optimizer="sgd",
        lr=0.0001,
        seed=1,
        keep="last",
    )
    assert found.steps == 1
    kept = found.history[0] / 2
    assert kept != int(kept) or kept % 2 == 1  # twice the same mask gives an even count


# -- runs that go on -------------------------------------------------------------------------------


def resumed_runs() -> None:
    split()

    def run(folder: str | None, steps: int, strategy: Any) -> Any:
        model = network()
        return tape_magic.minimize(
            lambda model, x, y: cross_entropy(y, model(x)),
            {"model": model},
            data=data(),
            batch=BATCH,
            epochs=4,
            seed=5,
            steps=steps,
            strategy=strategy,
            engine="graph",
            checkpoint=folder,
            resume=bool(folder),
        )

    whole = {2: run(None, 16, two()), 1: run(None, 16, None)}
    for first, then, tolerance in ((two(), two(), 0.0), (two(), None, 1e-6), (None, two(), 1e-6)):
        with tempfile.TemporaryDirectory() as folder:
            run(folder, 6, first)
            again = run(folder, 16, then)
        wanted = whole[1 if then is None else 2]
        np.testing.assert_allclose(again.history, wanted.history, rtol=tolerance, atol=tolerance)
        for end, other in zip(again.variables.values(), wanted.variables.values(), strict=True):
            np.testing.assert_allclose(end.end, other.end, rtol=tolerance, atol=tolerance)


def a_second_run_traces_nothing() -> None:
    split()
    model = network()
    made: list[Any] = []
    begin = Traced.__init__

    def traced(self: Traced, *given: Any, **named: Any) -> None:
        made.append(self)
        begin(self, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Traced, "__init__", traced)
        first, second = (
            tape_magic.minimize(
                lambda model, x, y: cross_entropy(y, model(x)),
                {"model": model},
                data=data(seed),
                batch=BATCH,
                strategy="mirrored",
            )
            for seed in (0, 1)
        )
    assert len(made) == 1
    assert second.notes == first.notes
    assert not tf.distribute.has_strategy()


def an_interrupt_leaves_no_strategy() -> None:
    split()
    model = network()

    def press(step: Any) -> None:
        if step.step > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tape_magic.minimize(
            lambda x, y: cross_entropy(y, model(x)),
            data=data(),
            batch=BATCH,
            epochs=10_000,
            strategy="mirrored",
            on_progress=press,
        )
    assert not tf.distribute.has_strategy()
    assert tf.executing_eagerly()


def a_log_has_the_same_losses() -> None:
    split()
    with tempfile.TemporaryDirectory() as folder:
        model = network()
        tape_magic.minimize(
            lambda x, y: cross_entropy(y, model(x)),
            data=data(),
            batch=BATCH,
            epochs=30,
            strategy="mirrored",
            log=folder,
            val=data(3),
        )
        assert list(Path(folder).rglob("events.out.*"))


# -- variables of a scope --------------------------------------------------------------------------


def a_model_of_a_scope() -> None:
    split()
    strategy = two()

    def run(*, scope: bool, **settings: Any) -> tuple[Any, Any]:
        keras.utils.set_random_seed(1)
        if scope:
            with strategy.scope():
                model = network(keras.layers.BatchNormalization())
        else:
            model = network(keras.layers.BatchNormalization())
        # The gradient by a bias before a normalisation is rounding, of which Adam makes whole steps.
        settings = {
            "optimizer": "sgd",
            "lr": 0.1,
            "batch": BATCH,
            "steps": 6,
            "epochs": 3,
            "seed": 5,
        } | settings
        loss = lambda x, y: cross_entropy(y, model(x, training=True))  # noqa: E731
        return tape_magic.minimize(loss, data=data(), **settings), model

    for settings in ({"engine": "graph"}, {"strategy": strategy}, {"engine": "eager"}):
        one, alone = run(scope=False, **settings)
        other, model = run(scope=True, **settings)
        same(one, other)
        for variable, wanted in zip(model.variables, alone.variables, strict=True):
            copies = strategy.experimental_local_results(variable.value)
            assert len(copies) == 2
            for copy in copies:
                np.testing.assert_allclose(copy, wanted, rtol=1e-6, atol=1e-6)


def a_variable_of_a_scope_by_other_methods() -> None:
    split()
    strategy = two()
    with strategy.scope():
        w = tf.Variable([4.0, -2.0])
    for settings in ({"optimizer": "bfgs"}, {"optimizer": "lbfgs"}, {"optimizer": "sgd", "lr": 0.5}):
        w.assign([4.0, -2.0])
        tape_magic.minimize(lambda: tf.reduce_sum((w - 3.0) ** 2), **settings)
        for copy in strategy.experimental_local_results(w):
            np.testing.assert_allclose(copy, [3.0, 3.0], atol=1e-4)


# -- what is refused -------------------------------------------------------------------------------


def one_device() -> None:
    model = network()
    found = tape_magic.minimize(
        lambda x, y: cross_entropy(y, model(x)), data=data(), batch=BATCH, strategy="mirrored"
    )
    assert "1 device (CPU:0): nothing to share out; %tfgpu --cpu --split 2 makes two" in found.notes
    assert found.devices == 1


def a_cell_that_is_not_compiled() -> None:
    split()
    w = tf.Variable(1.0)
    with pytest.raises(TapeMagicError, match=r"^--strategy needs a compiled cell: ") as caught:
        tape_magic.minimize(
            lambda x: tf.constant(float(w.numpy())) * tf.reduce_mean(w * x),
            data=(np.ones(4, "float32"),),
            strategy="mirrored",
        )
    assert "\n" not in str(caught.value)


def strategies_that_keras_has_no_optimizers_for() -> None:
    split()
    w = tf.Variable(1.0)
    for strategy, said in (
        (tf.distribute.get_strategy(), "for which Keras 3 has no optimizers"),
        (keras.Sequential(), "is of type Sequential, which is no strategy"),
        ("miror", "did you mean mirrored"),
    ):
        with pytest.raises(TapeMagicError, match=said):
            tape_magic.minimize(
                lambda x: tf.reduce_mean(w * x), data=(np.ones(4, "float32"),), strategy=strategy
            )


def lines_that_are_refused() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    from tests.support.notebook import Notebook

    split()
    shell = Notebook(InteractiveShell.instance())
    shell.ok("%load_ext tape_magic")
    shell.ok("import tensorflow as tf, numpy as np, keras\nw = tf.Variable(1.0)\nx = np.ones(8, 'float32')")
    cell, over = "loss = tf.reduce_mean((w * xb - 2)**2)", '--for "xb in x"'
    for line, said in (
        ("", '--strategy shares out the batches of data; on the line, --for "xb, yb in (x, y)".'),
        (f"{over} --strategy miror", "'miror' is none of mirrored, workers; did you mean mirrored?"),
        (f"{over} --optimizer bfgs", "bfgs evaluates the whole loss at once; --strategy goes with Keras"),
        (f"{over} --engine eager", "--engine is eager, and --strategy takes graph: leave it out."),
        (
            f"{over} --strategy keras.Sequential()",
            "--strategy is of type Sequential, which is no strategy: give mirrored",
        ),
    ):
        strategy = "" if "--strategy" in line else "--strategy mirrored"
        found = shell.refused(f"%%minimize loss {line} {strategy}\n{cell}")
        assert said in found, (line, found)
    shell.ok("s = tf.distribute.MirroredStrategy(['CPU:0', 'CPU:2'])")
    shell.ok(f"%%minimize loss {over} --strategy s\n{cell}")
