"""A document as HTML that can be read without style sheets, scripts or a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tape_magic.display.content.document import Curve, Document, HeatMap, Line, Table, Tone, Verdict
from tape_magic.display.content.width import LABEL, one_line
from tape_magic.display.html.style import (
    BREAK,
    CELL,
    HAIRLINE,
    ROW,
    TABLE,
    colour,
    edge,
    join_sentences,
    output,
    text,
)
from tape_magic.display.html.table import table_html
from tape_magic.display.pictures.curve import curve
from tape_magic.display.pictures.heat import heat_picture, tint


def to_html(document: Document) -> str:
    """Return the parts of a document and its small print as HTML; all text is escaped."""
    parts = [_RENDERERS[type(part)](part) for part in document.parts]
    if document.footer:
        style = f"{colour(Tone.MUTED)}padding:2px 0;{BREAK}"
        parts.append(f'<div style="{style}">{join_sentences(document.footer)}</div>')
    return output(parts)


def _verdict(verdict: Verdict) -> str:
    details = join_sentences(verdict.details)
    beside = f'\u2003<span style="{colour(Tone.MUTED)}">{details}</span>' if details else ""
    reasons = "".join(f"<div>{join_sentences(line.sentences)}</div>" for line in verdict.reasons)
    return (
        f'<div style="border-left:3px solid {edge(verdict.tone)};padding:2px 0 2px 10px;'
        f'margin:4px 0 8px 0;{BREAK}"><b>{text(verdict.headline)}</b>{beside}{reasons}</div>'
    )


def _line(line: Line) -> str:
    return f'<div style="{colour(line.tone)}padding:2px 0;{BREAK}">{join_sentences(line.sentences)}</div>'


def _heat_map(heat: HeatMap) -> str:
    return _written(heat) if heat.written else heat_picture(heat)


def _written(heat: HeatMap) -> str:
    """Return a small matrix as a table of numbers, each on the colour of its cell in a picture."""
    rows, columns = heat.labels
    head = ""
    if columns:
        cells = "".join(f'<th style="{_LABEL}text-align:right;">{_label(name)}</th>' for name in columns)
        head = f'<thead style="border:none;"><tr style="{ROW}"><th style="{_LABEL}"></th>{cells}</tr></thead>'
    body = "".join(_written_row(heat, i, rows[i] if rows else None) for i in range(len(heat.written)))
    return f'<table style="{TABLE}">{head}<tbody>{body}</tbody></table>'


_LABEL = f"{CELL}font-weight:normal;font-family:monospace;white-space:nowrap;{colour(Tone.MUTED)}"


def _written_row(heat: HeatMap, i: int, name: str | None) -> str:
    label = "" if name is None else f'<th style="{_LABEL}text-align:left;">{_label(name)}</th>'
    starts = {span.start for span in heat.columns if span.start}
    above = any(span.start == i for span in heat.rows if i)
    cells = "".join(
        f'<td style="padding:3px 12px;border:none;text-align:right;white-space:nowrap;'
        f"{f'border-left:{HAIRLINE};' if j in starts else ''}{f'border-top:{HAIRLINE};' if above else ''}"
        f'background:{tint(float(heat.cells[i, j]), heat.scale)};">{text(value)}</td>'
        for j, value in enumerate(heat.written[i])
    )
    return f'<tr style="{ROW}">{label}{cells}</tr>'


def _label(name: str) -> str:
    return text(one_line(name, LABEL, middle=True))


_RENDERERS: dict[type, Callable[[Any], str]] = {
    Verdict: _verdict,
    Line: _line,
    Curve: curve,
    HeatMap: _heat_map,
    Table: table_html,
}
