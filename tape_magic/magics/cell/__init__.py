"""A cell's body as a program that the engine can run, trace and run again.

Entrance: :class:`~tape_magic.magics.cell.cell.Cell`.
Imports: `engine/program`.

"""
