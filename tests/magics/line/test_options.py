"""A magic's line becomes options, or one sentence: whatever is written on it."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tape_magic
from tape_magic.errors import ArgumentError, LineError
from tape_magic.magics.line.grad import GRAD
from tape_magic.magics.line.minimize import MINIMIZE
from tape_magic.magics.line.options import MAGICS
from tape_magic.magics.line.parser import Magic
from tape_magic.magics.line.tfgpu import TFGPU

IDS = [magic.name for magic in MAGICS]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("y", {"targets": ("y",)}),
        ("dy/dx, d2y/dx2", {"targets": ("dy/dx", "d2y/dx2")}),
        ("dy/dx dy/da", {"targets": ("dy/dx", "dy/da")}),
        ("y --wrt a,b", {"targets": ("y",), "wrt": ("a", "b")}),
        ("y --wrt a b", {"targets": ("y",), "wrt": ("a", "b")}),
        ("y --wrt a, b", {"targets": ("y",), "wrt": ("a", "b")}),
        ("y --wrt a --wrt b", {"targets": ("y",), "wrt": ("a", "b")}),
        ("--wrt a b -- y", {"targets": ("y",), "wrt": ("a", "b")}),
        ("--wrt=a y", {"targets": ("y",), "wrt": ("a",)}),
        ("y --wrt p['a b'], layer.kernel", {"targets": ("y",), "wrt": ("p['a b']", "layer.kernel")}),
        ("y --order 2", {"targets": ("y",), "order": 2}),
        ("--order 2 y", {"targets": ("y",), "order": 2}),
        ("y --order=2 z", {"targets": ("y", "z"), "order": 2}),
        ("y --zero -q -o r", {"targets": ("y",), "zero": True, "quiet": True, "name": "r"}),
        ("-q y -o r --zero", {"targets": ("y",), "zero": True, "quiet": True, "name": "r"}),
        ("dy/dx -q dy/da", {"targets": ("dy/dx", "dy/da"), "quiet": True}),
        ("dy/dp['--wrt']", {"targets": ("dy/dp['--wrt']",)}),
    ],
)
def test_grad(line: str, expected: dict[str, object]) -> None:
    options = GRAD.parse(line)
    own = {"targets": (), "name": None, "quiet": False}
    found = {name: getattr(options, name) for name in own} | options.arguments
    assert found == own | expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--frob", "%%grad has no option --frob"),
        ("--orders 2", "%%grad has no option --orders; did you mean --order?"),
        ("--ord 2", "%%grad has no option --ord"),
        ("--zero=1", "--zero is a switch, and takes no value such as '1'"),
        ("-z", "%%grad has no option -z"),
        ("--wrt", "--wrt takes NAME, and nothing follows it"),
        ("-o", "-o takes NAME, and nothing follows it"),
        ("-o 3", "'3' is not a name that a result can be bound to."),
        ("-o class", "'class' is not a name that a result can be bound to."),
        ("--def None", "'None' is not a name that a result can be bound to."),
        ("-o a.b", "'a.b' is not a name that a result can be bound to."),
        ("--order 1.5", "--order takes a whole number, not '1.5'"),
        ("y --wrt f(x)", "'f(x)' is not a name"),
        ("y --wrt 3", "'3' is not a name"),
        ("y (", "never closes its"),
    ],
)
def test_grad_refuses(line: str, message: str) -> None:
    with pytest.raises(LineError) as info:
        GRAD.parse(line)
    assert message in str(info.value)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("loss --steps 1,000", "--steps 1000"),
        ("loss --steps=1,000,000 --over w", "--steps 1000000"),
        ("loss --lr 0,01", "--lr 0.01"),
        ("loss --time 1,5s", "--time 1.5s"),
    ],
)
def test_a_number_with_a_comma_is_told_how_to_be_written(line: str, meant: str) -> None:
    with pytest.raises(LineError, match=f"has a comma, which ends a word: write {meant}$"):
        MINIMIZE.parse(line)


@pytest.mark.parametrize(
    "line",
    [
        "loss --over w,b --steps 10",
        "loss --steps 10, --over w",
        "loss --steps 10_000",
        """loss --for "x in f('--steps 1,000', 2,3)" --steps 3""",
        'loss --bounds "w=0:1, b=0:2"',
    ],
)
def test_other_commas_are_nothing_to_speak_of(line: str) -> None:
    assert MINIMIZE.parse(line).loss == ("loss",)


def test_minimize() -> None:
    options = MINIMIZE.parse(
        'loss --over w,b --optimizer "SGD(0.1, momentum=0.9)" --steps 20 --engine eager --seed 3'
    )
    assert options.loss == ("loss",)
    assert options.over == ("w", "b")
    assert options.arguments == {
        "optimizer": "SGD(0.1, momentum=0.9)",
        "steps": 20,
        "engine": "eager",
        "seed": 3,
    }


@pytest.mark.parametrize(
    ("line", "name", "flag", "message"),
    [
        ("--steps -1", "steps", "--steps", "--steps is -1; give a whole number, 0 or more."),
        ("--lr nan", "lr", "--lr", "--lr is nan; give a number above 0."),
        ("--tol -0.5", "tol", "--tol", "--tol is -0.5; give a number, 0 or more."),
        ("--target inf", "target", "--target", "--target is inf; give a finite loss."),
        ("--seed -3", "seed", "--seed", "--seed is -3; give a whole number from 0 to 4294967295."),
        ("--keep lats", "keep", "--keep", "--keep 'lats' is none of last, best; did you mean last?"),
        (
            "--epochs 2",
            "epochs",
            "--epochs",
            '--epochs goes with data; on the line, --for "xb, yb in train".',
        ),
    ],
)
def test_minimize_refuses_what_the_engine_refuses(line: str, name: str, flag: str, message: str) -> None:
    with pytest.raises(ArgumentError) as info:
        MINIMIZE.parse(line)
    assert info.value.name == name
    assert MINIMIZE.flags[name] == flag
    assert str(info.value.on_line(flag)) == message


@pytest.mark.parametrize("magic", MAGICS, ids=IDS)
def test_what_a_line_gives_the_engine_is_an_argument_of_the_function(magic: Magic) -> None:
    own = {one.name for one in dataclasses.fields(magic.options_class)}
    function = tape_magic.devices if magic is TFGPU else getattr(tape_magic, magic.name)
    given = {option.name for option in magic.options} - own
    assert given <= set(inspect.signature(function).parameters)


def test_tfgpu() -> None:
    options = TFGPU.parse("0 1 --growth --limit 4G")
    assert options.indices == (0, 1)
    assert options.arguments == {"growth": True, "limit": "4G"}


@pytest.mark.parametrize("magic", MAGICS, ids=IDS)
def test_options_are_frozen(magic: Magic) -> None:
    options = magic.parse("")
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.name = "other"
    with pytest.raises(TypeError):
        options.arguments["wrt"] = "x"
    assert hash(options) == hash(magic.parse(""))


@pytest.mark.parametrize("magic", MAGICS, ids=IDS)
def test_the_help(magic: Magic) -> None:
    text = magic.help
    assert text.startswith(magic.summary)
    assert f"    {magic.sign} [" in text
    for option in magic.options:
        for flag in option.flags:
            assert text.count(f"{flag}") >= 2, flag
        assert option.help in " ".join(text.split())
    assert len(magic.examples) == 3
    for title, shown in magic.examples:
        assert f"{title}::" in text
        line = shown.splitlines()[0]
        assert line.startswith(magic.sign)
        assert magic.parse(line.removeprefix(magic.sign)) is not None
        assert all(f"    {row}" in text for row in shown.splitlines())


WORDS = [flag for magic in MAGICS for option in magic.options for flag in option.flags]
WORDS += [
    "--",
    "-",
    "-1",
    "-0.5",
    "---",
    "--=",
    "--wrt=x",
    "-oname",
    "-qz",
    "--order=2",
    "--limit=50%",
    "''",
    '""',
    "@x",
]
WORDS += [
    "y",
    "dy/dx",
    "d2y/dx",
    "da",
    "x",
    "1",
    "1e400",
    "9" * 5000,
    "nan",
    "٣",
    "p['w']",
    "f(x)",
    "é",
    "\0",
    "\x00y",
    "=",
    "x=0:1",
    "x=1if y",
    "'a, b in c'",
    "30s",
    "50%",
    "freest",
    "\u202e",
]
lines = st.one_of(
    st.text(max_size=40),
    st.text("-=dxy/ '\"[](),.01\0%$", max_size=30),
    st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join),
)


def attempt(magic: Magic, line: str) -> Any:
    """The options of a line, or the sentence with which it is refused."""
    try:
        return magic.parse(line)
    except LineError as error:
        return str(error)


@pytest.mark.parametrize(
    "line", ["--wrt 1_0if", "--over x[1if 2]", "--for '1if in x'", "--for 'x in 1if y else z'"]
)
def test_python_warns_of_nothing(line: str) -> None:
    """It would, with lines of its own, of a number right before a word."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        attempt(GRAD if "wrt" in line else MINIMIZE, line)
    assert not warned


@settings(max_examples=500, deadline=1000)
@given(st.sampled_from(MAGICS), lines)
@example(GRAD, "--help")
@example(GRAD, "-h")
@example(GRAD, "''")
@example(TFGPU, "''")
@example(TFGPU, "²")
@example(MINIMIZE, "--steps " + "9" * 5000)
@example(MINIMIZE, "--lr nan")
@example(MINIMIZE, "--lr 1e400")
@example(TFGPU, "--split " + "9" * 5000)
@example(GRAD, "-- --")
@example(GRAD, "y --wrt -- x")
@example(GRAD, "%(prog)s --order %d")
def test_any_line_is_options_or_one_sentence(magic: Magic, line: str) -> None:
    options = attempt(magic, line)
    if isinstance(options, str):
        assert "\n" not in options
        assert "\0" not in options or "\0" in line
        assert 0 < len(options) < 400
    else:
        assert isinstance(options, magic.options_class)
