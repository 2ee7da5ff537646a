"""Derivatives of one run of a program: gradients, Jacobians, Hessians, traces, products, norms per example.

Entrances: :func:`~tape_magic.engine.derivatives.differentiate.differentiate`, which runs a program once for a
``Request``; and :func:`~tape_magic.engine.derivatives.definition.define`, which compiles a program and its
derivatives into a function.
May import `diagnosis`, `tracing`, `record`, `program`, `values`, `internals`, `process`, `results`,
`notation` and `syntax`.
"""
