"""What ran within ``tf.py_function``, joined to what ran around it.

TensorFlow gives the function other tensors than the operation's own, and passes on zeros where a tape of the
function's own finds no derivative: so a way that ends within it does not look like one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from tape_magic.engine.entries import Entry

NAME = "EagerPyFunc"


def opened(entries: Sequence[Entry]) -> Iterator[tuple[int, Entry]]:
    """The entries of a record with their positions; in place of such a function, what joins its inside."""
    outside = {
        inner: outer
        for entry in entries
        if entry.within is not None
        for inner, outer in zip(entry.within[0], entry.inputs, strict=False)
    }
    for position, entry in enumerate(entries):
        if outside and not outside.keys().isdisjoint(entry.inputs):
            entry = replace(entry, inputs=tuple(outside.get(key, key) for key in entry.inputs))
        if entry.within is None:
            yield position, entry
            continue
        for inner, outer in zip(entry.within[1], entry.outputs, strict=False):
            key = outside.get(inner, inner)  # it may return what it was given
            yield position, Entry("Identity", (), (key,), (outer,), entry.frames, entry.taped)
