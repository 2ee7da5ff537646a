"""Signals, standard streams and loggers of the process, borrowed and given back.

Entrance: the context managers of its modules, such as `deferred_interrupt`, `capture_log` and `hide_output`.
Imports: nothing of the engine.
"""
