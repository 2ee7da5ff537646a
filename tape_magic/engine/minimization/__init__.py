"""The problem that is minimised, how it is minimised, when a run stops, and what the run leaves.

Entrance: the runs in `keras_loop` (Keras optimizers) and `scipy_solver` (SciPy's methods); what both share
stands here.
Imports: `diagnosis`, `tracing`, `static_analysis`, `record`, `program`, `values`, `internals`, `process`,
and the results.

"""
