"""Work shared out to several devices and machines: which, the pieces of a batch, and how they add up.

Entrance: `strategies.devices_of` says which devices a strategy means, `shared_evaluation.SharedEvaluation`
evaluates a batch on them, `cluster.join` joins other processes, `together.Together` is what all agree on.
Imports: `internals`, `process`, `tracing`, `values`, a table of `diagnosis`, and the results.
"""
