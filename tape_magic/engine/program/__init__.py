"""What is run: a cell or a function as a program, its sources, and the state that it can reach.

Entrance: ``Program`` is what a cell and a function have in common, ``Selection`` finds what a run
differentiates by, ``Walk`` visits everything that a program leads to, and ``Snapshot`` restores it.
Imports: `values` and `syntax`.
"""
