"""The problem that is minimised, how it is minimised, when a run stops, and what the run leaves.

Entrance: ``Problem`` and ``RunLog``, which each run holds; the runs themselves are in `keras_loop` (Keras
optimizers) and `scipy_solver` (SciPy's methods). What both share is here: the ladder of engines, the program
run in Python, compiling in threads, the stop rules.
Imports: `diagnosis`, `tracing`, `static_analysis`, `record`, `program`, `values`, `internals`, `process`,
and the results.
"""
