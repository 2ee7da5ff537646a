"""What the words of a line become: one value, or all of them in one tuple."""

from __future__ import annotations

import argparse
import itertools
from typing import Any

from tape_magic.errors import LineError, shorten


class Several(tuple[Any, ...]):
    """The values of one word that is a list, such as ``[x, z]``, or of ``and``, which has none."""


class Collect(argparse.Action):
    """Collects the words of an option in one tuple, also where the line gives it twice."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Add `values`."""
        before = getattr(namespace, self.dest, None) or ()
        each = (one if isinstance(one, Several) else (one,) for one in values)
        setattr(namespace, self.dest, (*before, *itertools.chain.from_iterable(each)))


class Once(argparse.Action):
    """Takes the value of an option; refuses another one, of which argparse would take the last."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option_string: str | None = None) -> None:
        """Take `value`. Raises :class:`LineError` where there is another one."""
        if self.dest in namespace and getattr(namespace, self.dest) != value:
            before, word = (shorten(one) for one in parser.words[self.dest][-2:])
            raise LineError(
                f"{self.option_strings[0]} takes one value, not {before} and {word}: leave one out."
            )
        setattr(namespace, self.dest, value)
