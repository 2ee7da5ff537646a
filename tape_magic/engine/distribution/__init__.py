"""Several devices and several machines.

Entrance: `cluster.join` and `cluster.joined`, the workers that this process computes together with.
Imports: `process`, and the results.
"""
