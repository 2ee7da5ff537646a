"""The report of the devices."""

from __future__ import annotations

from tape_magic.display.content import numbers
from tape_magic.display.content.document import (
    Column,
    Document,
    Field,
    Part,
    Sentence,
    Table,
    Tone,
    Verdict,
    say,
)
from tape_magic.display.describe.common import lines, without_empty
from tape_magic.results.devices import Device, DeviceReport, Holder, PolicyKind, SetupOutcome

_TAKEN = {PolicyKind.DEFAULT: "all at once", PolicyKind.GROWTH: "as needed", PolicyKind.UNSEEN: "not seen"}
"""The policies in the words of a narrow column; the verdict has them in full."""

_HOLDERS = 3
"""The most processes named for each GPU."""


def devices_document(report: DeviceReport) -> Document:
    """Return the outcome of the setup, and a row for each device."""
    versions = [f"TensorFlow {report.tensorflow}"]
    versions += [f"CUDA {report.cuda}"] if report.cuda else []
    versions += [f"cuDNN {report.cudnn}"] if report.cudnn else []
    versions += [f"driver {report.driver}"] if report.driver else []
    verdict = None
    if report.outcome is SetupOutcome.NO_GPU:
        details = (report.why_no_gpu or "", *report.settings)
        verdict = Verdict(Tone.WARNING, "No GPU: TensorFlow continues on the CPU", details)
    elif report.outcome is not SetupOutcome.ASKED:
        verdict = Verdict(Tone.GOOD, report.setup, (report.outcome.sentence.lower(),))
    notes = list(report.notes)
    if report.cluster is not None:
        notes.insert(0, f"W{report.cluster.text[1:]}: {', '.join(report.cluster.addresses)}.")
    if report.outcome is SetupOutcome.ASKED:
        if report.settings:
            notes.insert(0, f"Set beside the devices: {', '.join(report.settings)}.")
        if report.why_no_gpu:
            notes.insert(0, f"No GPU ({report.why_no_gpu}); %tfgpu --doctor looks closer.")
    state = "TensorFlow has started" if report.started else "TensorFlow has not started yet"
    parts: list[Part] = [_devices_table(report), *lines(notes)]
    return Document((verdict, *parts) if verdict else tuple(parts), (*versions, state))


def _devices_table(report: DeviceReport) -> Table:
    rows = [_device_row(device) for device in report.devices]
    used = any(row[i].text for row in rows for i in (3, 4))
    columns = [
        Column("device"),
        Column("", spare=True),
        Column("", spare=True),
        Column("used here", True),
        Column("by all", True),
        Column("of" if used else "memory", True),
        Column("policy", True),
        Column("", prose=True),
    ]
    return without_empty(columns, rows)


def _device_row(device: Device) -> tuple[Field, ...]:
    tone = Tone.PLAIN if device.visible else Tone.MUTED
    names = ", ".join(device.logical_names)
    name = Field(names, code=True) if names else Field(device.name, tone)
    capability = device.compute_capability
    product = device.product or "unknown product"
    if capability:
        product += f" ({capability[0]}.{capability[1]})"
    policy = device.policy
    return (
        name,
        Field(product, tone),
        _bar(device),
        _size(device.memory_used),
        _size(device.memory_all, tone),
        _size(device.memory_total, tone),
        Field() if policy.kind is PolicyKind.HOST else Field(_TAKEN.get(policy.kind, policy.text), tone),
        Field(tone=Tone.MUTED, sentences=_more(device)),
    )


def _size(size: int | None, tone: Tone = Tone.PLAIN) -> Field:
    return Field() if size is None else Field(numbers.memory(size), tone)


def _bar(device: Device) -> Field:
    """Return the bar of the memory that this process holds, before the bar of what all processes hold."""
    total = device.memory_total
    here, held = device.memory_used or 0, device.memory_all or 0
    if not total or (device.memory_used is None and device.memory_all is None):
        return Field()
    return Field(bar=here / total, behind=held / total if held > here else None)


def _more(device: Device) -> tuple[Sentence, ...]:
    """Return the other facts about a GPU: its peak, card, load, temperature, and who holds its memory."""
    found = []
    if device.memory_peak is not None:
        found.append(f"peak {numbers.memory(device.memory_peak)}")
    if device.kind == "GPU" and device.card not in (None, device.index):
        found.append(f"card {device.card} of nvidia-smi")
    if device.load is not None:
        found.append(f"load {numbers.percent(device.load)}")
    if device.temperature is not None:
        found.append(f"{device.temperature}{numbers.NARROW}°C")
    found += [_held(holder) for holder in device.holders[:_HOLDERS]]
    if len(device.holders) > _HOLDERS:
        found.append(f"{len(device.holders) - _HOLDERS} more processes")
    return tuple(map(say, found))


def _held(holder: Holder) -> str:
    size = f"{numbers.memory(holder.memory)} by " if holder.memory is not None else "held by "
    return f"{size}{holder.text}"
