"""The rules that end a minimisation, as data, and their check inside the loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.minimization.settings import (
    LOGGED_EVERY,
    PATIENCE,
    SETTLED_PATIENCE,
    SETTLED_TOL,
    Settings,
)
from tape_magic.results.minimum import StopReason

GO, LOSS_LOST, GRADIENT_LOST = 0, 1, 2
"""Verdicts of a check: go on; the loss is not finite; a gradient is not. :data:`REASONS` has the others."""

REASONS = {
    LOSS_LOST: StopReason.DIVERGED,
    GRADIENT_LOST: StopReason.DIVERGED,
    3: StopReason.TARGET,
    4: StopReason.GRADIENT,
    5: StopReason.TOLERANCE,
    6: StopReason.SETTLED,
    7: StopReason.METHOD_CONVERGED,
    8: StopReason.METHOD_FAILED,
}
CODES = {reason: code for code, reason in REASONS.items() if code > GRADIENT_LOST}

_NORMS_KEPT, _NORMS_MOST = 200, 100_000
"""The most steps of which norms are kept until somebody reads them, and the most norms of all steps."""


@dataclass(frozen=True)
class Rules:
    r"""When to stop besides the limit of steps; ``None`` for a rule that was not asked for.

    Attributes
    ----------
    target
        The loss is at most this.
    gtol
        The Euclidean norm of all gradients together is at most this.
    tol, patience
        Over the last `patience` steps, the largest loss less the smallest is at most
        tol·max(1, \|loss\|).

    natural
        Whether the user has set no rule, so that `tol` and `patience` are those of a natural end.
    norms_every
        Every how many steps the Euclidean norm of each gradient is noted in the memory, for a log; 0 for
        never. This ends no run.

    Every loop also stops at a loss or gradient that is not finite.
    """

    target: float | None = None
    gtol: float | None = None
    tol: float | None = None
    patience: int = PATIENCE
    natural: bool = False
    norms_every: int = 0

    @classmethod
    def of(cls, settings: Settings, *, searches: bool = False) -> Rules:
        """Return the rules that the settings ask for; `searches` for an optimizer with a rule of its own."""
        every = LOGGED_EVERY if settings.log is not None else 0
        if settings.unbounded and not searches:
            return cls(tol=SETTLED_TOL, patience=SETTLED_PATIENCE, natural=True, norms_every=every)
        steps = settings.patience if settings.val is None else None  # else it counts epochs
        return cls(settings.target, settings.gtol, settings.tol, steps or PATIENCE, norms_every=every)

    def memory(self, dtype: Any, gradients: int) -> tuple[Any, ...]:
        """Return what the rules remember at the start: the last losses, and the last norms with their step.

        `dtype` is the loss's, `gradients` the number of gradients.
        """
        import tensorflow as tf

        memory: list[Any] = []
        if self.tol is not None:
            # Infinities until there are enough losses: then the difference is infinite, too. NaN would not
            # do, since XLA's maximum passes over NaN.
            memory.append(tf.fill([self.patience + 1], tf.constant(float("inf"), dtype)))
        if self.norms_every:
            kept = max(1, min(_NORMS_KEPT, _NORMS_MOST // max(gradients, 1)))
            memory += [tf.zeros([kept, gradients]), tf.fill([kept], tf.constant(-1, tf.int64))]
        return tuple(memory)

    def norms_in(self, memory: Sequence[Any]) -> Mapping[int, Any]:
        """Return the norms that are noted, float32, one for each gradient, by their steps."""
        if not self.norms_every:
            return {}
        norms, steps = (one.numpy() for one in memory[-2:])
        return {int(steps[place]): norms[place] for place in np.argsort(steps) if steps[place] >= 0}

    def check(
        self, step: Any, loss: Any, gradients: Sequence[Any], memory: Sequence[Any]
    ) -> tuple[Any, tuple[Any, ...]]:
        """Return the verdict, an int32 scalar, and the memory for the next step.

        Parameters
        ----------
        step
            int64 scalar, the steps applied so far.
        loss, gradients
            The loss and its gradients at the variables as they are.
        memory
            The memory from the step before; at the start, :meth:`memory`.
        """
        import tensorflow as tf

        verdict, memory = tf.constant(GO), list(memory)
        if self.tol is not None:
            place = [[step % (self.patience + 1)]]
            losses = memory[0] = tf.tensor_scatter_nd_update(memory[0], place, [loss])
            spread = tf.reduce_max(losses) - tf.reduce_min(losses)
            scale = tf.maximum(tf.abs(loss), tf.ones([], loss.dtype))
            reason = StopReason.SETTLED if self.natural else StopReason.TOLERANCE
            verdict = _unless(spread <= tf.cast(self.tol, loss.dtype) * scale, reason, verdict)
        if self.gtol is not None:
            verdict = _unless(norm(gradients) <= self.gtol, StopReason.GRADIENT, verdict)
        if self.target is not None:
            reached = loss <= tf.cast(self.target, loss.dtype)
            verdict = _unless(reached, StopReason.TARGET, verdict)
        if self.norms_every:
            memory[-2:] = self._noted(tf.cast(step, tf.int64), gradients, *memory[-2:])
        verdict = tf.where(_finite(gradients), verdict, GRADIENT_LOST)
        return tf.where(tf.math.is_finite(loss), verdict, LOSS_LOST), tuple(memory)

    def _noted(self, step: Any, gradients: Sequence[Any], norms: Any, steps: Any) -> list[Any]:
        """Return the norms and their steps with those of a step, where it is one of those to note."""
        import tensorflow as tf

        place = [[step // self.norms_every % norms.shape[0]]]

        def noted() -> list[Any]:
            row = [tf.cast(norm([gradient]), tf.float32) for gradient in gradients]
            return [
                tf.tensor_scatter_nd_update(norms, place, [tf.stack(row)]),
                tf.tensor_scatter_nd_update(steps, place, [step]),
            ]

        return list(tf.cond(tf.equal(step % self.norms_every, 0), noted, lambda: [norms, steps]))


def norm(gradients: Sequence[Any]) -> Any:
    """Return the Euclidean norm of all gradients together, at least in float32: half precision overflows."""
    import tensorflow as tf

    wide = [g if g.dtype.size >= 4 else tf.cast(g, tf.float32) for g in gradients]
    dtype = tf.float64 if any(g.dtype == tf.float64 for g in wide) else tf.float32
    return tf.sqrt(tf.add_n([tf.cast(tf.reduce_sum(g * g), dtype) for g in wide]))


def _finite(gradients: Sequence[Any]) -> Any:
    """Return whether all gradients are finite, by few operations, since each takes time to lay out."""
    import tensorflow as tf

    known = [tf.math.is_finite(gradient) for gradient in gradients]
    known = [tf.reduce_all(one) if one.shape.rank else one for one in known]
    return tf.reduce_all(tf.stack(known)) if len(known) > 1 else known[0]


def _unless(holds: Any, reason: StopReason, verdict: Any) -> Any:
    import tensorflow as tf

    return tf.where(holds, CODES[reason], verdict)
