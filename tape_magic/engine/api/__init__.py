"""The public functions, and the calls that the magics make.

Entrance: ``grad``, ``derivative``, ``minimize``, ``devices`` in the modules of the same names.
Imports: every other room of the engine; nothing of the engine imports this room.

"""
