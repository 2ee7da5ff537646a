"""Derivatives compared with central differences of the same program.

Entrance: :func:`~tape_magic.engine.check.check.checked`, given a report.
Imports: `derivatives`, `record`, `program`, `values`, `internals`, `process`, and the results.

"""
