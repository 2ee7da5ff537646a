"""Minimisation by a method of SciPy, whose losses and derivatives TensorFlow computes.

Entrance: :class:`~tape_magic.engine.minimization.scipy_solver.run.ScipyRun`.
Imports: `minimization`, and what `minimization` may import; never `keras_loop`.
"""
