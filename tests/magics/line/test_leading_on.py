"""Lines that other libraries would understand: they work, or the refusal says what to write."""

from __future__ import annotations

import pytest

from tape_magic.errors import LineError
from tape_magic.magics.line.grad import GRAD
from tape_magic.magics.line.minimize import MINIMIZE
from tests.support.notebook import Notebook

SETUP = "import keras, numpy as np, tensorflow as tf\nx = tf.Variable(3.0)\n"
CELL = "loss = (x - 1)**2"


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--wrt x", "--over"),
        ("--variables x", "--over"),
        ("--params x", "--over"),
        ("--method bfgs", "--optimizer"),
        ("--solver bfgs", "--optimizer"),
        ("--learning-rate 0.1", "--lr"),
        ("--learning_rate 0.1", "--lr"),
        ("--rate 0.1", "--lr"),
        ("--niter 5", "--steps"),
        ("--maxiter 5", "--steps"),
        ("--max-iter 5", "--steps"),
        ("--num_steps=5", "--steps"),
        ("--batch-size 8", "--batch"),
        ("--data ds", "--for"),
        ("--dataset ds", "--for"),
        ("--ftol 1e-3", "--tol"),
        ("--timeout 3", "--time"),
        ("--random_state 3", "--seed"),
        ("--metrics acc", "--track"),
        ("--save dir", "--checkpoint"),
        ("--quiet", "-q"),
        ("--verbose", "-q"),
        ("--disp", "-q"),
        ("--callbacks [stop]", "--checkpoint or --log"),
        ("--validation-split 0.1", "--val"),
        ("--njobs 2", "--strategy mirrored"),
        ("-v", "-q"),
        ("--iterations 5", "--steps"),
        # By its letters, where no other library has it.
        ("--stepz 3", "--steps"),
        ("--optimiser adam", "--optimizer"),
        ("--bouns 'x=0:'", "--bounds"),
    ],
)
def test_the_option_that_is_meant(option: str, meant: str) -> None:
    with pytest.raises(LineError) as info:
        MINIMIZE.parse(f"loss {option}")
    word = option.partition(" ")[0].partition("=")[0]
    assert str(info.value) == f"%%minimize has no option {word}; did you mean {meant}?"


@pytest.mark.parametrize(
    ("option", "way"),
    [
        ("--clipvalue 1", 'write --optimizer "adam(0.001, clipvalue=1.0)"'),
        ("--momentum 0.9", 'write --optimizer "sgd(0.01, momentum=0.9)"'),
        ("--maximize", "write neg = -loss in the cell, and %%minimize neg"),
        ("--loss y", "write %%minimize loss"),
        ("--beta1 0.9", 'write --optimizer "adam(0.001, beta_1=0.9)"'),
        ("--x0 1", "write the start into the variable, x.assign(1.0), above the cell"),
        ("--plot", "write minimum.plot() in the next cell"),
        ("--device gpu", "write %tfgpu 0 in a cell above"),
    ],
)
def test_the_way_where_there_is_no_option(option: str, way: str) -> None:
    with pytest.raises(LineError) as info:
        MINIMIZE.parse(option)
    assert str(info.value).endswith(f": {way}.")


def test_what_is_written_instead_is_understood() -> None:
    for meant in set(MINIMIZE.meant.values()):
        if meant.startswith("-"):
            flag = meant.partition(" ")[0]
            assert flag in {flag for option in MINIMIZE.options for flag in option.flags}
    for word in ("--over", "--params", "--variables"):
        with pytest.raises(LineError, match="did you mean --wrt"):
            GRAD.parse(f"y {word} x")


@pytest.mark.parametrize("word", ["--zzz", "--q", "--options", "--fit"])
def test_nothing_is_suggested_that_is_not_like_it(word: str) -> None:
    with pytest.raises(LineError) as info:
        MINIMIZE.parse(word)
    assert str(info.value) == f"%%minimize has no option {word}"


# -- names and expressions as values --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "options", "attribute", "expected"),
    [
        ("rate = 0.25", "--lr rate", "learning_rate", 0.25),
        ("", "--lr 1/4", "learning_rate", 0.25),
        ("rate = tf.constant(0.25)", "--lr rate", "learning_rate", 0.25),
        ("rate = np.float64(0.25)", '--lr "rate / 2"', "learning_rate", 0.125),
        ("n = 7", "--steps n", "steps", 7),
        ("n = np.int64(7)", "--steps 2*n", "steps", 14),
        ("", "--steps 1e1", "steps", 10),
        ("", "--steps 0.01k", "steps", 10),
        ("config = {'n': 7}", "--steps config['n']", "steps", 7),
        ("class C:\n    n = 7", "--steps C.n", "steps", 7),
        ("goal = 1.0", "--lr 0.25 --target goal", "steps", 1),
        ("t = 60", "--time t --steps 3", "steps", 3),
        ("s, eps = 3, 1e-30", "--seed s --tol eps --steps 3", "steps", 3),
        (
            "data, b, e = np.zeros((8, 1), 'float32'), 2, 3",
            '--for "row in data" --batch b --epochs e',
            "steps",
            12,
        ),
        # Numbers as before.
        ("", "--lr 0.25", "learning_rate", 0.25),
        ("", "--lr 1e-2 --steps 3", "steps", 3),
    ],
)
def test_names_of_the_notebook_stand_for_their_values(
    shell: Notebook, before: str, options: str, attribute: str, expected: float
) -> None:
    shell.ok(f"{SETUP}{before}")
    shell.ok(f"%%minimize loss --over x --optimizer sgd {options} -q\n{CELL}")
    assert getattr(shell.ns["minimum"], attribute) == pytest.approx(expected)


def test_a_schedule_as_the_rate(shell: Notebook) -> None:
    shell.ok(f"{SETUP}schedule = keras.optimizers.schedules.ExponentialDecay(0.25, 1, 0.5)")
    for _ in range(2):
        shell.ok("x.assign(3.0)")
        shell.ok(f"%%minimize loss --over x --optimizer sgd --lr schedule --steps 3 -q\n{CELL}")
        assert float(shell.ns["x"]) == pytest.approx(1 + 2 * 0.5 * 0.75 * 0.875)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--lr rate", "--lr rate: NameError: name 'rate' is not defined"),
        ("--steps 'a b'", "--steps takes a whole number, not 'a b'"),
        ("--steps text", "--steps is 'many'; give a whole number, 0 or more."),
        ("--steps 2.5", "--steps is 2.5; give a whole number, 0 or more."),
        ("--steps inf", "--steps inf: NameError: name 'inf' is not defined"),
        ("--lr less", "--lr is -1; give a number above 0."),
        (
            "--lr print",
            "the learning rate is a builtin_function_or_method; give a number, or a schedule of Keras's.",
        ),
    ],
)
def test_values_that_do_not_fit(shell: Notebook, options: str, message: str) -> None:
    shell.ok(f"{SETUP}text, less = 'many', -1.0")
    assert shell.refused(f"%%minimize loss --over x {options}\n{CELL}") == message


# -- optimizers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelling", "shown"),
    [
        ('"adam(0.1)"', "Adam(0.1)"),
        ('"SGD(0.1, momentum=0.9)"', "SGD(0.1, momentum=0.9)"),
        ('"keras.optimizers.Lion(0.01)"', "Lion(0.01)"),
        ('"tf.keras.optimizers.Adam(0.1)"', "Adam(0.1)"),
        ("optimizers.Adam(0.1)", "Adam(0.1)"),
        ("sgd --lr schedules.CosineDecay(0.25, 10)", "SGD(schedule)"),
        ("RMS_prop", "RMSprop(0.001)"),
        ("LBFGS", "L-BFGS"),
        ("L_BFGS_B", "SciPy l-bfgs-b"),
        ("lbfgsb", "SciPy l-bfgs-b"),
        ("Nelder-Mead", "SciPy nelder-mead"),
        ("bfgs", "SciPy bfgs"),
        ("adam", "Adam(0.001)"),
    ],
)
def test_optimizers_by_other_spellings(bare_shell: Notebook, spelling: str, shown: str) -> None:
    """Without Keras among the notebook's names, too."""
    bare_shell.ok("%load_ext tape_magic\nimport tensorflow\nx = tensorflow.Variable(3.0)")
    bare_shell.ok(f"%%minimize loss --over x --optimizer {spelling} --steps 2 -q\n{CELL}")
    assert bare_shell.ns["minimum"].optimizer == shown
    assert "adam" not in bare_shell.ns
    bare_shell.ok("%unload_ext tape_magic")


def test_a_name_of_the_notebook_goes_before_kerass(shell: Notebook) -> None:
    shell.ok(f"{SETUP}def adam(rate):\n    return keras.optimizers.SGD(rate)")
    shell.ok(f'%%minimize loss --over x --optimizer "adam(0.1)" --steps 2 -q\n{CELL}')
    assert shell.ns["minimum"].optimizer == "SGD(0.1)"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Adam(lr=0.1)", "Adam(learning_rate=0.1)"),
        ("keras.optimizers.Adam(0.1, beta1=0.8)", "Adam(0.1, beta_1=0.8)"),
        ("Adam(eps=0.1)", "Adam(epsilon=0.1)"),
        ("tf.keras.optimizers.adam(0.1)", "Adam(0.1)"),
        ("tf.keras.optimizers.legacy.SGD(0.1)", "SGD(0.1)"),
        ("tf.train.AdamOptimizer(0.1)", "Adam(0.1)"),
        ("torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)", "SGD(learning_rate=0.1, momentum=0.9)"),
        ("torch.optim.Adam([x], lr=0.1)", "Adam(learning_rate=0.1)"),
        ("optax.adam(0.1)", "Adam(0.1)"),
        ("tf.train.Adam", "Adam"),
        ("gradient-descent", "sgd"),
        ('"gradient descent"', "sgd"),
        ("GradientDescentOptimizer", "sgd"),
        ("momentum", "sgd(0.01, momentum=0.9)"),
        ("fminsearch", "nelder-mead"),
        ("None", "auto"),
    ],
)
def test_optimizers_of_other_libraries(shell: Notebook, written: str, meant: str) -> None:
    shell.ok(SETUP)
    said = shell.refused(f"%%minimize loss --over x --optimizer {written}\n{CELL}")
    assert said.endswith(f"; did you mean {meant}?")
    shell.ok(f"%%minimize loss --over x --optimizer {meant!r} --steps 1 -q\n{CELL}")


@pytest.mark.parametrize("written", ["sgd:0.1", "sgd=0.1", '"SGD 0.1"', "'sgd, 0.1'"])
def test_a_rate_behind_the_name(shell: Notebook, written: str) -> None:
    shell.ok(SETUP)
    said = shell.refused(f"%%minimize loss --over x --optimizer {written}\n{CELL}")
    assert said == "--optimizer takes one value: write --optimizer sgd --lr 0.1"


def test_an_argument_that_the_optimizer_does_not_have(shell: Notebook) -> None:
    shell.ok(SETUP)
    said = shell.refused(f"%%minimize loss --over x --optimizer SGD(0.1,m=0.9)\n{CELL}")
    assert "; SGD takes learning_rate, momentum, nesterov, " in said


def test_an_optimizer_as_keras_calls_it_before_3(shell: Notebook) -> None:
    shell.ok(SETUP)
    shell.ok(f"%%minimize loss --over x --optimizer AdamOptimizer --steps 1 -q\n{CELL}")
    assert shell.ns["minimum"].optimizer == "Adam(0.001)"


def test_an_unknown_function_stays_unknown(shell: Notebook) -> None:
    shell.ok(SETUP)
    message = shell.refused(f'%%minimize loss --over x --optimizer "madam(0.1)"\n{CELL}')
    assert message == "--optimizer madam(0.1): NameError: name 'madam' is not defined; did you mean Adam?"
