"""Why TensorFlow sees no GPU: each link of the chain from the wheel to the card, examined in turn.

Entrance: `examine.examine`; and `driver.ask_first`, before TensorFlow asks NVIDIA's driver here. The
modules `probe_program` and `trial_program` are started by their paths, each in a process of its own, and
import nothing of the package.
Imports: `devices`, `internals`, and the results.
"""
