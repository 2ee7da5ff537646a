"""Derivatives of one run of a program: gradients of any order, Jacobians, Hessians and products.

Entrance: ``differentiate``, given a program and a ``Request``.
Imports: `diagnosis`, `tracing`, `record`, `program`, `values`, `internals`, `process`, and the results.

"""
