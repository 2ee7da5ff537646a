"""The public functions, and the functions that the magics call: the only way into the engine from outside.

Entrance: ``grad``, ``derivative``, ``minimize`` and ``devices`` in the modules of the same names; beside them
``grad_program``, ``derivative_program`` and ``minimize_program``, which take a cell or a function.
Imports: every other room of the engine; nothing of the engine imports this room.

"""
