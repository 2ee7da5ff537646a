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
    RUNAWAY = "the steps grow"
    BROADCAST = "an operation pairs each row with every row"
    DEAD_UNITS = "units do not react to the data"
    VANISHING = "the gradient shrinks from layer to layer"
    EXPLODING = "the gradient grows from layer to layer"
    UNMOVED = "the steps are lost in rounding"
    SOFTMAX_TWICE = "probabilities are given to a loss that takes logits"
    OVERFITS = "the validation rises while the training loss falls"
    TOO_FAST = "the steps go back and forth"
    TOO_SLOW = "the steps are far shorter than they could be"
    FLAT_POINT = "it settled where the loss is nearly flat, not at a minimum"
    SADDLE = "it settled at a saddle"
    ILL_CONDITIONED = "the loss is a narrow valley"
    NOISE_FLOOR = "what is left is the noise of the batches"
    STILL_FALLING = "the loss still falls"
    AT_BOUND = "a bound holds a variable"

    @property
    def sentence(self) -> str:
        """The kind in words."""
        return str(self.value)

    @property
    def fault(self) -> bool:
        """Whether something went wrong; the minimum within bounds is what was asked for."""
        return self is not FindingKind.AT_BOUND


@dataclass(frozen=True)
class Finding:
    """Something that was found about a run: what kept it from its minimum, or which bound does.

    Attributes
    ----------
    kind
        The kind of finding.
    sentence
        What was found, without a full stop: ``y became nan at step 1: Log is nan for −2, line 3``.
    evidence
        The numbers behind it by name, plain Python values: ``{"step": 1, "operation": "Log"}``.
    line
        The user's line, where there is one.
    cure
        The change that helps, where it is known: ``keep its argument above 0``; empty otherwise.

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
