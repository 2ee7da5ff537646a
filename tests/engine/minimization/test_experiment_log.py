"""The log of a run: what TensorBoard, MLflow and trackio read in it, and what a log that fails leaves."""

from __future__ import annotations

import importlib
import math
import os
import re
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

import tape_magic
from tests.support.notebook import Notebook

CURVE = "import tensorflow as tf\nw = tf.Variable([3.0, 4.0], name='w')\n"
LINE = "%%minimize loss --over w --optimizer sgd --lr 0.01 -q"
CELL = "\nlength = tf.norm(w)\nloss = tf.reduce_sum(w**2)"


def curves(folder: Path, part: str = "train") -> dict[str, dict[int, float]]:
    """Return what TensorBoard reads in a folder: by tag, the values by their steps."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / part), {"tensors": 0})
    events.Reload()
    assert all(
        events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars" for tag in events.Tags()["tensors"]
    )
    return {
        tag: {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
    }


@pytest.mark.parametrize("engine", ["graph", "xla", "eager"])
def test_every_50_steps_are_what_gradient_descent_gives(shell: Notebook, tmp_path: Path, engine: str) -> None:
    """On the sum of squares, a step at the rate r multiplies the point by 1 − 2r, from the norm 5."""
    shell.ok(CURVE)
    run = shell.ok(f"{LINE} --steps 120 --track length --engine {engine} --log {tmp_path}/a -o m{CELL}")
    assert run.error is None
    read = curves(tmp_path / "a")
    norms = {step: 5 * 0.98**step for step in (0, 50, 100, 120)}
    assert read["length"] == pytest.approx(norms, rel=1e-4)
    assert read["loss"] == pytest.approx({step: norm**2 for step, norm in norms.items()}, rel=1e-4)
    gradients = {step: 2 * norms[step] for step in (0, 50, 100)}
    assert read["gradient_norm/w"] == pytest.approx(gradients, rel=1e-4)
    assert set(read["learning_rate"].values()) == {np.float32(0.01)}
    assert f"logged to {tmp_path}/a: tensorboard --logdir {tmp_path}/a" in shell.ns["m"].notes


def test_a_rate_that_follows_a_schedule(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 100, 0.5)
    w = tf.Variable(1.0)
    tape_magic.minimize(lambda: w**2, optimizer="sgd", lr=schedule, steps=200, log=str(tmp_path / "a"))
    read = curves(tmp_path / "a")["learning_rate"]
    assert len(read) > 1
    assert read == pytest.approx({step: 0.1 * 0.5 ** (step / 100) for step in read}, rel=1e-5)


def test_the_rates_of_groups_that_follow_a_cosine(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    over = {"u": tf.Variable(1.0), "v": tf.Variable(2.0)}
    groups, folder = {"u": "sgd 0.1", "v": "adam 0.01"}, str(tmp_path / "a")
    tape_magic.minimize(lambda u, v: u**2 + v**2, over, groups, 200, schedule="cosine", log=folder)
    for name, rate in (("u", 0.1), ("v", 0.01)):
        cosine = keras.optimizers.schedules.CosineDecay(rate, 200)
        read = curves(tmp_path / "a")[f"learning_rate/{name}"]
        assert len(read) > 1
        assert read == pytest.approx({step: float(cosine(step)) for step in read}, rel=1e-5, abs=1e-9)


def test_epochs_have_the_means_of_the_report(tmp_path: Path) -> None:
    import tensorflow as tf

    x = np.linspace(0.0, 1.0, 70, dtype="float32")
    w = tf.Variable(0.0)

    def loss(batch: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean((w - batch) ** 2)

    result = tape_magic.minimize(loss, optimizer="sgd", data=x, batch=20, epochs=3, log=str(tmp_path / "a"))
    assert result.epochs is not None
    read = curves(tmp_path / "a")["epoch_loss"]
    assert read == pytest.approx(dict(zip((4, 8, 12), result.epochs.loss, strict=True)), rel=1e-6)


def test_validations_stand_beside_the_epochs_of_the_training(tmp_path: Path) -> None:
    """By the names that Keras's callback has: ``validation`` is a run of its own, with the same tags."""
    import tensorflow as tf

    w = tf.Variable(0.0)

    def loss(batch: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean((w - batch) ** 2)

    ones, twos = np.ones(40, "float32"), np.full(10, 2.0, "float32")
    result = tape_magic.minimize(
        loss, optimizer="sgd", lr=0.1, data=ones, val=twos, batch=20, epochs=2, log=str(tmp_path / "a")
    )
    assert result.epochs is not None
    # Each step multiplies the distance from 1 by 0.8.
    expected = {step: (1 + 0.8**step) ** 2 for step in (2, 4)}
    assert curves(tmp_path / "a", "validation") == {"epoch_loss": pytest.approx(expected, rel=1e-5)}
    training = curves(tmp_path / "a")["epoch_loss"]
    assert training == pytest.approx(dict(zip((2, 4), result.epochs.loss, strict=True)), rel=1e-6)


def test_another_run_has_a_folder_of_its_own_and_one_that_goes_on_has_not(tmp_path: Path) -> None:
    import tensorflow as tf

    w = tf.Variable(1.0)

    def run(steps: int, log: str, **more: object) -> str:
        result = tape_magic.minimize(lambda: w**2, optimizer="sgd", steps=steps, log=log, **more)
        return "\n".join(result.notes)

    log, saved = str(tmp_path / "a"), str(tmp_path / "saved")
    run(60, log)
    assert f"{log}-2 ({log} has the log of an earlier run)" in run(110, log, checkpoint=saved)
    run(160, log, checkpoint=saved, resume=True)
    assert not (tmp_path / "a-3").exists()
    assert sorted(curves(tmp_path / "a")["loss"]) == [0, 50, 60]
    assert sorted(curves(tmp_path / "a-2")["loss"]) == [0, 50, 100, 110, 150, 160]
    assert sorted(curves(tmp_path / "a-2")["gradient_norm/Variable"]) == [0, 50, 100, 150]


def test_long_runs_write_few_values(tmp_path: Path) -> None:
    import tensorflow as tf

    w = tf.Variable(1.0)
    result = tape_magic.minimize(
        lambda: w**2, optimizer="sgd", lr=1e-6, steps=200_000, engine="xla", log=str(tmp_path / "a")
    )
    read = curves(tmp_path / "a")
    steps = np.array(list(read["loss"]))
    assert steps[-1] == 200_000
    assert (np.diff(steps[:-1] // 50) > 0).all()
    assert len(steps) <= 4_002
    losses = dict(zip(result.history_steps.tolist(), result.history.tolist(), strict=True))
    assert all(losses.get(step, loss) == pytest.approx(loss) for step, loss in read["loss"].items())


def test_a_run_that_diverges_ends_with_the_loss_that_was_not_finite(tmp_path: Path) -> None:
    import tensorflow as tf

    w = tf.Variable(1.0)
    result = tape_magic.minimize(
        lambda: tf.math.log(w), optimizer="sgd", lr=0.02, steps=90, log=str(tmp_path / "a")
    )
    assert result.divergence is not None
    read = curves(tmp_path / "a")["loss"]
    assert not math.isfinite(read[result.divergence.step])
    assert [step for step, loss in read.items() if not math.isfinite(loss)] == [result.divergence.step]


def test_methods_of_scipy(tmp_path: Path) -> None:
    import tensorflow as tf

    pytest.importorskip("scipy")
    w = tf.Variable([-1.2, 1.0])
    tape_magic.minimize(
        lambda: 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2,
        optimizer="bfgs",
        log=str(tmp_path / "a"),
    )
    read = curves(tmp_path / "a")
    assert list(read) == ["loss"]
    assert read["loss"][0] == pytest.approx(24.2)
    assert min(read["loss"].values()) < 1e-6


# -- what cannot be written --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("{file}/a", "--log .*/file/a: .*file is not a directory; give a folder to write to"),
        ("''", "--log is ''; give a folder"),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_runs(
    shell: Notebook, tmp_path: Path, log: str, message: str
) -> None:
    (tmp_path / "file").touch()
    shell.ok(CURVE)
    run = shell.run(f"{LINE} --log {log.format(file=tmp_path / 'file')}{CELL}\nruns = 1")
    assert re.search(message, str(run.error))
    assert "runs" not in shell.ns
    assert "loss" not in shell.ns


@pytest.mark.parametrize("library", ["mlflow", "trackio"])
def test_a_library_that_is_not_installed(
    shell: Notebook, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    shell.ok(CURVE)
    run = shell.run(f"{LINE} --log {library}{CELL}")
    assert str(run.error) == f"--log {library} needs {library}: pip install {library}"


def test_a_disk_that_is_full_ends_the_log_and_not_the_run(tmp_path: Path) -> None:
    import tensorflow as tf

    w = tf.Variable(1.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        result = tape_magic.minimize(lambda: w**2, optimizer="sgd", steps=5_000, log=str(tmp_path / "a"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.steps == 5_000
    assert any(re.fullmatch(r"the log ends at step [\d,]+: File too large", note) for note in result.notes)


def test_nothing_is_written_without_a_log(
    shell: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shell.ok(CURVE)
    shell.ok(f"{LINE} --steps 60{CELL}")
    assert os.listdir(tmp_path) == []


# -- other libraries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False], ids=["a run of its own", "the active run"])
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    import tensorflow as tf

    mlflow.set_tracking_uri(f"file:{tmp_path}/runs")
    given = None if own else mlflow.start_run()
    weights = [tf.Variable(3.0, name="w[0]")]
    tape_magic.minimize(lambda: weights[0] ** 2, optimizer="sgd", lr=0.01, steps=60, log="mlflow")
    assert mlflow.active_run() is given
    mlflow.end_run()
    run = mlflow.last_active_run()
    assert given is None or run.info.run_id == given.info.run_id
    client = mlflow.MlflowClient()
    read = {one.step: one.value for one in client.get_metric_history(run.info.run_id, "loss")}
    assert read == pytest.approx({step: 9 * 0.98 ** (2 * step) for step in (0, 50, 60)}, rel=1e-4)
    assert "gradient_norm/w_0_" in run.data.metrics


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio")
    import tensorflow as tf

    w = tf.Variable(3.0, name="w")
    result = tape_magic.minimize(lambda: w**2, optimizer="sgd", lr=0.01, steps=60, log="trackio")
    assert any("trackio show --project tape_magic" in note for note in result.notes)
    assert "Trackio" not in capfd.readouterr().out
    (run,) = trackio.Api().runs("tape_magic")
    logged = importlib.import_module("trackio.sqlite_storage").SQLiteStorage.get_logs("tape_magic", run.name)
    read = {one["step"]: one["loss"] for one in logged if "loss" in one}
    assert read == pytest.approx({step: 9 * 0.98 ** (2 * step) for step in (0, 50, 60)}, rel=1e-4)
