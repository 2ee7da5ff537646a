"""A program as a TensorFlow graph, and why it cannot become one.

Entrance: :class:`~tape_magic.engine.tracing.traced.Traced`.
Imports: `internals`, `program`, `values` and `syntax`.
"""
