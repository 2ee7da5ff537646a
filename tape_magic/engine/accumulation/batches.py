"""The data of an accumulated gradient, in parts that each fit a device."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.distribution.strategies import WORDS, WORKERS
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.data.feed import Feed, is_columns
from tape_magic.engine.values.rows import picked_rows, rows_of, share_of_rows
from tape_magic.errors import ArgumentError, SourceError, closest, shorten

_ALL = 2**62
"""More rows than arrays have."""


@dataclass(frozen=True, kw_only=True)
class BatchData:
    """What a gradient is accumulated over.

    Attributes
    ----------
    data
        Arrays, all rows of which are one batch, or what gives batches: of the same kinds as those of a run of
        ``%%minimize``.
    names, pattern
        The names that the parts of a batch are bound to, and how they nest; an empty pattern where they do
        not.
    label
        What messages call the data.
    batch
        The most rows that are differentiated at once, where the data are arrays; ``None`` for all.
    strategy
        The devices that share each batch: ``"mirrored"``, a strategy of TensorFlow's, or ``None`` for one.

    Raises :class:`ArgumentError` for a value out of its range.
    """

    data: Any
    names: tuple[str, ...]
    pattern: tuple[Any, ...] = ()
    label: str = "the data"
    batch: int | None = None
    strategy: Any = None

    def __post_init__(self) -> None:
        check_batch(self.batch)
        if self.strategy == WORKERS:
            raise ArgumentError("strategy", "workers goes with %%minimize: give mirrored here.")
        if isinstance(self.strategy, str) and self.strategy not in WORDS:
            near = closest(self.strategy, WORDS) or "; give mirrored."
            raise ArgumentError(
                "strategy",
                f"is {shorten(repr(self.strategy))}{near}",
            )


def check_batch(batch: Any) -> None:
    """Raise :class:`ArgumentError` for what is no number of rows."""
    whole = hasattr(batch, "__index__") and not isinstance(batch, bool)
    if batch is not None and not (whole and batch >= 1):
        raise ArgumentError("batch", f"is {shorten(repr(batch))}; give a whole number, 1 or more.")


@dataclass(frozen=True)
class DataPart:
    """Some rows of the data.

    Attributes
    ----------
    values
        A structure of tensors for each name.
    rows
        How many there are.
    device
        Where they are differentiated; empty for wherever TensorFlow puts it.
    label
        Which rows they are.
    """

    values: Sequence[Any]
    rows: int
    device: str
    label: str


def parts_of(given: BatchData, devices: Sequence[str]) -> Generator[DataPart, None, None]:
    """Yield the data in their order, each batch in parts for the devices; none of them is empty.

    Raises :class:`SourceError` for data without an end, and those of
    :class:`~tape_magic.engine.minimization.data.feed.Feed`.
    """
    arrays = is_columns(given.data, given.names)
    rows = int(given.batch) if given.batch is not None else _ALL if arrays else None
    feed = Feed(
        given.data, given.names, rows, label=given.label, pattern=given.pattern, seed=0, shuffles=False
    )
    if feed.endless:
        raise SourceError(f"{given.label} never ends, and a gradient is taken over all of it: give a part.")
    cursor = DataCursor(feed)
    before = 0
    try:
        while True:
            batch = tuple(cursor.take())
            if cursor.over:
                return
            place, count = cursor.place, int(rows_of(batch))
            where = "" if arrays else f"batch {place[1] + 1:,}" if place else "a batch"
            yield from _shared(batch, count, devices or ("",), where, given.label, before if arrays else 0)
            before += count
    finally:
        cursor.close()


def _shared(
    batch: Sequence[Any], rows: int, devices: Sequence[str], where: str, label: str, before: int
) -> Iterator[DataPart]:
    """Yield the part of each device that has rows of a batch; `before` is the number of its first row."""
    for index, device in enumerate(devices):
        begin, end = share_of_rows(index, len(devices), rows)
        if end == begin:
            continue
        whole = end - begin == rows
        some = (
            f"rows {before + begin + 1:,} to {before + end:,}" if end > begin + 1 else f"row {before + end:,}"
        )
        shown = where if whole and where else " of ".join(filter(None, (some, where)))
        values = batch if whole else picked_rows(tuple(batch), begin, end)
        yield DataPart(values, end - begin, device, f"{shown} of {label}")


def few_rows(first: DataPart, second: DataPart, most: int) -> tuple[Sequence[Any], int]:
    """Return the first rows of a part, at least two; those of a second part where the first has one."""
    import tensorflow as tf

    if first.rows == 1:
        return (
            tf.nest.map_structure(
                lambda one, other: tf.concat([one, other], 0) if one.shape.rank else one,
                tuple(first.values),
                tuple(picked_rows(tuple(second.values), 0, 1)),
            ),
            2,
        )
    count = min(first.rows, most)
    return picked_rows(tuple(first.values), 0, count), count
