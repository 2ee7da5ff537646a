"""Why a derivative is None, zero or not finite.

Entrance: :class:`~tape_magic.engine.diagnosis.diagnosis.Diagnosis`, given the record of the run.
Imports: `record`, `static_analysis`, `program`, `values`, `internals`, and the results.

"""
