"""The lines that fuzzing begins with and those that it found; and that it would find more."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from tape_magic.errors import LineError
from tape_magic.magics.line.grad import GRAD
from tape_magic.magics.line.minimize import MINIMIZE
from tape_magic.magics.line.parser import Magic
from tape_magic.magics.line.tfgpu import TFGPU
from tests.fuzz import judge
from tests.fuzz.seeds import SEEDS

FOUND = [
    (TFGPU, "--limit " + "\udcce" * 40 + "0" * 300),
    (TFGPU, "0 --split " + "9" * 700),
    (TFGPU, "--seed " + "9" * 700),
    (MINIMIZE, "--lr -" + "0" * 700),
    (MINIMIZE, "--steps -" + "9" * 700),
    (GRAD, "-q" + "d" * 700),
    (GRAD, "--zero=" + "d" * 700),
    (GRAD, "d2y/dindx"),
    (GRAD, "dy/dTrue"),
    (GRAD, "y -o class"),
    (GRAD, "y --def None"),
    (GRAD, "d2out['\u2028a'].b/dp[0]dp[-1]"),
]
"""Each was refused without end, understood as what it cannot be, or shown in two lines."""


def everything(name: str) -> bool:
    return True


@pytest.mark.parametrize("data", SEEDS, ids=[str(number) for number in range(len(SEEDS))])
def test_the_seeds_hold(data: bytes) -> None:
    judge.judge_bytes(data)


@pytest.mark.parametrize(("magic", "line"), FOUND, ids=[str(number) for number in range(len(FOUND))])
def test_what_was_found_holds(magic: Magic, line: str) -> None:
    judge.judge(magic, line, everything)


def slipping(slip: Callable[[str], object]) -> Magic:
    """``%%grad`` with a slip in how it reads a target."""
    options = [dataclasses.replace(one, convert=slip) if not one.flags else one for one in GRAD.options]
    return dataclasses.replace(GRAD, options=tuple(options))


def refuse(said: str) -> Callable[[str], object]:
    def convert(word: str) -> object:
        raise LineError(said)

    return convert


@pytest.mark.parametrize(
    ("slip", "error"),
    [
        (lambda word: {}[word], KeyError),
        (lambda word: ("y",), AttributeError),
        (refuse("one\nand another"), AssertionError),
        (refuse(""), AssertionError),
        (refuse("y" * 700), AssertionError),
    ],
    ids=["crash", "no text", "two lines", "no word", "long"],
)
def test_a_slip_is_found(slip: Callable[[str], object], error: type[Exception]) -> None:
    with pytest.raises(error):
        judge.judge(slipping(slip), "y", everything)


def test_what_takes_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "SECONDS", 0.0)
    with pytest.raises(AssertionError, match="s for a line of 1 characters"):
        judge.judge(GRAD, "y", everything)
