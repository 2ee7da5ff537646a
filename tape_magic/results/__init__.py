"""What the engine found out, as frozen records: read by people, by programs and by the display."""

from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.minimum import MinimizeResult, Step, StopReason, VariableChange
from tape_magic.results.summary import Summary

__all__ = [
    "Derivative",
    "GradReport",
    "MinimizeResult",
    "Step",
    "StopReason",
    "Summary",
    "VariableChange",
]
