"""The means of a run over data, as a record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tape_magic.results.epochs import Epochs, shown_means


def of(steps: list[int], losses: list[float], *, whole: bool = True) -> Epochs:
    numbers = np.arange(1, 1 + len(steps))
    return Epochs(numbers, np.array(steps), np.array(losses), {"error": np.array(losses) / 2}, whole)


def test_a_mean_stands_in_the_middle_of_its_steps() -> None:
    """The first one is that of the losses after 0, 1 and 2 steps."""
    epochs = of([3, 5, 6], [4.0, 1.0, 2.0])
    assert epochs.lengths.tolist() == [3, 2, 1]
    assert epochs.middles.tolist() == [1.0, 3.5, 5.0]
    assert epochs.best == 1


def test_the_best_is_a_number() -> None:
    """Batches without a row have no mean."""
    assert of([3, 6], [np.nan, 2.0]).best == 1


def test_the_means_as_plain_values_and_as_a_frame() -> None:
    epochs = of([4, 8], [1.0, 0.5])
    assert epochs.to_dict() == {
        "epoch": [1, 2],
        "steps": [4, 8],
        "loss": [1.0, 0.5],
        "tracked": {"error": [0.5, 0.25]},
        "whole": True,
    }
    frame = epochs.to_frame()
    assert (frame.index.name, list(frame)) == ("epoch", ["steps", "loss", "error"])
    assert frame.loc[2].tolist() == [8.0, 0.5, 0.25]


def test_with_a_validation_they_have_it_too() -> None:
    losses = np.array([0.75, np.nan])
    epochs = replace(of([4, 8], [1.0, 0.5]), val_loss=losses, val_tracked={"error": losses / 2})
    assert epochs.to_dict()["val_loss"][0] == 0.75
    assert epochs.to_dict()["val_tracked"]["error"][0] == 0.375
    frame = epochs.to_frame()
    assert list(frame) == ["steps", "loss", "error", "val_loss", "val_error"]
    assert frame.loc[1].tolist() == [4.0, 1.0, 0.5, 0.75, 0.375]
    assert epochs.best_val == 0
    assert epochs.validated is not None
    assert [one.tolist() for one in epochs.validated] == [[4], [0.75]]
    assert replace(epochs, val_loss=np.full(2, np.nan)).best_val is None


def test_what_it_is_stands_in_its_text() -> None:
    assert repr(of([4, 8], [1.0, 0.5])) == "<Epochs: 2, loss from 1 to 0.5>"
    assert repr(of([], [])) == "<Epochs: 0>"
    assert "none finished" in repr(of([4], [1.0], whole=False))


def test_means_of_single_steps_tell_nothing_more() -> None:
    assert shown_means(of([1, 2, 3], [3.0, 2.0, 1.0])) is None
    assert shown_means(of([], [])) is None
    assert shown_means(several := of([2, 4], [3.0, 2.0])) is several
