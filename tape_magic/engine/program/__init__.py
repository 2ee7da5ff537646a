"""What is run: a cell or a function, its sources, and the state that it can reach.

Entrance: ``Program``, and ``Selection``.
Imports: `values`, and the notation.

"""
