"""Work shared out to several devices: which devices, the pieces of a batch, and how they add up.

Entrance: :func:`~tape_magic.engine.distribution.strategies.devices_of` says which devices a strategy means,
and :class:`~tape_magic.engine.distribution.shared_evaluation.SharedEvaluation` evaluates a batch on them.
Imports: `internals`, `process`, `tracing`, `values`, and a table of `diagnosis`.
"""
