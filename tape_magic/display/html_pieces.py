"""Sentences, colours and the styles that undo what front ends do to tables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tape_magic.display import svg
from tape_magic.display.document import Sentence, Tone, Words
from tape_magic.display.widths import clean

_COLOURS = {Tone.MUTED: svg.GREY, Tone.GOOD: "#2f9e62", Tone.WARNING: "#c2820f", Tone.BAD: "#d64545"}
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

BREAK = "min-width:9em;overflow-wrap:anywhere;word-break:break-word;"


def text(plain: str) -> str:
    """Escaped, without what is not seen."""
    return escape(clean(plain), quote=True)


def colour(tone: Tone) -> str:
    """The style of a tone; empty for a plain one."""
    return f"color:{_COLOURS[tone]};" if tone in _COLOURS else ""


def edge(tone: Tone) -> str:
    """The colour of a verdict's edge."""
    return _COLOURS.get(tone, svg.GREY)


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
    return f'<code style="{CODE}">{text(plain).replace("/", "/<wbr>")}</code>'


def joined(parts: Sequence[str | Sentence]) -> str:
    """Parts that stay whole where they fit on a line, each with the dot behind it."""
    texts = [text(part) if isinstance(part, str) else _sentence(part) for part in parts if part]
    return " ".join(
        f'<span style="display:inline-block;">{part}{" ·" if index < len(texts) - 1 else ""}</span>'
        for index, part in enumerate(texts)
    )


def _sentence(sentence: Sentence) -> str:
    return "".join(map(_words, sentence))


def _words(words: Words) -> str:
    return code(words.text) if words.code else text(words.text)
