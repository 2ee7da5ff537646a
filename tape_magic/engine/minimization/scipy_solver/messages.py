"""What SciPy's methods say of their end, in the words of the reports."""

from __future__ import annotations

import re

_SMALL = "the gradient is small enough"
_SETTLED = "the loss hardly changes any more"
_AT_REST = "the variables hardly move any more"
_STEPS, _CALLS = "the limit of steps was reached", "the limit of evaluations was reached"
_NO_LOWER = "the line search found no lower point"

_WORDS = (
    (r"norm of projected gradient|local minimum reached", f"{_SMALL}, at the bounds too"),
    (r"`?ftol`? and `?xtol`? termination", f"{_SETTLED}, and {_AT_REST}"),
    (r"`?gtol`? termination", _SMALL),
    (r"`?ftol`? termination|rel(ative)? reduction of f|^converged \(\|f", _SETTLED),
    (r"`?xtol`? termination|^converged \(\|x", _AT_REST),
    (r"total no\. of iterations|maximum number of iterations|iteration limit", _STEPS),
    (r"f,g evaluations|number of function evaluations", _CALLS),
    (r"^abnormal|linear search failed|warning: linesearch", _NO_LOWER),
    (r"precision loss", "no step lowers the loss any more, within the precision of its numbers"),
)
"""Patterns of messages of SciPy 1.16 to 1.18, without capitals and underscores, and the words for each."""


def in_words(message: str) -> str:
    """Return what a method's message says; a message without words here in small letters, if it shouts.

    >>> in_words("CONVERGENCE: NORM_OF_PROJECTED_GRADIENT_<=_PGTOL")
    'the gradient is small enough, at the bounds too'
    >>> in_words("STOP: SOMETHING_NEW"), in_words("Something new.")
    ('stop: something new', 'Something new.')
    """
    plain = message.replace("_", " ").lower()
    for pattern, words in _WORDS:
        if re.search(pattern, plain):
            return words
    return plain if message.isupper() else message
