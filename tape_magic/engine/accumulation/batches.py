"""The data of an accumulated gradient, in parts that each fit a device."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tape_magic.engine.distribution.strategies import WORDS, WORKERS
from tape_magic.engine.minimization.data.cursor import DataCursor
from tape_magic.engine.minimization.data.feed import Feed, is_columns
from tape_magic.engine.values.rows import picked_rows, row_parts, rows_of, share_of_rows
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
    batch
        A structure of tensors for each name, of the batch that the rows are of.
    begin, end
        Which of its rows they are.
    device
        Where they are differentiated; empty for wherever TensorFlow puts it.
    label
        Which rows they are.
    cut
        For each part of a batch, whether it has rows.
    beside
        The names that are cut with the rows of a batch, where one of them may have as many by chance.
    """

    batch: Sequence[Any]
    begin: int
    end: int
    device: str
    label: str
    cut: Sequence[bool]
    beside: str = ""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.end - self.begin

    @property
    def is_whole(self) -> bool:
        """Whether they are all rows of their batch."""
        return self.rows == int(rows_of(self.batch))

    @property
    def values(self) -> Sequence[Any]:
        """A structure of tensors for each name, of these rows."""
        return self.picked(0, self.rows)

    def picked(self, begin: int, end: int) -> Sequence[Any]:
        """Return some of its rows."""
        if self.is_whole and (begin, end) == (0, self.rows):
            return self.batch
        begin, end = self.begin + begin, self.begin + end
        found: Sequence[Any] = picked_rows(tuple(self.batch), begin, end, self.cut)
        return found


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
    cut, before = row_parts(feed.element_spec[1]), 0
    try:
        while True:
            batch = tuple(cursor.take())
            if cursor.over:
                return
            place, count = cursor.place, int(rows_of(batch))
            where = "" if arrays else f"batch {place[1] + 1:,}" if place else "a batch"
            beside = "" if arrays else _beside(given.names, batch, cut)
            whole = DataPart(batch, 0, count, "", where, cut, beside)
            yield from _shared(whole, devices or ("",), given.label, before if arrays else 0)
            before += count
    finally:
        cursor.close()


def _beside(names: Sequence[str], batch: Sequence[Any], cut: Sequence[bool]) -> str:
    """Return the names that are cut with the rows of a batch; empty where that is one."""
    import tensorflow as tf

    owners = [name for name, part in zip(names, batch, strict=True) for _ in tf.nest.flatten(part)]
    rows = row_parts(batch)
    found = [owner for owner, *has in zip(owners, rows, cut, strict=True) if all(has)]
    several = list(dict.fromkeys(found))
    return f"{', '.join(several[:-1])} and {several[-1]}" if len(several) > 1 else ""


def _shared(whole: DataPart, devices: Sequence[str], label: str, before: int) -> Iterator[DataPart]:
    """Yield the part of each device that has rows of a batch; `before` is the number of its first row."""
    where = whole.label
    for index, device in enumerate(devices):
        begin, end = share_of_rows(index, len(devices), whole.rows)
        if end == begin:
            continue
        some = (
            f"rows {before + begin + 1:,} to {before + end:,}" if end > begin + 1 else f"row {before + end:,}"
        )
        if end - begin == whole.rows:
            yield replace(whole, device=device, label=f"{where or some} of {label}")
            continue
        shown = " of ".join(filter(None, (some, where, label)))
        yield replace(whole, begin=begin, end=end, device=device, label=shown)


def few_rows(first: DataPart, second: DataPart, most: int) -> DataPart:
    """Return the first rows of a part, at least two; those of a second part where the first has one."""
    import tensorflow as tf

    if first.rows > 1:
        return replace(first, end=first.begin + min(first.rows, most), label="a few rows")
    flat, other = (tf.nest.flatten(tuple(one)) for one in (first.values, second.picked(0, 1)))
    joined = [
        pair[0] if not cut else _joined(pair) for *pair, cut in zip(flat, other, first.cut, strict=True)
    ]
    values = tf.nest.pack_sequence_as(tuple(first.values), joined)
    return replace(first, batch=values, begin=0, end=2, label="a few rows")


def _joined(pair: Sequence[Any]) -> Any:
    import tensorflow as tf

    if isinstance(pair[0], tf.SparseTensor):
        return tf.sparse.concat(0, pair, expand_nonconcat_dims=True)
    return tf.concat(pair, 0)
