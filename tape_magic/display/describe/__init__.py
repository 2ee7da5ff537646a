"""Turns a result into a document, once; text and HTML only lay the document out.

Entrance: `describe`, which stands here.
Imports: `content`, the results, and the notation.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from tape_magic.display.content.document import Document
from tape_magic.display.describe.devices import devices_document
from tape_magic.display.describe.doctor import doctor_document
from tape_magic.display.describe.gradients import gradients_document
from tape_magic.display.describe.minimum import minimum_document
from tape_magic.display.describe.rates import rates_document
from tape_magic.results.devices import DeviceReport
from tape_magic.results.doctor import DoctorReport
from tape_magic.results.gradients import GradReport
from tape_magic.results.minimum import MinimizeResult
from tape_magic.results.rates import RateReport


@singledispatch
def describe(result: Any) -> Document:
    """Return the document of a report of any kind; raise `TypeError` for any other object."""
    raise TypeError(f"no report: {type(result).__name__}")


describe.register(GradReport, gradients_document)
describe.register(MinimizeResult, minimum_document)
describe.register(RateReport, rates_document)
describe.register(DeviceReport, devices_document)
describe.register(DoctorReport, doctor_document)
