"""`--val` and `TRAINING` in a notebook."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tape_magic.results.minimum import StopReason
from tests.support.covering import covering
from tests.support.notebook import Notebook

ENGINES = ("xla", "graph", "eager")
DATA = '--for "xb, yb in (x, y)" --val "xb, yb in (xv, yv)" --batch 4 --engine graph'
CELL = "loss = tf.reduce_mean((w*xb - yb)**2)"


@pytest.fixture
def ready(shell: Notebook) -> Notebook:
    x, xv = np.arange(8, dtype="float32"), np.arange(5, dtype="float32")
    shell.ns.update(tf=tf, np=np, w=tf.Variable(1.0), x=x, y=2 * x, xv=xv, yv=3 * xv)
    return shell


@pytest.mark.parametrize("engine", ENGINES)
def test_the_name_is_true_in_steps_and_false_in_a_validation(shell: Notebook, engine: str) -> None:
    shell.ns.update(tf=tf, w=tf.Variable(8.0), x=np.zeros(1, "float32"))
    shell.ok("def scale():\n    return 1.0 if TRAINING else 100.0")
    shell.ok(
        f'%%minimize loss --optimizer sgd --lr 0.25 --for "a in (x,)" --val "a in (x,)" --epochs 2 '
        f"--engine {engine} -q\nloss = scale()*tf.reduce_mean((w - a)**2) if not TRAINING else (w - a[0])**2"
    )
    epochs = shell.ns["minimum"].epochs
    assert (epochs.loss.tolist(), epochs.val_loss.tolist()) == ([64.0, 16.0], [1600.0, 400.0])
    assert "TRAINING" not in shell.ns


def test_it_is_true_without_a_validation_and_in_grad(ready: Notebook) -> None:
    cell = "y2 = w**2 if TRAINING else 0*w"
    ready.ok(f"%%minimize y2 --optimizer sgd --lr 0.25 --steps 1 -q\n{cell}")
    assert ready.ns["w"].numpy() == 0.5
    ready.ok(f"%%grad dy2/dw -q\n{cell}")
    assert float(ready.ns["dy2_dw"]) == 1.0
    ready.ok(f"%%grad dy2/dw --def slope\n{cell}")
    assert float(ready.ns["slope"](3.0).dy2_dw) == 6.0
    assert "TRAINING" not in ready.ns


def test_a_variable_of_that_name_stays_and_is_told(ready: Notebook) -> None:
    ready.ns["TRAINING"] = False
    ready.ok(f"%%minimize loss {DATA} -q\n{CELL.replace('w*', '(w + 0*TRAINING)*')}")
    (note,) = [note for note in ready.ns["minimum"].notes if "TRAINING" in note]
    assert note.startswith("TRAINING is a variable of yours")
    assert ready.ns["TRAINING"] is False


def test_a_literal_is_warned_of_once_with_its_line(ready: Notebook) -> None:
    ready.ok("import keras\nm = keras.Sequential([keras.Input([1]), keras.layers.Dropout(0.5)])")
    call = "m(xb[:, None], training=True)"
    cell = f"a = {call}\nb = {call}\nloss = tf.reduce_mean(w*(a + b))"
    for data, said in ((DATA, 1), (DATA.replace("--val", "--track loss #"), 0)):
        line = data.partition(" #")[0]
        ready.ok(f"%%minimize loss --over w {line} -q\n{cell}")
        found = [note for note in ready.ns["minimum"].notes if "training=True" in note]
        assert found == ["line 2 says training=True, in the validation as well: say training=TRAINING"] * said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('--for "xb, yb in (x, y)" --val "xb in xv"', "--val names xb, and --for names xb, yb"),
        ('--val "xb, yb in (xv, yv)"', "--val goes with data"),
        ('--for "xb, yb in (x, y)" --val "xb yb"', '--val takes "xb, yb in valid"'),
        ('--for "xb, yb in (x, y)" --val "xb, yb in None"', "--val: None is None"),
        ('--for "xb, yb in (x, y)" --val "xb, yb in gone"', "NameError"),
        (
            '--for "xb, yb in (x, y)" --val "xb, yb in (xv[:, None], yv)"',
            "xb is float32 of (…, 1) in (xv[:, None], yv), and float32 of (…,) in (x, y)",
        ),
        ('--for "xb, yb in (x, y)" --val "xb, yb in (xv.astype(int), yv)"', "xb is int64 of (…,)"),
        ('--for "xb, yb in (x, y)" --val "xb, yb in (xv[:0], yv[:0])"', "is empty"),
        ('--for "xb, yb in (x, y)" --val "xb, yb in none"', "none is empty"),
        ('--for "xb, yb in (x, y)" --val "xb, yb in endless"', "endless never ends"),
        ('--for "xb, yb in endless" --steps 3 --val "xb, yb in (xv, yv)"', "--val goes by epochs"),
        ('--for "xb, yb in (x, y)" --val "xb, yb in once"', "can be read only once"),
        (
            '--for "xb, yb in (x, y)" --val "xb, yb in (xv, yv)" --optimizer bfgs',
            "goes with Keras optimizers",
        ),
        ('--for "xb, yb in (x, y)" --patience 3', "or val"),
    ],
)
def test_refusals_in_one_line(ready: Notebook, line: str, said: str) -> None:
    pairs = tf.data.Dataset.from_tensor_slices((ready.ns["xv"], ready.ns["yv"])).batch(2)
    ready.ns.update(
        endless=pairs.repeat(),
        none=pairs.filter(lambda *_: False),
        once=((one, one) for one in [ready.ns["xv"]]),
    )
    assert said in ready.refused(f"%%minimize loss --over w {line}\n{CELL}")
    assert ready.ns["w"].numpy() == 1.0


@pytest.mark.parametrize(("engine", "where"), covering(["graph", "eager"], ["trace"]))
def test_a_cell_that_cannot_be_validated(ready: Notebook, engine: str, where: str) -> None:
    """A branch for the validation alone fails there with its line, and before a step where it is traced."""
    cell = "out = xb if TRAINING else missing\nloss = tf.reduce_mean((w*out - yb)**2)"
    run = ready.run(f"%%minimize loss --over w {DATA.replace('graph', engine)}\n{cell}")
    assert not run.success
    assert "TRAINING" not in ready.ns
    assert "xb" not in ready.ns
    if engine == "graph":
        assert ready.ns["w"].numpy() == 1.0
        assert "--val: line 2" in run.stderr
    else:
        assert "missing" in str(run.error)


def test_the_report_has_both(ready: Notebook) -> None:
    """Towards 3·x, and not 2·x: the validation falls, and then rises."""
    line = f"loss --over w {DATA} --optimizer sgd --lr 0.01 --epochs 6 --track w2 --patience 4 --keep best"
    run = ready.ok(f"%%minimize {line}\n{CELL}\nw2 = w + 0")
    result, (shown,) = ready.ns["minimum"], run.displayed
    assert result.reason in (StopReason.PATIENCE, StopReason.EPOCHS)
    assert "validation" in shown.text
    rows = [one.split() for one in shown.text.splitlines() if one.startswith(("loss", "w2"))]
    assert [row[0] for row in rows[-4:]] == ["loss", "loss", "w2", "w2"]
    assert [row[1] for row in rows[-3::2]] == ["validation", "validation"]
    frame = result.epochs.to_frame()
    assert list(frame.columns) == ["steps", "loss", "w2", "val_loss", "val_w2"]
