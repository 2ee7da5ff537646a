"""Methods of this package that run wholly inside TensorFlow, as the Keras optimizers do: L-BFGS.

Entrance: :class:`~tape_magic.engine.minimization.quasi_newton.lbfgs.Lbfgs`, which a loop treats as an
optimizer. It is not of Keras, since it evaluates the loss itself, several times in a step where it has to.
Imports: `values` and `process`.
"""
