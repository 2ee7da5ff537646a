"""What ``%tfgpu`` reads, sets and reports: devices, memory, precision, determinism, seeds.

Entrance: `setup`, which carries out a ``DeviceRequest``, and `report`.
Imports: `internals`, and the results.

"""
