"""The tensors of a graph that a program's Python kept while it was traced, and their values after a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from tape_magic.engine.tracing.symbolic import GONE, ContainerCopies, SymbolReplacer, graph_of, parts_of

_MISSING = object()


class KeptTensors:
    """The tensors that a program's Python kept while it was traced.

    Parameters
    ----------
    home
        The notebook's names, which functions of it may bind by ``global``; the objects of its classes are
        looked into.
    read
        Objects that the program reads: it may keep tensors in them although it does not assign them, as
        ``log.append(loss)`` and ``obj.last = loss`` do.

    Attributes
    ----------
    reusable
        Whether :meth:`outputs` may be called again. It may not after a value has taken a tensor's place in
        an object, in a closure, or in a list or dict that was there before the trace.
    lost
        The tensors that Python kept within a loop or a branch, which have no value after it.
    """

    def __init__(self, home: MutableMapping[str, Any], read: Sequence[Any]) -> None:
        self._home, self._read = home, read
        self._before = dict(home)
        self._kept: tuple[Any, dict[str, Any], dict[str, Any]] = None, {}, {}
        self._symbolic: list[Any] = []
        self._graphs: list[Any] = []
        self._elsewhere = True
        self.reusable = True
        self.lost: list[Any] = []

    def begin(self, graph: Any) -> None:
        """Note a graph that is about to be traced."""
        self._graphs.append(graph)

    def keep(self, value: Any, assigned: dict[str, Any], graph: Any) -> list[Any]:
        """Return the tensors of the graph that Python kept.

        Parameters
        ----------
        value, assigned
            The value of the program's last expression, and what it assigned by name.
        graph
            The graph that is being traced.
        """
        found: dict[int, Any] = {}

        def note(tensor: Any) -> Any:
            if graph_of(tensor) is graph:
                found[id(tensor)] = tensor
            return tensor

        bound = {name: held for name, held in self._bound() if self._holds_one_of(held, [graph])}
        self._kept = value, assigned, bound
        replacer = SymbolReplacer(note, self._home)
        replacer.swapped(self._kept)
        own = len(found)
        replacer.swap_within(self._read)
        self._elsewhere = len(found) > own or self._holds_any(self._read)
        self._symbolic = list(found.values())
        return self._symbolic

    def outputs(self, computed: Sequence[Any]) -> tuple[Any, Mapping[str, Any]]:
        """Put the computed values in the places of the tensors, wherever Python kept them.

        Parameters
        ----------
        computed
            One value for each tensor that :meth:`keep` returned.

        Returns
        -------
        value, assigned
            The value of the program's last expression, and what it assigned by name.
        """
        values = dict(zip(map(id, self._symbolic), computed, strict=True))

        def swap(tensor: Any) -> Any:
            return values[id(tensor)] if id(tensor) in values else self._without_value(tensor)

        replacer = SymbolReplacer(swap, self._home)
        # Each run gives lists and dicts of the program's own anew, as if it had made them.
        copies = ContainerCopies(self._home)
        kept, self._kept = self._kept, copies.copied(self._kept)
        elsewhere = False
        if self._elsewhere:
            replacer.swap_within(self._read)
            elsewhere, self._elsewhere = replacer.wrote, False
        value, assigned, bound = (
            _present(replacer.swapped(kept[0])),
            *({name: _present(replacer.swapped(held)) for name, held in names.items()} for names in kept[1:]),
        )
        self._home.update(bound)
        self.reusable = not elsewhere and (copies.all_of_it or not replacer.wrote)
        return value, assigned

    def take_back(self) -> None:
        """Leave none of the tensors of a trace that failed in the notebook."""
        swap: Callable[[Any], Any] = self._without_value
        for name, held in self._bound():
            if self._holds_one_of(held, self._graphs):
                if name in self._before:
                    self._home[name] = self._before[name]
                else:
                    self._home.pop(name, None)
        SymbolReplacer(swap, self._home).swap_within(self._read)

    def left_out(self, line_of: Callable[[Any], int | None]) -> list[str]:
        """Return a sentence on :attr:`lost`, with the lines of their operations, if there are any."""
        if not self.lost:
            return []
        parts = [part for tensor in self.lost for part in parts_of(tensor)]
        lines = sorted({line for part in parts if (line := line_of(part.op))})
        where = f"line {' and '.join(map(str, lines))}: " if lines else ""
        return [f"{where}a tensor of a loop or branch has no value after it; Python's objects do not keep it"]

    def _bound(self) -> list[tuple[str, Any]]:
        """Return the notebook's names that hold something else than before the trace."""
        before = self._before
        return [(n, held) for n, held in list(self._home.items()) if held is not before.get(n, _MISSING)]

    def _holds_one_of(self, value: Any, graphs: Iterable[Any]) -> bool:
        return self._holds_any([value], lambda tensor: any(graph_of(tensor) is one for one in graphs))

    def _holds_any(self, values: Sequence[Any], which: Callable[[Any], bool] | None = None) -> bool:
        """Return whether some of this trace's tensors, or of `which` there are, are within values."""
        found: list[Any] = []

        def note(tensor: Any) -> Any:
            if self._of_trace(tensor) if which is None else which(tensor):
                found.append(tensor)
            return tensor

        SymbolReplacer(note, self._home).swap_within(values)
        return bool(found)

    def _of_trace(self, tensor: Any) -> bool:
        """Return whether a tensor belongs to a graph of this trace, or to a loop or a branch in it."""
        graph = graph_of(tensor)
        while graph is not None and not any(graph is one for one in self._graphs):
            graph = getattr(graph, "outer_graph", None)
        return graph is not None

    def _without_value(self, tensor: Any) -> Any:
        """Return what takes the place of a tensor that was not computed: itself, if not of the trace."""
        if not self._of_trace(tensor):
            return tensor
        self.lost.append(tensor)
        return GONE


def _present(value: Any) -> Any:
    return None if value is GONE else value
