"""What the objects of a notebook are and hold: variables, tensors, models, containers, functions.

Entrance: the functions of its modules, which keep no state. ``introspection`` looks at an object without
running its code, ``ownership`` tells the user's own from a library's.
Imports: `syntax`.
"""
