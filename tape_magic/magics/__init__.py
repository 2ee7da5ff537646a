"""The magics of a running IPython shell: lines and cells in; names, reports and ``Out[n]`` out.

Entrance: :func:`~tape_magic.magics.extension.load`, which ``%load_ext`` calls.
Imports: `engine/api` and `engine/process/output`, the display and the results. IPython and traitlets are
imported on this floor only.

"""
