"""What the engine found out, as frozen records: read by people, by programs and by the display."""

from tape_magic.results.check import Check
from tape_magic.results.curvature import Curvature, Hessian
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.minimum import MinimizeResult, StopReason, VariableChange
from tape_magic.results.reasons import Cause, Reason, Where
from tape_magic.results.steps import Step
from tape_magic.results.summary import Summary

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
