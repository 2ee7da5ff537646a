"""The tensors of a graph that a program's Python kept while it was traced, and their values after a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tape_magic.engine.tracing.symbolic import ContainerCopies, SymbolReplacer, graph_of


class KeptTensors:
    """The tensors that a program's Python kept while it was traced.

    Parameters
    ----------
    home
        The name of the notebook's module, whose classes' objects are looked into.
    read
        Objects that the program reads: it may keep tensors in them although it does not assign them, as
        ``log.append(loss)`` does.

    Attributes
    ----------
    reusable
        Whether :meth:`outputs` may be called again. It may not after a value has taken a tensor's place in
        an object, in a closure, or in a list or dict that was there before the trace.
    """

    def __init__(self, home: str, read: Sequence[Any]) -> None:
        self._home, self._read = home, read
        self._kept: tuple[Any, dict[str, Any]] = None, {}
        self._symbolic: list[Any] = []
        self.reusable = True

    def keep(self, value: Any, assigned: dict[str, Any], graph: Any) -> list[Any]:
        """Return the tensors of the graph that Python kept; those within a loop cannot be read.

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

        self._kept = value, assigned
        SymbolReplacer(note, self._home).swapped([*self._kept, self._read])
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
        replacer = SymbolReplacer(lambda tensor: values.get(id(tensor), tensor), self._home)
        replacer.swapped(self._read)
        elsewhere = replacer.wrote
        # Each run gives lists and dicts of the program's own anew, as if it had made them.
        copies = ContainerCopies(self._home)
        (value, assigned), self._kept = self._kept, copies.copied(self._kept)
        outputs = replacer.swapped(value), {name: replacer.swapped(held) for name, held in assigned.items()}
        self.reusable = not elsewhere and (copies.all_of_it or not replacer.wrote)
        return outputs
