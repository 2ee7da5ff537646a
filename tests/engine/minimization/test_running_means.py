"""The means of a run over data: exact, and the same however the run is cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tape_magic.engine.minimization.running_means import FEWEST, STRETCHES, RunningMeans
from tape_magic.results.epochs import Epochs

NAMES = ("error",)


class Run:
    """Steps over epochs of some batches, the last one of each with fewer rows."""

    def __init__(self, steps: int, length: int) -> None:
        generator = np.random.default_rng(steps + length)
        self.steps = np.arange(steps)
        index = self.steps % length
        self.rows = np.where(index == length - 1, 3, 8)
        self.places = np.stack([self.steps // length, index, self.rows], axis=1)
        self.values = generator.normal(2.0, 1.0, (steps, 2)).astype("float32")

    def feed(self, means: RunningMeans, start: int, end: int) -> None:
        part = slice(start, end)
        means.extend(self.steps[part], self.places[part], self.values[part])

    def mean(self, start: int, end: int, column: int = 0) -> float:
        part = slice(start, end)
        return float(np.average(self.values[part, column].astype(float), weights=self.rows[part]))


def fed(run: Run, length: int | None, cuts: Sequence[int] = (), resumed: int = 0) -> RunningMeans:
    means = RunningMeans(NAMES, length)
    for start, end in zip([0, *cuts], [*cuts, len(run.steps)], strict=True):
        run.feed(means, start, end)
        if end == resumed:
            arrays = [array.copy() for array in means.arrays]
            means = RunningMeans(NAMES, length)
            means.restore(arrays, [0, 1])
    return means


def same(one: Epochs | None, other: Epochs | None) -> bool:
    if one is None or other is None:
        return one is other
    arrays = [(means.epoch, means.steps, means.loss, means.tracked["error"]) for means in (one, other)]
    return one.whole == other.whole and all(map(np.array_equal, *arrays))


def test_the_mean_of_an_epoch_is_that_of_its_rows() -> None:
    run = Run(23, 5)
    epochs, stretches = fed(run, 5).read()
    assert stretches is None
    assert epochs.epoch.tolist() == [1, 2, 3, 4]
    assert epochs.steps.tolist() == [5, 10, 15, 20]
    starts = range(0, 20, 5)
    np.testing.assert_allclose(epochs.loss, [run.mean(at, at + 5) for at in starts], rtol=1e-14)
    np.testing.assert_allclose(
        epochs.tracked["error"], [run.mean(at, at + 5, 1) for at in starts], rtol=1e-14
    )


@settings(deadline=None, max_examples=40)
@given(
    steps=st.sampled_from([1, 3, 20, 64, 500, 9001, 20_000]),
    length=st.sampled_from([1, 2, 7, 64, 3000, 10**6]),
    cuts=st.sets(st.integers(1, 20_000), min_size=1, max_size=6),
)
def test_chunks_and_cuts_do_not_change_a_bit(steps: int, length: int, cuts: set[int]) -> None:
    run, inside = Run(steps, length), sorted(cut for cut in cuts if cut < steps)
    whole = fed(run, length).read()
    parts = fed(run, length, inside, inside[0] if inside else 0).read()
    assert all(map(same, whole, parts))


@pytest.mark.parametrize(
    ("steps", "stretches"), [(1, 1), (7, 1), (8, 2), (63, 15), (64, 16), (1000, 16), (4096, 16), (40_000, 16)]
)
def test_without_an_epoch_there_are_equal_stretches(steps: int, stretches: int) -> None:
    """Each is as long as another, but for one step, and past 4,096 steps for a hundredth."""
    run = Run(steps, 10**6)
    means, drawn = fed(run, 10**6).read()
    assert same(means, drawn)
    assert (len(means), means.whole) == (stretches, False)
    assert len(means) <= STRETCHES
    assert means.lengths.min() >= min(FEWEST, steps)
    assert np.ptp(means.lengths) <= max(1, steps / 16 / 100)
    assert means.steps[-1] == steps
    starts = means.steps - means.lengths
    expected = [run.mean(start, end) for start, end in zip(starts, means.steps, strict=True)]
    np.testing.assert_allclose(means.loss, expected, rtol=1e-12)


def test_after_one_epoch_there_are_both() -> None:
    run = Run(75, 50)
    epochs, stretches = fed(run, 50).read()
    assert (epochs.steps.tolist(), epochs.whole) == ([50], True)
    assert stretches is not None
    assert (len(stretches), stretches.steps[-1], stretches.epoch[0], stretches.epoch[-1]) == (16, 75, 1, 2)


def test_an_epoch_of_unknown_length_ends_with_the_next_or_with_the_data() -> None:
    run = Run(20, 5)
    means = fed(run, None)
    assert means.read()[0].steps.tolist() == [5, 10, 15]
    means.over = True
    assert means.read()[0].steps.tolist() == [5, 10, 15, 20]


def test_the_last_steps_can_be_taken_back() -> None:
    run = Run(20, 5)
    means = fed(run, 5)
    means.over = True
    means.drop_from(19)
    assert means.read()[0].steps.tolist() == [5, 10, 15]
    run.feed(means, 18, 20)  # in place of the same steps
    assert same(means.read()[0], fed(run, 5).read()[0])


@pytest.mark.parametrize("back", [0, 3, 5, 10, 13])
def test_a_run_that_goes_far_back_knows_the_epochs_that_it_has_wholly(back: int) -> None:
    run, means = Run(30, 5), fed(Run(30, 5), 5)
    means.drop_from(back)
    assert means.read()[0].steps.tolist() == [5, 10][: back // 5]
    run.feed(means, back, 30)
    known = [5, 10, 15, 20, 25, 30]
    assert means.read()[0].steps.tolist() == [end for end in known if not end - 5 < back < end]


def test_a_run_that_goes_on_from_one_without_sums_begins_with_its_next_epoch() -> None:
    run, means = Run(20, 5), RunningMeans(NAMES, 5)
    run.feed(means, 7, 9)
    run.feed(means, 9, 20)
    epochs, _ = means.read()
    assert (epochs.epoch.tolist(), epochs.steps.tolist()) == ([3, 4], [15, 20])
    assert epochs.loss[0] == pytest.approx(run.mean(10, 15), rel=1e-14)


def test_a_scalar_that_was_not_tracked_has_no_mean_before_its_next_epoch() -> None:
    run, earlier, means = Run(15, 5), RunningMeans((), 5), RunningMeans(NAMES, 5)
    earlier.extend(run.steps[:7], run.places[:7], run.values[:7, :1])
    means.restore(earlier.arrays, [0, None])
    run.feed(means, 7, 15)
    epochs, _ = means.read()
    assert same(Epochs(epochs.epoch, epochs.steps, epochs.loss, {"error": epochs.loss}), _losses(run))
    assert np.isnan(epochs.tracked["error"]).tolist() == [True, True, False]


def _losses(run: Run) -> Epochs:
    epochs, _ = fed(run, 5).read()
    return Epochs(epochs.epoch, epochs.steps, epochs.loss, {"error": epochs.loss})


def test_a_batch_without_rows_does_not_count() -> None:
    means = RunningMeans(NAMES, 2)
    places = np.array([[0, 0, 4], [0, 1, 0], [1, 0, 0], [1, 1, 0]])
    means.extend(np.arange(4), places, np.array([[3.0, 1.0], [9.0, 9.0], [9.0, 9.0], [9.0, 9.0]]))
    epochs, _ = means.read()
    np.testing.assert_array_equal(epochs.loss, [3.0, np.nan])
