"""Reports and their parts as frozen records, for people, for programs and for the display.

Entrance: the classes below; the engine makes them.
Imports: `notation` and `syntax`; ``views.py`` alone imports the display, when a user asks for a picture.

"""

from tape_magic.results.check import Check
from tape_magic.results.curvature import Curvature, Hessian
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.minimum import MinimizeResult, StopReason, VariableChange
from tape_magic.results.rates import RateReport
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
    "RateReport",
    "Reason",
    "Step",
    "StopReason",
    "Summary",
    "VariableChange",
    "Where",
]
