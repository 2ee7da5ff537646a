"""The doctor's programs run alone: what stands beside them, and the package, is not there for them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tape_magic.engine.doctor import probe_program, trial_program

PROGRAMS = [probe_program, trial_program]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__.rpartition(".")[2])
def test_a_program_imports_nothing_of_the_package(program: ModuleType) -> None:
    tree = ast.parse(Path(str(program.__file__)).read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(str(node.module).partition(".")[0])
    assert imported - set(sys.stdlib_module_names) <= {"tensorflow", "numpy"}
