"""TensorFlow's and Keras's private parts, each with what stands in where a version lacks it.

Entrance: the functions of its modules. A new version of TensorFlow asks for this room to be read, and for
no other.
Imports: `process`.

"""
