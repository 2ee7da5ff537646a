"""What belongs to the whole process: signals, standard streams, loggers. Each is borrowed and given back.

Entrance: the context managers of its modules.
Imports: nothing of the engine.

"""
