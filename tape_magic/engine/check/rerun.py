"""A program run again, elsewhere or in float64, and everything put back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from tape_magic.engine.internals.contexts import run_eagerly_here
from tape_magic.engine.internals.keras_layers import widen
from tape_magic.engine.internals.random_state import kept_random_state
from tape_magic.engine.process.interrupts import guarded
from tape_magic.engine.process.output import unseen
from tape_magic.engine.program.lifting import Lifting
from tape_magic.engine.program.program import Hooks, Namespace, Program
from tape_magic.engine.program.snapshot import Snapshot
from tape_magic.engine.program.wrapper import ProgramWrapper
from tape_magic.engine.values.introspection import elements_of, is_a
from tape_magic.engine.values.leaves import Leaf, own_name, rebuilt
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.precision import double_of
from tape_magic.engine.values.tensors import (
    is_keras_variable,
    is_liftable,
    is_tensor,
    is_variable,
    tf_variable,
)
from tape_magic.errors import CheckError, LineError, SourceError, a_kind
from tape_magic.notation import place

LIMIT = 2**30
"""The most that is copied, in bytes."""

Array = np.ndarray[Any, Any]
Deltas = Mapping[str, Array]
"""By how much leaves are moved, by name."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Movable:
    """A leaf that can be moved.

    Attributes
    ----------
    dtype, value
        Its own dtype, and what it is before the program runs.
    held
        The variable, tensor, float or array of the user's; ``None`` where the program assigns it.
    """

    dtype: str
    value: Array
    held: Any


class Rerun:
    """A program, the state that it begins from, and the state that its own run leaves.

    Parameters
    ----------
    program, namespace
        As they are before the program's own run.
    names
        Of the sources, beside what the program reads.

    Attributes
    ----------
    wide
        Whether what is narrower than float64 is copied into it before each run.

    Raises :class:`CheckError` for what cannot be run twice: where there is an iterator, or more to
    copy than :data:`LIMIT`.
    """

    def __init__(self, program: Program, namespace: Namespace, names: Iterable[str]) -> None:
        import tensorflow as tf

        self._program, self._namespace, self._follow = program, namespace, tuple(names)
        self.entry = dict(namespace)
        self._before = self._after = Snapshot(program, namespace, self._follow)
        self._leaves: dict[str, _Movable] = {}
        self._turns: Mapping[str, int] = {}
        self._widened = ExitStack()
        self._eagerly = bool(tf.config.functions_run_eagerly())
        self.wide = False
        for iterator in self._before.iterators:
            names = [name for name, value in self.entry.items() if value is iterator]
            what = f"{names[0]}, {a_kind(iterator)}" if names else a_kind(iterator)
            takes = "may take" if program.names.opaque else "takes"
            raise CheckError(
                f"the cell {takes} from {what}, which gives something else each time: "
                "take from it in a cell above, since --check runs the cell again."
            )
        if self._before.size > LIMIT:
            raise CheckError(
                f"--check copies what the cell reads, and that is {self._before.size / 2**30:.1f} GiB; "
                f"the most is {LIMIT / 2**30:g} GiB."
            )

    @contextmanager
    def opened(self, silence: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
        """After the program's own run: within this it runs again; what that run left is there afterwards."""
        import tensorflow as tf

        self._after = Snapshot(self._program, self._namespace, self._follow)
        with guarded() as guard, unseen(), kept_random_state(), silence():
            try:
                try:
                    yield
                finally:
                    guard.waits = True
            finally:
                run_eagerly_here(False)
                if bool(tf.config.functions_run_eagerly()) != self._eagerly:  # the program set it
                    tf.config.run_functions_eagerly(self._eagerly)
                self._widened.close()
                self._after.restore(beside=self._before)

    def run(self, compute: Callable[[Program, Namespace], T], deltas: Deltas | None = None) -> T:
        """What `compute` gives, from the state that the program's own run began from. What it raises passes.

        With `deltas`, of the program with some leaves moved, and without ``tf.function``, since a
        function that was traced holds on to the tensors that it met, and to their dtypes.
        """
        run_eagerly_here(self.wide or deltas is not None)
        self._widened.close()
        self._before.restore(beside=self._after)
        self._place(deltas or {})
        moved = _Moved(self._program, self._movers(deltas or {}), self._turns)
        result = compute(moved, self._namespace)
        self._turns = moved.turns
        return result

    # -- leaves ------------------------------------------------------------------------------------

    def know(self, leaves: Mapping[str, Leaf]) -> None:
        """Find out how the leaves of a run that was not wide are moved."""
        for name, leaf in leaves.items():
            found, held, value = self._held(leaf)
            if found:
                self._leaves[name] = _Movable(leaf.dtype, np.asarray(value), held)

    def knows(self, name: str) -> bool:
        """Whether a leaf can be moved; a variable that the program itself makes cannot."""
        return name in self._leaves

    def value(self, name: str) -> Array:
        """Where a leaf is, in the present precision."""
        return self._leaves[name].value.astype(self._dtype(name))

    def moved(self, name: str, delta: Array) -> Array:
        """Where a leaf is moved to, rounded."""
        at = self.value(name)
        return np.asarray(at.astype(np.result_type(at, "float64")) + delta).astype(at.dtype)

    def _held(self, leaf: Leaf) -> tuple[bool, Any, Any]:
        """Whether a leaf can be moved, what holds it, and its value before the run."""
        import tensorflow as tf

        if isinstance(leaf.value, tf.Variable):
            for variable, value in self._before.values.values():
                if is_variable(variable) and tf_variable(variable) is leaf.value:
                    return True, variable, value
            return False, None, None
        try:
            base = place(leaf.name)[0]
        except LineError:
            return False, None, None
        if self._program.names.assigned_first(base):
            return True, None, leaf.value
        if base not in self.entry:
            return False, None, None
        return True, look_up(leaf.name, self.entry), leaf.value

    def _dtype(self, name: str) -> str:
        dtype = self._leaves[name].dtype
        return double_of(dtype) or dtype if self.wide else dtype

    def _place(self, deltas: Deltas) -> None:
        """Copies in float64, if they are wanted, and leaves where they shall be."""
        import tensorflow as tf

        if self.wide:
            variables = [one for one, _ in self._before.values.values() if is_keras_variable(one)]
            widen(self._before.layers, variables, double_of, self._widened)
        leaves = self._leaves
        values = {
            name: tf.constant(self.moved(name, delta), self._dtype(name)) for name, delta in deltas.items()
        }
        swapped = {
            id(leaves[name].held): value for name, value in values.items() if is_tensor(leaves[name].held)
        }
        for slot in self._before.slots:
            new = self._swapped(slot.value, swapped)
            if new is not slot.value:
                slot.write(new)
        for name, leaf in leaves.items():
            if is_variable(leaf.held) and name in values:
                variable = tf_variable(swapped.get(id(leaf.held), leaf.held))
                variable.assign(tf.cast(values[name], variable.dtype))
            elif is_liftable(leaf.held) and (self.wide or name in values):
                value = values.get(name)
                value = tf.constant(leaf.held, self._dtype(name)) if value is None else value
                Lifting(self._namespace, partial(_instead, value), _is_number).lift(name)

    def _swapped(self, value: Any, swapped: dict[int, Any]) -> Any:
        """What stands for an object: itself, a copy in float64, or another value."""
        if is_a(value, tuple):
            before = list(elements_of(value))
            items = [self._swapped(item, swapped) for item in before]
            same = all(new is old for new, old in zip(items, before, strict=True))
            return value if same else rebuilt(value, items)
        if self.wide and id(value) not in swapped:
            swapped[id(value)] = widened(value)
        return swapped.get(id(value), value)

    def _movers(self, deltas: Deltas) -> dict[str, Callable[[Any, bool], Any]]:
        """For each name that the program assigns as a source, what changes its value, the last time."""
        names: dict[str, list[str]] = {}
        for name, leaf in self._leaves.items():
            if leaf.held is None:
                names.setdefault(place(name)[0], []).append(name)
        return {base: self._mover(base, inside, deltas) for base, inside in names.items()}

    def _mover(self, base: str, names: list[str], deltas: Deltas) -> Callable[[Any, bool], Any]:
        import tensorflow as tf

        def move(value: Any, last: bool) -> Any:
            namespace = {base: value}
            for name in names:

                def make(item: Any, name: str = name) -> Any:
                    dtype = self._dtype(name)
                    tensor = tf.cast(item, dtype) if is_tensor(item) else tf.constant(item, dtype)
                    # Added, and not put in its place: what it was computed from still leads to it.
                    return tensor + tf.cast(deltas[name], dtype) if last and name in deltas else tensor

                with suppress(SourceError):  # not there yet
                    Lifting(namespace, make, _is_number).lift(name)
            return namespace[base]

        return move


class _Moved(ProgramWrapper):
    """A program whose assigned sources are changed as it assigns them, the last time that it does.

    `turns` are how often it assigned each, in the run before and then in this one.
    """

    def __init__(
        self, program: Program, movers: Mapping[str, Callable[[Any, bool], Any]], turns: Mapping[str, int]
    ) -> None:
        super().__init__(program)
        self._movers, self._last = movers, turns
        self.turns = dict.fromkeys(movers, 0)

    def run(self, namespace: Namespace, hooks: Hooks, tape: Any = None) -> Any:
        """As the program within, with the sources moved."""
        moving = {base: self._hook(base, hooks.get(base)) for base in self._movers}
        return super().run(namespace, {**hooks, **moving}, tape)

    def _hook(self, base: str, hook: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
        def assigned(value: Any) -> Any:
            self.turns[base] += 1
            value = self._movers[base](value, self.turns[base] == self._last.get(base))
            return value if hook is None else hook(value)

        return assigned


def _instead(new: Any, old: Any) -> Any:
    return new


def _is_number(value: Any) -> bool:
    return is_liftable(value) or is_tensor(value)


def widened(value: Any) -> Any:
    """A copy in float64 of a tensor, variable or array of less; anything else itself."""
    import tensorflow as tf

    if isinstance(value, np.ndarray):
        double = double_of(value.dtype.name)
        return value if double is None else value.astype(double)
    if is_keras_variable(value):
        return value  # widened where it is, since its layer holds it
    held = tf_variable(value) if is_variable(value) else value
    double = double_of(held.dtype.name) if is_variable(value) or is_tensor(value) else None
    if double is None:
        return value
    wide = tf.cast(held, double)
    if is_variable(value):
        return tf.Variable(wide, trainable=value.trainable, name=own_name(value))
    return wide
