"""A table as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from tape_magic.display.content import document
from tape_magic.display.content.document import (
    ACCENT,
    SECOND,
    Column,
    Field,
    Sentence,
    Table,
    Tone,
    plain_text,
)
from tape_magic.display.content.width import width
from tape_magic.display.html.style import (
    BREAK,
    CELL,
    CROWDED_BREAK,
    CROWDED_CELL,
    HAIRLINE,
    ROW,
    TABLE,
    WHOLE,
    colour,
    join_sentences,
    name,
    text,
    with_tone,
)
from tape_magic.display.pictures import svg
from tape_magic.display.text.columns import Layout, TextCell, field_lines

_PAGE = 92
"""The characters on a line of 640 pixels, roughly."""

_NARROW, _NARROW_FIGURES, _NARROW_PIXELS = 40, 48, 290
"""The characters that a row with a reason, or with figures only, may need at least to stand on one line.

The first is what fits on a page of 290 pixels, a window of 420 in JupyterLab. Figures have more room, since
what is drawn beside them is left out there.
"""

_EACH, _SHORTEST = 8, 7
"""The pixels of a character of a figure, at most, and the fewest characters of a column of names."""

_PROSE = 13, 20
"""The least and the most characters of a column of prose on a narrow page; between, its longest word."""

_CROWDED = 4
"""The columns, without prose, of a table that stands closer, and breaks names, where it has to."""

_SHORT_ARRAY = 12
"""The most characters of an array that is broken nowhere."""

_GAP, _CLOSE = 10, 6
"""The pixels between two columns, and in a crowded table."""

_WHOLE_WHERE_TRUSTED = "text-wrap-mode:nowrap;"
"""The style of ``norm 3.119``, which may be broken where a page folds no columns.

JupyterLab drops this property from notebooks that are not trusted, as it drops what folds columns.
"""

_PIXELS, _LARGEST = 7, 9
"""The pixels of a character, roughly, and of a bold character in a wide font."""

_BELOW = (
    "padding:0 0 4px 1.5em;border:none;background:transparent;text-align:left;white-space:normal;"
    "overflow-wrap:anywhere;"
)
_NO_WIDTH = "width:0;min-width:100%;"
"""The style of an element that fills the width of its table without widening the table."""

_LIST = (
    "margin:4px 0 0 0;padding:0;border:none;background:transparent;color:inherit;overflow-x:auto;"
    "white-space:pre;font-size:12px;line-height:1.6;"
)


def table_html(table: Table) -> str:
    """Return a table with its first rows shown and the others folded below them."""
    if not table.rows:
        return ""
    below = _below(table)
    beside = [i for i, _ in enumerate(table.columns) if i not in below]
    folds = _folds(table, beside)
    crowded = _is_crowded(table)
    head = "".join(_head(table.columns[i], folds.get(i, ""), crowded=crowded) for i in beside)
    spare = _spare(table, beside) if below else ""
    head += f'<th style="{spare}"></th>' if below else ""
    shown = table.rows[: table.shown]
    rows = "".join(
        _row(table.columns, row, beside, below, folds, last=row is shown[-1], crowded=crowded)
        for row in shown
    )
    # Where the page is wide, a table that can stand closer has room between its columns all the same.
    wide = _LARGEST * _characters(table, beside)
    style = f"{TABLE}min-width:min(100%,{wide}px);" if crowded and not below else TABLE
    html = (
        f'<table style="{style}"><thead style="border:none;"><tr style="{ROW}border-bottom:{HAIRLINE};">'
        f"{head}</tr></thead><tbody>{rows}</tbody></table>"
    )
    # The width of a page can only be known by what is within a container.
    return (f'<div style="container-type:inline-size">{html}</div>' if folds else html) + _folded(table)


def _folds(table: Table, beside: Sequence[int]) -> dict[int, str]:
    """Return the style of the content of columns that are left out on a page with no room for all.

    What is drawn is left out first, and then the columns from the right. There are none for a table that any
    page has room for.
    """
    rows = table.rows[: table.shown]
    gap = _CLOSE if _is_crowded(table) else _GAP
    heads = {i: width(table.columns[i].heading) for i in beside}
    wide = {i: _EACH * max(heads[i], *(_unbroken(row[i]) for row in rows)) + gap for i in beside}
    spare = [i for i in beside if table.columns[i].spare and not any(row[i - 1].wide for row in rows)]
    room, folds = sum(wide.values()), dict[int, str]()
    for i in sorted(spare, key=lambda i: (not any(_is_drawn(row[i]) for row in rows), -i)):
        if room > _NARROW_PIXELS:
            # A width below 0 counts as 0, which it is on a narrower page; on others, it is no limit.
            folds[i] = f"max-width:calc(9*(100cqw - {room}px));overflow:hidden"
            room -= wide[i]
    return folds


def _is_drawn(field: Field) -> bool:
    return bool(field.strip or field.line) or field.bar is not None


def _unbroken(field: Field) -> int:
    """Return the characters of a field that stand on one line on any page."""
    if _is_drawn(field) or field.wide:
        return 8 if _is_drawn(field) else 0
    if field.matrix:
        return _length(field)
    if field.sentences:
        return _PROSE[0]
    if field.code:
        return min(WHOLE, max([_SHORTEST, width(field.aside), *map(width, field.text.split("/"))]))
    parts = field.text.split() if field.text.startswith("[") else [field.text]
    return min(WHOLE, max(map(width, parts), default=0))


def _is_crowded(table: Table) -> bool:
    """Return whether a table of many columns has no room on a narrow page."""
    columns = [i for i, column in enumerate(table.columns) if not column.prose]
    rows = table.rows[: table.shown]
    wide = sum(max(width(table.columns[i].heading), *(_least(row[i]) for row in rows)) for i in columns)
    return len(columns) >= _CROWDED and _EACH * wide + _GAP * len(columns) > _NARROW_PIXELS


def _below(table: Table) -> list[int]:
    """Return the columns of prose if their sentences are too long to stand beside the other columns.

    Long is what does not fit beside them on a wide page, or not even in lines of few words on a narrow one.
    """
    prose = [i for i, column in enumerate(table.columns) if column.prose]
    fields = [row[i] for row in table.rows for i in prose if row[i].sentences]
    if not fields:
        return []
    beside = [i for i, _ in enumerate(table.columns) if i not in prose]
    texts = [plain_text(sentence) for field in fields for sentence in field.sentences]
    words = max(width(word) for text in texts for word in text.split() or [""])
    least = sum(2 + max(_least(row[i]) for row in table.rows[: table.shown]) for i in beside)
    least += min(max(words, _PROSE[0]), _PROSE[1])
    figures = all(field.tone is Tone.MUTED for field in fields)
    long = _characters(table, beside) + max(map(width, texts)) > _PAGE
    return prose if long or least > (_NARROW_FIGURES if figures else _NARROW) else []


def _least(field: Field) -> int:
    """Return the characters that a field takes at least."""
    if _is_drawn(field):
        return 3
    return min(_length(field), WHOLE)


def _characters(table: Table, columns: Sequence[int]) -> int:
    """Return the characters that these columns take side by side."""
    rows = table.rows[: table.shown]
    return sum(2 + max(width(table.columns[i].heading), *(_length(row[i]) for row in rows)) for i in columns)


def _spare(table: Table, beside: Sequence[int]) -> str:
    """Return the style of an empty last column, through which a sentence below its row fills the page."""
    # A column that asked for more than the rest would narrow all others to their minimum.
    pixels = max(0, _PIXELS * _PAGE - _LARGEST * _characters(table, beside))
    return f"padding:0;border:none;background:transparent;width:{pixels}px;"


def _length(field: Field) -> int:
    if _is_drawn(field):
        return 14
    return max(map(width, field_lines(field))) if not field.wide else 0


def _head(column: Column, fold: str, *, crowded: bool) -> str:
    align = "right" if column.right else "left"
    cell = CROWDED_CELL if crowded and not column.prose else CELL
    style = f"{cell}{colour(Tone.MUTED)}text-align:{align};font-weight:normal;white-space:nowrap;"
    return f'<th style="{style}">{_foldable(text(column.heading), fold)}</th>'


def _foldable(html: str, fold: str) -> str:
    return f'<div style="{fold}">{html}</div>' if fold and html else html


def _row(
    columns: Sequence[Column],
    row: Sequence[Field],
    beside: Sequence[int],
    below: Sequence[int],
    folds: Mapping[int, str],
    *,
    last: bool,
    crowded: bool,
) -> str:
    prose = [row[i] for i in below if row[i].sentences]
    line = "" if last else f"border-bottom:{HAIRLINE};"
    cells, wide = [], False
    for i in beside:
        if not wide:
            cells.append(_field(columns[i], row[i], folds.get(i, ""), roomy=bool(below), crowded=crowded))
        wide = row[i].wide and not wide
    if below:
        cells.append('<td style="padding:0;border:none;background:transparent;"></td>')
    html = f'<tr style="{ROW}{"" if prose else line}">{"".join(cells)}</tr>'
    for field in prose:
        content = with_tone(join_sentences(field.sentences), field.tone)
        cell = (
            f'<td colspan="{len(beside) + 1}" style="{_BELOW}"><div style="{_NO_WIDTH}">{content}</div></td>'
        )
        html += f'<tr style="{ROW}{line}">{cell}</tr>'
    return html


def _field(column: Column, field: Field, fold: str, *, roomy: bool, crowded: bool) -> str:
    align = "right" if column.right and not field.wide else "left"
    span = ' colspan="2"' if field.wide else ""
    cell = CROWDED_CELL if crowded and not column.prose else CELL
    style = f"{cell}text-align:{align};{_wrap(column, field, roomy, crowded)}"
    return f'<td{span} style="{style}">{_foldable(_content(field, crowded), fold)}</td>'


def _wrap(column: Column, field: Field, roomy: bool, crowded: bool) -> str:
    """Return the style that lets sentences, long names and arrays take several lines on a narrow page.

    In a `roomy` table a short array is not broken: the empty last column would take the room that it freed.
    Nor is ``[18, 36]`` anywhere: it is no wider than the numbers that stand above and below it.
    """
    if column.prose:
        return "min-width:7em;padding-right:0;overflow-wrap:anywhere;"
    if field.text.startswith("["):
        return "white-space:nowrap;" if len(field.text) <= (WHOLE if roomy else _SHORT_ARRAY) else ""
    if len(field.text) > WHOLE:
        whole = not field.code and max(map(len, field.text.split()), default=0) <= WHOLE
        return "min-width:6em;" if whole else CROWDED_BREAK if crowded else BREAK
    if field.aside or field.code or (field.wide and crowded):
        return ""
    return _WHOLE_WHERE_TRUSTED if crowded and " " in field.text else "white-space:nowrap;"


def _content(field: Field, crowded: bool) -> str:
    if field.strip:
        return svg.strip(field.strip)
    if field.line:
        return svg.line(field.line, SECOND if field.second else ACCENT)
    if field.bar is not None:
        return svg.bar(field.bar, behind=field.behind)
    if field.matrix:
        return with_tone(_matrix(field.matrix), field.tone)
    if field.sentences:
        html = join_sentences(field.sentences)
    elif field.code and field.text:
        html = name(field.text, crowded=crowded)
    else:
        html = text(field.text)
    html = with_tone(html, field.tone)
    if field.aside:
        html += f' <span style="{colour(Tone.MUTED)}white-space:nowrap;">{text(field.aside)}</span>'
    return html


def _matrix(rows: Sequence[Sequence[str]]) -> str:
    """Return a matrix as numbers between two vertical lines."""
    style = "padding:1px 8px;border:none;background:transparent;text-align:right;white-space:nowrap;"
    body = "".join(
        f'<tr style="{ROW}">{"".join(f"""<td style="{style}">{text(value)}</td>""" for value in row)}</tr>'
        for row in rows
    )
    sides = f"display:inline-table;border-left:{HAIRLINE};border-right:{HAIRLINE};border-radius:6px;"
    return f'<table style="{TABLE}{sides}"><tbody>{body}</tbody></table>'


def _folded(table: Table) -> str:
    """Return the folded rows as lines of text, which stay small for a thousand variables."""
    rows = table.rows[table.shown :]
    if not rows:
        return ""
    known = {sentence for row in table.rows[: table.shown] for field in row for sentence in field.sentences}
    fields = [tuple(_without_known(field, known) for field in row) for row in rows]
    layout = Layout(table.columns, fields, None)
    head = f'<span style="{colour(Tone.MUTED)}">{_cells(layout.head())}</span>'
    lines = [head, *(_cells(cells) for _, lines in layout.lines() for cells in lines)]
    listed = "\n".join(lines)
    return f'<details><summary>{len(rows):,} more</summary><pre style="{_LIST}">{listed}</pre></details>'


def _without_known(field: Field, known: Set[Sentence]) -> Field:
    """Return a field without the advice that already stands in a row that is shown."""
    rest = tuple(sentence for sentence in field.sentences[1:] if sentence not in known)
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
    return with_tone(text(cell.text), field.tone)
