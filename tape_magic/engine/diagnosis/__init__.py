"""Why a derivative is None, zero or not finite.

Entrance: :class:`~tape_magic.engine.diagnosis.diagnosis.Diagnosis`, given the evidence of a run. Behind it
stands one explainer for each condition: `missing`, `zero`, `not_finite`, and `refusal` for what TensorFlow
raises; `units` says which units are off where a derivative is 0 by its data, `cures` what to write instead.
Imports: `record`, `static_analysis`, `program`, `values`, `internals`, and the results.

"""
