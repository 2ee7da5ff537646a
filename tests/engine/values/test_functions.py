"""Whose code a file holds: the search for the user's line depends on it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tape_magic
from tape_magic.engine.values import creation
from tape_magic.engine.values.functions import LIBRARY, OWN, USER, origin_of

PACKAGE = Path(tape_magic.__file__).parent
OWN_FILES = sorted(str(path) for path in PACKAGE.rglob("*.py") if path != Path(creation.__file__))


@pytest.mark.parametrize("file", OWN_FILES, ids=lambda file: str(Path(file).relative_to(PACKAGE)))
def test_each_file_of_the_package_is_its_own(file: str) -> None:
    assert origin_of(file) == OWN


def test_the_frames_between_the_users_line_and_a_new_variable_are_passed_over() -> None:
    assert origin_of(creation.__file__) == LIBRARY


def test_other_peoples_files_are_told_from_the_users() -> None:
    from tensorflow.python.eager import backprop

    assert origin_of(backprop.__file__) == LIBRARY
    assert origin_of(json.__file__) == origin_of(np.__file__) == LIBRARY
    assert origin_of(__file__) == origin_of("<ipython-input-1-abc>") == USER
    # A neighbour whose name begins alike is not the package.
    assert origin_of(f"{PACKAGE}_of_mine/cell.py") == USER
