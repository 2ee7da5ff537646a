"""Reads the user's text without running it: statements, side effects, exits from TensorFlow.

Entrances: :class:`~tape_magic.engine.static_analysis.leaving_tensorflow.ExitSearch` and
:func:`~tape_magic.engine.static_analysis.side_effects.side_effects`; each has a module beside it that lists
the calls it looks for (`leaving_calls`, `impure_calls`).
Imports: `program`, `values`.

"""
