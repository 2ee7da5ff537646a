"""What was found about a run: why it ended where it did."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tape_magic.results.reasons import Where


class FindingKind(enum.Enum):
    """The kind of a finding, the most telling first; each member carries its sentence."""

    NOT_FINITE = "an operation made infinite or undefined values"
    RUNAWAY = "the steps grow without bound"
    BROADCAST = "an operation pairs each row with every row"
    NO_GRADIENT = "the loss does not depend on a variable"
    SOFTMAX_TWICE = "probabilities are given to a loss that takes logits"
    DEAD_UNITS = "units of a layer give the same for all rows"
    VANISHING = "the gradient shrinks from layer to layer"
    EXPLODING = "the gradient grows from layer to layer"
    UNMOVED = "the steps of a variable are below its rounding"
    TOO_FAST = "the steps overshoot"
    SADDLE = "the loss falls along a direction that the gradient does not show"
    FLAT_POINT = "the loss is flat, and this is not a minimum"
    AT_BOUND = "the loss falls beyond a bound"
    ILL_CONDITIONED = "the loss is a narrow valley"
    NOISE_FLOOR = "what is left is the noise of the batches"
    TOO_SLOW = "the steps are too short"
    STILL_FALLING = "the loss still falls"

    @property
    def sentence(self) -> str:
        """The kind in words."""
        return str(self.value)


@dataclass(frozen=True)
class Finding:
    """Something that kept a run from its minimum.

    Attributes
    ----------
    kind
        The kind of finding.
    sentence
        What was found, without a full stop: ``the steps grow: the rate 0.3 is above 2/λ = 0.16``.
    evidence
        The numbers behind it by name, plain Python values: ``{"rate": 0.3, "curvature": 12.4}``.
    line
        The user's line, where there is one.
    cure
        The change that helps, where it is known: ``--lr 0.1``; empty otherwise.

    Examples
    --------
    >>> finding = Finding(FindingKind.STILL_FALLING, "the loss still falls", cure="--steps 10000")
    >>> str(finding)
    'the loss still falls · --steps 10000'
    """

    kind: FindingKind
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    line: Where | None = None
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.sentence} · {self.cure}" if self.cure else self.sentence
