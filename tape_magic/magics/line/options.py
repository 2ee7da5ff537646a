"""The three magics, each with the table of its options."""

from __future__ import annotations

from tape_magic.magics.line.grad import GRAD
from tape_magic.magics.line.minimize import MINIMIZE
from tape_magic.magics.line.tfgpu import TFGPU

MAGICS = (GRAD, MINIMIZE, TFGPU)
