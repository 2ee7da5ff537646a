"""The validation at the end of each epoch: as that of `fit`, and as if it had not been."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.api.minimize import minimize_program
from tape_magic.engine.minimization.keras_loop import checkpoint, validation, validation_pass
from tape_magic.engine.minimization.keras_loop.validation_pass import GraphPass
from tape_magic.engine.minimization.settings import Settings, ValidationData
from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.tracing.traced import Traced
from tape_magic.errors import SourceError
from tape_magic.results.epochs import Epochs
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step, Wish
from tests.support.covering import covering

ENGINES = ("xla", "graph", "eager")
RNG = np.random.default_rng(0)
X, XV = (RNG.normal(size=(rows, 4)).astype("float32") for rows in (50, 30))
Y, YV = (RNG.integers(0, 3, rows) for rows in (50, 30))

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def in_order(*arrays: Any) -> Any:
    return tf.data.Dataset.from_tensor_slices(arrays).batch(16)


def of_unknown_length(*arrays: Any) -> Any:
    return in_order(*arrays).filter(lambda *_: True)


def model(dropout: float = 0.0) -> Any:
    keras.utils.set_random_seed(1)
    named = [
        keras.layers.Dense(8, "relu", name="inner"),
        keras.layers.BatchNormalization(name="normed"),
        keras.layers.Dropout(dropout, seed=3),
        keras.layers.Dense(3, name="outer"),
    ]
    return keras.Sequential([keras.Input([4]), *named], name="net")


def validated(result: MinimizeResult) -> Epochs:
    assert result.epochs is not None
    assert result.epochs.val_loss is not None
    return result.epochs


def trained(net: Any, train: Any = (X, Y), val: Any = (XV, YV), **more: Any) -> MinimizeResult:
    def loss(xb: Any, yb: Any, training: bool) -> Any:
        logits = net(xb, training=training)
        right = tf.equal(tf.argmax(logits, 1), yb)
        return {"loss": LOSS(yb, logits), "acc": tf.reduce_mean(tf.cast(right, tf.float32))}

    settings = {"track": ["acc"], "seed": 5, "lr": 0.02, "epochs": 3, "engine": "graph", **more}
    return tape_magic.minimize(loss, None, "adam", data=train, val=val, **settings)


# -- as fit does -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted() -> tuple[Any, Any]:
    net = model()
    net.compile(keras.optimizers.Adam(0.02), LOSS, metrics=["acc"])
    stopping = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    history = net.fit(
        in_order(X, Y),
        validation_data=in_order(XV, YV),
        epochs=40,
        shuffle=False,
        verbose=0,
        callbacks=[stopping],
    )
    return net, history.history


@pytest.mark.parametrize(
    ("engine", "train", "val"),
    covering(ENGINES, [in_order, of_unknown_length], [of_unknown_length, in_order]),
)
def test_early_stopping_is_that_of_fit(
    fitted: tuple[Any, Any], engine: str, train: Callable[..., Any], val: Callable[..., Any]
) -> None:
    net, history = fitted
    own = model()
    more = {"epochs": 40, "patience": 3, "keep": "best", "engine": engine}
    result = trained(own, train(X, Y), val(XV, YV), **more)
    epochs = validated(result)
    assert result.reason is StopReason.PATIENCE
    assert len(epochs) == len(history["loss"]) < 40
    np.testing.assert_allclose(epochs.loss, history["loss"], rtol=1e-5)
    np.testing.assert_allclose(epochs.val_loss, history["val_loss"], rtol=1e-5)
    np.testing.assert_allclose(epochs.val_tracked["acc"], history["val_acc"], rtol=1e-5)
    # Batch normalisation's averages too, which have moved on since the best epoch.
    for one, other in zip(own.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    best = int(np.argmin(history["val_loss"]))
    assert (epochs.best_val, result.best_step, result.kept_best) == (best, epochs.steps[best], True)
    assert result.loss == epochs.loss[best]


# -- as if it had not been ---------------------------------------------------------------------------------


def test_a_plateau_goes_by_the_validation_as_that_of_fit() -> None:
    net = model()
    net.compile(keras.optimizers.Adam(0.02), LOSS)
    lower = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5)
    history = net.fit(
        in_order(X, Y), epochs=20, verbose=0, callbacks=[lower], validation_data=in_order(XV, YV)
    ).history
    rate = history["learning_rate"][-1]
    assert rate < 0.02
    assert np.argmin(history["loss"]) == 19  # by the loss of the training, it would have stayed
    result = trained(model(), in_order(X, Y), in_order(XV, YV), epochs=20, schedule="plateau:0.5")
    np.testing.assert_allclose(validated(result).val_loss, history["val_loss"], rtol=1e-4)
    assert any(note.endswith(f"from 0.02 to {rate:.4g}") for note in result.notes), result.notes


@pytest.mark.parametrize("engine", ENGINES)
def test_the_steps_are_the_same_bits_without_it(engine: str) -> None:
    """Averages, seeds of dropout, NumPy's generator and a list are as if nobody had validated."""
    generator, seen = np.random.default_rng(3), []

    def run(val: Any) -> tuple[MinimizeResult, list[Any]]:
        net, seen[:], generator.bit_generator.state = model(0.5), [], state

        def loss(xb: Any, yb: Any, training: bool) -> Any:
            seen.append(training)
            noise = generator.normal() if engine == "eager" else tf.random.normal([])
            return LOSS(yb, net(xb, training=training)) + 0.1 * noise

        more = {"epochs": 2, "seed": 5, "engine": engine, "batch": 16}
        if engine == "xla":
            more.pop("seed")  # XLA draws from a generator without one
            more["optimizer"] = "sgd"

            def loss(xb: Any, yb: Any, training: bool) -> Any:
                seen.append(training)
                return LOSS(yb, net(xb, training=training))

            more["data"] = in_order(X, Y)
            more.pop("batch")
        result = tape_magic.minimize(loss, **{"data": (X, Y), "val": val, **more})
        return result, [*net.get_weights(), np.array(seen)]

    state = generator.bit_generator.state
    plain, left = run(None)
    result, same = run((XV, YV))
    assert len(validated(result)) == 2
    np.testing.assert_array_equal(result.history, plain.history)
    for one, other in zip(same, left, strict=True):
        np.testing.assert_array_equal(one, other)


# -- over all of the data, at the true ends of epochs ------------------------------------------------------

ROWS = np.arange(11.0, dtype="float32")
VAL: dict[str, Callable[[], Any]] = {
    "arrays": lambda: (ROWS,),
    "dataset": lambda: tf.data.Dataset.from_tensor_slices(ROWS).batch(4),
    "of unknown length": lambda: of_unknown_length(ROWS).map(lambda row: row),
    "list": lambda: [ROWS[:7], ROWS[7:]],
    "generator function": lambda: functools.partial(iter, [ROWS[k : k + 3] for k in range(0, 11, 3)]),
    "with a batch of no rows": lambda: [ROWS[:7], ROWS[:0], ROWS[7:]],
}


def squares(w: Any, row: Any) -> Any:
    return {"loss": tf.reduce_mean((w - row) ** 2), "far": tf.reduce_mean(tf.abs(w - row))}


@pytest.mark.parametrize(("engine", "kind"), covering(ENGINES, VAL))
def test_each_batch_counts_by_its_rows(engine: str, kind: str) -> None:
    """A step of 0.25 along the gradient of (w - 2)² halves the distance from 2."""
    train = (np.float32([2.0]),)
    more = {"lr": 0.25, "track": ["far"], "epochs": 3, "engine": engine}
    result = tape_magic.minimize(squares, {"w": 10.0}, "sgd", data=train, val=VAL[kind](), **more)
    epochs = validated(result)
    for place, w in enumerate([6.0, 4.0, 3.0]):
        assert epochs.val_loss is not None
        assert epochs.val_loss[place] == pytest.approx(np.mean((w - ROWS) ** 2), rel=1e-6)
        assert epochs.val_tracked["far"][place] == pytest.approx(np.mean(np.abs(w - ROWS)), rel=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_epochs_of_lengths_that_nobody_knows(engine: str) -> None:
    lengths, read = itertools.cycle([3, 5, 4]), []

    def batches() -> Any:
        length = next(lengths)
        for _ in range(length):
            yield np.float32([2.0])
        read.append(length)

    more = {"data": batches, "val": (ROWS[2:3],), "epochs": 4, "engine": engine}
    result = tape_magic.minimize(
        lambda w, row: tf.reduce_mean((w - row) ** 2), {"w": 10.0}, "sgd", lr=0.25, **more
    )
    epochs = validated(result)
    assert result.reason is StopReason.EPOCHS
    assert np.diff(epochs.steps, prepend=0).tolist() == read
    assert len(set(read)) == 3
    np.testing.assert_allclose(epochs.val_loss, (8 / 2.0**epochs.steps) ** 2, rtol=1e-6)


# -- what it decides ---------------------------------------------------------------------------------------


def apart(**more: Any) -> MinimizeResult:
    """The path 8, 4, 2, 1 ... to 0, on the way to which the validation is best at 2, after two epochs."""
    settings = {"lr": 0.25, "engine": "graph", "epochs": 8, **more}
    loss = settings.pop("loss", lambda w, at: tf.reduce_mean((w - at) ** 2))
    return tape_magic.minimize(
        loss, {"w": 8.0}, "sgd", data=(np.float32([0.0]),), val=(np.float32([1.8]),), **settings
    )


def test_patience_counts_epochs_without_a_better_one() -> None:
    result = apart(patience=2)
    assert (result.reason, result.steps, result.converged) == (StopReason.PATIENCE, 4, True)
    assert float(result.variables["w"].end) == 0.5
    assert validated(result).best_val == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_the_best_epoch_is_kept(engine: str) -> None:
    result = apart(keep="best", engine=engine)
    assert (result.reason, result.steps, result.best_step) == (StopReason.EPOCHS, 8, 2)
    assert float(result.variables["w"].end) == 2.0


def test_the_tolerance_keeps_its_steps() -> None:
    """The patience counts epochs, and the tolerance looks back over 10 steps, from which 64 / 4⁸ is left."""
    result = apart(tol=1e-3, patience=50, epochs=60)
    assert (result.reason, result.steps) == (StopReason.TOLERANCE, 18)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_validation_that_is_not_finite_is_never_the_best(engine: str) -> None:
    def loss(w: Any, at: Any, training: bool) -> Any:
        found = tf.reduce_mean((w - at) ** 2)
        return found if training else tf.where(w < 3, tf.constant(np.nan), found)

    result = apart(loss=loss, keep="best", engine=engine, epochs=4)
    assert (result.reason, float(result.variables["w"].end)) == (StopReason.EPOCHS, 4.0)
    assert any("epochs 2 (nan), 3 (nan), 4 (nan)" in note for note in result.notes)
    assert result.divergence is None


# -- a run that goes on ------------------------------------------------------------------------------------


class Dead(Exception):
    """The kernel dies."""


def shuffled() -> Any:
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(50, seed=2).batch(16).filter(lambda *_: True)


@pytest.mark.parametrize(("engine", "train"), covering(ENGINES, [lambda: (X, Y), shuffled]))
def test_a_run_that_dies_and_goes_on_is_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, train: Callable[[], Any]
) -> None:
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    more = {"engine": engine, "keep": "best", "epochs": 5}
    whole_net = model(0.3)
    whole = trained(whole_net, train(), **more)

    def dies_at(chunk: int) -> Callable[[Step], None]:
        left = itertools.count()

        def on_progress(_: Step) -> None:
            if next(left) == chunk:
                raise Dead

        return on_progress

    for chunk in (4, 2):
        with pytest.raises(Dead):
            trained(
                model(0.3),
                train(),
                checkpoint=str(tmp_path / "run"),
                resume=True,
                on_progress=dies_at(chunk),
                **more,
            )
    net = model(0.3)
    resumed = trained(net, train(), checkpoint=str(tmp_path / "run"), resume=True, **more)
    assert resumed.first_step > 0
    assert validated(resumed).to_dict() == validated(whole).to_dict()
    assert (resumed.best_step, resumed.kept_best) == (whole.best_step, whole.kept_best)
    for one, other in zip(net.get_weights(), whole_net.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("engine", "train"), covering(ENGINES, [(X, Y), of_unknown_length(X, Y)]))
def test_a_stop_within_a_validation_leaves_it_to_the_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, train: Any
) -> None:
    monkeypatch.setattr(validation_pass, "CHUNK_SECONDS", 0.0)  # a chunk is a batch
    net, asked = model(), [Wish.GO_ON]

    def loss(xb: Any, yb: Any) -> Any:
        return LOSS(yb, net(xb, training=False))

    def run(*, resume: bool = False, stops: bool = False) -> MinimizeResult:
        def on_wait(step: Step) -> None:
            if stops and step.validating and step.step >= 4:  # in that of the second epoch
                asked[0] = Wish.STOP

        settings = Settings(
            optimizer="adam",
            lr=0.02,
            seed=5,
            engine=engine,
            data=train,
            names=("xb", "yb"),
            batch=16 if isinstance(train, tuple) else None,
            epochs=3,
            val=ValidationData(in_order(XV, YV), ("xb", "yb")),
            checkpoint=str(tmp_path / "run") if stops or resume else None,
            resume=resume,
            training="",
        )
        program = FunctionProgram(loss, {"xb": None, "yb": None})
        names: dict[str, Any] = {}
        found = minimize_program(
            program, names, None, None, settings, on_wait=on_wait, wish=lambda: asked[0]
        ).result
        assert names == {}
        return found

    start = net.get_weights()
    whole, end = run(), net.get_weights()
    net.set_weights(start)
    stopped = run(stops=True)
    assert (stopped.reason, stopped.steps) == (StopReason.STOPPED, 8)
    assert stopped.epochs is None or np.isnan(validated(stopped).val_loss).tolist() == [False, True]
    asked[0] = Wish.GO_ON
    resumed = run(resume=True)
    assert validated(resumed).to_dict() == validated(whole).to_dict()
    for one, other in zip(net.get_weights(), end, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("engine", "unknown"), covering(ENGINES, [False, True]))
def test_validation_data_that_shuffle_are_gone_through_in_the_order_of_the_uncut_run(
    tmp_path: Path, engine: str, unknown: bool
) -> None:
    def run(epochs: int, **more: Any) -> Epochs:
        # Made anew each time, as in another process; a shuffle mixes the global seed into its own.
        tf.random.set_seed(1)
        val = tf.data.Dataset.from_tensor_slices((XV, YV)).shuffle(30, seed=1).batch(7)
        val = val.filter(lambda *_: True) if unknown else val
        return validated(trained(model(), val=val, epochs=epochs, engine=engine, **more))

    whole = run(4)
    run(2, checkpoint=str(tmp_path / "run"))
    resumed = run(4, checkpoint=str(tmp_path / "run"), resume=True)
    assert resumed.to_dict() == whole.to_dict()


# -- data without an end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [90, 200])
@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_only_more_rows_than_anyone_validates_on_have_no_end(
    monkeypatch: pytest.MonkeyPatch, engine: str, rows: int
) -> None:
    monkeypatch.setattr(validation, "_MANY_ROWS", 100)
    monkeypatch.setattr(validation, "_MANY_TIMES", 0)
    val = of_unknown_length(np.tile(XV[:10], (rows // 10, 1)), np.tile(YV[:10], rows // 10))
    if rows > 100:
        with pytest.raises(SourceError, match="goes on after"):
            trained(model(), val=val, epochs=1, engine=engine)
    else:
        trained(model(), val=val, epochs=1, engine=engine)


def test_data_of_a_known_length_may_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "_MANY_ROWS", 10)
    monkeypatch.setattr(validation, "_MANY_TIMES", 0)
    assert len(validated(trained(model(), epochs=1))) == 1


# -- once traced -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["graph", "xla"])
def test_the_next_run_traces_and_lays_out_nothing(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    made: list[str] = []
    for kind, name in ((Traced, "__init__"), (GraphPass, "lay_out")):
        original = getattr(kind, name)

        def counted(self: Any, *given: Any, _original: Any = original, **named: Any) -> None:
            made.append(type(self).__name__)
            _original(self, *given, **named)

        monkeypatch.setattr(kind, name, counted)
    net = model()
    loss = lambda xb, yb: LOSS(yb, net(xb))  # noqa: E731 - one function for both runs
    for order in (1, -1):
        data, val = in_order(X[::order], Y[::order]), in_order(XV[::order], YV[::order])
        result = tape_magic.minimize(loss, data=data, val=val, epochs=2, engine=engine)
        assert len(validated(result)) == 2
        if order == 1:
            assert sorted(made) == ["GraphPass", "Traced", "Traced"]
            made.clear()
    assert made == []


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_is_stopped_before_its_first_step(engine: str) -> None:
    """No epoch, and no loss of one."""
    w = tf.Variable(tf.zeros([4, 3]))
    program = FunctionProgram(lambda x, y: LOSS(y, x @ w), {"x": None, "y": None})
    names = ("x", "y")
    chosen = Settings(
        data=(X, Y),
        names=names,
        label="data",
        engine=engine,
        keep="best",
        val=ValidationData((XV, YV), names, (), "others"),
    )
    stopped = minimize_program(program, {}, None, None, chosen, wish=lambda: Wish.STOP).result
    assert stopped.steps == 0
    assert len(validated(stopped).val_loss) == 0
    assert stopped.loss == pytest.approx(np.log(3))
