"""The last minute of the devices, as a picture, as text and as one line."""

from __future__ import annotations

import base64
import re

from tape_magic.display.live.watch import watch_html, watch_line, watch_text
from tape_magic.results.watching import Reading, Sample

GIB = 2**30


def gpu(used: float | None, load: float | None, name: str = "NVIDIA H200") -> Reading:
    return Reading("GPU 0", name, None if used is None else int(used * GIB), 100 * GIB, load)


def minute(*readings: Reading) -> list[Sample]:
    """One reading a second, the last one now."""
    return [Sample(1000.0 + i, (reading,)) for i, reading in enumerate(readings)]


def pictures(html: str) -> list[str]:
    return [base64.b64decode(data).decode() for data in re.findall(r"base64,([^\"]+)\"", html)]


def test_the_picture_says_in_words_what_it_shows() -> None:
    html = watch_html(minute(gpu(20, 0.1), gpu(31, 0.84)))
    assert 'alt="GPU 0: memory 31\u202f%, load 84\u202f%"' in html
    assert "31.0\u202fGiB of 100.0\u202fGiB" in html
    (picture,) = pictures(html)
    assert "<polygon" in picture
    assert picture.count("<polyline") == 2
    assert ">now<" in picture


def test_only_the_last_minute_is_drawn() -> None:
    (picture,) = pictures(watch_html(minute(*[gpu(i % 50, 0.5) for i in range(300)])))
    (line, _) = re.findall(r'<polyline points="([^"]+)"', picture)
    assert len(line.split()) == 62  # 61 seconds, and the end of the line


def test_what_is_not_known_is_not_drawn() -> None:
    (picture,) = pictures(watch_html(minute(gpu(None, 0.5))))
    assert "memory" not in picture
    assert "load" in picture
    (picture,) = pictures(watch_html(minute(gpu(1, None))))
    assert "load" not in picture
    assert pictures(watch_html(minute(gpu(None, None))))


def test_labels_stay_apart() -> None:
    for share in (0.0, 0.3, 0.301, 1.0):
        (picture,) = pictures(watch_html(minute(gpu(30, share))))
        heights = [float(y) for y in re.findall(r'x="462" y="([\d.]+)" text-anchor="start"', picture)]
        assert len(heights) == 2
        assert abs(heights[0] - heights[1]) >= 12.9


def test_the_same_as_text() -> None:
    text = watch_text(minute(gpu(0, 0.0), gpu(50, 0.5), gpu(100, 1.0)), ["watched until 12:00:00"])
    assert text == (
        "GPU 0 · NVIDIA H200 · 100.0\u202fGiB of 100.0\u202fGiB · load 100\u202f% · memory ▁▅█ ·\n"
        "  load ▁▅█\nwatched until 12:00:00"
    )


def test_one_line_for_a_terminal() -> None:
    sample = Sample(0.0, (gpu(50, 0.5), Reading("CPU", "AMD", 1, None, 0.25)))
    assert watch_line(sample, None) == (
        "GPU 0 50.0\u202fGiB of 100.0\u202fGiB, load 50\u202f% · CPU load 25\u202f%"
        " · the picture that moves is in a notebook"
    )
    alone = Sample(0.0, (Reading("CPU", "AMD", 1, None, 0.25),))
    assert "no GPU (not installed)" in watch_line(alone, "not installed")


def test_names_are_escaped() -> None:
    html = watch_html(minute(gpu(1, 0.5, "<script>alert(1)</script>")), ["<b>"])
    assert "<script" not in html
    assert "<b>" not in html
