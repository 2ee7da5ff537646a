"""The report of the doctor."""

from __future__ import annotations

from tape_magic.display.content.document import (
    Column,
    Document,
    Field,
    Line,
    Table,
    Tone,
    Verdict,
    Words,
    say,
)
from tape_magic.results.doctor import DoctorReport, Examined, LinkState

_TONES = {LinkState.MISSING: Tone.BAD, LinkState.FAILS: Tone.BAD, LinkState.UNNEEDED: Tone.MUTED}


def doctor_document(report: DoctorReport) -> Document:
    """Return the verdict, a row for each link, and the one thing to do."""
    works = ("each link is in place",) if report.well else ()
    tone = Tone.GOOD if report.well else Tone.WARNING if report.harmless else Tone.BAD
    verdict = Verdict(tone, report.headline, works)
    columns = Column("link"), Column(""), Column("evidence", prose=True)
    rows = tuple(row for link in report.links for row in _rows(link))
    todo = Line(((Words(f"{report.advice}: "), Words(report.command, code=True)),))
    return Document((verdict, Table(columns, rows, shown=len(rows)), todo))


def _rows(one: Examined) -> list[tuple[Field, ...]]:
    tone = Tone.MUTED if one.finding in (LinkState.UNTRIED, LinkState.UNNEEDED) else Tone.PLAIN
    link = (
        Field(one.link.value, tone),
        Field(one.finding.value, _TONES.get(one.finding, Tone.PLAIN)),
        Field(sentences=tuple(map(say, one.evidence)), tone=tone),
    )
    # Parts in place are grey, so that a missing one stands out.
    parts = [
        (
            Field(name, code=True),
            Field(finding.value, _TONES.get(finding, Tone.MUTED)),
            Field(sentences=(say(text),), tone=Tone.PLAIN if finding in _TONES else Tone.MUTED),
        )
        for name, finding, text in one.parts
    ]
    return [link, *parts]
