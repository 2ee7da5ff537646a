"""Batches shared out to several devices, in processes with four logical CPUs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.forks import Forks

MODULE = "tests.engine.distribution.sharing_cases"

CASES = (
    "a_mean",
    "a_sum",
    "a_mean_with_a_penalty_of_the_weights",
    "float64",
    "an_embedding_and_an_lstm",
    "parts_of_other_forms",
    "parts_that_have_no_rows",
    "parts_by_which_nothing_can_be_cut",
    "an_error_of_one_device",
    "half_precision",
    "fewer_rows_than_devices",
    "rules_end_at_the_same_step",
    "a_divergence_is_told_at_the_same_step",
    "numbers_that_are_not_finite_in_one_part",
    "optimizers_take_the_same_steps",
    "a_batch_that_does_not_fit_one_device",
    "rows_that_meet_are_told",
    "batch_normalization",
    "dropout",
    "parts_have_other_masks",
    "resumed_runs",
    "a_second_run_traces_nothing",
    "an_interrupt_leaves_no_strategy",
    "a_log_has_the_same_losses",
    "a_model_of_a_scope",
    "a_variable_of_a_scope_by_other_methods",
    "one_device",
    "a_cell_that_is_not_compiled",
    "strategies_that_keras_has_no_optimizers_for",
    "lines_that_are_refused",
)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """TensorFlow without a GPU, not started."""
    forks = Forks(MODULE, {"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path_factory.mktemp("sharing"))
    yield forks
    forks.close()


@pytest.mark.parametrize("case", CASES)
def test_sharing(case: str, fresh: Forks) -> None:
    fresh.run(case)
