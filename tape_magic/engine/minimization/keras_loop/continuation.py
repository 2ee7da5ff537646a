"""How a run goes on from where an earlier one ended, and what it leaves for a later one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.minimization.keras_loop.checkpoint import Checkpoints, SavedRun
from tape_magic.engine.minimization.keras_loop.protocol import Position
from tape_magic.engine.minimization.reuse import LoopCache
from tape_magic.engine.minimization.settings import Settings
from tape_magic.errors import LineError


@dataclass(frozen=True, eq=False)
class Trail:
    """What a run in this process leaves.

    Attributes
    ----------
    progress
        How far it came.
    optimizer
        With its state.
    lifted
        The variables that stood for floats and arrays.
    values
        Variables with what they held before the last evaluation, where that is not what they hold now.
    over
        All that was minimised over.
    fresh
        What the optimizer's own variables held at first; empty for an optimizer of the user's.
    """

    progress: SavedRun
    optimizer: Any
    lifted: Sequence[Any]
    values: Sequence[tuple[Any, Any]]
    over: Sequence[Any]
    fresh: Sequence[Any]


class Continuation:
    """Of one run.

    Parameters
    ----------
    settings
        Whether to go on, and where checkpoints are.
    cache, key
        Where earlier runs of the same program in this process are.

    Attributes
    ----------
    progress
        Where the run goes on from; ``None`` for one that begins anew.
    optimizer, lifted, fresh
        Of the run that it goes on from; ``None`` and nothing otherwise.
    notes
        What the user should know.

    Raises :class:`LineError` if there is nothing to go on from, and as :class:`Checkpoints` does.
    """

    def __init__(self, settings: Settings, cache: LoopCache | None, key: Hashable) -> None:
        self._cache, self._key = cache, ("trail", key) if key is not None else None
        self._checkpoints: Checkpoints | None = None
        self._trail: Trail | None = None
        self.notes: list[str] = []
        self.progress: SavedRun | None = None
        if settings.checkpoint is not None:
            self._checkpoints = Checkpoints(settings.checkpoint, resume=settings.resume)
            self.progress = self._checkpoints.progress
            if settings.resume and self.progress is None:
                self.notes.append(f"{settings.checkpoint} holds no checkpoint yet: the run began at step 0")
        elif settings.resume:
            found = cache.get(self._key) if cache is not None and self._key is not None else None
            if not isinstance(found, Trail):
                raise _nothing("it has not run, or its text was changed since")
            self._trail, self.progress = found, found.progress
        self.optimizer = None if self._trail is None else self._trail.optimizer
        self.lifted: Sequence[Any] = () if self._trail is None else self._trail.lifted
        self.fresh: Sequence[Any] = () if self._trail is None else self._trail.fresh

    @property
    def step(self) -> int:
        """Where the run begins."""
        return 0 if self.progress is None else self.progress.step

    @property
    def same(self) -> bool:
        """Whether another run has to give the same bits."""
        return self._checkpoints is not None or self._trail is not None

    def go_on(
        self, begun: Position, names: Sequence[str], variables: Sequence[Any], optimizer: Any
    ) -> Position:
        """Put back what the earlier run left, and say where it stood.

        Parameters
        ----------
        begun
            The position of a run that begins anew.
        names, variables, optimizer
            As of :meth:`Checkpoints.attach`.
        """
        if self._checkpoints is not None:
            self._checkpoints.attach(names, variables, optimizer)
        if self._trail is not None:
            here = {id(variable) for variable in variables}
            if not all(id(variable) in here for variable in self._trail.over):
                raise _nothing("it ran over other variables")
        for variable, value in () if self._trail is None else self._trail.values:
            variable.assign(value)
        if self.progress is None:
            return begun
        memory = _fitting(self.progress.memory, begun.memory)
        return Position(self.progress.step, memory, _fitting(self.progress.best, begun.best))

    def optimizer_for(self, wanted: Any) -> Any:
        """That of the earlier run, if there is one. Raises :class:`LineError` if another is `wanted`."""
        if self.optimizer is not None and type(self.optimizer) is not type(wanted):
            raise _nothing(f"it ran with {type(self.optimizer).__name__}")
        return self.optimizer or wanted

    def due(self) -> bool:
        """Whether it is time to save."""
        return self._checkpoints is not None and self._checkpoints.due()

    def save(self, progress: SavedRun) -> None:
        """Save into the folder, if there is one."""
        if self._checkpoints is not None:
            self._checkpoints.save(progress)

    def leave(self, trail: Trail, owner: Any) -> None:
        """Leave this for a later run in this process."""
        if self._checkpoints is not None and self._checkpoints.trouble:
            self.notes.append(self._checkpoints.trouble)
        if self._cache is not None and self._key is not None:
            self._cache.put(self._key, trail, owner)


def _nothing(why: str) -> LineError:
    return LineError(
        f"--resume: there is no run of this cell to go on from: {why}; "
        "run it without --resume, or give the --checkpoint of an earlier run."
    )


def _fitting(saved: Sequence[Any], begun: tuple[Any, ...]) -> tuple[Any, ...]:
    """What was saved, unless the rules are other ones now."""
    import tensorflow as tf

    same = len(saved) == len(begun) and all(
        one.shape == tuple(other.shape) for one, other in zip(saved, begun, strict=True)
    )
    if not same:
        return begun
    return tuple(tf.constant(one, other.dtype) for one, other in zip(saved, begun, strict=True))
