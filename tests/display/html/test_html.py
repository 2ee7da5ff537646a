"""What a notebook is given: safe, and whole without what an untrusted one takes out."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from tape_magic.display.content.document import Curve, HeatMap, Tone
from tape_magic.display.content.width import MOST
from tape_magic.display.describe import describe
from tape_magic.display.html import style
from tape_magic.display.html.render import to_html
from tape_magic.display.live.inspector_html import View, inspector_html
from tape_magic.display.pictures.heat import heat_picture
from tape_magic.display.pictures.watch import watch_picture
from tape_magic.display.text.render import to_text
from tape_magic.results.minimum import StopReason
from tape_magic.results.reasons import Cause, Reason, Where
from tests.support.reports import (
    HOSTILE,
    REPORTS,
    change,
    derivative,
    diverged,
    gradients,
    hostile_reports,
    minimum,
)

ALLOWED = {
    "div": {"style", "class"},
    "span": {"style"},
    "b": {"style"},
    "code": {"style"},
    "table": {"style"},
    "thead": {"style"},
    "tbody": set(),
    "tr": {"style"},
    "th": {"style"},
    "td": {"style", "colspan"},
    "pre": {"style"},
    "i": {"style"},
    "wbr": set(),
    "bdi": set(),
    "details": set(),
    "summary": set(),
    "img": {"src", "width", "height", "alt", "style"},
}


class Reader(HTMLParser):
    """Tags that nest and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(report: object) -> Reader:
    reader = Reader()
    # A place where a name may go on in the next line is no end of a word.
    reader.feed(to_html(describe(report)).replace("<wbr>", ""))
    reader.close()
    assert not reader.open
    return reader


def pictures(report: object) -> list[str]:
    found = [attributes["src"] for tag, attributes in read(report).tags if tag == "img"]
    return [base64.b64decode(src.removeprefix("data:image/svg+xml;base64,")).decode() for src in found]


@pytest.mark.parametrize("report", REPORTS)
def test_only_harmless_tags_and_attributes(report):
    for tag, attributes in read(report).tags:
        assert tag in ALLOWED
        assert set(attributes) <= ALLOWED[tag]
        assert attributes.get("src", "data:image/svg+xml;base64,").startswith("data:image/svg+xml;base64,")


@pytest.mark.parametrize("report", REPORTS)
def test_nothing_that_an_untrusted_notebook_loses(report):
    assert not re.search(r"<(style|svg|script|link|iframe)\b|javascript:", markup(report))
    assert set(re.findall(r'\bclass="([^"]*)"', markup(report))) == {"mathjax_ignore tex2jax_ignore"}


def markup(report: object) -> str:
    """The tags alone, since a hostile name may well stand, escaped, in the text."""
    return "".join(re.findall(r"<[^>]*>", to_html(describe(report))))


@pytest.mark.parametrize("name", HOSTILE[:3])
def test_names_are_shown_as_they_are(name):
    for report in hostile_reports(name):
        assert name in "".join(read(report).words)


@pytest.mark.parametrize("name", HOSTILE[3:])
def test_marks_that_turn_the_text_and_control_characters_are_left_out(name):
    for report in hostile_reports(name):
        assert not set(to_html(describe(report))) & set("\u202e\u2066\u2069\x07\x1b")


@pytest.mark.parametrize("name", ["n" * 10_000, "path/" * 2_000, "line\n" * 2_000, "宽" * 10_000])
def test_ten_thousand_characters_are_shown_in_part(name):
    for report in hostile_reports(name):
        lines = [line for words in read(report).words for line in words.splitlines()]
        assert max(map(len, lines)) <= MOST + len(" ·")
        assert sum(map(len, lines)) < 25_000
        assert len(to_text(describe(report))) < 10_000


def test_marks_on_a_letter_do_not_make_a_tower():
    words = read(gradients(derivative("y", "e" + "\u0301" * 200))).words
    (name,) = [word for word in words if "∂y" in word]
    assert name == "∂y/∂e" + "\u0301" * 4


def test_letters_from_right_to_left_keep_to_themselves():
    page = to_html(describe(minimum([3.0, 2.0, 1.0], {"משתנה": change(0.0, 1.0)}, loss_name="عدد")))
    assert "<b><bdi>عدد</bdi> = 1 at step 2</b>" in page
    assert "><bdi>משתנה</bdi><" in page


@pytest.mark.parametrize("report", REPORTS)
def test_pictures_are_well_formed_and_inert(report):
    for picture in pictures(report):
        root = ElementTree.fromstring(picture)
        assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
            "svg",
            "g",
            "rect",
            "line",
            "text",
            "polyline",
            "foreignObject",
            "path",
            "image",
            "linearGradient",
            "stop",
        }
        assert not re.search(r"NaN|nan|inf\b", picture)


@pytest.mark.parametrize("report", REPORTS[:4])
def test_text_and_html_say_the_same(report):
    """Each word of the text is in the HTML, pictures and folded rows apart."""
    said = re.sub(r"\s+", " ", " ".join(read(report).words))
    plain = to_text(describe(report))
    words = re.findall(r"[\w∂∇‖−./()-]+", re.sub(r"[▁▂▃▄▅▆▇█━╸]+|… \d+ more", " ", plain))
    curve = describe(report).first(Curve)
    if curve is not None:
        words = [word for word in words if word not in plain.splitlines()[curve_line(plain)]]
    assert [word for word in words if word not in said] == []


def curve_line(plain: str) -> int:
    return next(i for i, line in enumerate(plain.splitlines()) if "█" in line)


def test_past_twenty_rows_the_rest_is_folded():
    page = to_html(describe(REPORTS[0]))
    assert "<summary>5 more</summary>" in page
    assert page.count("<tr") == 1 + 20
    folded = page[page.index("<pre") : page.index("</pre>")]
    assert [line.split()[0] for line in folded.splitlines()[1:]] == [f"∂Σy/∂w{i}" for i in range(20, 25)]


WHERE = Where(7, "h = tf.sqrt(tf.reduce_sum(h*h, axis=-1, keepdims=True))")


@pytest.mark.parametrize("state", ["fine", "each cut on a line of its own", "each not finite on its own"])
def test_a_thousand_variables_take_less_than_300_kilobytes(state):
    values = np.random.default_rng(0).normal(size=(1000, 8, 8))
    rows = []
    for i, value in enumerate(values):
        name = f"encoder/block_{i // 10}/attention_output_{i % 10}/kernel"
        said = f"cut at Round, cell {i}, line 7: {WHERE.text}"
        if state == "fine":
            rows.append(derivative("loss", name, value=value, of_model=True))
        elif state == "each cut on a line of its own":
            cut = Reason(Cause.CUT, said, where=WHERE)
            rows.append(derivative("loss", name, value=None, connected=False, reason=cut, of_model=True))
        else:
            text_ = f"the gradient of Sqrt is inf for 0 at [{i}, 0], cell {i}, line 7: {WHERE.text}"
            cure = "the slope of a square root is infinite at 0: add a little, tf.sqrt(x + 1e-12)"
            reason = Reason(Cause.NOT_FINITE, text_, cure, "Sqrt", WHERE)
            rows.append(derivative("loss", name, value=value * np.nan, reason=reason, of_model=True))
    page = to_html(describe(gradients(*rows)))
    assert len(page.encode()) < 300_000
    assert "encoder/block_99/attention_output_9/kernel" in page
    assert "<summary>980 more</summary>" in page


def test_folded_rows_do_not_repeat_the_advice_above_them():
    nan = [Reason(Cause.NOT_FINITE, f"Log is −inf, line {i}", "keep its argument above 0") for i in range(25)]
    rows = [derivative("loss", f"v{i}", value=np.nan, reason=why, of_model=True) for i, why in enumerate(nan)]
    above, below = to_html(describe(gradients(*rows))).split("<details>")
    assert above.count("keep its argument above 0") == 20
    assert "keep its argument above 0" not in below
    assert all(f"Log is −inf, line {i}" in below for i in range(20, 25))


def test_the_verdict_has_an_edge_in_its_colour():
    assert "border-left:3px solid #d64545" in to_html(describe(diverged()))
    converged = minimum([3.0, 1.0, 0.2], {"x": change(1.0, 2.0)}, reason=StopReason.TARGET)
    assert "border-left:3px solid #2f9e62" in to_html(describe(converged))
    assert "#2f9e62" not in to_html(describe(REPORTS[2]))  # the limit of steps is an end, and no success
    assert "border-left" not in to_html(describe(gradients(derivative("y", "x", value=1.0))))


def test_the_curve_says_in_words_what_it_shows():
    (image,) = [attributes for tag, attributes in read(REPORTS[2]).tags if tag == "img"]
    assert image["alt"] == "y from 3 to 0.2 over 3 steps"


def test_an_array_wraps_between_its_numbers_and_a_number_stays_whole():
    changes = {
        "w": change([0.12, -1.3, 2.04], [0.1, -1.0, 2.0]),
        "b": change(0.25, -1234.5),
        "p": change([18.0, 36.0], [9.0, 36.0]),
    }
    page = to_html(describe(minimum([3.0, 2.0, 1.0], changes)))
    styles = {said: style for style, said in re.findall(r'<td style="([^"]+)">([^<]+)</td>', page)}
    assert "nowrap" not in styles["[0.12, −1.3, 2.04]"]
    assert "nowrap" in styles["−1,234.5"]
    assert "nowrap" in styles["[18, 36]"]  # no wider than the numbers around it


def test_a_short_array_stays_whole_where_there_is_room_beside_it():
    """The column that has the rest of the page leaves the others what they need."""
    why = Reason(
        Cause.NOT_FINITE, "Log is −inf for 0 at [2], line 2: y = tf.where(p > 0, tf.math.log(p), 0.0)"
    )
    rows = (
        derivative("y", "p", value=[1.0, 0.5, np.nan], reason=why),
        derivative("q", "p", value=[2.0, 4.0, 0.0]),
    )
    page = to_html(describe(gradients(*rows)))
    styles = {said: style for style, said in re.findall(r'<td style="([^"]+)">(?:<b [^>]*>)?([^<]+)</', page)}
    assert "nowrap" in styles["[1, 0.5, nan]"]
    (rest,) = re.findall(r'<th style="[^"]*width:(\d+)px;"></th>', page)
    assert 200 < int(rest) < 450


@pytest.mark.parametrize(
    ("name", "text", "below"),
    [
        ("x", "y does not read x", False),
        ("params[1]", "y does not read params[1]", False),
        ("long_name_of_a_variable", "y does not read it", True),
        ("x", "cut at Round, line 2: z = tf.round(x)", False),
        ("x", "cut at Round, line 2: z = tf.round(a_long_name)", False),
        ("params[1]['w']", "cut at Round, line 2: z = tf.round(a_long_name)", True),
    ],
)
def test_a_reason_stands_beside_its_row_if_a_narrow_page_has_room_for_it(name, text, below):
    row = derivative("y", name, value=None, connected=False, reason=Reason(Cause.NOT_READ, text))
    page = to_html(describe(gradients(row)))
    assert ("colspan" in page) is below
    assert text.split()[-1] in page


def test_names_give_way_where_columns_are_many():
    path = "residual_block_0_projection/kernel"
    model = gradients(derivative("loss", path, value=np.arange(20.0), of_model=True))
    (style_of_name,) = re.findall(r'<td style="([^"]+)"><code[^>]*>residual', to_html(describe(model)))
    assert "min-width:4.5em;" in style_of_name
    few = gradients(derivative("loss", path, value=1.0))
    (style_of_name,) = re.findall(r'<td style="([^"]+)"><code[^>]*>∂loss', to_html(describe(few)))
    assert "min-width:9em;" in style_of_name
    short = derivative("loss", "dense/kernel", value=np.arange(20.0), of_model=True)
    assert ">dense/<wbr>kernel</code>" in to_html(describe(gradients(short)))
    assert ">∂y/∂(dense/kernel)</code>" in to_html(describe(gradients(derivative("y", "dense/kernel"))))


LIGHT, DARK = "#ffffff", "#111111"
"""The pages of JupyterLab's two themes; their text is black with an opacity of 0.87, and white."""


def luminance(colour: str, on: str = LIGHT, opacity: float = 1.0) -> float:
    """Of WCAG 2.2, of a colour that lets a page through."""
    parts = (
        opacity * over / 255 + (1 - opacity) * under / 255
        for over, under in zip(bytes.fromhex(colour[1:]), bytes.fromhex(on[1:]), strict=True)
    )
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_text_that_steps_back_has_the_contrast_that_is_asked_of_text():
    page = to_html(describe(diverged()))
    opacity = float(re.findall(r"opacity:([\d.]+);", page)[0])
    assert contrast(luminance("#000000", LIGHT, 0.87 * opacity), luminance(LIGHT)) >= 4.5
    assert contrast(luminance("#ffffff", DARK, opacity), luminance(DARK)) >= 4.5


@pytest.mark.parametrize("tone", [Tone.WARNING, Tone.BAD])
def test_colours_of_text_are_told_from_white_and_from_near_black(tone):
    """No colour has more than 4.35 on both: 1.05 / 0.0556 is 4.35²."""
    (said,) = re.findall("color:(#[0-9a-f]{6});", style.colour(tone))
    assert min(contrast(luminance(said), luminance(page)) for page in (LIGHT, DARK)) >= 4.3


def test_labels_in_pictures_are_told_from_white_and_from_near_black():
    (picture,) = pictures(REPORTS[2])
    for said in set(re.findall('<g fill="(#[0-9a-f]{6})"', picture)):
        assert min(contrast(luminance(said), luminance(page)) for page in (LIGHT, DARK)) >= 4.3


def test_a_picture_that_gets_narrower_gets_lower():
    """Its height is an attribute, which a style must undo where a front end does not."""
    report = gradients(derivative("y", "w", value=range(20)))
    heat = HeatMap(np.eye(9), (9, 9), 1.0, (), (), "m")
    drawn = [
        heat_picture(heat),
        inspector_html(report.rows[0], "w", View.HISTOGRAM),
        watch_picture("GPU 0", [(0.0, 0.5)], [(0.0, 0.5)]),
    ]
    for page in drawn:
        assert "max-width:100%;height:auto;" in page


def test_a_narrow_page_leaves_out_what_tells_least():
    """Each width is 0 on a page that is too narrow for all columns, what is drawn first."""
    path = "residual_block/kernel"
    page = to_html(describe(gradients(derivative("loss", path, value=np.arange(20.0), of_model=True))))
    assert page.count("container-type:inline-size") == 1
    limits = {head: int(px) for px, head in re.findall(r"100cqw - (\d+)px[^>]*>(\w+)</div></th>", page)}
    assert limits["values"] > 290
    few = to_html(describe(gradients(derivative("y", "x"))))
    assert "container-type" not in few
