"""The README agrees with the package: its options, examples and pictures."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import tape_magic
from tape_magic.magics.line.options import MAGICS
from tape_magic.magics.line.parser import Magic
from tests.support.pages import PAGES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
RAW = URLS["Source"].replace("github.com", "raw.githubusercontent.com") + "/main/"
BLOB = URLS["Source"] + "/blob/main/"
FOLDED = re.compile(r"<details>.*?</details>\n", re.DOTALL)

PICTURES = re.findall(
    r'<picture><source media="\(prefers-color-scheme: dark\)" srcset="(.+?)">\n'
    r'<img alt="(.+?)" src="(.+?)"></picture>',
    README,
)
"""Of each picture the address on a dark page, what it shows, and the address on a light page."""
FILES = sorted(file for file in (ROOT / "examples" / "pictures").iterdir())


def section(magic: Magic) -> str:
    return README.partition(f"\n## `{magic.sign}`")[2].partition("\n## ")[0]


@pytest.mark.parametrize("magic", MAGICS, ids=lambda magic: magic.name)
def test_the_table_lists_exactly_the_options(magic):
    (folded,) = FOLDED.findall(section(magic))
    rows = re.findall(r"^\| `(.+?)` \| (.+?) \|$", folded, re.MULTILINE)
    expected = []
    for option in magic.options:
        words = [", ".join(option.flags), option.metavar] if option.flags else [option.metavar]
        expected.append((" ".join(words).strip().replace("|", "\\|"), option.help))
    assert rows == expected


def test_it_is_short():
    assert len(FOLDED.sub("", README).splitlines()) <= 150


def test_the_example_in_python_prints_what_it_says(capsys):
    (example,) = re.findall(r"```python\n(import tape_magic\n.*?)```", README, re.DOTALL)
    for name in ("grad", "minimize"):
        assert f"tape_magic.{name}(" in example
    exec(example, {})
    said = re.findall(r"^print\(.*#\s*(.*)$", example, re.MULTILINE)
    assert said
    assert capsys.readouterr().out.splitlines() == said


def test_each_public_function_is_named_where_it_is_documented():
    reference = (ROOT / "docs/pages/reference/python.md").read_text(encoding="utf-8")
    for name in ("grad", "derivative", "minimize", "devices"):
        assert f"tape_magic.{name}" in README
        assert f"::: tape_magic.engine.api.{name}.{name}\n" in reference


def test_the_readme_begins_with_a_still_and_a_moving_picture():
    assert [Path(light).suffix for _, _, light in PICTURES[:2]] == [".png", ".gif"]
    assert README.index(PICTURES[1][2]) < README.index("pip install") < README.index("```python")


def test_each_magic_has_a_picture():
    for magic in MAGICS:
        assert section(magic).count("<picture>") == 1


@pytest.mark.parametrize(("dark", "words", "light"), PICTURES, ids=[Path(one[2]).stem for one in PICTURES])
def test_pictures_have_words_and_a_light_and_a_dark_side(dark, words, light):
    assert len(words) > 20
    assert dark != light
    for address in (dark, light):
        assert address.startswith(RAW)
        assert (ROOT / address.removeprefix(RAW)).is_file()


def test_no_picture_is_shown_in_another_way():
    assert README.count("<img") == len(PICTURES)
    assert "![" not in README


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_pictures_are_small(file):
    assert file.stat().st_size < (1_000_000 if file.suffix == ".gif" else 60_000)


def test_every_picture_is_shown():
    pages = README + "".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "README.md")
    assert [file.name for file in FILES if f"pictures/{file.name}" not in pages] == []


def test_links_lead_somewhere():
    links = re.findall(r"[^!]\[[^]]+\]\((.+?)\)", README)
    assert len(links) > 20
    for link in links:
        address, _, anchor = link.partition("#")
        if address.startswith(BLOB):
            assert (ROOT / address.removeprefix(BLOB)).is_file(), link
        elif address.startswith(URLS["Documentation"]):
            page = address.removeprefix(URLS["Documentation"]).rstrip("/")
            assert (ROOT / f"docs/pages/{page}.md").is_file(), link
        else:
            assert not address, link
            assert f"\n## {anchor}" in README.lower().replace(" ", "-"), link


def test_the_two_commands():
    assert '    python -m pip install ".[lab]" && jupyter lab examples/tour.ipynb\n' in README
    assert '    python -m pip install -e ".[test]" && python -m pytest\n' in README


def test_the_changelog_has_this_version():
    assert f"\n## {tape_magic.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
