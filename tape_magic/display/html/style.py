"""Sentences, colours and the styles that undo what front ends do to tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from tape_magic.display.content import document
from tape_magic.display.content.document import Sentence, Tone, Words
from tape_magic.display.content.width import NAME, shown

# As text, these can be told from white as well as from near-black; no colour does better on both.
_COLOURS = {Tone.GOOD: "#2f9e62", Tone.WARNING: "#a66d08", Tone.BAD: "#d64545"}
SECONDARY = "opacity:0.66;"
"""Of text that steps back: the page's own colour, only fainter, is readable on any page."""

HAIRLINE = "1px solid rgba(138,143,152,0.35)"
# Front ends stripe, centre and frame tables; each of these undoes one of their rules.
TABLE = (
    "border-collapse:collapse;border:none;margin:4px 0;background:transparent;width:auto;"
    "font-variant-numeric:tabular-nums;font-size:inherit;"
)
ROW = "background:transparent;border:none;"
CELL = "padding:3px 10px 3px 0;border:none;background:transparent;vertical-align:middle;"
CODE = "background:transparent;padding:0;border:none;color:inherit;"
WHOLE = 20
"""Up to this many characters stay on one line, however narrow the page."""

DOT = "&nbsp;·"
"""Between two sentences; no line begins with it."""

BREAK = "min-width:9em;overflow-wrap:anywhere;word-break:break-word;"


_LEFTWARD = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]+")
"""Letters that are written from right to left, such as those of Hebrew and Arabic."""


def page(parts: Sequence[str]) -> str:
    """All of an output. The classes keep MathJax from making formulas of what stands between two ``$``."""
    return (
        '<div class="mathjax_ignore tex2jax_ignore" '
        f'style="max-width:640px;overflow-x:auto;line-height:1.45;">{"".join(parts)}</div>'
    )


def attribute(plain: str) -> str:
    """Escaped, for a place between quotes."""
    return escape(shown(plain), quote=True)


def text(plain: str) -> str:
    """Escaped, without what is not seen."""
    return _marked(shown(plain))


def _marked(plain: str) -> str:
    """Escaped; letters from right to left keep to themselves, or ``= 1`` would stand before their name."""
    html = escape(plain, quote=True)
    return html if html.isascii() else _LEFTWARD.sub(r"<bdi>\g<0></bdi>", html)


def colour(tone: Tone) -> str:
    """The style of a tone; empty for a plain one."""
    if tone is Tone.MUTED:
        return SECONDARY
    return f"color:{_COLOURS[tone]};" if tone in _COLOURS else ""


def edge(tone: Tone) -> str:
    """The colour of a verdict's edge."""
    return _COLOURS.get(tone, document.GREY)


def toned(html: str, tone: Tone) -> str:
    """What is bad or a warning stands out, and what is secondary steps back."""
    if tone in (Tone.BAD, Tone.WARNING):
        return f'<b style="{colour(tone)}">{html}</b>'
    return f'<span style="{colour(tone)}">{html}</span>' if tone is Tone.MUTED else html


def code(plain: str, style: str = "") -> str:
    """A line of code."""
    return f'<code style="{CODE}{style}">{text(plain)}</code>'


def name(plain: str) -> str:
    """A name on one line where it is short; a longer path may go on after each of its slashes."""
    if len(plain) <= WHOLE:
        return code(plain, "white-space:nowrap;")
    parts = shown(plain, NAME, middle=True).split("/")
    return f'<code style="{CODE}">{"/<wbr>".join(map(_marked, parts))}</code>'


def joined(parts: Sequence[str | Sentence]) -> str:
    """Parts that stay whole where they fit on a line, each with the dot behind it."""
    texts = [text(part) if isinstance(part, str) else _sentence(part) for part in parts if part]
    return " ".join(
        f'<span style="display:inline-block;">{part}{DOT if index < len(texts) - 1 else ""}</span>'
        for index, part in enumerate(texts)
    )


def _sentence(sentence: Sentence) -> str:
    return "".join(map(_words, sentence))


def _words(words: Words) -> str:
    return code(words.text) if words.code else text(words.text)
