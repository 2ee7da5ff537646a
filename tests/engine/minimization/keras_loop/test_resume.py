"""A run that is cut and goes on equals one that was never cut, bit by bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tape_magic
from tape_magic.errors import LineError
from tape_magic.results.minimum import MinimizeResult, StopReason
from tape_magic.results.steps import Step
from tests.support.covering import covering
from tests.support.notebook import Notebook

ENGINES = ("xla", "graph", "eager")
WAYS = ("graph", "eager")
"""For what XLA, which compiles the same graph, cannot make different."""

CELL = "d = w - target\nloss = tf.reduce_sum(d**2*(1 + 0.5*tf.sin(3*d)))"
LINE = "loss --over w --optimizer adam --lr 0.05"


def valley(notebook: Notebook) -> Any:
    w = tf.Variable([3.0, -2.0, 0.5])
    notebook.ns.update(tf=tf, w=w, target=tf.constant([1.0, 0.0, -1.0]))
    return w


def minimum(notebook: Notebook) -> MinimizeResult:
    return notebook.ns["minimum"]


@pytest.mark.parametrize(("engine", "cut"), covering(ENGINES, [1, 7, 30]))
def test_a_cell_goes_on_where_it_ended(shell: Notebook, engine: str, cut: int) -> None:
    w = valley(shell)
    shell.ok(f"%%minimize {LINE} --steps 40 --engine {engine} -q\n{CELL}")
    whole, end = minimum(shell), w.numpy()
    w = valley(shell)
    shell.ok(f"%%minimize {LINE} --steps {cut} --engine {engine} -q\n{CELL}")
    shell.ok(f"%%minimize {LINE} --steps 40 --engine {engine} -q --resume\n{CELL}")
    resumed = minimum(shell)
    assert resumed.steps == 40
    np.testing.assert_array_equal(w.numpy(), end)
    # The one at the cut was evaluated anew by the loop.
    np.testing.assert_array_equal(resumed.history, whole.history)
    np.testing.assert_array_equal(resumed.variables["w"].start, whole.variables["w"].start)


@pytest.mark.parametrize("engine", ENGINES)
def test_floats_go_on_too(shell: Notebook, engine: str) -> None:
    line = f"y --over x --optimizer sgd --lr 0.1 --engine {engine} -q"
    shell.ns["x"] = 4.0
    shell.ok(f"%%minimize {line} --steps 3\ny = x**2")
    shell.ok(f"%%minimize {line} --steps 8 --resume\ny = x**2")
    assert minimum(shell).steps == 8
    assert shell.ns["x"] == pytest.approx(4.0 * 0.8**8)
    assert minimum(shell).variables["x"].start == 4.0


def test_a_run_that_was_interrupted_goes_on(shell: Notebook) -> None:
    x = tf.Variable(1.0, dtype=tf.float64)
    shell.ns.update(tf=tf, x=x)

    def press(step: Step) -> None:
        if step.step >= 10:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tape_magic.display.live.progress.NoProgress.update", lambda self, step: press(step))
        run = shell.run(
            "%%minimize y --over x --optimizer sgd --lr 1e-3 --steps 5000 --engine graph -q\ny = x**2"
        )
    assert type(run.error) is KeyboardInterrupt
    reached = minimum(shell).steps
    assert 10 <= reached < 5000
    shell.ok(
        "%%minimize y --over x --optimizer sgd --lr 1e-3 --steps 5000 --engine graph -q --resume\ny = x**2"
    )
    assert minimum(shell).steps == 5000
    rate = float(np.float32(1e-3))
    assert x.numpy() == pytest.approx((1 - 2 * rate) ** 5000, rel=1e-9)


def test_the_best_step_hides_nothing_from_a_later_run(shell: Notebook) -> None:
    cell = "y = x + tf.stop_gradient(tf.abs(x) - x)"
    x = tf.Variable(2.0)
    shell.ns.update(tf=tf, x=x)
    line = "y --over x --optimizer sgd --lr 1 --keep best -q"
    shell.ok(f"%%minimize {line} --steps 5\n{cell}")
    assert x.numpy() == 0.0
    shell.ok(f"%%minimize {line} --steps 8 --resume\n{cell}")
    assert minimum(shell).history.tolist() == [2, 1, 0, 1, 2, 3, 4, 5, 6]
    assert x.numpy() == 0.0


def test_a_run_that_stands_at_its_limit_says_so(shell: Notebook) -> None:
    w = valley(shell)
    for _ in range(2):
        shell.ok(f"%%minimize {LINE} --steps 5 -q {'--resume' if _ else ''}\n{CELL}")
    assert any("raise --steps" in note for note in minimum(shell).notes)
    assert minimum(shell).steps == 5
    assert minimum(shell).variables["w"].end.tolist() == w.numpy().tolist()


@pytest.mark.parametrize(
    ("between", "line", "said"),
    [
        ("w = tf.Variable([3.0, -2.0, 0.5])", LINE, "other variables"),
        ("pass", LINE.replace("adam", "sgd"), "it ran with Adam"),
    ],
    ids=["variable", "optimizer"],
)
def test_another_run_is_refused(shell: Notebook, between: str, line: str, said: str) -> None:
    valley(shell)
    shell.ok(f"%%minimize {LINE} --steps 5 -q\n{CELL}")
    shell.ok(between)
    assert said in shell.refused(f"%%minimize {line} --steps 9 --resume\n{CELL}")


@pytest.mark.parametrize(
    ("set_up", "line", "cell"),
    [
        (
            "m = tf.keras.Sequential([tf.keras.layers.Dense(1)])",
            "--over m",
            "tf.norm(m(tf.ones([1, 2])))",
        ),
        ("x = tf.Variable(3.0)", '--over x --optimizer "tf.keras.optimizers.SGD(0.01)"', "x**2"),
        ("x, o = tf.Variable(3.0), tf.keras.optimizers.Adam()", "--over x --optimizer o", "x**2"),
        ("p = {'w': 3.0}", "--over p['w'] --lr 0.1", "p['w']**2"),
        ("x, n = tf.Variable(3.0), 1.0", "--over x --lr 0.1", "n = n + 0.0\nx**2*n"),
        ("x, k = tf.Variable(3.0), [1.0]", "--over x --lr 0.1", "x**2*k[0]"),
    ],
    ids=["new model", "expression", "object", "place", "entry", "list"],
)
@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_ordinary_cells_go_on(shell: Notebook, set_up: str, line: str, cell: str, engine: str) -> None:
    shell.ok(f"import tensorflow as tf\n{set_up}")
    for steps, more in ((2, ""), (4, "--resume")):
        shell.ok(f"%%minimize {line} --engine {engine} --steps {steps} {more} -q\n{cell}")
    assert minimum(shell).steps == 4
    assert (np.diff(minimum(shell).history) < 0).all()


def test_another_rate_is_taken(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=tf.Variable(1.0))
    shell.ok("%%minimize --over x --optimizer sgd --lr 0.25 --steps 2 -q\nx**2")
    shell.ok("%%minimize --over x --optimizer sgd --lr 0.0625 --steps 3 -q --resume\nx**2")
    assert shell.ns["x"].numpy() == 0.5 * 0.5 * 0.875
    assert minimum(shell).optimizer == "SGD(0.0625)"


def test_what_is_tracked_goes_by_its_name(shell: Notebook) -> None:
    shell.ns.update(tf=tf, x=tf.Variable(1.0))
    cell = "y = x**2\na = 1.0 + 0*x\nb = 2.0 + 0*x"
    shell.ok(f"%%minimize y --over x --lr 0.1 --track a --steps 2 -q\n{cell}")
    shell.ok(f"%%minimize y --over x --lr 0.1 --track b a --steps 4 -q --resume\n{cell}")
    tracked = minimum(shell).tracked
    assert (tracked["a"].tolist(), tracked["b"].tolist()) == ([1.0] * 5, [2.0] * 3)


def test_the_optimizer_begins_anew_after_a_run_that_went_on(shell: Notebook) -> None:
    x = tf.Variable(3.0)
    shell.ns.update(tf=tf, x=x)
    line = "y --over x --lr 0.1 --engine graph -q"
    histories = []
    for more in ("--steps 5", "--steps 9 --resume --tol 0", "--steps 5 --tol 0"):
        if "resume" not in more:
            x.assign(3.0)
        shell.ok(f"%%minimize {line} {more}\ny = x**2")
        histories.append(minimum(shell).history.tolist())
    assert histories[2] == histories[0]


@pytest.mark.parametrize("engine", WAYS)
def test_values_that_are_not_finite_when_it_goes_on(shell: Notebook, engine: str) -> None:
    x = tf.Variable(3.0)
    shell.ns.update(tf=tf, x=x)
    shell.ok(f"%%minimize y --over x --steps 2 --engine {engine} -q\ny = x**2")
    x.assign(float("nan"))
    shell.ok(f"%%minimize y --over x --steps 4 --engine {engine} -q --resume\ny = x**2")
    assert minimum(shell).reason is StopReason.DIVERGED
    assert minimum(shell).steps == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_diverged_at_its_limit(shell: Notebook, engine: str) -> None:
    x = tf.Variable(4.0)
    shell.ns.update(tf=tf, x=x)
    cell = "y = tf.where(x > 0.5, x, float('nan'))"
    line = f"y --over x --optimizer sgd --lr 1 --engine {engine} -q"
    shell.ok(f"%%minimize {line} --steps 4\n{cell}")
    assert (minimum(shell).steps, x.numpy()) == (3, 1.0)
    shell.ok(f"%%minimize {line} --steps 9 --resume\n{cell}")
    assert minimum(shell).history.tolist() == [4.0, 3.0, 2.0, 1.0]


@pytest.mark.parametrize("engine", WAYS)
def test_a_finished_run_over_data(shell: Notebook, engine: str) -> None:
    shell.ns.update(tf=tf, x=tf.Variable(3.0), rows=np.arange(6.0, dtype="float32"))
    for more in ("", "--resume"):
        line = f'y --over x --for "r in rows" --batch 2 --engine {engine} -q {more}'
        shell.ok(f"%%minimize {line}\ny = x*tf.reduce_sum(r)")
    assert minimum(shell).steps == 3
    assert any("raise --epochs" in note for note in minimum(shell).notes)


def test_nothing_to_go_on_from(shell: Notebook) -> None:
    valley(shell)
    assert "has not run" in shell.refused(f"%%minimize {LINE} --resume\n{CELL}")
    with pytest.raises(LineError, match="give the --checkpoint"):
        tape_magic.minimize(lambda x: x**2, {"x": 1.0}, resume=True)


# -- checkpoints ----------------------------------------------------------------------------------------

ROWS = np.random.default_rng(5).normal(size=(37, 3)).astype("float32")


def fit(
    folder: Path | None, steps: int, engine: str, data: bool, **more: Any
) -> tuple[np.ndarray, MinimizeResult]:
    w = tf.Variable([0.5, -0.5, 0.25])
    seeds = tf.random.Generator.from_seed(7)

    def loss(w: Any, *rows: Any) -> Any:
        # A step by step loop does not know which variables of its own a program assigns.
        noise = 0.0 if engine == "eager" else seeds.normal([3], stddev=0.01)
        given = rows[0] if rows else tf.constant(ROWS)
        return tf.reduce_mean((tf.linalg.matvec(given, w + noise) - 1.0) ** 2)

    settings: dict[str, Any] = {"seed": 3, "engine": engine, **more}
    if data:
        settings |= {"data": (ROWS,), "batch": 8}
        function = lambda w, rows: loss(w, rows)  # noqa: E731
    else:
        function = lambda w: loss(w)  # noqa: E731
    result = tape_magic.minimize(
        function, {"w": w}, "adam", steps, lr=0.05, checkpoint=str(folder) if folder else None, **settings
    )
    return w.numpy(), result


@pytest.mark.parametrize(("engine", "data"), covering([*ENGINES, "graph"], [False, True]))
def test_a_checkpoint_goes_on_bit_for_bit(tmp_path: Path, engine: str, data: bool) -> None:
    end, whole = fit(None, 23, engine, data)
    fit(tmp_path / "run", 9, engine, data)
    resumed_end, resumed = fit(tmp_path / "run", 23, engine, data, resume=True)
    np.testing.assert_array_equal(resumed_end, end)
    np.testing.assert_array_equal(resumed.history, whole.history)
    assert resumed.steps == 23
    assert resumed.variables["w"].start.tolist() == [0.5, -0.5, 0.25]


def test_an_empty_folder_may_be_resumed_and_says_so(tmp_path: Path) -> None:
    _, result = fit(tmp_path / "run", 3, "graph", False, resume=True)
    assert any("no checkpoint yet" in note for note in result.notes)


def test_notes_of_the_run_come_before_those_of_its_checkpoint(tmp_path: Path) -> None:
    result = tape_magic.minimize(
        lambda x: x**2,
        {"x": 3.0},
        steps=1,
        engine="graph",
        bounds={"x": (None, 1.0)},
        checkpoint=str(tmp_path),
        resume=True,
    )
    moved, empty = result.notes
    assert "outside its bounds" in moved
    assert "no checkpoint yet" in empty


def test_a_run_in_the_folder_is_not_overwritten(tmp_path: Path) -> None:
    fit(tmp_path, 3, "graph", False)
    with pytest.raises(LineError, match="holds a run at step 3: add --resume"):
        fit(tmp_path, 3, "graph", False)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    fit(tmp_path, 3, "graph", False)
    for over, optimizer, said in [
        ({"w": tf.Variable([1.0])}, "adam", "other shapes"),
        ({"v": tf.Variable([1.0, 1.0, 1.0])}, "adam", "a run over w"),
        ({"w": tf.Variable([1.0, 1.0, 1.0])}, "sgd", "with Adam, and this one is with SGD"),
    ]:
        with pytest.raises(LineError, match=said):
            tape_magic.minimize(
                lambda x: tf.reduce_sum(x**2), over, optimizer, 5, checkpoint=str(tmp_path), resume=True
            )


@pytest.mark.parametrize(("engine", "cut"), covering(ENGINES, [7, 20]))
def test_a_pipeline_that_shuffles_goes_on_with_the_same_batches(
    tmp_path: Path, engine: str, cut: int
) -> None:
    """The loss at the end, too, is that of the batch taken last, wherever the run was cut."""

    def run(folder: Path, steps: int) -> tuple[Any, MinimizeResult]:
        w = tf.Variable([1.0, -2.0], dtype=tf.float64)
        # Made anew each time, as in another process: what has been read once shuffles otherwise then.
        data = tf.data.Dataset.from_tensor_slices(np.arange(12.0)).shuffle(12, seed=1).batch(4)
        result = tape_magic.minimize(
            lambda w, rows: tf.reduce_sum(w**2) * tf.reduce_sum(tf.cast(rows, w.dtype)),
            {"w": w},
            "sgd",
            steps,
            lr=1e-4,
            data=data,
            epochs=100,
            engine=engine,
            checkpoint=str(folder),
            resume=True,
        )
        return w.numpy(), result

    end, whole = run(tmp_path / "whole", 20)
    run(tmp_path / "cut", cut)
    resumed_end, resumed = run(tmp_path / "cut", 20)
    np.testing.assert_array_equal(resumed_end, end)
    np.testing.assert_array_equal(resumed.history, whole.history)


# -- the checkpoint of another version ----------------------------------------------------------------------

OF_0_1 = Path(__file__).with_name("checkpoint_of_0_1")
"""What version 0.1.0 wrote at step 9 of :func:`exact`, with TensorFlow 2.21 and Keras 3.15."""


def exact(folder: Path | None, steps: int, engine: str, **more: Any) -> tuple[float, MinimizeResult]:
    """A run whose numbers are sums of few powers of two, and so the same on each machine."""
    w = tf.Variable(0.0, dtype=tf.float64)
    result = tape_magic.minimize(
        lambda w, rows: w * tf.reduce_sum(tf.cast(rows, w.dtype)),
        {"w": w},
        tf.keras.optimizers.SGD(0.125, momentum=0.5),
        steps,
        data=(np.arange(37),),
        batch=8,
        seed=3,
        engine=engine,
        checkpoint=str(folder) if folder else None,
        **more,
    )
    return float(w.numpy()), result


@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_of_version_0_1_goes_on_bit_for_bit(tmp_path: Path, engine: str) -> None:
    shutil.copytree(OF_0_1, tmp_path / "run")
    end, whole = exact(None, 23, engine)
    resumed_end, resumed = exact(tmp_path / "run", 23, engine, resume=True)
    assert resumed_end == end
    assert resumed.steps == 23
    np.testing.assert_array_equal(resumed.history, whole.history)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    tf.train.CheckpointManager(tf.train.Checkpoint(x=tf.Variable(1.0)), str(tmp_path), 1).save()
    with pytest.raises(LineError, match="something else"):
        fit(tmp_path, 3, "graph", False, resume=True)


def test_a_torn_checkpoint_is_refused(tmp_path: Path) -> None:
    fit(tmp_path, 3, "graph", False)
    for file in tmp_path.glob("*.index"):
        file.write_bytes(file.read_bytes()[:10])
    with pytest.raises(LineError, match="cannot be read"):
        fit(tmp_path, 6, "graph", False, resume=True)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(LineError, match="give a folder to write to"):
        fit(tmp_path / "file", 3, "graph", False)


def test_a_disk_without_room_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, *arguments: Any, **named: Any) -> None:
        node = "{{function_node __wrapped__SaveV2_dtypes_17_device_/job:localhost/device:CPU:0}}"
        part = f"{tmp_path}/ckpt-5_temp/part-00000-of-00001.data-00000-of-00001.tempstate374589791207627179"
        message = f"{node} {part}; No space left on device [Op:SaveV2]"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(tf.train.CheckpointManager, "save", full)
    _, result = fit(tmp_path, 5, "graph", False)
    assert (result.steps, result.reason) == (5, StopReason.STEPS)
    (note,) = [note for note in result.notes if "could not be saved" in note]
    assert note.endswith(f"in {tmp_path} at step 5: No space left on device")


_KILLED = """
    import os, signal, sys, threading, time
    import numpy as np, tensorflow as tf, tape_magic
    from tape_magic.engine.minimization.keras_loop import checkpoint, chunks
    checkpoint.SECONDS = 0.05
    chunks.CHUNK_SECONDS = 0.0  # chunks of one step

    def run(folder, held):
        w = tf.Variable(np.linspace(-1.5, 1.5, 20), dtype=tf.float64)
        data = tf.data.Dataset.from_tensor_slices(np.arange(64.0)).shuffle(64, seed=1).batch(4)

        def loss(w, rows):
            scale = 1 + 0.01 * tf.reduce_mean(tf.cast(rows, w.dtype))
            return tf.reduce_sum((w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2) * scale

        def tell(step):
            print(step.step, flush=True)
            time.sleep(0.005 if held else 0)
            if held and step.step >= 550:
                threading.Event().wait()  # for the end that is prepared

        result = tape_magic.minimize(
            loss, {"w": w}, "adam", 600, lr=1e-3, data=data, epochs=1000, engine="graph",
            checkpoint=folder or None, resume=bool(folder),
            on_progress=tell,
        )
        history = result.history.tobytes().hex()[-4000:]
        print("done", result.steps, w.numpy().tobytes().hex(), history, flush=True)

    def process(folder, enough=None):
        # What a process of its own prints last; with enough steps done, it is killed.
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.dup2(writer, 1)
            try:
                run(folder, enough is not None)
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as printed:
            for line in printed:
                if enough is not None and int(line.split()[0]) >= enough:
                    os.kill(child, signal.SIGKILL)
                    break
        os.waitpid(child, 0)
        return line.strip()

    for end in (process(""), process(sys.argv[1], int(sys.argv[2])), process(sys.argv[1])):
        print(end)
"""
"""Each process is a fork of one that has imported TensorFlow, which takes longer than all the rest."""


def test_killed_at_any_moment_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    # At some moment, when it has come some way.
    enough = np.random.default_rng(0).integers(100, 400)
    script = [sys.executable, "-c", textwrap.dedent(_KILLED), str(tmp_path / "checkpoints"), str(enough)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run(script, capture_output=True, text=True, env=environment, timeout=600)
    uncut, held, resumed = ran.stdout.splitlines()
    assert uncut.startswith("done 600 "), ran.stderr[-3000:]
    assert enough <= int(held) < 600
    assert resumed == uncut


@pytest.mark.parametrize(
    ("value", "flags", "others"),
    [("tf.Variable([1.0, -2.0])", "--tol 0", ""), ("1.0", "--lr 0.1", "--lr 0.01")],
)
def test_a_run_goes_on_from_the_last_one_whatever_was_compiled_before(
    shell: Notebook, value: str, flags: str, others: str
) -> None:
    """The loops of an earlier run with the same flags belong to another optimizer than the last run's."""
    cell = "loss = tf.reduce_sum((x - 3.0)**4)"
    shell.ok(f"import tensorflow as tf\nx = {value}\nheld = x")
    restart = "x = held\n" if value == "1.0" else "x.assign([1.0, -2.0])\n"

    def minimize(line: str) -> list[float]:
        shell.ok(f"%%minimize loss --over x --engine graph -q {line}\n{cell}")
        return list(minimum(shell).history)

    minimize(f"--steps 20 {flags}")
    shell.ok(restart)
    minimize(f"--steps 50 {others}")
    gone_on = minimize(f"--steps 60 {flags} --resume")
    shell.ok(restart)
    minimize(f"--steps 50 {others}")
    again = minimize(f"--steps 60 {flags} --resume")
    assert gone_on == again
    if flags == "--tol 0":  # as if it had never been cut
        shell.ok(restart)
        np.testing.assert_allclose(minimize("--steps 60"), gone_on, rtol=1e-6)
