"""Lines as hurried hands and copied pages write them: read as they are meant, or told how to be written."""

from __future__ import annotations

import pytest

from tape_magic.errors import LineError
from tape_magic.magics.line.options import GRAD, MINIMIZE, TFGPU
from tests.support.notebook import Notebook


@pytest.mark.parametrize(
    ("written", "keyed"),
    [
        ("loss –over w", "loss --over w"),
        ("loss —over w", "loss --over w"),
        ("loss −−over w", "loss --over w"),
        ("loss –-over w", "loss --over w"),
        ("loss –q", "loss -q"),
        ("loss --lr 1e−3", "loss --lr 1e-3"),
        ("loss --target −2", "loss --target=-2"),
        ("loss\u00a0--over\u00a0w", "loss --over w"),
        ("loss\t--over\tw", "loss --over w"),
        ("loss --over w  # all of them", "loss --over w"),
        ("loss --over w # don't (", "loss --over w"),
        ("loss --over w;", "loss --over w"),
        ("loss --over w，b", "loss --over w,b"),
        ("loss --optimizer Adam（0.1）", "loss --optimizer Adam(0.1)"),
        ("loss --for “xb, yb in train”", 'loss --for "xb, yb in train"'),
        ("loss --for ‘xb, yb in train’", 'loss --for "xb, yb in train"'),
        ('loss --for "for xb, yb in train"', 'loss --for "xb, yb in train"'),
        ("loss --time 2minutes", "loss --time 2m"),
        ("loss --time 2hrs", "loss --time 2h"),
        ("loss --time 2sec", "loss --time 2s"),
    ],
)
def test_it_is_read_as_it_is_meant(written: str, keyed: str) -> None:
    assert MINIMIZE.parse(written) == MINIMIZE.parse(keyed)


@pytest.mark.parametrize("name", ["a – b", "run #1", "dash —over", "x;y", "“q”"])
def test_what_is_quoted_stays_as_it_is(name: str) -> None:
    assert MINIMIZE.parse(f"loss --checkpoint '{name}'").arguments["checkpoint"] == name
    if "“" not in name:
        assert MINIMIZE.parse(f"loss --checkpoint “{name}”").arguments["checkpoint"] == name


@pytest.mark.parametrize("target", ["dy∕dx", "dy⁄dx", "dy／dx", "“dy/dx”", "dy/dx;", "dy/dx  # slope"])
def test_a_derivative_of_a_page(target: str) -> None:
    assert GRAD.parse(target).targets == ("dy/dx",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        # The beginning of an option.
        ("--o w", "%%minimize has no option --o; did you mean --over, --optimizer or -o?"),
        ("--op w", "%%minimize has no option --op; did you mean --optimizer?"),
        ("--e xla", "%%minimize has no option --e; did you mean --epochs or --engine?"),
        (
            "--s 1",
            "%%minimize has no option --s; did you mean --schedule, --steps, --seed or --strategy?",
        ),
        # One hyphen for two, which would be -o with the value ver.
        ("loss -over w", "%%minimize has no option -over; did you mean --over?"),
        ("loss -wrt w", "%%minimize has no option -wrt; did you mean --over?"),
        ("loss -lr 1", "%%minimize has no option -lr; did you mean --lr?"),
        # As the arguments of a function.
        ("loss lr=0.1", "'lr=0.1' is no option; did you mean --lr 0.1?"),
        ("loss --over w lr=0.1", "'lr=0.1' is no option; did you mean --lr 0.1?"),
        ("loss wrt=w", "'wrt=w' is no option; did you mean --over w?"),
        # A value in two words.
        ("loss --time 5 min", "--time takes one value, without spaces: write --time 5min"),
        ("loss --steps 1 000", "--steps takes one value, without spaces: write --steps 1000"),
        ("loss --lr 0.1 0.2", "--lr takes one value, and 0.2 stands behind 0.1"),
        ("loss --lr=0.1 0.2", "--lr takes one value, and 0.2 stands behind 0.1"),
        ("loss --optimizer sgd, 0.1", "--optimizer takes one value: write --optimizer sgd --lr 0.1"),
        ("loss --optimizer adam 0.1", "--optimizer takes one value: write --optimizer adam --lr 0.1"),
        # A phrase without its quotes.
        ("loss --for xb, yb in train", '--for takes a phrase in quotes: write --for "xb, yb in train"'),
        ("--for xb in (X, Y) --lr 1", '--for takes a phrase in quotes: write --for "xb in (X, Y)"'),
        ("loss --val xb, yb in v -q", '--val takes a phrase in quotes: write --val "xb, yb in v"'),
        ("loss --bounds x=0:1, y=0:", '--bounds takes a phrase in quotes: write --bounds "x=0:1, y=0:"'),
        # Bounds as mathematics writes them.
        ('loss --bounds "0<x<1"', '--bounds "0<x<1" is written --bounds "x=0:1".'),
        (
            'loss --bounds "1 >= w.a > -1e-3"',
            '--bounds "1 >= w.a > -1e-3" is written --bounds "w.a=-1e-3:1".',
        ),
        ("loss --bounds x>=0", '--bounds "x>=0" is written --bounds "x=0:".'),
        ('loss --bounds "x ≤ 2.5, 0<y"', '--bounds "x ≤ 2.5, 0<y" is written --bounds "x=:2.5, y=0:".'),
        ('loss --bounds "0 > x"', '--bounds "0 > x" is written --bounds "x=:0".'),
        ('loss --bounds "x in [0, 1]"', '--bounds "x in [0, 1]" is written --bounds "x=0:1".'),
        ('loss --bounds "x=(0, 1)"', '--bounds "x=(0, 1)" is written --bounds "x=0:1".'),
        ('loss --bounds "0<x<y<1"', "--bounds takes \"x=0:1, w=0:\", not '0<x<y<1'."),
        # An option twice.
        ("loss --lr 0.1 --steps 3 --lr 0.2", "--lr takes one value, not 0.1 and 0.2: leave one out."),
        ("loss --time 5m --time 5h", "--time takes one value, not 5m and 5h: leave one out."),
        ("loss --lr rate --lr other", "--lr takes one value, not rate and other: leave one out."),
        (
            'loss --for "a in b" --for "c in b"',
            "--for takes one value, not a in b and c in b: leave one out.",
        ),
        ("loss -o one -o two", "-o takes one value, not one and two: leave one out."),
        # Numbers of other languages and notations.
        ("loss --lr 0,1", "--lr 0,1 has a comma, which ends a word: write --lr 0.1"),
        ("loss --lr=0,1", "--lr 0,1 has a comma, which ends a word: write --lr 0.1"),
        ("loss --steps 1.000", "--steps 1.000 has a point, and a whole number has none: write --steps 1000"),
        ("loss --lr 10^-3", "--lr 10^-3 is no power in Python: write --lr 10**-3"),
        # Words without their options, and choices in their places.
        ("loss 100 --lr 1", "'100' is not a name; did you mean --steps 100?"),
        ("loss 0.1", "'0.1' is not a name; did you mean --lr 0.1?"),
        ("loss adam", "there can be one loss only, not 2: loss, adam; did you mean --optimizer adam?"),
        ("loss over x", "there can be one loss only, not 3: loss, over, x; did you mean --over?"),
        ("loss x", "there can be one loss only, not 2: loss, x; write --over before what is minimised over"),
        ("loss --sgd 0.1", "%%minimize has no option --sgd; did you mean --optimizer sgd?"),
        ("loss --one-cycle", "%%minimize has no option --one-cycle; did you mean --schedule one-cycle?"),
        ("sgd momentum=0.9", "'momentum=0.9' is no option: write --optimizer \"sgd(0.01, momentum=0.9)\"."),
        ("loss resume=True", "'resume=True' is no option; did you mean --resume?"),
        # What is to be maximised.
        (
            "-loss",
            "%%minimize has no option -loss: "
            "to maximise loss, write neg = -loss in the cell, and %%minimize neg.",
        ),
        (
            "-y --over x",
            "%%minimize has no option -y: to maximise y, write neg = -y in the cell, and %%minimize neg.",
        ),
        (
            "max loss",
            "there can be one loss only, not 2: max, loss; "
            "to maximise loss, write neg = -loss in the cell, and %%minimize neg",
        ),
        ("loss --lr", "--lr takes RATE, and nothing follows it"),
        ("loss --tol", "--tol takes a number, and nothing follows it"),
        (
            "mse(w) --over w",
            "'mse(w)' is not a name, but an expression: assign it in the cell, and write its name.",
        ),
    ],
)
def test_the_refusal_says_how_to_write_it(line: str, message: str) -> None:
    with pytest.raises(LineError) as info:
        MINIMIZE.parse(line)
    assert str(info.value) == message


@pytest.mark.parametrize(
    "line", ["--lr 0.1 loss", "--time 5 s", "--steps 3 loss -o m", "-om loss", "--tol 1.000 loss"]
)
def test_what_stands_behind_a_value_may_be_the_loss(line: str) -> None:
    assert MINIMIZE.parse(line).loss in [("loss",), ("s",)]


@pytest.mark.parametrize(
    ("written", "keyed"),
    [
        ("loss:", "loss"),
        ("loss.", "loss"),
        ("(loss)", "loss"),
        ("loss; --lr 0.1;", "loss --lr 0.1"),
        ("loss --over [x, p['w']]", "loss --over x p['w']"),
        ("loss --over (x)", "loss --over x"),
        ("loss --over x and z", "loss --over x z"),
        ("loss --over x & z", "loss --over x z"),
        ("loss --track {a, b}", "loss --track a b"),
    ],
)
def test_what_stands_around_and_between_names(written: str, keyed: str) -> None:
    assert MINIMIZE.parse(written) == MINIMIZE.parse(keyed)


@pytest.mark.parametrize(
    ("line", "option", "value"),
    [
        ("loss --checkpoint .", "checkpoint", "."),
        ("loss --checkpoint runs.", "checkpoint", "runs."),
        ("loss --checkpoint and", "checkpoint", "and"),
        ("loss --target 0.", "target", 0.0),
        ("loss --bounds x=0:", "bounds", (("x", "0", ""),)),
        ("loss --log 'a; b'", "log", "a; b"),
        ("loss --optimizer (adam)", "optimizer", "(adam)"),
    ],
)
def test_values_keep_their_points_and_brackets(line: str, option: str, value: object) -> None:
    assert MINIMIZE.parse(line).arguments[option] == value


@pytest.mark.parametrize("over", ["[v for v in m.weights]", "m.weights[:2]", "(a.b() + c)", "f((x, z))"])
def test_an_expression_in_brackets_is_no_list_of_names(over: str) -> None:
    (source,) = MINIMIZE.parse(f"loss --over '{over}'").over
    assert source.strip("()") == over.strip("()")


@pytest.mark.parametrize(
    ("line", "indices"),
    [
        ("GPU:0", (0,)),
        ("gpu1, /device:GPU:2", (1, 2)),
        ("/physical_device:GPU:0", (0,)),
        ("cuda:0", (0,)),
        ("[0, 1]", (0, 1)),
        ("(3)", (3,)),
        ("0.", (0,)),
        ("0 and 1", (0, 1)),
        ("freest", ("freest",)),
    ],
)
def test_the_names_of_devices(line: str, indices: tuple[object, ...]) -> None:
    assert TFGPU.parse(line).indices == indices


@pytest.mark.parametrize(
    ("line", "end"),
    [
        ("cpu", "; did you mean --cpu?"),
        ("OFF", "; did you mean --cpu?"),
        ("gpu", ": write %tfgpu 0."),
        ("4G", "; did you mean --limit 4G?"),
        ("0 4GB", "; did you mean --limit 4G?"),
        ("512MiB", "; did you mean --limit 512MiB?"),
        ("50%", "; did you mean --limit 50%?"),
        ("0.5", "; did you mean --limit 0.5?"),
        ("0 growth", "; did you mean --growth?"),
        ("doctor", "; did you mean --doctor?"),
        ("mixed_float16", "; did you mean --precision mixed_float16?"),
        ("fp16", "; did you mean --precision mixed_float16?"),
        ("all", ": write no index, and all are used."),
        ("status", ": write %tfgpu alone, which shows the devices."),
        ("0 --growth true", ": write no value behind a switch."),
        ("mps", "; give numbers such as 0 or 0,1, or freest."),
        ("-1", "; give numbers such as 0 or 0,1, or freest."),
    ],
)
def test_words_that_are_no_device(line: str, end: str) -> None:
    with pytest.raises(LineError) as info:
        TFGPU.parse(line)
    assert str(info.value).endswith(f" is not the index of a GPU{end}")


@pytest.mark.parametrize(("line", "meant"), [("cpu=True", "--cpu"), ("0 memory_growth=True", "--growth")])
def test_a_switch_as_an_argument(line: str, meant: str) -> None:
    with pytest.raises(LineError, match=rf"is no option; did you mean {meant}\?$"):
        TFGPU.parse(line)


def test_a_size_in_two_words() -> None:
    with pytest.raises(LineError, match=r"^--limit takes one value, without spaces: write --limit 4G$"):
        TFGPU.parse("--limit 4 GB")


@pytest.mark.parametrize("powers", ["d**2y/dx**2", "d^2y/dx^2", "d²y/dx²"])
def test_powers(shell: Notebook, powers: str) -> None:
    shell.ok("import tensorflow as tf\nx = tf.Variable(3.0)")
    shell.ok(f"%%grad {powers} -q\ny = x**3")
    assert float(shell.ns["d2y_dx2"]) == 18.0  # 6 x


@pytest.mark.parametrize("line", ["dy/dt", "y --wrt t"])
def test_no_module_and_no_function_is_suggested_as_a_source(shell: Notebook, line: str) -> None:
    shell.ok("import tensorflow as tf, types as ty\ndef te(): pass\nx = tf.Variable(3.0)")
    assert shell.refused(f"%%grad {line}\ny = x**2") == "t is not defined"
    shell.ok("tv = tf.Variable(1.0)")
    assert shell.refused(f"%%grad {line}\ny = x**2") == "t is not defined; did you mean tv?"


def test_the_help_fits_a_terminal_of_80_columns_and_breaks_no_word() -> None:
    for magic in (GRAD, MINIMIZE, TFGPU):
        usage = magic.help.partition("Usage::\n\n")[2].partition("\n\n")[0].splitlines()
        assert usage[0].startswith(f"    {magic.sign} ")
        assert all(line.count("[") == line.count("]") for line in usage)
        options = magic.help.partition("Options::\n\n")[2].partition("\n\n")[0]
        assert max(map(len, [*usage, *options.splitlines()])) <= 80
        words = " ".join(options.split())
        assert all(option.help in words for option in magic.options)


def test_an_option_may_be_repeated_with_the_same_value() -> None:
    assert MINIMIZE.parse("loss --lr 0.1 --lr 1e-1").arguments["lr"] == 0.1
    assert TFGPU.parse("--worker 1 --worker 1").arguments["worker"] == 1
