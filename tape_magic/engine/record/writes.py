"""Which variables a run wrote."""

from __future__ import annotations

from tape_magic.engine.internals.graphs import READING_OPERATIONS, is_handle, written_inputs
from tape_magic.engine.record.recorder import Recorder


def last_writes(recorder: Recorder) -> dict[int, int]:
    """Return the keys of the handles that a run may have assigned through, with the last position of each."""
    found: dict[int, int] = {}
    for position, entry in enumerate(recorder.entries):
        if entry.graph is not None:
            keys = [entry.inputs[index] for index in written_inputs(entry.graph)]
        elif entry.type not in READING_OPERATIONS:
            keys = [key for key in entry.inputs if is_handle(recorder.tensor(key))]
        else:
            continue
        found.update(dict.fromkeys(keys, position))
    return found
