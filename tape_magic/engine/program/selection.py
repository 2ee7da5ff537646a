"""`Selection`: the sources of a run, named by the user or found among what the program reads."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tape_magic.engine.program.lift_dtype import lift_dtype
from tape_magic.engine.program.lifting import Lifting, constant
from tape_magic.engine.program.program import Hooks, Namespace, Program
from tape_magic.engine.values.creation import hearing_new_variables
from tape_magic.engine.values.leaves import Leaf, is_frozen, is_unbuilt, leaves_of, own_name
from tape_magic.engine.values.objects import parts_of_object
from tape_magic.engine.values.places import look_up, object_at
from tape_magic.engine.values.reach import mentions_variables, reachable
from tape_magic.engine.values.refusals import emptiness, index_refusal, selects
from tape_magic.engine.values.tensors import (
    is_inexact,
    is_liftable,
    is_module,
    is_tensor,
    is_variable,
    tf_variable,
)
from tape_magic.errors import SourceError
from tape_magic.syntax import place


@dataclass(eq=False)
class Source:
    """A source by name.

    Attributes
    ----------
    name
        The place of the source, or a variable's own name.
    assigned
        Whether the program itself assigns the source, so that nothing is known before the run.
    unbuilt
        Whether a layer in the source makes its variables when the program calls it.
    value
        The object at the place while the program runs.
    leaves
        The variables and tensors in the value.
    """

    name: str
    assigned: bool = False
    unbuilt: bool = False
    value: Any = None
    leaves: list[Leaf] = field(default_factory=list)


class Selection:
    """The sources of one run.

    Parameters
    ----------
    program, namespace
        The program, and the names that it runs on.
    names
        The sources that were named.
    chooses
        Whether the trainable variables that the program reads are sources too.
    else_by_name
        Whether, without such variables, the float tensors that the program reads by name are sources, or
        else its floats and arrays.
    never
        Names that are no sources unless they are named, such as those of a batch.
    make, liftable
        As in :class:`Lifting`; `make` is also given the dtype to lift to.
    given
        The objects of sources that are no places, by their names.

    Attributes
    ----------
    dtype
        The dtype that floats and arrays are lifted to.

    Raises :class:`SourceError` for what has no derivative, before anything is changed.
    """

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        names: Iterable[str],
        *,
        chooses: bool,
        else_by_name: bool = True,
        never: Collection[str] = (),
        make: Callable[[Any, str], Any] = constant,
        liftable: Callable[[Any], bool] = is_liftable,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self._program, self._namespace = program, namespace
        self._given, self._never = given or {}, never
        self._sources = {name: self._entry(name) for name in names}
        self.defaults: tuple[str, ...] = tuple(self._read_by_name()) if chooses and else_by_name else ()
        for name in self.defaults:
            self._sources.setdefault(name, self._entry(name))
        self._chooses = chooses
        # Some variables can be known only as the program reads them.
        self.needs_access = chooses or any(source.unbuilt for source in self.sources)
        self._awaits = False
        self._before = self._read(), [source.value for source in self.sources]
        self.lifting = Lifting(namespace, lambda value: make(value, self.dtype), liftable)

    def access_all(self) -> None:
        """Have the tape watch what the program reads, also where only an intermediate source needs it.

        An intermediate may come with an output computed beside it, before the tape can watch it.
        """
        self.needs_access = self.needs_access or any(source.assigned for source in self.sources)

    @property
    def sources(self) -> list[Source]:
        """The sources that were named, then the sources that were chosen."""
        return list(self._sources.values())

    def __getitem__(self, name: str) -> Source:
        return self._sources[name]

    @cached_property
    def dtype(self) -> str:
        """The dtype that floats and arrays are lifted to, found when the first is lifted."""
        return lift_dtype(self._program, self._namespace, *self._before)

    def _read(self) -> dict[str, Any]:
        return {name: self._namespace[name] for name in self._program.names.reads if name in self._namespace}

    def _entry(self, name: str) -> Source:
        if name in self._given:
            return _source_of(name, self._given[name], self._namespace)
        names, base = self._program.names, place(name)[0]
        if names.assigned_first(base) or (base not in self._namespace and names.opaque):
            return Source(name, assigned=True)
        try:
            value = look_up(name, self._namespace, also=names.assigns)
        except SourceError:
            if not self._within_unbuilt(name):
                raise
            return Source(name, assigned=True, unbuilt=True)
        refusal = index_refusal(value, name)
        if refusal and selects(self._read().values(), names.mentions):
            raise SourceError(refusal)
        leaves = leaves_of(value, name, lifted=False)
        if len(leaves) == 1 and leaves[0].owner is value:
            return Source(name, value=value, leaves=leaves)
        # A frozen layer stays without trainable variables, unless the program itself makes it trainable.
        stays = is_frozen(value) and not (names.opaque or "trainable" in names.mentions)
        return Source(name, unbuilt=is_unbuilt(value) and not stays, value=value, leaves=leaves)

    def _within_unbuilt(self, name: str) -> bool:
        """Return whether a place, such as ``layer.kernel``, is in a layer that is not built yet."""
        _, tree = place(name)
        while isinstance(tree, ast.Attribute | ast.Subscript):
            tree = tree.value
            try:
                owner = object_at(tree, self._namespace, name)
            except (SourceError, KeyError):
                continue
            return is_unbuilt(owner)
        return False

    def _read_by_name(self) -> list[str]:
        """Return the names of the float tensors that are read, or else of the floats and arrays.

        There are none if a variable can be reached: the tape tells which variables were read.
        """
        read = {name: value for name, value in self._read().items() if name not in self._never}
        if mentions_variables(read.values(), self._namespace):
            return []
        tensors = [name for name, value in read.items() if is_tensor(value) and is_inexact(value)]
        return tensors or [name for name, value in read.items() if is_liftable(value)]

    def lift(self) -> None:
        """Lift the floats and arrays among the sources; each source's leaves are then known."""
        for source in self.sources:
            held = is_variable(source.value) or (is_module(source.value) and source.leaves)
            if source.assigned:
                continue
            if not held and source.name not in self._given:
                self.lifting.lift(source.name)
                self._settle(source)
            if not source.unbuilt:
                _refuse_empty(source)

    def _settle(self, source: Source) -> None:
        source.value = look_up(source.name, self._namespace)
        source.leaves = leaves_of(source.value, source.name)

    def hooks(self, watch: Callable[[Source], None]) -> Hooks:
        """Return a hook for each source that the program assigns: it lifts and watches the value."""
        bases = dict.fromkeys(place(source.name)[0] for source in self.sources if source.assigned)
        return {base: self._hook(base, watch) for base in bases}

    def _hook(self, base: str, watch: Callable[[Source], None]) -> Callable[[Any], Any]:
        sources = [source for source in self.sources if source.assigned and place(source.name)[0] == base]

        def assigned(value: Any) -> Any:
            lifted = self.lifting.lifted(value)
            if lifted is not value:
                self.lifting.record(base, value, lifted)
            for source in sources:
                try:
                    here = look_up(source.name, {base: lifted})
                except SourceError:  # layer.kernel, before the layer is built
                    source.unbuilt = self._awaits = True
                    continue
                source.unbuilt = is_unbuilt(here)
                self._awaits = self._awaits or source.unbuilt
                source.value, source.leaves = here, leaves_of(here, source.name)
                watch(source)
            return lifted

        return assigned

    @contextmanager
    def awaiting(self, watch: Callable[[Any], None]) -> Iterator[None]:
        """Watch, within the block, each variable made by a layer that the program itself made."""

        def hear(variable: Any) -> None:
            if self._awaits and is_inexact(variable):
                watch(variable)

        with hearing_new_variables(hear):
            yield

    def settle(self, variables: Iterable[Any]) -> None:
        """Find, after the run, the values of assigned sources, and choose among the `variables` read."""
        read = {id(variable): variable for variable in variables}
        for source in self.sources:
            if source.assigned:
                self._settle(source)
                unseen = [leaf for leaf in source.leaves if id(leaf.value) not in read]
                if source.unbuilt and unseen and not self.needs_access:
                    raise SourceError(
                        f"{source.name} made its variables out of sight of the tape: "
                        f"make {place(source.name)[0]} in a cell above."
                    )
            elif source.unbuilt:
                source.leaves = leaves_of(source.value, source.name)
            _refuse_empty(source)
        if self._chooses:
            self._choose_variables(read)
        self._make_names_unique()

    def _choose_variables(self, read: dict[int, Any]) -> None:
        """Choose the trainable variables that were read as sources, before any tensor or float."""
        for variable in self._frozen() if read else ():
            read.pop(id(tf_variable(variable)), None)
        if not read:
            return
        chosen: list[Source] = []
        names = [*self._program.names.reads, *self._program.names.assigns]
        for name in dict.fromkeys(names):
            value = self._namespace.get(name)
            if is_module(value):
                leaves = [
                    leaf for leaf in leaves_of(value, name) if read.pop(id(leaf.value), None) is not None
                ]
                if leaves:
                    chosen.append(Source(name, value=value, leaves=leaves))
        by_id = {
            id(tf_variable(value)): name
            for name, value in [*self._namespace.items(), *self._read().items()]
            if not name.startswith("_") and is_variable(value)
        }
        for name, value in self._read().items() if not by_id.keys() >= read.keys() else ():
            if parts_of_object(value):
                by_id |= {id(leaf.value): leaf.name for leaf in leaves_of(value, name, lifted=False)} | by_id
        for variable in read.values():
            name = by_id.get(id(variable)) or own_name(variable)
            taken = {source.name for source in chosen}
            number = next(n for n in range(len(read) + 1) if (f"{name}_{n}" if n else name) not in taken)
            name = f"{name}_{number}" if number else name
            chosen.append(Source(name, value=variable, leaves=leaves_of(variable, name)))
        self._sources.update({source.name: source for source in chosen})
        self.defaults = tuple(source.name for source in chosen)

    def _frozen(self) -> list[Any]:
        """Return the variables that Keras does not train, which the tape watches all the same."""
        modules = [value for value in list(self._namespace.values()) if is_module(value)]
        values = reachable([*self._read().values(), *modules], self._namespace)
        return [
            variable for value in values if is_module(value) for variable in value.non_trainable_variables
        ]

    def _make_names_unique(self) -> None:
        """Put the models' own names in front where two models both have, say, a dense/kernel."""
        owners: dict[str, set[int]] = {}
        for source in self.sources:
            for leaf in source.leaves:
                owners.setdefault(leaf.name, set()).add(id(leaf.owner))
        for source in self.sources:
            source.leaves = [
                leaf.renamed(f"{source.name}/{leaf.name}")
                if leaf.of_model and len(owners[leaf.name]) > 1
                else leaf
                for leaf in source.leaves
            ]


def _source_of(name: str, value: Any, namespace: Namespace) -> Source:
    """Return the source of an object that stands at no place: variables, and what holds them."""
    leaves = leaves_of(value, name)
    own = {id(tf_variable(held)): key for key, held in namespace.items() if is_variable(held)}
    if not all(is_variable(leaf.owner) for leaf in leaves):
        raise SourceError(
            f"{name} gives a new tensor, which nothing was computed from: name the variable itself."
        )
    named = [
        leaf if leaf.of_model else leaf.renamed(own.get(id(leaf.value)) or own_name(leaf.owner))
        for leaf in leaves
    ]
    return Source(name, unbuilt=is_unbuilt(value), value=value, leaves=named)


def _refuse_empty(source: Source) -> None:
    """Raise :class:`SourceError` for a source without a leaf, such as a frozen layer or an empty list."""
    if not source.leaves:
        raise SourceError(emptiness(source.value, source.name))


def replaced_variables(
    entry: Mapping[str, Any], program: Program, namespace: Namespace, lifting: Lifting
) -> list[str]:
    """Return a sentence for each variable whose name the program gave to a tensor, not to a lifted float."""
    return [
        f"line {line} replaces the variable {name} by a tensor; {name}.assign_add(1) keeps it a variable"
        for name, line in program.names.assigns.items()
        if is_variable(entry.get(name))
        and is_tensor(value := namespace.get(name))
        and not lifting.made(value)
    ]
