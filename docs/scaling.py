"""The figures of the page on how many devices pay, from constants that are measured or have a source.

    python -m docs.scaling        writes the tables into docs/pages/questions/how-many-devices.md

Formulas are in ``docs.simulation``, where a simulation stands beside them.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.reading import IMAGES, JPEG, NUMBERS
from benchmarks.workers import fitted
from docs.simulation import (
    Design,
    Link,
    communication_seconds,
    copies_bytes,
    copies_seconds,
    harmonic,
    mean_step,
    ring_bytes,
    ring_seconds,
    step_ends,
    uneven,
)

FOLDER = Path(__file__).parent
PAGE = FOLDER / "pages" / "questions" / "how-many-devices.md"
GPUS = (2, 4, 8, 16, 32, 64)
MACHINES = (2, 4, 8, 16, 32, 64, 128, 256)

NCCL = "https://github.com/NVIDIA/nccl/blob/5067397c2676d5aed50042fc39e5c8ee96eb0027/src/graph"
"""NCCL 2.30.7: ``topo.h`` has bandwidths, ``tuning.cc`` the latency of each round of a ring (Simple)."""

PCIE_SHARE = 12.0 / 15.75
"""What NCCL takes PCIe 3.0 × 16 for, of its 15.75 GB/s; assumed of PCIe 4.0 and 5.0, too."""
NET_SHARE = 12.0 / 12.5
"""What NCCL takes a network of 100 Gbit/s for, of its 12.5 GB/s; assumed of 10 and 25 Gbit/s, too."""

PCIE4 = Link("PCIe 4.0 × 16", 31.5e9 * PCIE_SHARE, 5.7e-6)
PCIE5 = Link("PCIe 5.0 × 16", 63.0e9 * PCIE_SHARE, 5.7e-6)
NVLINK3 = Link("NVLink 3 (A100)", 12 * 20.0e9, 3.4e-6)
NVLINK4 = Link("NVLink 4 (H100)", 18 * 20.6e9, 3.4e-6)
ETHERNET = tuple(
    Link(f"{gigabits} Gb/s Ethernet", gigabits / 8 * 1e9 * NET_SHARE, 14.0e-6) for gigabits in (10, 25, 100)
)
NOMINAL = {PCIE4: 31.5, PCIE5: 63.0, NVLINK3: 300.0, NVLINK4: 450.0} | {
    link: gigabits / 8 for link, gigabits in zip(ETHERNET, (10, 25, 100), strict=True)
}
"""GB/s in each direction, as the standard or the vendor says."""


@dataclass(frozen=True)
class Work:
    """What one device does in a step.

    Attributes
    ----------
    name
        What it is called.
    size
        Bytes of the parameters, and of their gradient: float32.
    rows, seconds
        Rows of a step on one device, and what it takes.
    row
        Bytes of a row as it is read.
    """

    name: str
    size: float
    rows: int
    seconds: float
    row: int

    @property
    def short(self) -> str:
        """The name of the model alone."""
        return self.name.partition(",")[0]


MLP = Work("MLP 784-128-10, two CPU cores", 4 * 101_770, 1024, 3.05e-3, 784 * 4)
RESNET = Work("ResNet-50, A100, TF32", 4 * 25_583_592, 256, 256 / 909, 224 * 224 * 3)
BERT = Work("BERT-Large, A100, TF32", 4 * 340e6, 176, 176 / 282.98, 128 * 3 * 4)
WORKS = (MLP, RESNET, BERT)

Rows = Iterable[Sequence[str]]


@cache
def measured() -> dict[str, Any]:
    """Return what ``python -m benchmarks.workers`` measured."""
    found: dict[str, Any] = json.loads((FOLDER / "measured" / "workers.json").read_text(encoding="utf-8"))
    return found


@cache
def reading() -> dict[str, float]:
    """Return the rows a second and core that ``python -m benchmarks.reading`` measured."""
    found: dict[str, float] = json.loads((FOLDER / "measured" / "reading.json").read_text(encoding="utf-8"))
    return found


def points() -> list[tuple[float, float]]:
    """Return the bytes and median seconds of each all-reduce of two workers on the loopback."""
    return [(one["bytes"], one["all_reduce"][1]) for one in measured()["measured"]]


def loopback(known: Sequence[tuple[float, float]]) -> Link:
    """Return the link that fits the all-reduces of two workers: 2 rounds of half of the bytes."""
    latency, slope = fitted(known)
    return Link("TensorFlow's gRPC, as measured", 1 / slope, latency / 2)


def simulated(link: Link, size: float, devices: int = 2) -> float:
    """Return the seconds of a step in which nothing is computed, simulated message by message."""
    return mean_step(step_ends(Design.MIRRORED, link, size, [[0.0] * devices] * 3))


def left_out() -> list[tuple[float, float, float]]:
    """Return bytes, measured seconds, and those simulated with a link fitted to all other sizes."""
    known = points()
    others = [loopback([*known[:at], *known[at + 1 :]]) for at in range(len(known))]
    return [
        (size, seconds, simulated(link, size)) for (size, seconds), link in zip(known, others, strict=True)
    ]


def speed_up(work: Work, design: Design, link: Link, devices: int, *, grown: bool) -> float:
    """Return how many times as many rows a second as one device, nothing overlapping.

    With `grown`, each device has a batch of its own; otherwise one batch is shared out, and computing is
    taken to get shorter in proportion.
    """
    each = work.seconds if grown else work.seconds / devices
    step = each + communication_seconds(design, link, work.size, devices)
    return work.seconds / step * (devices if grown else 1)


def first_beyond(work: Work, link: Link, share: float, *, grown: bool) -> int | None:
    """Return the least number of devices at which one set takes longer by that share; up to 1024."""
    for devices in range(2, 1025):
        one, mirrored = (speed_up(work, design, link, devices, grown=grown) for design in Design)
        if mirrored > one * (1 + share):
            return devices
    return None


# -- the tables ------------------------------------------------------------------------------------------


def links_table() -> Rows:
    """Give the links: what is said of them, and what they are reckoned with."""
    yield "link", "GB/s each way", "reckoned with", "latency of a round"
    for link, nominal in NOMINAL.items():
        yield link.name, f"{nominal:g}", f"{link.bandwidth / 1e9:.4g}", time(link.latency)
    link = loopback(points())
    yield link.name, "", f"{link.bandwidth / 1e9:.2g}", time(link.latency)


def works_table() -> Rows:
    """Give what one device does in a step."""
    yield "work", "parameters", "rows a step", "a step on one device", "bytes of a row"
    for work in WORKS:
        yield work.name, amount(work.size), f"{work.rows:,}", time(work.seconds), f"{work.row:,}"


def bytes_table() -> Rows:
    """Give the bytes of a step by design, in multiples of the parameters."""
    yield "GPUs", "one set: the first sends, and receives", "mirrored: each sends, and receives", "ratio"
    for count in GPUS:
        copies, ring = copies_bytes(1.0, count), ring_bytes(1.0, count)
        yield str(count), f"{copies:.4g} P", f"{ring:.4g} P", f"{copies / ring:g} times"


def gpus_table() -> Rows:
    """Give what a step spends on the links between GPUs."""
    yield "work", "link", "variables", *(f"{count} GPUs" for count in GPUS)
    for work in (RESNET, BERT):
        for link in (PCIE4, NVLINK3):
            for design in Design:
                found = [communication_seconds(design, link, work.size, count) for count in GPUS]
                yield work.short, link.name, design.value, *map(time, found)


def gpu_speed_table() -> Rows:
    """Give how many times as fast as one GPU: a batch for each, and one shared out."""
    yield "work", "link", "variables", *(f"{count} GPUs" for count in GPUS)
    for work in (RESNET, BERT):
        for link in (PCIE4, NVLINK3):
            for design in Design:
                pairs = [
                    [speed_up(work, design, link, count, grown=grown) for grown in (True, False)]
                    for count in GPUS
                ]
                yield work.short, link.name, design.value, *(f"{a:.3g} / {b:.3g}" for a, b in pairs)


def pays_table() -> Rows:
    """Give the number of GPUs from which one set takes 5 % longer, and twice as long."""
    yield (
        "work",
        "link",
        "5 %: a batch each",
        "5 %: one shared out",
        "twice: a batch each",
        "twice: one shared out",
    )
    for work in (RESNET, BERT):
        for link in (PCIE4, PCIE5, NVLINK3, NVLINK4):
            found = [first_beyond(work, link, share, grown=g) for share in (0.05, 1.0) for g in (True, False)]
            yield work.short, link.name, *("beyond 1,024" if one is None else f"{one:,}" for one in found)


def machines_table() -> Rows:
    """Give how many times as fast as one machine, each with a batch of its own."""
    yield "work", "link", *(str(count) for count in MACHINES)
    for work in WORKS:
        for link in (*ETHERNET, loopback(points())):
            found = [speed_up(work, Design.MIRRORED, link, count, grown=True) for count in MACHINES]
            yield work.short, link.name, *(f"{one:.3g}" for one in found)


def latency_table() -> Rows:
    """Give what a ring takes however small the parameters are."""
    yield "machines", *(link.name for link in (ETHERNET[2], loopback(points())))
    for count in MACHINES:
        links = ETHERNET[2], loopback(points())
        yield str(count), *(time(ring_seconds(link, 0.0, count)) for link in links)


def uneven_table() -> Rows:
    """Give how much longer steps take where machines are now and then slower."""
    yield "machines", "simulated", "1 + 5 % · (1 + 1/2 + … + 1/N)", "one of them 20 % slower"
    instant = Link("instant", 1e30, 0.0)
    for count in MACHINES:
        varied = uneven(1.0, 0.05, count, 200)
        slow = [[1.2, *[1.0] * (count - 1)]] * 3
        steps = [
            mean_step(step_ends(Design.MIRRORED, instant, 1.0, one, ring=False)) for one in (varied, slow)
        ]
        yield str(count), f"{steps[0]:.3f}", f"{1 + 0.05 * harmonic(count):.3f}", f"{steps[1]:.2f}"


def input_table() -> Rows:
    """Give the cores that a worker needs to read its own rows, and to read those of all workers."""
    counts = (1, *MACHINES[2::2])
    yield "a row", "a core reads", "a worker uses", *(f"cores of {count}" for count in counts)
    for work, kind in ((MLP, NUMBERS), (RESNET, IMAGES), (RESNET, JPEG)):
        rate = work.rows / work.seconds
        cores = (f"{rate * count / reading()[kind]:.2g}" for count in counts)
        yield f"{work.short}: {kind}", f"{reading()[kind]:,} a second", f"{rate:,.0f}", *cores


def loopback_table() -> Rows:
    """Give what two workers took beside what is simulated."""
    yield "bytes", "measured: median", "quartiles", "simulated", "simulated / measured"
    for one, (size, seconds, guess) in zip(measured()["measured"], left_out(), strict=True):
        low, _, high = one["all_reduce"]
        figures = time(seconds), f"{1e3 * low:.3g}–{1e3 * high:.3g} ms", time(guess)
        yield f"{size:,}", *figures, f"{guess / seconds:.2f}"


def published_table() -> Rows:
    """Give what others measured beside what is reckoned of it."""
    yield "published", "speed-up", "reckoned"
    mixed = Work("", RESNET.size, 256, 256 / 2375, 0)
    cases = ("ResNet-50, TF32", 7.70, RESNET), ("ResNet-50, mixed precision", 7.32, mixed)
    for name, found, work in cases:
        guess = speed_up(work, Design.MIRRORED, NVLINK3, 8, grown=True)
        yield f"{name}, 8 A100 of a DGX, 256 rows each", f"{found:.2f}", f"{guess:.2f}"


def said() -> str:
    """Return the sentences of the page that have figures."""
    link, ratios = loopback(points()), [guess / seconds for _, seconds, guess in left_out()]
    of_ring = first_beyond(RESNET, PCIE4, 0.05, grown=True)
    return (
        f"Two workers on the loopback took {time(2 * link.latency)} and a second for each "
        f"{link.bandwidth / 1e9:.2g} GB (load {measured()['load']} on two cores: the machine was busy). "
        f"Simulated with a link fitted to the other sizes, each size came out at {min(ratios):.2f} to "
        f"{max(ratios):.2f} of what was measured, in the median at {statistics.median(ratios):.2f}.\n\n"
        f"With ResNet-50 over PCIe 4.0 and a batch on each, one set takes 5 % longer than mirrored copies "
        f"from {of_ring} GPUs on; with eight of them one set spends "
        f"{time(copies_seconds(PCIE4, RESNET.size, 8))} of a step on the links, and mirrored copies "
        f"{time(ring_seconds(PCIE4, RESNET.size, 8))}."
    )


TABLES: dict[str, Callable[[], Rows]] = {
    "links": links_table,
    "works": works_table,
    "bytes": bytes_table,
    "time": gpus_table,
    "speed": gpu_speed_table,
    "pays": pays_table,
    "machines": machines_table,
    "latency": latency_table,
    "uneven": uneven_table,
    "input": input_table,
    "loopback": loopback_table,
    "published": published_table,
}


def time(seconds: float) -> str:
    """Return seconds in the unit that fits."""
    if seconds < 1e-3:
        return f"{1e6 * seconds:.3g} µs"
    return f"{1e3 * seconds:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def amount(size: float) -> str:
    """Return bytes in the unit that fits."""
    return f"{size / 1e6:.3g} MB" if size < 1e9 else f"{size / 1e9:.3g} GB"


def markdown(rows: Rows) -> str:
    """Return a table in Markdown, with figures on the right."""
    head, *body = [list(row) for row in rows]
    kinds = [
        "---:" if all(row[at][:1].isdigit() for row in body if row[at]) else "---" for at in range(len(head))
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, kinds, *body))


def filled(page: str) -> str:
    """Return the page with its tables and sentences as they are reckoned now."""

    def reckoned(match: re.Match[str]) -> str:
        text = said() if match[1] == "said" else markdown(TABLES[match[1]]())
        return f"<!-- reckoned: {match[1]} -->\n{text}\n<!-- end -->"

    return re.sub(r"<!-- reckoned: (\w+) -->\n.*?<!-- end -->", reckoned, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
