"""The report of the devices → its labelled strings."""

from __future__ import annotations

from tape_magic.display import numbers
from tape_magic.display.document import Column, Document, Field, Part, Table, Tone, Verdict
from tape_magic.display.fields.common import lines, without_empty
from tape_magic.results.devices import Device, DeviceReport, Outcome, PolicyKind


def devices_document(report: DeviceReport) -> Document:
    """What was set up, and a row for each device."""
    versions = [f"TensorFlow {report.tensorflow}"]
    versions += [f"CUDA {report.cuda}"] if report.cuda else []
    versions += [f"cuDNN {report.cudnn}"] if report.cudnn else []
    headline = report.headline.rstrip(".")
    verdict = None
    if report.outcome is Outcome.NO_GPU:
        verdict = Verdict(Tone.WARNING, "No GPU: TensorFlow continues on the CPU", (report.why_no_gpu or "",))
    elif report.outcome is not Outcome.ASKED:
        outcome, _, setup = headline.partition(": ")
        verdict = Verdict(Tone.GOOD, setup, (outcome.lower(),))
    notes = list(report.notes)
    if report.outcome is Outcome.ASKED and report.why_no_gpu:
        notes.insert(0, f"No GPU ({report.why_no_gpu}).")
    state = "TensorFlow has started" if report.started else "TensorFlow has not started yet"
    parts: list[Part] = [_devices_table(report), *lines(notes)]
    return Document((verdict, *parts) if verdict else tuple(parts), (*versions, state))


def _devices_table(report: DeviceReport) -> Table:
    rows = [_device_row(device) for device in report.devices]
    used = any(row[3].text for row in rows)
    columns = [
        Column("device"),
        Column(""),
        Column(""),
        Column("used here", True),
        Column("peak", True),
        Column("of" if used else "memory", True),
        Column("policy", True),
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
    share = device.memory_used / device.memory_total if device.memory_used and device.memory_total else None
    return (
        name,
        Field(product, tone),
        Field(bar=share),
        Field() if device.memory_used is None else Field(numbers.bytes_(device.memory_used)),
        Field() if device.memory_peak is None else Field(numbers.bytes_(device.memory_peak)),
        Field() if device.memory_total is None else Field(numbers.bytes_(device.memory_total), tone),
        Field() if device.policy.kind is PolicyKind.HOST else Field(device.policy.text, tone),
    )
