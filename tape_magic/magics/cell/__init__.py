"""The body of a cell as a program: run, traced into a function, and compiled once for many runs.

Entrance: :class:`~tape_magic.magics.cell.cell.Cell`.
Imports: `engine/program`.

"""
