"""The record of one run: each operation's type, its inputs and outputs, and the user's line.

Entrance: :class:`~tape_magic.engine.record.recorder.Recorder`.
Imports: `internals`, `values`.
"""
