"""The rows of the report: TensorFlow's devices with the figures of their cards from NVML, and the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tape_magic.engine.devices.cards import CardMatches
from tape_magic.engine.devices.host import cpu_product, holders, system_memory
from tape_magic.engine.devices.notes import is_split, remarks
from tape_magic.engine.devices.nvml import Card
from tape_magic.engine.devices.settings import settings_now
from tape_magic.engine.devices.state import DeviceState
from tape_magic.results.devices import (
    Device,
    DeviceReport,
    Membership,
    Policy,
    PolicyKind,
    SetupOutcome,
)


def build_report(
    tf: Any,
    state: DeviceState,
    started: bool,
    outcome: SetupOutcome,
    located: CardMatches,
    why: Callable[[], str],
    notes: tuple[str, ...] = (),
    settings: tuple[str, ...] | None = None,
    cluster: Membership | None = None,
) -> DeviceReport:
    """Return the report of the devices as they are in `state`; start nothing.

    `why` gives the reason why there is no GPU, and is called only where there is none.
    """
    build = tf.sysconfig.get_build_info()
    seen = _gpu_rows(tf, state, started, located)
    unseen = [_card_row(card) for card in located.unseen]
    return DeviceReport(
        devices=(*seen, *unseen, *_cpu_rows(tf, state)),
        tensorflow=tf.__version__,
        cuda=build.get("cuda_version"),
        cudnn=build.get("cudnn_version"),
        started=started,
        outcome=outcome,
        why_no_gpu=None if state.gpus else why(),
        notes=(*notes, *remarks(tf, state, started, located)),
        driver=located.driver,
        settings=settings_now(tf, None) if settings is None else settings,
        cluster=cluster,
    )


def _gpu_rows(tf: Any, state: DeviceState, started: bool, located: CardMatches) -> list[Device]:
    rows, first = [], 0
    whole = started and not is_split(tf, state)
    for index, (gpu, policy) in enumerate(zip(state.gpus, state.policies, strict=True)):
        visible = policy.kind is not PolicyKind.HIDDEN
        # TensorFlow numbers all logical GPUs in sequence, in the order of the visible physical ones.
        count = (1 if whole else max(1, len(policy.limits))) if visible else 0
        names = tuple(f"GPU:{number}" for number in range(first, first + count))
        first += count
        details = tf.config.experimental.get_device_details(gpu)
        used, peak = _memory(tf, names) if started else (None, None)
        rows.append(
            Device(
                kind="GPU",
                index=index,
                logical_names=names,
                product=details.get("device_name"),
                compute_capability=details.get("compute_capability"),
                memory_total=located.totals[index],
                memory_used=used,
                memory_peak=peak,
                policy=policy,
                visible=visible,
                **_figures(located.cards[index]),
            )
        )
    return rows


def _figures(card: Card | None) -> dict[str, Any]:
    """Return the fields of a device that come from its card."""
    if card is None:
        return {}
    return {
        "card": card.index,
        "memory_all": card.used,
        "load": card.load,
        "temperature": card.temperature,
        "holders": holders(card.processes),
    }


def _card_row(card: Card) -> Device:
    """Return the row of a card that TensorFlow does not see."""
    return Device(
        kind="CARD",
        index=card.index,
        logical_names=(),
        product=card.product or None,
        compute_capability=None,
        memory_total=card.total,
        memory_used=None,
        memory_peak=None,
        policy=Policy(PolicyKind.UNSEEN),
        visible=False,
        **_figures(card),
    )


def _memory(tf: Any, names: tuple[str, ...]) -> tuple[int | None, int | None]:
    """Return the bytes in use and their peak, summed over the logical devices.

    Call this only after TensorFlow's start, since `get_memory_info` starts TensorFlow.
    """
    try:
        infos = [tf.config.experimental.get_memory_info(name) for name in names]
    except (ValueError, tf.errors.OpError):
        # TensorFlow skipped the device at its start, or its allocator does not count.
        return None, None
    if not infos:
        return None, None
    return sum(info["current"] for info in infos), sum(info["peak"] for info in infos)


def _cpu_rows(tf: Any, state: DeviceState) -> list[Device]:
    visible = tf.config.get_visible_devices("CPU")
    rows = []
    for index, cpu in enumerate(state.cpus):
        names = tuple(f"CPU:{number}" for number in range(state.logical_cpus)) if cpu in visible else ()
        # TensorFlow counts no memory on the CPU: it reports 0 bytes in use whatever is allocated.
        rows.append(
            Device(
                kind="CPU",
                index=index,
                logical_names=names,
                product=cpu_product(),
                compute_capability=None,
                memory_total=system_memory()[0],
                memory_used=None,
                memory_peak=None,
                policy=Policy(PolicyKind.HOST if cpu in visible else PolicyKind.HIDDEN),
                visible=cpu in visible,
            )
        )
    return rows
