"""The record of one run: each operation's type, its inputs and outputs, and the user's line.

Beside the operations, it holds the values that left TensorFlow and came in (`conversions`).

Entrance: :class:`~tape_magic.engine.record.recorder.Recorder`.
Imports: `internals`, `values`.
"""
