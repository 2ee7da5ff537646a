"""A version of a library that lacks a part of the installed one."""

from __future__ import annotations

import sys

import pytest


def remove_module(patch: pytest.MonkeyPatch, name: str) -> None:
    """Have every import of a module fail, as in a version without it, until the patch is undone."""
    package, _, module = name.rpartition(".")
    patch.delattr(sys.modules[package], module, raising=False)
    patch.setitem(sys.modules, name, None)  # type: ignore[arg-type]  # what Python documents for this
