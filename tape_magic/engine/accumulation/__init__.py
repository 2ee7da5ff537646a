"""The gradient of a batch that is too large for one device: the program runs on one part after the other.

Entrance: :func:`~tape_magic.engine.accumulation.accumulate.accumulated`.
Imports: `derivatives`, `check` (to run the program again), `minimization/data`, `distribution`, `program`,
`internals`, `values`, `results`, `notation`, `syntax`.
"""
