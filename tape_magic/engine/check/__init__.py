"""Derivatives compared with central differences, for which the program runs again on copies of its state.

Entrance: :func:`~tape_magic.engine.check.check.checked`, which differentiates as ``differentiate`` does and
adds a comparison to each row of the report.
May import `derivatives`, `diagnosis`, `record`, `program`, `values`, `internals`, `process`, `results`,
`notation` and `syntax`.
"""
