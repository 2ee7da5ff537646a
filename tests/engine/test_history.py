"""What is kept of a run's values, however long it gets."""

from __future__ import annotations

import numpy as np
import pytest

from tape_magic.engine.history import EXACT, THINNED, Series


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


def test_peaks_stay_however_often_it_is_thinned() -> None:
    series = Series()
    peaks = {123_456: 5.0, 654_321: -7.0, 1_300_001: 9.0}
    for start in range(0, 1_500_000, 1_000):
        steps = np.arange(start, start + 1_000)
        series.extend(steps, np.array([peaks.get(step, 0.0) for step in steps.tolist()]))
    kept = dict(zip(*map(np.ndarray.tolist, series.thinned()), strict=True))
    assert {step: kept.get(step) for step in peaks} == peaks
