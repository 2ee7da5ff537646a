"""Gradients shared out to two and four logical CPUs are those of one device."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.forks import Forks


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    found = Forks(
        "tests.engine.accumulation.split_cases",
        {"CUDA_VISIBLE_DEVICES": "-1"},
        tmp_path_factory.mktemp("split"),
    )
    yield found
    found.close()


@pytest.mark.parametrize(("devices", "rows"), [(2, 53), (4, 53), (4, 3)])
def test_equal_to_one_device(forks: Forks, devices: int, rows: int) -> None:
    """Uneven parts, and fewer rows than devices, too."""
    for name, (apart, said) in forks.run("distances", devices, rows).items():
        assert apart < 1e-6, name
        assert f"{rows} rows in" in said, (name, said)
        assert f"on {min(devices, rows)} devices" in said, (name, said)
        assert ("loss is a sum" in said) == name.startswith("sum"), (name, said)
        assert ("size is a sum" in said) == name.startswith("two"), (name, said)
        assert "not made of" not in said, (name, said)


def test_each_part_is_computed_on_its_device(forks: Forks) -> None:
    """Of the runs that tell a mean from a sum, nothing is left: not what they append to a list, either."""
    assert forks.run("places", 4) == ["CPU:0 13", "CPU:1 13", "CPU:2 13", "CPU:3 14"]


def test_a_strategy_of_the_notebook(forks: Forks) -> None:
    several, one = forks.run("of_the_notebook", 2).values()
    assert several == [
        "53 rows in 2 parts on 2 devices; loss is a mean over its rows, and each part counts by its rows"
    ]
    assert one == ["1 device (CPU:1): nothing to share out; %tfgpu --cpu --split 2 makes two"]


def test_a_model_that_was_made_in_a_scope(forks: Forks) -> None:
    assert max(forks.run("made_in_a_scope", 2)) < 1e-6


def test_parts_of_a_batch_that_have_no_rows(forks: Forks) -> None:
    """They have as many numbers as the batch has rows; so have others, which are cut."""
    for name, (apart, said) in forks.run("parts_that_stay_whole", 4).items():
        assert apart < 1e-6 or said.startswith("is not made"), name


def test_half_precision(forks: Forks) -> None:
    """Its rounding is no reason to say that a mean is none."""
    for name, said in forks.run("half_precision", 4).items():
        assert ("is not made of those of its rows" in said) is ("rows" in name), (name, said)
        assert ("loss is a mean over its rows" in said) is ("rows" not in name), (name, said)
