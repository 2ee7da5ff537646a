"""What the engine found out, as frozen records: read by people, by programs and by the display."""

from __future__ import annotations

__all__ = [
    "Cause",
    "Check",
    "Curvature",
    "Derivative",
    "GradReport",
    "Hessian",
    "MinimizeResult",
    "Reason",
    "Step",
    "StopReason",
    "Summary",
    "VariableChange",
    "Where",
]
