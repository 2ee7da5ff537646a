"""Why a minimisation ended where it did.

Entrance: :func:`~tape_magic.engine.verdict.verdict.find`, given the facts of a run. Behind it stands a module
for each kind of evidence; it says nothing unless it has evidence that would not be there if all were well.
Imports: `diagnosis`, `record`, `program`, `values`, and the results.
"""
