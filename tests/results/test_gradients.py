"""The report as data, made by hand: no TensorFlow is needed to look into one."""

from __future__ import annotations

import dataclasses
import math
import types

import numpy as np
import pytest

from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.summary import BINS, summarize


def derivative(
    target: str, *wrt: str, value: object = 1.0, sums: tuple[int, ...] = (), **more: object
) -> Derivative:
    array = np.asarray(0.0 if value is None else value)
    return Derivative(target, wrt, value, array.shape, str(array.dtype), sums or (1,) * len(wrt), **more)


KERNEL, BIAS = np.ones((3, 2)), np.zeros(2)
REPORT = GradReport(
    rows=(
        derivative("y", "x", value=2.0),
        derivative("y", "x", "x", value=3.0),
        derivative("y", "x", "a", value=4.0),
        derivative("loss", "dense/kernel", value=KERNEL, of_model=True),
        derivative("loss", "dense/bias", value=BIAS, of_model=True),
        derivative("_", "x", value=None, connected=False),
        derivative("out['k']", "p['w']", value=5.0),
    ),
    structures={
        ("y", ("x",)): 2.0,
        ("y", ("x", "x")): 3.0,
        ("y", ("x", "a")): 4.0,
        ("loss", ("net",)): [KERNEL, BIAS],
        ("_", ("x",)): None,
        ("out['k']", ("p",)): {"w": 5.0},
    },
    forward_seconds=0.5,
    backward_seconds=0.25,
    notes=("a note",),
)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dy/dx", 2.0),
        ("∂y/∂x", 2.0),
        (("y", "x"), 2.0),
        ("d2y/dx2", 3.0),
        ("d2y/dx dx", 3.0),
        ("∂²y/∂x²", 3.0),
        (("y", "x", "x"), 3.0),
        ("d2y/dxda", 4.0),
        ("d2y/dx da", 4.0),
        (("loss", "dense/kernel"), KERNEL),
        (("loss", "kernel"), KERNEL),
        (("loss", "dense/bias"), BIAS),
        ("dloss/d(dense/bias)", BIAS),
        ("d_/dx", None),
        (("_", "x"), None),
        ("_", None),
        ("dout['k']/dp['w']", 5.0),
        (("out['k']", "p['w']"), 5.0),
        ("out['k']", 5.0),
    ],
)
def test_lookups(key: str | tuple[str, ...], value: object) -> None:
    assert REPORT[key] is value
    assert key in REPORT


def test_structures_come_back_whole() -> None:
    assert REPORT["loss", "net"] == [KERNEL, BIAS]
    assert REPORT["dloss/dnet"] == [KERNEL, BIAS]
    assert REPORT["dout['k']/dp"] == {"w": 5.0}


@pytest.mark.parametrize("row", REPORT, ids=lambda row: row.key)
def test_every_row_is_found_by_its_key(row: Derivative) -> None:
    assert REPORT[row.key] is row.value
    assert REPORT.to_dict()[row.key] is row.value
    assert REPORT[row.target, *row.wrt] is row.value


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("dy/dz", "no 'dy/dz' in this report; did you mean dy/dx?; it has dy/dx, d2y/dx2, "),
        ("d3y/dx3", "no 'd3y/dx3' in this report"),
        ("z", "no 'z' in this report"),
        (("loss", "nothing"), "no ('loss', 'nothing') in this report"),
        ("y", "'y' fits several derivatives; the report has dy/dx, d2y/dx2"),
        ("loss", "'loss' fits several derivatives"),
        ("dy/dx, d2y/dx2", "'dy/dx, d2y/dx2' is not one derivative; write for example 'dy/dx'."),
        ("", "'' is not one derivative"),
        ("y/dx", "'y/dx' is not a derivative"),
        ("(", "never closes its ')'"),
    ],
)
def test_missing_keys(key: str | tuple[str, ...], message: str) -> None:
    with pytest.raises(KeyError) as info:
        REPORT[key]
    assert message in info.value.args[0]
    assert key not in REPORT


@pytest.mark.parametrize("key", [3, None, (), ("y",), 1.5, b"dy/dx", (3,), ("y", 3)])
def test_other_things_are_not_in_it(key: object) -> None:
    assert key not in REPORT
    with pytest.raises(KeyError, match="report"):
        REPORT[key]  # type: ignore[index]


def test_in_the_order_asked() -> None:
    assert [row.key for row in REPORT] == list(REPORT.to_dict())
    assert len(REPORT) == 7
    assert [row.order for row in REPORT] == [1, 2, 2, 1, 1, 1, 1]


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        REPORT.notes = ()  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        REPORT.rows[0].value = 1  # type: ignore[misc]


def test_its_repr_is_one_short_line() -> None:
    assert repr(REPORT) == (
        "<GradReport: dy/dx, d2y/dx2, d2y/dxda, dloss/d(dense/kernel), dloss/d(dense/bias), d_/dx, …>"
    )
    assert repr(GradReport(REPORT.rows[:1])) == "<GradReport: dy/dx>"


def test_the_frame() -> None:
    frame = REPORT.to_frame()
    assert list(frame.index) == [row.key for row in REPORT]
    assert list(frame.columns) == ["shape", "dtype", "norm", "min", "max", "zeros"]
    assert frame.loc["dy/dx"].tolist() == [(), "float64", 2.0, 2.0, 2.0, 0.0]
    assert frame.loc["dloss/d(dense/bias)", "zeros"] == 1.0
    assert frame.loc["dloss/d(dense/kernel)", "norm"] == pytest.approx(math.sqrt(6))
    assert math.isnan(frame.loc["d_/dx", "norm"])


@pytest.mark.parametrize(
    ("wrt", "sums", "label", "note"),
    [
        (("x",), (1,), "∂y/∂x", ""),
        (("x",), (201,), "∂Σy/∂x", "sum of 201 outputs"),
        (("x",), (1_234_567,), "∂Σy/∂x", "sum of 1,234,567 outputs"),
        (("x", "x"), (1, 1), "∂²y/∂x²", ""),
        (("x", "a"), (1, 1), "∂²y/∂x∂a", ""),
        (("x", "x"), (5, 5), "∂²Σy/∂x²", "sum of 5 outputs, then of 5 first derivatives"),
        (("w", "w"), (1, 4), "∂Σ(∂y/∂w)/∂w", "sum of 4 first derivatives"),
        (("x", "w"), (3, 1), "∂²Σy/∂x∂w", "sum of 3 outputs"),
        (("x", "x", "w"), (1, 1, 4), "∂Σ(∂²y/∂x²)/∂w", "sum of 4 second derivatives"),
        (("w", "x", "x"), (1, 4, 1), "∂²Σ(∂y/∂w)/∂x²", "sum of 4 first derivatives"),
        (
            ("w", "v", "x"),
            (2, 4, 3),
            "∂Σ(∂Σ(∂Σy/∂w)/∂v)/∂x",
            "sum of 2 outputs, then of 4 first derivatives, then of 3 second derivatives",
        ),
        (("dense/kernel",), (1,), "∂y/∂(dense/kernel)", ""),
    ],
)
def test_labels_say_what_is_summed(
    wrt: tuple[str, ...], sums: tuple[int, ...], label: str, note: str
) -> None:
    row = derivative("y", *wrt, sums=sums)
    assert row.label == label
    assert row.sum_note == note


def test_a_sparse_value_is_summed_for_its_summary() -> None:
    rows = types.SimpleNamespace(
        values=np.array([[1.0, 2.0], [3.0, 4.0]], np.float32),
        indices=np.array([2, 2]),
        dense_shape=types.SimpleNamespace(numpy=lambda: np.array([3, 2])),
    )
    row = Derivative("y", ("table",), rows, (3, 2), "float32", (1,))
    assert row.summary is not None
    assert row.summary.values == (0, 0, 0, 0, 4, 6)
    assert row.summary.shape == (3, 2)


def test_nothing_is_computed_of_no_value() -> None:
    assert derivative("y", "x", value=None).summary is None


# -- summaries -------------------------------------------------------------------------------------


def test_a_small_array_is_kept() -> None:
    summary = summarize(np.array([[3.0, 0.0], [4.0, 0.0]], np.float32))
    assert summary.values == (3.0, 0.0, 4.0, 0.0)
    assert (summary.shape, summary.dtype, summary.size) == ((2, 2), "float32", 4)
    assert (summary.norm, summary.minimum, summary.maximum, summary.zeros) == (5.0, 0.0, 4.0, 0.5)
    assert (summary.nonfinite, summary.histogram) == (0, ())


def test_a_large_array_in_numbers() -> None:
    values = np.linspace(-1, 1, 1001)
    summary = summarize(values)
    assert summary.values == ()
    assert summary.norm == pytest.approx(np.sqrt((values**2).sum()))
    assert (summary.minimum, summary.maximum) == (-1.0, 1.0)
    assert summary.zeros == pytest.approx(1 / 1001)
    assert len(summary.histogram) == BINS
    assert sum(summary.histogram) == 1001


@pytest.mark.parametrize(
    ("values", "nonfinite", "minimum", "maximum"),
    [
        ([np.nan, 1.0], 1, 1.0, 1.0),
        ([np.inf, -np.inf, 2.0], 2, 2.0, 2.0),
        ([np.nan], 1, None, None),
        ([], 0, None, None),
        ([1 + 2j, 3j], 0, None, None),
        ([1e308] * 9 + [-1e308], 0, -1e308, 1e308),
    ],
)
def test_odd_arrays(
    values: list[complex], nonfinite: int, minimum: float | None, maximum: float | None
) -> None:
    summary = summarize(np.array(values))
    assert (summary.nonfinite, summary.minimum, summary.maximum) == (nonfinite, minimum, maximum)
    assert sum(summary.histogram) in (0, len(values) - nonfinite)


def test_half_precision_does_not_overflow() -> None:
    assert summarize(np.full(10_000, 1000, np.float16)).norm == pytest.approx(1e5)


def test_the_norm_of_very_large_and_very_small_numbers() -> None:
    assert summarize(np.array([3e200, 4e200])).norm == pytest.approx(5e200)
    assert summarize(np.array([3e-200, 4e-200])).norm == pytest.approx(5e-200)
    assert summarize(np.array([0.0, 0.0])).norm == 0.0
    assert summarize(np.array([np.inf, 1.0])).norm == np.inf
    assert math.isnan(summarize(np.array([np.nan, 1.0])).norm)
