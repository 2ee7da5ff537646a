"""`Rerun`: runs a program again, with leaves moved or in float64, and restores everything afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from tape_magic.engine.check.holding import Holding
from tape_magic.engine.check.made_tensors import MadeTensors
from tape_magic.engine.check.moved_program import MovedProgram
from tape_magic.engine.check.precisions import widened
from tape_magic.engine.internals.contexts import run_eagerly_here
from tape_magic.engine.internals.keras_layers import widen
from tape_magic.engine.internals.operations import key_of_variable, newest_key
from tape_magic.engine.internals.random_state import preserve_random_state
from tape_magic.engine.process.interrupts import guarded_cleanup
from tape_magic.engine.process.output import hide_output
from tape_magic.engine.program.lifting import Lifting
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.program.snapshot import Snapshot
from tape_magic.engine.values.introspection import elements_of, is_a
from tape_magic.engine.values.leaves import Leaf, rebuilt
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.precision import double_of
from tape_magic.engine.values.tensors import (
    is_keras_variable,
    is_liftable,
    is_tensor,
    is_variable,
    tf_variable,
    to_array,
)
from tape_magic.errors import CheckError, LineError, SourceError, TapeMagicError, a_kind
from tape_magic.syntax import place

LIMIT = 2**30
"""Largest state of a program that is copied, in bytes."""

Array = np.ndarray[Any, Any]
Deltas = Mapping[str, Array]
"""The distance by which each leaf is moved, by the leaf's name."""

T = TypeVar("T")


@dataclass(frozen=True)
class _MovableLeaf:
    """A leaf that can be moved.

    Attributes
    ----------
    dtype, value
        Its own dtype, and its value before the program runs.
    held
        The user's variable, tensor, float or array; ``None`` where the program assigns the leaf.
    """

    dtype: str
    value: Array
    held: Any


class Rerun:
    """A program, the state that it begins from, and the state that its own run leaves.

    Parameters
    ----------
    program, namespace
        The program and its namespace, before the program's own run.
    sources
        Places of the sources, whose values are copied besides those that the program reads.

    Attributes
    ----------
    entry
        The namespace before the program's own run.
    wide
        Whether further runs have copies in double precision of everything narrower.
    holding
        What is held while the program runs, if anything is.

    Raises :class:`CheckError` for a program that cannot run twice, since it takes from an iterator or has
    more than :data:`LIMIT` bytes to copy.
    """

    def __init__(self, program: Program, namespace: Namespace, sources: Iterable[str]) -> None:
        import tensorflow as tf

        self._program, self._namespace, self._sources = program, namespace, tuple(sources)
        self.entry = dict(namespace)
        self._before = self._after = self._snapshot()
        self._newest = newest_key()
        self._leaves: dict[str, _MovableLeaf] = {}
        self._fixed: dict[str, str] = {}
        self._variables: dict[int, Any] = {}
        self.holding: Holding | None = None
        self._made = MadeTensors()
        self._changed = ExitStack()
        self._eagerly = bool(tf.config.functions_run_eagerly())
        self.wide = False
        _refuse_once(program, self._before, self.entry)

    def _snapshot(self) -> Snapshot:
        """Return the present state of all that the program and the places of the sources lead to."""
        found = []
        for text in self._sources:
            with suppress(TapeMagicError):  # the program has yet to make it
                found.append(look_up(text, self.entry))
        return Snapshot(self._program, self._namespace, {place(text)[0] for text in self._sources}, found)

    @contextmanager
    def opened(self, silence: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
        """Let the program run again within the block, and restore the state that it was entered in.

        To be entered after the program's own run, whose changes stay, or before it. `silence` makes a context
        manager that hides what the program displays.
        """
        import tensorflow as tf

        self._after = self._snapshot()
        with guarded_cleanup() as guard, hide_output(), preserve_random_state(), silence():
            try:
                try:
                    yield
                finally:
                    guard.waits = True
            finally:
                run_eagerly_here(False)
                if bool(tf.config.functions_run_eagerly()) != self._eagerly:  # the program set it
                    tf.config.run_functions_eagerly(self._eagerly)
                self._changed.close()
                self._after.restore(beside=self._before)

    def run(self, compute: Callable[[Program, Namespace], T], deltas: Deltas | None = None) -> T:
        """Return what `compute` gives for the program, in the state that the program's own run began from.

        With `deltas`, the leaves are moved by them, and a ``tf.function`` runs eagerly, since one that is
        traced keeps the tensors that it captured, and their dtypes. What `compute` raises passes.
        """
        run_eagerly_here(self.wide or deltas is not None)
        self._changed.close()
        self._before.restore(beside=self._after)
        self._place(deltas or {})
        records_all = self.holding is not None and self.holding.records_all
        movers = self._movers(deltas or {})
        moved = MovedProgram(self._program, movers, self._made.turns, records_all=records_all)
        with ExitStack() as stack:
            if self.holding is not None:
                stack.enter_context(self.holding.during(self._variables))
            if movers:
                stack.enter_context(self._made.during(deltas))
            result = compute(moved, self._namespace)
        self._made.turns = moved.turns
        return result

    def changed_names(self) -> list[str]:
        """Return the names of the variables that the last run within :meth:`opened` has changed."""
        return self._before.names_changed_in(self._snapshot())

    # -- leaves ------------------------------------------------------------------------------------

    def learn(self, leaves: Mapping[str, Leaf]) -> None:
        """Find out how to move the leaves of a run that was not wide."""
        if any(_is_newer(leaf, self._newest) for leaf in leaves.values()):
            # A layer that the program's own run has built keeps its variables: further runs begin with them.
            self._before.restore(beside=self._after)
            self._before = self._snapshot()
        for name, leaf in leaves.items():
            found, held, value = self._held(leaf)
            if found:
                numbers = to_array(value) if is_tensor(value) else np.asarray(value)
                self._leaves[name] = _MovableLeaf(leaf.dtype, numbers, held)
            elif is_variable(leaf.value) and not _is_newer(leaf, self._newest):
                self._fixed[name] = "stands where --check does not look: name its place with --wrt"
            else:
                self._fixed[name] = "is made in the cell itself"

    @property
    def assigns_sources(self) -> bool:
        """Whether the program itself assigns a leaf."""
        return any(leaf.held is None for leaf in self._leaves.values())

    def can_move(self, name: str) -> bool:
        """Return whether a leaf can be moved; a variable that the program makes itself cannot."""
        return name in self._leaves

    def why_fixed(self, name: str) -> str:
        """Return why a leaf cannot be moved, as what is said of it."""
        return self._fixed.get(name, "is made in the cell itself")

    def value(self, name: str) -> Array:
        """Return the value of a leaf before it is moved, in the precision of the next run."""
        return self._leaves[name].value.astype(self._dtype(name))

    def moved(self, name: str, delta: Array) -> Array:
        """Return the value of a leaf after it is moved, rounded to the precision of the next run."""
        at = self.value(name)
        return np.asarray(at.astype(np.result_type(at, "float64")) + delta).astype(at.dtype)

    def _held(self, leaf: Leaf) -> tuple[bool, Any, Any]:
        """Return whether a leaf can be moved, the user's object it is in, and its value before the run."""
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
        """Return the dtype of a leaf in the next run."""
        dtype = self._leaves[name].dtype
        return double_of(dtype) or dtype if self.wide else dtype

    def _place(self, deltas: Deltas) -> None:
        """Put moved leaves into the namespace, and copies in double precision where the run is wide."""
        import tensorflow as tf

        if self.wide:
            variables = [one for one, _ in self._before.values.values() if is_keras_variable(one)]
            widen(self._before.layers, variables, double_of, self._changed)
        leaves, self._variables = self._leaves, {}
        values = {
            name: tf.constant(self.moved(name, delta), self._dtype(name)) for name, delta in deltas.items()
        }
        swapped = {
            id(leaves[name].held): value for name, value in values.items() if is_tensor(leaves[name].held)
        }
        reached = set[int]()
        for slot in self._before.slots:
            reached |= {id(item) for item in _flat(slot.value)}
            new = self._swapped(slot.value, swapped)
            if new is not slot.value:
                slot.write(new)
        for name, leaf in leaves.items():
            if is_variable(leaf.held):
                variable = tf_variable(swapped.get(id(leaf.held), leaf.held))
                if name in values:
                    variable.assign(tf.cast(values[name], variable.dtype))
                if self.holding is not None:
                    at = tf.constant(self.value(name), self._dtype(name))
                    self._variables[key_of_variable(variable)] = values.get(name, at) - at
            elif is_liftable(leaf.held) and (self.wide or name in values):
                value = values.get(name)
                value = tf.constant(leaf.held, self._dtype(name)) if value is None else value
                self._put(name, value)
            elif is_tensor(leaf.held) and id(leaf.held) not in reached:  # in an object of a library's
                self._put(name, self._swapped(leaf.held, swapped))

    def _put(self, name: str, value: Any) -> None:
        """Put a value at the place of a leaf until the next run."""
        lifting = Lifting(self._namespace, partial(_instead, value), _is_number)
        self._changed.callback(lifting.give_back)  # also where no snapshot reaches
        lifting.lift(name)

    def _swapped(self, value: Any, swapped: dict[int, Any]) -> Any:
        """Return the value that takes the place of an object: itself, a moved one, or a wide copy."""
        if is_a(value, tuple):
            before = list(elements_of(value))
            items = [self._swapped(item, swapped) for item in before]
            same = all(new is old for new, old in zip(items, before, strict=True))
            return value if same else rebuilt(value, items)
        if self.wide and id(value) not in swapped:
            swapped[id(value)] = widened(value)
        return swapped.get(id(value), value)

    def _movers(self, deltas: Deltas) -> dict[str, Callable[[Any, bool], Any]]:
        """Return a function for each name that the program assigns as a source, which moves its value."""
        names: dict[str, list[str]] = {}
        for name, leaf in self._leaves.items():
            if leaf.held is None:
                names.setdefault(place(name)[0], []).append(name)
        return {base: self._mover(base, inside, deltas) for base, inside in names.items()}

    def _mover(self, base: str, names: list[str], deltas: Deltas) -> Callable[[Any, bool], Any]:
        """Return a function that makes tensors of the leaves in a value, and moves them the last time."""
        import tensorflow as tf

        def move(value: Any, last: bool) -> Any:
            namespace = {base: value}
            for name in names:

                def make(item: Any, name: str = name) -> Any:
                    dtype = self._dtype(name)
                    tensor = tf.cast(item, dtype) if is_tensor(item) else tf.constant(item, dtype)
                    if not self._made.moves(name, item) and last and name in deltas:
                        # Added, so that the moved tensor still depends on the assigned one.
                        return tensor + tf.cast(deltas[name], dtype)
                    return tensor

                with suppress(SourceError):  # the place does not exist yet
                    Lifting(namespace, make, _is_number).lift(name)
            return namespace[base]

        return move


def _refuse_once(program: Program, before: Snapshot, entry: Namespace) -> None:
    """Raise :class:`CheckError` for a program that cannot run twice, by the state that it begins from."""
    for iterator in before.iterators:
        names = [name for name, value in entry.items() if value is iterator]
        what = f"{names[0]}, {a_kind(iterator)}" if names else a_kind(iterator)
        takes = "may take" if program.names.opaque else "takes"
        raise CheckError(
            f"the cell {takes} from {what}, which gives something else each time: "
            "take from it in a cell above, since --check runs the cell again."
        )
    if before.size > LIMIT:
        raise CheckError(
            f"--check copies what the cell reads, and that is {before.size / 2**30:.1f} GiB; "
            f"the most is {LIMIT / 2**30:g} GiB."
        )


def _flat(value: Any) -> Iterator[Any]:
    """Yield the items of a tuple, those of inner tuples among them; any other value itself."""
    if is_a(value, tuple):
        for item in elements_of(value):
            yield from _flat(item)
    else:
        yield value


def _is_newer(leaf: Leaf, key: int) -> bool:
    """Return whether a leaf is a variable that was made after everything up to a key."""
    import tensorflow as tf

    return isinstance(leaf.value, tf.Variable) and key_of_variable(leaf.value) > key


def _instead(new: Any, old: Any) -> Any:
    return new


def _is_number(value: Any) -> bool:
    return is_liftable(value) or is_tensor(value)
