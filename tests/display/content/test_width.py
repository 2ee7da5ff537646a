"""How wide a text is, and how it is cut to a width."""

from __future__ import annotations

import pytest

from tape_magic.display.content.width import clip, pad, width, wrap


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("loss", 4),
        ("宽", 2),
        ("e\u0301", 1),
        ("‖∇²f‖ −1.5\u202fµs", 13),
        ("\u1112\u1161\u11ab", 2),  # a syllable of Korean in its three letters
        ("ก็", 1),
        ("▁▂▃…→≤±∞ε°×·⁻⁴", 14),
    ],
)
def test_width(text: str, columns: int) -> None:
    """By Unicode's East Asian Width (UAX #11), and nothing for what stands on another letter."""
    assert width(text) == columns
    assert width(pad(text, 20)) == width(pad(text, 20, right=True)) == 20


def test_clip() -> None:
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdef", 4) == "abc…"
    assert clip("abcdef", 4, middle=True) == "a…ef"
    assert clip("宽宽宽", 4) == "宽…"
    assert clip("∂y" * 200_000, 5, middle=True) == "∂y…∂y"  # in no time
    assert clip("abc", 1) == clip("宽宽", 1, middle=True) == "…"
    assert width(clip("\u093e" * 40 + "abc", 2)) == 1  # vowel signs, which no letter carries


def test_no_mark_stays_without_its_letter() -> None:
    assert clip("abcde\u0301f", 4, middle=True) == "a…e\u0301f"
    assert clip("abcde\u0301f", 3, middle=True) == "a…f"
    assert clip("e\u0301abc", 2) == "e\u0301…"


def test_wrap() -> None:
    assert wrap("one two three", 8) == ["one two", "three"]
    assert wrap("a 宽宽宽宽宽 b", 4) == ["a", "宽宽", "宽宽", "宽 b"]
    assert wrap("", 4) == [""]
    assert [line.strip() for line in wrap("宽", 1)][-1] == "宽"  # wider than the room, and shown all the same
