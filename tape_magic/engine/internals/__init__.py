"""TensorFlow's and Keras's private parts; each with a fallback for versions that lack it.

No other room names a private module or attribute of theirs, but for `record`, which reads three attributes of
every tensor. For a new version of TensorFlow, read this room first.
Entrance: the functions of its modules.
Imports: `process`.
"""
