"""The line of a magic as options and arguments of the engine, its expressions evaluated in the notebook.

Entrance: `options`, with a table of options for each of the three magics, and `resolve`.
Imports: `engine/minimization` (settings, names of methods), `engine/devices/words`, `notation` and `syntax`.

"""
