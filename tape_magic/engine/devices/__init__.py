"""What ``%tfgpu`` reads, sets and reports: devices, memory, precision, determinism, seeds.

Entrance: `request.read_request`, `setup.carry_out`, which brings a request about, and
`report.build_report`; `sampling.Sampler` for ``--watch``.
Imports: `internals`, and the results.
"""
