"""Numbers in the sentences of findings."""

from __future__ import annotations

import re


def figure(value: float, digits: int = 3) -> str:
    """Return a number to so many digits, with a true minus.

    >>> figure(-0.12345), figure(1e-9, 1), figure(1e8)
    ('−0.123', '1e−9', '1e8')
    """
    return re.sub(r"e([+-])0*", r"e\1", f"{value:.{digits}g}").replace("e+", "e").replace("-", "−")
