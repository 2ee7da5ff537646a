"""The cases of `test_real_gpu.py`, each in a process that has started nothing, on the first card."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

import tape_magic
from tape_magic.engine.devices.nvml import read_cards
from tape_magic.engine.devices.sampling import Sampler
from tape_magic.engine.doctor.examine import examine
from tape_magic.results.devices import DeviceReport, SetupOutcome

MIB = 2**20


def compute() -> Any:
    """A product on the first GPU, which is 1,024 everywhere."""
    with tf.device("/GPU:0"):
        ones = tf.ones([1024, 1024])
        product = ones @ ones
    assert "GPU:0" in product.device
    assert float(tf.reduce_max(product)) == float(tf.reduce_min(product)) == 1024
    return product


def of_nvml(report: DeviceReport) -> int:
    """What all processes hold on the first GPU, by NVML."""
    held = report.gpus[0].memory_all
    assert held is not None, report.notes
    return held


def growth_is_real() -> None:
    before = of_nvml(tape_magic.devices(0, growth=True))
    kept = compute()
    report = tape_magic.devices(0, growth=True)
    assert report.outcome is SetupOutcome.ALREADY_SO
    assert of_nvml(report) - before < 4096 * MIB  # CUDA's own context, and little more
    del kept


def a_limit_is_real() -> None:
    before = of_nvml(tape_magic.devices(0, limit="1G"))
    kept = compute()
    taken = of_nvml(tape_magic.devices()) - before
    assert 1024 * MIB <= taken < 5120 * MIB
    del kept
    try:
        with tf.device("/GPU:0"):
            tf.zeros([2 * 1024 * MIB // 4])
    except tf.errors.ResourceExhaustedError:
        return
    raise AssertionError("2 GiB went into a limit of 1 GiB")


def parts_are_real() -> None:
    report = tape_magic.devices(0, limit="512M", split=3)
    assert report.gpus[0].logical_names == ("GPU:0", "GPU:1", "GPU:2")
    kept = compute()
    assert len(tf.config.list_logical_devices("GPU")) == 3
    assert not any("did not split" in note for note in tape_magic.devices().notes)
    del kept


def the_figures_agree_with_nvml() -> None:
    tape_magic.devices(0, growth=True)
    kept = compute()
    report = tape_magic.devices()
    gpu, told = report.gpus[0], read_cards()
    card = told.cards[gpu.card or 0]
    assert (gpu.product, gpu.memory_total, report.driver) == (card.product, card.total, told.driver)
    assert gpu.memory_used is not None
    assert gpu.memory_peak is not None
    assert 4 * MIB <= gpu.memory_used <= gpu.memory_peak <= of_nvml(report)
    tape_magic.devices(reset_peak=True)
    assert tape_magic.devices().gpus[0].memory_peak == gpu.memory_used
    del kept


def the_freest_is_one_of_them() -> None:
    report = tape_magic.devices("freest", growth=True)
    assert report.outcome is SetupOutcome.DONE
    assert sum(gpu.visible for gpu in report.gpus) == 1
    kept = compute()
    assert tape_magic.devices("freest", growth=True).outcome is SetupOutcome.ALREADY_SO
    del kept


def the_doctor_finds_all_well() -> None:
    report = examine()
    assert report.well, (report.headline, report.links)


def a_watch_reads_the_card() -> None:
    sampler = Sampler()
    first = sampler.sample().readings[0]
    sampler.close()
    assert first.name == "GPU 0"
    assert first.total
    assert first.used is not None
    assert 0 <= (first.share or 0) <= 1
