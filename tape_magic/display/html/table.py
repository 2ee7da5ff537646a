"""A table as HTML."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from tape_magic.display.content import document
from tape_magic.display.content.document import Column, Field, Sentence, Table, Tone, spoken
from tape_magic.display.content.width import width
from tape_magic.display.html.style import (
    BREAK,
    CELL,
    HAIRLINE,
    ROW,
    TABLE,
    WHOLE,
    colour,
    joined,
    name,
    text,
    toned,
)
from tape_magic.display.pictures import svg
from tape_magic.display.text.columns import Layout, TextCell, field_lines

_PAGE = 92
"""Characters that a page of 640 pixels holds, about."""

_PIXELS, _LARGEST = 7, 9
"""Of a character, about; and of those of a wide font, bold."""

_BELOW = (
    "padding:0 0 4px 1.5em;border:none;background:transparent;text-align:left;white-space:normal;"
    "overflow-wrap:anywhere;"
)
_NO_WIDTH = "width:0;min-width:100%;"
"""Takes all the width that there is, and asks for none, so that columns stay as narrow as they were."""

_LIST = (
    "margin:4px 0 0 0;padding:0;border:none;background:transparent;color:inherit;overflow-x:auto;"
    "white-space:pre;font-size:12px;line-height:1.6;"
)


def table_html(table: Table) -> str:
    """The rows shown, and the rest folded below them."""
    if not table.rows:
        return ""
    below = _below(table)
    beside = [i for i, _ in enumerate(table.columns) if i not in below]
    head = "".join(_head(table.columns[i]) for i in beside)
    spare = _spare(table, beside) if below else ""
    head += f'<th style="{spare}"></th>' if below else ""
    shown = table.rows[: table.shown]
    rows = "".join(_row(table.columns, row, beside, below, row is shown[-1]) for row in shown)
    return (
        f'<table style="{TABLE}"><thead style="border:none;"><tr style="{ROW}border-bottom:{HAIRLINE};">'
        f"{head}</tr></thead><tbody>{rows}</tbody></table>{_folded(table)}"
    )


def _below(table: Table) -> list[int]:
    """The columns of prose, where they are too long to stand beside the others."""
    prose = [i for i, column in enumerate(table.columns) if column.prose]
    others = _characters(table, [i for i, _ in enumerate(table.columns) if i not in prose])
    said = [sentence for row in table.rows for i in prose for sentence in row[i].sentences]
    widest = max((width(spoken(sentence)) for sentence in said), default=0)
    return prose if others + widest > _PAGE else []


def _characters(table: Table, columns: Sequence[int]) -> int:
    """The characters that so many columns take side by side."""
    rows = table.rows[: table.shown]
    return sum(2 + max(width(table.columns[i].heading), *(_length(row[i]) for row in rows)) for i in columns)


def _spare(table: Table, beside: Sequence[int]) -> str:
    """The style of a last, empty column, which gives the sentences below their rows the rest of the page."""
    # A column that asks for more than there is would make the others as narrow as they can be.
    pixels = max(0, _PIXELS * _PAGE - _LARGEST * _characters(table, beside))
    return f"padding:0;border:none;background:transparent;width:{pixels}px;"


def _length(field: Field) -> int:
    if field.strip or field.line or field.bar is not None:
        return 14
    return max(map(width, field_lines(field))) if not field.wide else 0


def _head(column: Column) -> str:
    align = "right" if column.right else "left"
    style = f"{CELL}{colour(Tone.MUTED)}text-align:{align};font-weight:normal;white-space:nowrap;"
    return f'<th style="{style}">{text(column.heading)}</th>'


def _row(
    columns: Sequence[Column], row: Sequence[Field], beside: Sequence[int], below: Sequence[int], last: bool
) -> str:
    said = [row[i] for i in below if row[i].sentences]
    line = "" if last else f"border-bottom:{HAIRLINE};"
    cells, wide = [], False
    for i in beside:
        if not wide:
            cells.append(_field(columns[i], row[i], roomy=bool(below)))
        wide = row[i].wide and not wide
    if below:
        cells.append('<td style="padding:0;border:none;background:transparent;"></td>')
    html = f'<tr style="{ROW}{"" if said else line}">{"".join(cells)}</tr>'
    for field in said:
        prose = toned(joined(field.sentences), field.tone)
        cell = f'<td colspan="{len(beside) + 1}" style="{_BELOW}"><div style="{_NO_WIDTH}">{prose}</div></td>'
        html += f'<tr style="{ROW}{line}">{cell}</tr>'
    return html


def _field(column: Column, field: Field, *, roomy: bool) -> str:
    align = "right" if column.right and not field.wide else "left"
    span = ' colspan="2"' if field.wide else ""
    return f'<td{span} style="{CELL}text-align:{align};{_wrap(column, field, roomy)}">{_content(field)}</td>'


def _wrap(column: Column, field: Field, roomy: bool) -> str:
    """What may take several lines on a narrow page: sentences, long names, arrays.

    A short array stays whole in a `roomy` table, whose last column would take the room that it gave up.
    """
    if column.prose:
        return "min-width:7em;padding-right:0;overflow-wrap:anywhere;"
    if field.text.startswith("["):
        return "white-space:nowrap;" if roomy and len(field.text) <= WHOLE else ""
    if len(field.text) > WHOLE:
        whole = not field.code and max(map(len, field.text.split()), default=0) <= WHOLE
        return "min-width:6em;" if whole else BREAK
    return "" if field.aside or field.code else "white-space:nowrap;"


def _content(field: Field) -> str:
    if field.strip:
        return svg.strip(field.strip)
    if field.line:
        return svg.line(field.line)
    if field.bar is not None:
        return svg.bar(field.bar, behind=field.behind)
    if field.matrix:
        return toned(_matrix(field.matrix), field.tone)
    if field.sentences:
        html = joined(field.sentences)
    elif field.code and field.text:
        html = name(field.text)
    else:
        html = text(field.text)
    html = toned(html, field.tone)
    if field.aside:
        html += f' <span style="{colour(Tone.MUTED)}white-space:nowrap;">{text(field.aside)}</span>'
    return html


def _matrix(rows: Sequence[Sequence[str]]) -> str:
    """Numbers between two upright lines."""
    style = "padding:1px 8px;border:none;background:transparent;text-align:right;white-space:nowrap;"
    body = "".join(
        f'<tr style="{ROW}">{"".join(f"""<td style="{style}">{text(value)}</td>""" for value in row)}</tr>'
        for row in rows
    )
    sides = f"display:inline-table;border-left:{HAIRLINE};border-right:{HAIRLINE};border-radius:6px;"
    return f'<table style="{TABLE}{sides}"><tbody>{body}</tbody></table>'


def _folded(table: Table) -> str:
    """The other rows as lines of text, which a thousand variables can afford."""
    rows = table.rows[table.shown :]
    if not rows:
        return ""
    said = {sentence for row in table.rows[: table.shown] for field in row for sentence in field.sentences}
    layout = Layout(table.columns, [tuple(_unsaid(field, said) for field in row) for row in rows], None)
    head = f'<span style="{colour(Tone.MUTED)}">{_cells(layout.head())}</span>'
    lines = [head, *(_cells(cells) for _, lines in layout.lines() for cells in lines)]
    listed = "\n".join(lines)
    return f'<details><summary>{len(rows):,} more</summary><pre style="{_LIST}">{listed}</pre></details>'


def _unsaid(field: Field, said: Set[Sentence]) -> Field:
    """A field without the advice that already stands in a row that is shown."""
    rest = tuple(sentence for sentence in field.sentences[1:] if sentence not in said)
    return replace(field, sentences=(*field.sentences[:1], *rest)) if field.sentences else field


def _cells(cells: Sequence[TextCell]) -> str:
    return "  ".join(map(_cell, cells)).rstrip()


def _cell(cell: TextCell) -> str:
    field = cell.field
    if field is None:
        return text(cell.text)
    if (field.strip or field.line or field.bar is not None) and cell.text.strip():
        kept = cell.text.rstrip()
        return f'<i style="color:{document.ACCENT};font-style:normal">{kept}</i>{cell.text[len(kept) :]}'
    return toned(text(cell.text), field.tone)
