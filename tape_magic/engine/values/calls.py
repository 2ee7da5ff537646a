"""`UserCall`: a call that was under way in the user's code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import CodeType
from typing import Any, NamedTuple


class UserCall(NamedTuple):
    """A call that was under way in the user's code.

    Attributes
    ----------
    code, instruction
        The function, and the place of the call in its bytecode.
    namespace
        The global names of the function.
    direct
        Whether what it calls is the user's too, with no library in between.
    owner
        For a method, the object that it was called of, as its first parameter ``self`` holds it.
    """

    code: CodeType
    instruction: int
    namespace: Mapping[str, Any]
    direct: bool
    owner: Any = None

    @property
    def frames(self) -> tuple[tuple[str, int], ...]:
        """The file and line of the call, alone in a tuple; an empty tuple where it has no line."""
        positions = list(self.code.co_positions())
        line = positions[self.instruction // 2][0] if self.instruction // 2 < len(positions) else None
        return () if line is None else ((self.code.co_filename, line),)


Calls = Sequence[UserCall]
"""Calls that were under way at once, the innermost first."""
