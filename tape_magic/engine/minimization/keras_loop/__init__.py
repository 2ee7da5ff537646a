"""Minimisation by a Keras optimizer: the loops that run its steps, and the choice among them.

Entrance: :class:`~tape_magic.engine.minimization.keras_loop.run.KerasRun`.
Imports: `minimization`, `minimization/data`, and what `minimization` may import.
"""
