"""Why TensorFlow sees no GPU: each link of the chain from the wheel to the card, examined in turn.

Entrance: ``examine``. The two programs are started by their paths, in processes of their own.
Imports: `devices`, `internals`, and the results.

"""
