"""``TRAINING`` in a namespace that several runs share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.program.training import TrainingName
from tape_magic.errors import LineError


def named(namespace: dict[str, Any], *, validates: bool = False) -> TrainingName:
    return TrainingName(FunctionProgram(lambda: 0, {}), namespace, validates=validates)


def in_thread(work: Callable[[], Any]) -> Any:
    """What a thread of its own returns, or the error that it raises."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except LineError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def bound(name: TrainingName) -> TrainingName:
    name.bind(True)
    return name


def test_the_name_stays_until_the_last_run_is_over() -> None:
    namespace: dict[str, Any] = {}
    first = bound(named(namespace))
    second = in_thread(lambda: bound(named(namespace)))
    assert not second.hidden
    first.release()
    assert namespace == {"TRAINING": True}
    second.release()
    assert namespace == {}


@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_no_run_sees_the_value_of_another(here: bool, there: bool) -> None:
    namespace: dict[str, Any] = {}
    first = bound(named(namespace, validates=here))
    second = in_thread(lambda: bound(named(namespace, validates=there)))
    assert isinstance(second, LineError) == (here or there)
    first.bind(not here)
    assert namespace["TRAINING"] is not here
    first.release()
    # Once it is over, the other may begin.
    in_thread(lambda: bound(named(namespace, validates=there)).release())
    assert "TRAINING" not in namespace or not (here or there)


def test_a_run_within_a_run_of_the_same_thread_leaves_the_name() -> None:
    namespace: dict[str, Any] = {}
    outer, inner = named(namespace, validates=True), named(namespace, validates=True)
    outer.bind(True)
    inner.bind(False)
    inner.release()
    assert namespace == {"TRAINING": True}
    outer.release()
    assert namespace == {}


def test_each_namespace_has_its_own() -> None:
    one: dict[str, Any] = {}
    other: dict[str, Any] = {}
    first = bound(named(one, validates=True))
    second = in_thread(lambda: bound(named(other, validates=True)))
    second.bind(False)
    assert (one["TRAINING"], other["TRAINING"]) == (True, False)
    for name in (first, second):
        name.release()


def test_a_variable_of_the_user_stays() -> None:
    namespace = {"TRAINING": 7}
    name = bound(named(namespace, validates=True))
    assert name.hidden
    name.release()
    assert namespace == {"TRAINING": 7}
