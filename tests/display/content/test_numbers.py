"""How numbers are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tape_magic.display.content import numbers

NUMBERS = [
    (0.0, "0"),
    (-0.0, "0"),
    (1.0, "1"),
    (-2.0, "−2"),
    (0.1, "0.1"),
    (1 / 3, "0.3333"),
    (-1 / 3, "−0.3333"),
    (0.99999857, "0.9999986"),
    (0.9999985, "0.9999985"),
    (1.0000001, "1.0000001"),
    (2.861e-6, "2.861e−6"),
    (-1.2e36, "−1.2e36"),
    (1234567.0, "1,234,567"),
    (1e7, "1e7"),
    (1234.5678, "1,234.57"),
    (12345.678, "1.235e4"),
    (5e-324, "4.941e−324"),
    (1.7976931348623157e308, "1.798e308"),
    (math.nan, "nan"),
    (math.inf, "inf"),
    (-math.inf, "−inf"),
    (1 + 2j, "1 + 2j"),
    (-1 - 0.5j, "−1 − 0.5j"),
    (complex(0, math.nan), "0 + nanj"),
]

DURATIONS = [
    (0.0, "0 s"),
    (3.2e-6, "3.2 µs"),
    (0.0012, "1.2 ms"),
    (0.047, "47 ms"),
    (0.0996, "0.10 s"),
    (0.4, "0.40 s"),
    (9.96, "10 s"),
    (59.4, "59 s"),
    (59.9, "1 min 0 s"),
    (200, "3 min 20 s"),
    (7260, "2 h 1 min"),
    (58_183_620, "673 days"),
]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_number(value, text):
    assert numbers.number(value) == text


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_duration(seconds, text):
    assert numbers.duration(seconds).replace(numbers.NARROW, " ") == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (1e-9, "0.1 %"), (0.12, "12 %"), (0.99, "99 %"), (0.99999, "99.9 %"), (1.0, "100 %")],
)
def test_percent(share, text):
    assert numbers.percent(share).replace(numbers.NARROW, " ") == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (46600 * 2**20, "45.5 GiB"),
        (2**40 - 1, "1.0 TiB"),
        (2**50, "1.0 PiB"),
        (2**70, "1024.0 EiB"),
    ],
)
def test_memory(size, text):
    assert numbers.memory(size).replace(numbers.NARROW, " ") == text


def test_two_numbers_are_told_apart():
    assert numbers.pair(0.0, 1.0) == ("0", "1")
    assert numbers.pair(0.12341, 0.12342) == ("0.12341", "0.12342")
    assert numbers.pair(1.0, 1.0 + 2**-52) == ("1", "1.0000000000000002")
    assert numbers.pair(2.5, 2.5) == ("2.5", "2.5")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(1.967, "2.0"), (1.99962, "2.0"), (29.38, "29"), (3.0, "3"), (0.0, "0"), (0.304, "0.30")],
        *[(1.0e-5 + 1e-9, "1.0e−5"), (123456.5, "1.2e5"), (float("nan"), "nan"), (float("inf"), "inf")],
    ],
)
def test_a_norm_has_as_many_digits_as_the_next(value, text):
    assert numbers.measure(value, 2) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(1.0042, "1.004"), (1.00004, "1.000"), (0.9999974, "1.000"), (0.5, "0.5"), (2.0, "2"), (0.0, "0")],
        *[
            (-1.99999999999994, "−2.000"),
            (1234.56, "1,235"),
            (99999.7, "100,000"),
            (12678.9, "12,680"),
            (1.2345e8, "1.234e8"),
            (math.nan, "nan"),
        ],
    ],
)
def test_what_arithmetic_gave_has_four_digits_however_near_a_whole_number(value, text):
    assert numbers.rounded(value) == text


def test_what_arithmetic_gave_is_still_told_apart():
    assert numbers.pair(3.0, 1.99999999999994, numbers.rounded) == ("3", "2.000")
    assert numbers.pair(1.00001, 1.00002, numbers.rounded) == ("1.00001", "1.00002")
    assert numbers.spread(-1.124, 0.9999974) == "−1.124 to 1.000"


def test_powers_of_ten():
    assert [numbers.power_of_ten(n) for n in (-4, 0, 1, 12)] == ["10⁻⁴", "1", "10", "10¹²"]


def read(text: str) -> float:
    return float(text.replace(numbers.MINUS, "-").replace(",", ""))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_reads_back_to_four_digits(value):
    text = numbers.number(value)
    assert "-" not in text
    # The largest numbers round up, past what a float can hold.
    assert math.isclose(read(text), value, rel_tol=6e-4, abs_tol=5e-324) or abs(value) > 1.797e308


@given(st.floats(), st.floats())
def test_pairs_of_any_numbers(start, end):
    shown = numbers.pair(start, end)
    if start != end and not (math.isnan(start) and math.isnan(end)):
        assert shown[0] != shown[1]


@given(st.complex_numbers())
def test_any_complex_number(value):
    assert numbers.number(value).endswith("j")


@given(st.floats(min_value=0, max_value=1e9))
def test_any_duration(seconds):
    assert "e" not in numbers.duration(seconds)
    assert len(numbers.duration(seconds)) <= 16
