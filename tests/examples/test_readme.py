"""The README agrees with the package: its options, examples and pictures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tape_magic
from tape_magic.magics.line.options import MAGICS
from tape_magic.magics.line.parser import Magic

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(import tape_magic\n.*?)```", README, re.DOTALL)


def section(magic: Magic) -> str:
    return README.partition(f"\n## `{magic.sign}`")[2].partition("\n## ")[0]


@pytest.mark.parametrize("magic", MAGICS, ids=lambda magic: magic.name)
def test_the_table_lists_exactly_the_options(magic):
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \|$", section(magic), re.MULTILINE)
    expected = []
    for option in magic.options:
        words = [", ".join(option.flags), option.metavar] if option.flags else [option.metavar]
        expected.append((" ".join(words).strip().replace("|", "\\|"), option.help))
    assert rows == expected


def test_there_is_one_example_for_each_function():
    for name in ("grad", "minimize", "devices"):
        assert sum(f"tape_magic.{name}(" in example for example in EXAMPLES) == 1


@pytest.mark.parametrize("example", EXAMPLES[:2], ids=["grad", "minimize"])
def test_the_examples_print_what_they_say(example, capsys):
    exec(example, {})
    said = re.findall(r"^print\(.*#\s*(.*)$", example, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == said


def test_the_example_of_devices_reads_as_the_function_does():
    from inspect import signature

    signature(tape_magic.devices).bind(0, growth=True)
    assert "tape_magic.devices(0, growth=True)" in README


@pytest.mark.parametrize("picture", re.findall(r"!\[.+?\]\((.+?)\)", README))
def test_pictures_are_there_and_small(picture):
    assert (ROOT / picture).stat().st_size < 60_000


def test_every_picture_is_shown():
    shown = set(re.findall(r"!\[.+?\]\((.+?)\)", README))
    assert {f"examples/pictures/{file.name}" for file in (ROOT / "examples/pictures").iterdir()} == shown


def test_links_lead_somewhere():
    for link in re.findall(r"[^!]\[.+?\]\((.+?)\)", README):
        assert link.startswith("https://") or (ROOT / link).exists()


def test_the_two_commands():
    assert '    python -m pip install ".[lab]" && jupyter lab examples/tour.ipynb\n' in README
    assert '    python -m pip install -e ".[test]" && python -m pytest\n' in README


def test_the_changelog_has_this_version():
    assert f"\n## {tape_magic.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
