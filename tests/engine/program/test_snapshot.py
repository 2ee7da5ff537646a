"""`Snapshot`: what it keeps of objects of the user's, and that it asks them nothing."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.program.snapshot import Snapshot


class Key:
    """A key whose hash the user's code computes, as long as it may."""

    hashed = 0

    def __hash__(self) -> int:
        Key.hashed += 1
        return 1


class Own(dict[Any, Any]):
    """A dict of the user's."""


class Dice(random.Random):
    """A generator of the user's, with a slot of its own beside the state."""

    __slots__ = ("thrown",)


Own.__module__ = Dice.__module__ = __name__


def taken(function: Callable[..., Any]) -> Snapshot:
    return Snapshot(FunctionProgram(function, {}), {}, ())


@pytest.mark.parametrize("kind", [dict, Own])
def test_no_key_is_hashed_anew(kind: Callable[[Any], dict[Any, Any]]) -> None:
    first, second = Key(), Key()
    table = kind({first: 1.0, second: 2.0})
    before = Key.hashed
    snapshot = taken(lambda: table)
    dict.clear(table)
    snapshot.restore()
    assert Key.hashed == before
    assert list(dict.items(table)) == [(first, 1.0), (second, 2.0)]


def test_the_order_of_an_ordered_dict_comes_back() -> None:
    table = OrderedDict(a=1.0, b=2.0)
    snapshot = taken(lambda: table)
    table.move_to_end("a")
    snapshot.restore()
    assert list(table) == ["a", "b"]


def test_a_generator_with_slots_has_its_state_and_its_slots_again() -> None:
    dice = Dice(5)
    dice.thrown = 0
    snapshot = taken(lambda: dice)
    number, dice.thrown = dice.random(), 1
    snapshot.restore()
    assert (dice.thrown, dice.random()) == (0, number)
