"""`Problem`: what is minimised, over what, within which bounds (today half of `Minimization`)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np

from tape_magic.engine.minimization import optimizers, unconnected
from tape_magic.engine.minimization.bounds import Limits, limits_of, project
from tape_magic.engine.minimization.control import RunControl
from tape_magic.engine.minimization.fingerprint import Fingerprints
from tape_magic.engine.minimization.log import Series, array_of, watched
from tape_magic.engine.minimization.reuse import LoopCache
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.minimization.stop_rules import Rules
from tape_magic.engine.program.lifting import constant, in_original_type, liftable
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.selection import Selection
from tape_magic.engine.static_analysis import side_effects
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import is_tensor
from tape_magic.errors import SourceError, TargetError, closest
from tape_magic.notation import LAST_EXPRESSION, place
from tape_magic.results.minimum import Divergence, MinimizeResult, StopReason, VariableChange
from tape_magic.results.steps import Step

Settle = Callable[[Iterable[Any]], Sequence[Leaf]]
"""The variables that were read → what is minimised over."""


_Record = Callable[[], "unconnected.Record | None"]
"""What gives the operations of one evaluation, where these are known."""


class _Ran(Protocol):
    """What the ways to run have in common that a report says."""

    @property
    def engine(self) -> str:
        """``xla``, ``graph`` or ``eager``."""

    @property
    def reason(self) -> str:
        """Why it is not a faster one."""


UNLIMITED = 2**62
"""As many steps as the data have batches, where that is not known."""


@dataclass(frozen=True)
class Minimized:
    """The report, and the value of the program's last expression at the end."""

    result: MinimizeResult
    value: Any


class Minimization(ABC):
    """One run: what is minimised over, and the report; the subclasses have the ways to do it.

    Parameters
    ----------
    program, namespace, loss_name
        What is minimised.
    over
        The names of what to minimise over; ``None`` for the trainable variables that the program reads.
    settings
        How.
    cache
        Where compiled loops wait for the next run of an unchanged cell.

    Raises :class:`TapeMagicError` for what can be refused before anything runs.
    """

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        over: Sequence[str] | None,
        settings: Settings,
        cache: LoopCache | None = None,
    ) -> None:
        self.program, self.namespace, self.settings = program, namespace, settings
        self.loss_name = loss_name
        self._check_names(over)
        self._cache = cache
        self._shadowed = {name: namespace[name] for name in settings.names if name in namespace}
        self._key = self._fingerprint(over) if cache is not None else None
        made = cache.get(self._key) if cache is not None and self._key is not None else None
        self._found = made
        self.optimizer = self._resolved(made)
        self._lifted: list[Any] = [] if made is None else list(made.lifted)
        self._made_lifted: list[Any] = []
        self.selection = Selection(
            program,
            namespace,
            over or (),
            chooses=over is None,
            else_by_name=False,
            make=self._variable,
            liftable=liftable,
        )
        self.notes = list(settings.remarks)
        self.leaves: list[Leaf] = []
        self.start_values: list[np.ndarray[Any, Any]] = []
        self.started, self.paused = time.perf_counter(), 0.0
        self.reason = StopReason.STEPS
        self.divergence: Divergence | None = None
        self._series = [Series() for _ in range(1 + len(settings.track))]
        self._limits: dict[int, Limits] = {}
        self._kept_best: float | None = None
        self._began = 0
        self._goes_on = False
        asked = settings.step_limit
        self.limit = UNLIMITED if asked is None else asked

    def _check_names(self, over: Sequence[str] | None) -> None:
        names = self.program.names
        for name in [*([self.loss_name] if self.loss_name else []), *self.settings.track]:
            base = place(name)[0]
            if base not in names.assigns and not names.opaque:
                raise TargetError(f"the cell never assigns {base}{closest(base, names.assigns)}")
        for name in over or ():
            base = place(name)[0]
            if base in names.assigns:
                raise SourceError(
                    f"line {names.assigns[base]} assigns {base}, which is minimised over: "
                    f"move that line to a cell above."
                )

    def _resolved(self, made: Any) -> Any:
        """The optimizer that is meant; `made` is what an earlier run left."""
        return optimizers.resolve(self.settings.optimizer, self.settings.lr)

    def _seed(self, step: int = 0) -> None:
        """Seed all random numbers; those of a run that goes on are others than at its start."""
        if self.settings.seed is not None:
            import keras

            keras.utils.set_random_seed((self.settings.seed + 1_000_003 * step) % 2**32)

    def _note_unconnected(self, connected: Sequence[bool], record: _Record) -> None:
        """Say what the loss does not depend on, and why."""
        lost = [leaf for leaf, has in zip(self.leaves, connected, strict=True) if not has]
        if lost:
            self.notes += self._unconnected(lost, record)

    def _unconnected(self, lost: Sequence[Leaf], record: _Record) -> list[str]:
        text, shown = self.program.text(self.namespace), self.loss_name or "the loss"
        evaluated = record()
        if evaluated is None:
            found = [unconnected.Unconnected(tuple(leaf.name for leaf in lost), "")]
        else:
            found = unconnected.explained(evaluated, text, self.loss_name, lost)
        return [f"{shown} does not depend on {one.listed}{one.reason and f': {one.reason}'}" for one in found]

    @abstractmethod
    def run(self, asked: RunControl, on_progress: Callable[[Step], None] | None) -> Minimized:
        """All of it, telling `on_progress` where it stands every now and then."""

    @property
    def seconds(self) -> float:
        """Since the run began, without pauses."""
        return time.perf_counter() - self.started - self.paused

    def watched_step(self, step: Step) -> Step:
        """The same with what a display shows besides."""
        name = self.loss_name or LAST_EXPRESSION
        return watched(step, name, self._began, self._series, self.settings.track, self.leaves)

    # -- what is minimised over, and how -----------------------------------------------------------

    def _variable(self, value: Any, dtype: str) -> Any:
        """A float, array or tensor as a variable: the one of an earlier run, if it fits."""
        import tensorflow as tf

        tensor = value if is_tensor(value) else constant(value, dtype)
        variable = self._lifted.pop(0) if self._lifted else None
        if variable is None or variable.dtype != tensor.dtype or variable.shape != tensor.shape:
            variable = tf.Variable(tensor)
        variable.assign(tensor)
        self._made_lifted.append(variable)
        return variable

    def _settle(self, read: Iterable[Any]) -> list[Leaf]:
        """What is minimised over, each variable once, now that it is known which were read."""
        if self.leaves:
            # A variable that the trace itself has made has its value only once that is over.
            if any(
                start.shape != leaf.shape for start, leaf in zip(self.start_values, self.leaves, strict=True)
            ):
                self._begin_there()
            return self.leaves
        self.selection.settle(read)
        by_id = {id(leaf.value): leaf for source in self.selection.sources for leaf in source.leaves}
        for leaf in by_id.values():
            if leaf.value.dtype.is_complex:
                raise SourceError(
                    f"{leaf.name} is {leaf.dtype}, and optimizers step along real numbers: "
                    "minimise over its real and imaginary parts."
                )
        if not by_id:
            raise SourceError(
                "no trainable variable was read: name what to minimise over, for example --over x."
            )
        self._limits = limits_of(self.settings.bounds, self.selection, self.namespace)
        self.leaves = list(by_id.values())
        self._begin_there()
        return self.leaves

    def _begin_there(self) -> None:
        """Within the bounds, and remember where."""
        for name in () if self._goes_on else project(self.leaves, self._limits):
            self.notes.append(f"{name} began outside its bounds, and was moved to the nearest one")
        self.start_values = [array_of(leaf.value) for leaf in self.leaves]

    def _refuse_unconnected(self, reason: str, record: _Record) -> NoReturn:
        why = f" ({reason})" if reason else ""
        said = "; ".join(self._unconnected(self.leaves, record))
        raise TargetError(f"{said}; so there is nothing to minimise{why}.")

    def _rules(self) -> Rules:
        return Rules.of(self.settings)

    # -- what is left for the next run ---------------------------------------------------------------

    def _fingerprint(self, over: Sequence[str] | None) -> Hashable:
        """What an earlier run must have in common with this one for its loops; ``None`` for none."""
        text = self.program.source
        if text is None:
            return None
        settings = self.settings
        prints = Fingerprints(self.program.home(self.namespace))
        lifted = [name for name in over or () if name.isidentifier()]
        try:
            return (
                text,
                self.loss_name,
                tuple(over) if over is not None else None,
                (self._fingerprint_of_optimizer(prints), settings.lr, settings.seed is not None),
                (settings.engine == "graph", settings.keep, settings.track, self._rules()),
                prints.of(dict(settings.bounds)),
                settings.names,
                prints.of_names(self._read_names(over), self.namespace, lifted),
            )
        except Exception:  # whatever an object of the user's does when it is looked at
            return None

    def _fingerprint_of_optimizer(self, prints: Fingerprints) -> Hashable:
        optimizer = self.settings.optimizer
        if isinstance(optimizer, str):
            return optimizer
        if self.settings.made_here and optimizers.is_optimizer(optimizer):
            config = optimizers.settings_of(optimizer)
            del config["name"]  # Keras numbers them
            return type(optimizer), prints.of_settings(config)
        return prints.of(optimizer)

    def _read_names(self, over: Sequence[str] | None) -> list[str]:
        names = dict.fromkeys([*self.program.names.reads, *(place(name)[0] for name in over or ())])
        return [name for name in names if name not in self.settings.names]

    # -- the end -----------------------------------------------------------------------------------

    def _report(self, engines: _Ran, compile_seconds: float, norms: Sequence[float | None]) -> MinimizeResult:
        """What was recorded, with the norm of the gradient by each thing minimised over."""
        if engines.engine != "eager":
            self.notes += side_effects.notes(self.program.text(self.namespace))
        (steps, history), *tracked = [series.thinned() for series in self._series]
        # The start may be the one value that is not finite: then it is the best there is.
        finite = np.where(np.isfinite(history), history, np.inf) if len(history) > 1 else history
        best = float(finite.min())
        return MinimizeResult(
            loss_name=self.loss_name or LAST_EXPRESSION,
            loss=float(history[-1]) if self._kept_best is None else self._kept_best,
            start_loss=float(history[0]),
            best_loss=best,
            best_step=int(steps[np.argmin(finite)]),
            steps=int(steps[-1]),
            steps_asked=int(steps[-1]) if self.limit == UNLIMITED else self.limit,
            reason=self.reason,
            seconds=self.seconds,
            compile_seconds=compile_seconds,
            engine=engines.engine,
            engine_reason=engines.reason,
            optimizer=optimizers.describe(self.optimizer),
            learning_rate=optimizers.learning_rate(self.optimizer),
            history=history,
            history_steps=steps,
            variables={
                leaf.name: VariableChange(start, array_of(leaf.value), norm)
                for leaf, start, norm in zip(self.leaves, self.start_values, norms, strict=True)
            },
            tracked={name: values for name, (_, values) in zip(self.settings.track, tracked, strict=True)},
            tracked_steps={name: at for name, (at, _) in zip(self.settings.track, tracked, strict=True)},
            divergence=self.divergence,
            kept_best=self._kept_best is not None,
            first_step=self._began,
            notes=tuple(self.notes),
        )

    def close(self) -> None:
        """Floats, arrays and tensors come back to the namespace with the values that they reached."""
        self.selection.lifting.give_back(self.program.names.assigns, in_original_type)
        for name in self.settings.names:
            if name in self._shadowed:
                self.namespace[name] = self._shadowed[name]
            else:
                self.namespace.pop(name, None)
