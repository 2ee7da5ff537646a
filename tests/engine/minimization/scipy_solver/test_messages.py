"""SciPy's messages in the words of the reports."""

from __future__ import annotations

import pytest

from tape_magic.engine.minimization.scipy_solver.messages import in_words

SMALL = "the gradient is small enough, at the bounds too"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        # L-BFGS-B of SciPy 1.16, and of earlier and later versions.
        (
            "CONVERGENCE: NORM OF PROJECTED GRADIENT <= PGTOL",
            "the gradient is small enough, at the bounds too",
        ),
        (
            "CONVERGENCE: NORM_OF_PROJECTED_GRADIENT_<=_PGTOL",
            "the gradient is small enough, at the bounds too",
        ),
        ("CONVERGENCE: RELATIVE REDUCTION OF F <= FACTR*EPSMCH", "the loss hardly changes any more"),
        ("STOP: TOTAL NO. OF F,G EVALUATIONS EXCEEDS LIMIT", "the limit of evaluations was reached"),
        ("ABNORMAL: ", "the line search found no lower point"),
        # TNC, BFGS and the least squares.
        ("Local minimum reached (|pg| ~= 0)", "the gradient is small enough, at the bounds too"),
        ("Converged (|f_n-f_(n-1)| ~= 0)", "the loss hardly changes any more"),
        ("`gtol` termination condition is satisfied.", "the gradient is small enough"),
        (
            "Both `ftol` and `xtol` termination conditions are satisfied.",
            "the loss hardly changes any more, and the variables hardly move any more",
        ),
        # What is not known stays, but does not shout.
        ("SOME NEW MESSAGE", "some new message"),
        ("Some new message.", "Some new message."),
    ],
)
def test_messages(message: str, words: str) -> None:
    assert in_words(message) == words
