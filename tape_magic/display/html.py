"""A document as HTML that reads without style sheets, scripts or a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tape_magic.display import svg
from tape_magic.display.document import Column, Document, Field, Table, Tone, Verdict
from tape_magic.display.widths import clean

_COLOURS = {Tone.MUTED: svg.GREY, Tone.GOOD: "#2f9e62", Tone.WARNING: "#c2820f", Tone.BAD: "#d64545"}
_HAIRLINE = "1px solid rgba(138,143,152,0.35)"
# Front ends stripe, centre and frame tables; each of these undoes one of their rules.
_TABLE = (
    "border-collapse:collapse;border:none;margin:4px 0;background:transparent;width:auto;"
    "font-variant-numeric:tabular-nums;font-size:inherit;"
)
_ROW = "background:transparent;border:none;"
_CELL = "padding:3px 12px 3px 0;border:none;background:transparent;vertical-align:middle;"
_CODE = "background:transparent;padding:0;border:none;color:inherit;"
_WHOLE = 20
"""Up to this many characters stay on one line, however narrow the page."""

_BREAK = "min-width:9em;overflow-wrap:anywhere;word-break:break-word;"


def render(document: Document) -> str:
    """The report: what happened, the picture, the table, notes and small print; all text is escaped."""
    parts: list[str] = []
    if document.verdict is not None:
        parts.append(_verdict(document.verdict))
    if document.curve is not None:
        parts.append(svg.curve(document.curve))
    if document.table is not None and document.table.rows:
        parts.append(_table(document.table))
    parts += [f'<div style="padding:2px 0;">{_text(note)}</div>' for note in document.notes]
    if document.footer:
        parts.append(f'<div style="{_colour(Tone.MUTED)}padding:2px 0;">{_joined(document.footer)}</div>')
    return f'<div style="max-width:640px;overflow-x:auto;line-height:1.45;">{"".join(parts)}</div>'


def _text(text: str) -> str:
    return escape(clean(text), quote=True)


def _joined(parts: Sequence[str]) -> str:
    """Parts that stay whole where they fit on a line, each with the dot behind it."""
    texts = [_text(part) for part in parts if part]
    return " ".join(
        f'<span style="display:inline-block;">{text}{" ·" if index < len(texts) - 1 else ""}</span>'
        for index, text in enumerate(texts)
    )


def _colour(tone: Tone) -> str:
    return f"color:{_COLOURS[tone]};" if tone in _COLOURS else ""


def _verdict(verdict: Verdict) -> str:
    edge = _COLOURS.get(verdict.tone, svg.GREY)
    details = _joined(verdict.details)
    beside = f'\u2003<span style="{_colour(Tone.MUTED)}">{details}</span>' if details else ""
    return (
        f'<div style="border-left:3px solid {edge};padding:2px 0 2px 10px;margin:4px 0 8px 0;{_BREAK}">'
        f"<b>{_text(verdict.headline)}</b>{beside}</div>"
    )


def _table(table: Table) -> str:
    head = "".join(_head(column) for column in table.columns)
    head = f'<tr style="{_ROW}border-bottom:{_HAIRLINE};">{head}</tr>'
    shown = _rows(table.columns, table.rows[: table.shown])
    text = f'<table style="{_TABLE}"><thead style="border:none;">{head}</thead><tbody>{shown}</tbody></table>'
    folded = table.rows[table.shown :]
    if folded:
        rest = f'<table style="{_TABLE}"><tbody>{_rows(table.columns, folded)}</tbody></table>'
        text += f"<details><summary>{len(folded):,} more</summary>{rest}</details>"
    return text


def _head(column: Column) -> str:
    align = "right" if column.right else "left"
    style = f"{_CELL}{_colour(Tone.MUTED)}text-align:{align};font-weight:normal;white-space:nowrap;"
    return f'<th style="{style}">{_text(column.heading)}</th>'


def _rows(columns: Sequence[Column], rows: Sequence[Sequence[Field]]) -> str:
    last = len(rows) - 1
    return "".join(
        f'<tr style="{_ROW}{"" if index == last else f"border-bottom:{_HAIRLINE};"}">'
        + "".join(_field(column, field) for column, field in zip(columns, row, strict=True))
        + "</tr>"
        for index, row in enumerate(rows)
    )


def _field(column: Column, field: Field) -> str:
    align = "right" if column.right else "left"
    content = _joined(field.text.split(" · ")) if column.prose else _text(field.text)
    return f'<td style="{_CELL}text-align:{align};{_wrap(column, field)}">{_content(field, content)}</td>'


def _wrap(column: Column, field: Field) -> str:
    """What may take several lines on a narrow page: sentences, long names, arrays."""
    if column.prose:
        return "min-width:7em;padding-right:0;"
    if len(field.text) > _WHOLE:
        return _BREAK if field.code else "min-width:6em;"
    return "" if field.aside else "white-space:nowrap;"


def _content(field: Field, text: str) -> str:
    if field.strip:
        return svg.strip(field.strip)
    if field.bar is not None:
        return svg.bar(field.bar)
    if field.code and text:
        whole = "white-space:nowrap;" if len(field.text) <= _WHOLE else ""
        text = f'<code style="{_CODE}{whole}">{text}</code>'
    if field.tone in (Tone.BAD, Tone.WARNING):
        text = f'<b style="{_colour(field.tone)}">{text}</b>'
    elif field.tone is Tone.MUTED:
        text = f'<span style="{_colour(field.tone)}">{text}</span>'
    if field.aside:
        text += f' <span style="{_colour(Tone.MUTED)}white-space:nowrap;">{_text(field.aside)}</span>'
    return text
