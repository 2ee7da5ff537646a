"""A magic's line as options, and what the line's names stand for in the notebook.

Entrance: `options`: the three magics, each a table of its options.
Imports: `engine/minimization` (settings, names of methods) and `engine/devices/words`.

"""
