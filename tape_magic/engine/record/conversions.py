"""`Conversions`: the tensors that left TensorFlow in a run or came in, each with the user's calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tape_magic.engine.internals.conversions import listening_to_conversions
from tape_magic.engine.internals.operations import WHOLE, element_type, key_of
from tape_magic.engine.values.calls import UserCall
from tape_magic.engine.values.functions import USER, origin_of

MOST_CONVERSIONS = 20_000
"""A run with more conversions than this has not all of them in its record."""


class Conversion(NamedTuple):
    """A value that left TensorFlow or came in.

    Attributes
    ----------
    key
        The key of the tensor.
    calls
        The user's calls that were under way, the innermost first.
    number
        The number that came in; ``None`` for any other value, and for one that left.
    """

    key: int
    calls: tuple[UserCall, ...]
    number: complex | None = None


class Conversions:
    """Hears the values that leave TensorFlow and come in within :meth:`listening`.

    Attributes
    ----------
    exits, arrivals
        The values, in the order of execution. Whole numbers that come in before anything has left are not
        among them.
    complete
        Whether all of them were heard, but for those that NumPy takes by the buffer protocol.
    """

    def __init__(self) -> None:
        self.exits: list[Conversion] = []
        self.arrivals: list[Conversion] = []
        self.complete = True
        self._origins: dict[str, int] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear the conversions of this thread in the block."""
        with listening_to_conversions(self._hear_exit, self._hear_arrival) as heard:
            self.complete = self.complete and heard
            yield

    def note_arrival(self, value: Any, key: int, frame: Any) -> None:
        """Note a value that an operation was given, and that TensorFlow made a tensor of within it."""
        number = value if isinstance(value, int | float | complex) else None
        self._note(self.arrivals, key, frame, number)

    def _hear_exit(self, tensor: Any) -> None:
        self._note(self.exits, key_of(tensor), sys._getframe(2), None)

    def _hear_arrival(self, value: Any, tensor: Any) -> None:
        # Axes, shapes and indices are many in a network, and each would cost some microseconds.
        if self.exits or element_type(tensor) not in WHOLE:
            self.note_arrival(value, key_of(tensor), sys._getframe(2))

    def _note(self, noted: list[Conversion], key: int, frame: Any, number: complex | None) -> None:
        try:
            if len(noted) < MOST_CONVERSIONS:
                noted.append(Conversion(key, self._calls_around(frame), number))
            else:
                self.complete = False
        except Exception:  # whatever goes wrong here, as with a new TensorFlow, the cell must not fail of it
            self.complete = False

    def _calls_around(self, frame: Any) -> tuple[UserCall, ...]:
        """Return the user's calls around a frame, as far out as the run."""
        found: list[UserCall] = []
        origins, direct = self._origins, False
        while frame is not None:
            code = frame.f_code
            filename = code.co_filename
            # Most frames are a library's, of origin 0, and there are dozens of them in a network.
            origin = origins[filename] if filename in origins else self._origin(filename)
            if origin == USER:
                owner = frame.f_locals.get("self") if code.co_varnames[:1] == ("self",) else None
                found.append(UserCall(code, frame.f_lasti, frame.f_globals, direct, owner))
            elif origin:
                break
            direct, frame = origin == USER, frame.f_back
        return tuple(found)

    def _origin(self, filename: str) -> int:
        origin = self._origins[filename] = origin_of(filename)
        return origin
