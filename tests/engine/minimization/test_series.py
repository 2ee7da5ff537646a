"""The values of a run in a bounded memory: none that matters is lost, however long the run is."""

from __future__ import annotations

import numpy as np
import pytest

from tape_magic.engine.minimization.series import EXACT, THINNED, Series


def fed(steps: int, rows: int, stretch: int) -> Series:
    """A series as a loop fills it: chunks of so many stretches, of each its first and its last step."""
    series, at = Series(), 0
    while at <= steps:
        firsts = np.arange(at, min(at + rows * stretch, steps + 1), stretch)
        lasts = np.minimum(firsts + stretch - 1, steps)
        came = np.unique(np.concatenate([firsts, lasts]))
        series.extend(came, -came.astype(float))
        at = int(came[-1]) + 1
    return series


@pytest.mark.parametrize(("rows", "stretch"), [(512, 1), (500, 512), (500, 2**14)])
def test_what_is_thinned_lies_evenly_over_the_whole_run(rows: int, stretch: int) -> None:
    steps = 4000 * rows * stretch
    kept, values = fed(steps, rows, stretch).thinned()
    assert len(kept) <= EXACT + 1 + THINNED
    assert (kept[0], kept[-1]) == (0, steps)
    np.testing.assert_array_equal(values, -kept.astype(float))
    assert np.diff(kept).max() <= 4 * steps / THINNED


def test_of_what_is_thinned_the_extremes_stay() -> None:
    values = np.zeros(1_000_000)
    values[[123_456, 765_432]] = -1.0, 9.0
    series = Series()
    for at in range(0, len(values), 1000):
        series.extend(np.arange(at, at + 1000), values[at : at + 1000])
    steps, kept = series.thinned()
    found = dict(zip(steps.tolist(), kept.tolist(), strict=True))
    assert (found[123_456], found[765_432]) == (-1.0, 9.0)


@pytest.mark.parametrize("chunk", [500, 7_000])
def test_a_long_run_keeps_as_much_of_its_middle_as_of_its_end(chunk: int) -> None:
    """A run of a graph tells each of its steps, so that there is much to thin, and often."""
    series = Series()
    for start in range(0, 2_000_000, chunk):
        steps = np.arange(start, start + chunk)
        series.extend(steps, np.sin(steps / 1e5))
    steps, values = series.thinned()
    np.testing.assert_array_equal(steps[: EXACT + 1], np.arange(EXACT + 1))
    assert THINNED / 4 < len(steps) - EXACT <= THINNED + 1
    assert steps[-1] == start + chunk - 1
    # No stretch of which two are kept is longer than what is left of the room needs.
    assert np.diff(steps).max() < 2_000_000 / (THINNED / 8)
    np.testing.assert_array_equal(values, np.sin(steps / 1e5))
