"""Sentences, colours and the styles that undo what front ends do to tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from tape_magic.display.content import document
from tape_magic.display.content.document import Sentence, Tone, Words
from tape_magic.display.content.width import NAME, one_line

# Mid-tones: text in these colours has enough contrast on white and on near-black.
_COLOURS = {Tone.GOOD: "#2f9e62", Tone.WARNING: "#a66d08", Tone.BAD: "#d64545"}
SECONDARY = "opacity:0.66;"
"""The style of secondary text: the page's own colour, only fainter, which is readable on any page."""

HAIRLINE = "1px solid rgba(138,143,152,0.35)"
# Front ends stripe, centre and frame tables; each property undoes one of their rules. In a page without a
# document type, browsers give tables a size and a colour of their own.
TABLE = (
    "border-collapse:collapse;border:none;margin:4px 0;background:transparent;width:auto;"
    "font-variant-numeric:tabular-nums;font-size:inherit;color:inherit;"
)
ROW = "background:transparent;border:none;"
CELL = "padding:3px 10px 3px 0;border:none;background:transparent;vertical-align:middle;"
CROWDED_CELL = CELL.replace("10px", "6px")
CODE = "background:transparent;padding:0;border:none;color:inherit;"
WHOLE = 20
"""Up to this many characters stay on one line, however narrow the page."""

DOT = "&nbsp;·"
"""The dot between two sentences; no line begins with it."""

BREAK = "min-width:9em;overflow-wrap:anywhere;word-break:break-word;"
CROWDED_BREAK = BREAK.replace("9em", "4.5em")


_LEFTWARD = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]+")
"""Letters of scripts that run from right to left, such as Hebrew and Arabic."""


def output(parts: Sequence[str]) -> str:
    """Return the element around a whole output.

    Its classes keep MathJax from turning a text between two ``$`` into a formula.
    """
    return (
        '<div class="mathjax_ignore tex2jax_ignore" '
        f'style="max-width:640px;overflow-x:auto;line-height:1.45;">{"".join(parts)}</div>'
    )


WIDGET_PAGE = (
    "background:var(--vscode-editor-background,transparent);color:var(--vscode-editor-foreground,inherit);"
)
"""The style of HTML within a widget: VS Code paints widgets white in its dark themes, too.

Its extension sets ``.cell-output-ipywidget-background`` to white, and leaves the text in the theme's colour
(microsoft/vscode-jupyter#7161). Other front ends have neither variable.
"""


def attribute(plain: str) -> str:
    """Return a text escaped for an attribute between quotes."""
    return escape(one_line(plain), quote=True)


def text(plain: str) -> str:
    """Return a text cleaned and escaped."""
    return _isolated(one_line(plain))


def _isolated(plain: str) -> str:
    """Return a text escaped, with letters that run from right to left isolated.

    Otherwise a browser would show the ``= 1`` after such a name in front of it.
    """
    html = escape(plain, quote=True)
    return html if html.isascii() else _LEFTWARD.sub(r"<bdi>\g<0></bdi>", html)


def colour(tone: Tone) -> str:
    """Return the style of a tone, empty for a plain one."""
    if tone is Tone.MUTED:
        return SECONDARY
    return f"color:{_COLOURS[tone]};" if tone in _COLOURS else ""


def edge(tone: Tone) -> str:
    """Return the colour of a verdict's edge."""
    return _COLOURS.get(tone, document.GREY)


def with_tone(html: str, tone: Tone) -> str:
    """Return HTML in the look of a tone: bold and coloured for bad and warning, fainter for muted."""
    if tone in (Tone.BAD, Tone.WARNING):
        return f'<b style="{colour(tone)}">{html}</b>'
    return f'<span style="{colour(tone)}">{html}</span>' if tone is Tone.MUTED else html


def code(plain: str, style: str = "") -> str:
    """Return a text as code."""
    return f'<code style="{CODE}{style}">{text(plain)}</code>'


def name(plain: str, *, crowded: bool = False) -> str:
    """Return a name as code: a short one unbroken, a longer path with a break allowed after each slash.

    In a `crowded` table, a short path may be broken there, too.
    """
    if len(plain) <= WHOLE and not (crowded and "/" in plain):
        return code(plain, "white-space:nowrap;")
    parts = one_line(plain, NAME, middle=True).split("/")
    return f'<code style="{CODE}">{"/<wbr>".join(map(_isolated, parts))}</code>'


def join_sentences(parts: Sequence[str | Sentence]) -> str:
    """Return sentences with dots between them; a sentence that fits on a line is not broken."""
    texts = [text(part) if isinstance(part, str) else _sentence(part) for part in parts if part]
    return " ".join(
        f'<span style="display:inline-block;">{part}{DOT if index < len(texts) - 1 else ""}</span>'
        for index, part in enumerate(texts)
    )


def _sentence(sentence: Sentence) -> str:
    return "".join(map(_words, sentence))


def _words(words: Words) -> str:
    return code(words.text) if words.code else text(words.text)
