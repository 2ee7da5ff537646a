"""What the user's text says, without running it: statements, side effects, ways out of TensorFlow.

Entrance: `side_effects`, and `leaving_tensorflow`.
Imports: `program`, `values`.

"""
