"""What the objects of a notebook are and hold: variables, tensors, models, containers, functions.

Entrance: the functions of its modules; none keeps state.
Imports: the notation.

"""
