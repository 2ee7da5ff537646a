"""`Carried`: what a value of the user's program carries of the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_MAX_DEPTH = 6


@dataclass(frozen=True)
class TensorFlowExit:
    """An expression that takes a value out of TensorFlow.

    Attributes
    ----------
    filename, line
        The file and line of the expression.
    text
        The expression: ``np.mean(x2)``.
    cure
        What to write instead; empty where that is not known.
    """

    filename: str
    line: int
    text: str
    cure: str


class Carried:
    """What a value carries: with it, an item of it, or an attribute.

    It stands for one object, whatever names that object has: what is stored in it shows under all of them.

    Attributes
    ----------
    computed
        Whether the value is computed from the source by TensorFlow, or is the source.
    exits
        Where what the value is made of left TensorFlow; a dict for its order.
    perhaps
        Where it may have left TensorFlow: calls that are not known.
    items
        What the items and attributes carry besides, by their keys; those of attributes begin with a dot.
    """

    __slots__ = ("computed", "exits", "items", "perhaps")

    def __init__(self, *, computed: bool = False) -> None:
        self.computed = computed
        self.exits: dict[TensorFlowExit, None] = {}
        self.perhaps: dict[TensorFlowExit, None] = {}
        self.items: dict[Any, Carried] = {}

    @classmethod
    def of_items(cls, items: dict[Any, Carried]) -> Carried:
        """Return what a list, tuple or dict carries that was just made of some items."""
        made = cls()
        made.items = items
        return made

    @property
    def is_tainted(self) -> bool:
        """Whether the value itself carries anything, apart from its items."""
        return self.computed or bool(self.exits or self.perhaps)

    def absorb(self, *others: Carried) -> Carried:
        """Add what other values carry, themselves and item by item; return this one."""
        for other in others:
            self._absorb(other, _MAX_DEPTH)
        return self

    def _absorb(self, other: Carried, depth: int) -> None:
        if other is self or depth == 0:
            return
        self.computed |= other.computed
        self.exits.update(other.exits)
        self.perhaps.update(other.perhaps)
        for key, item in other.items.items():
            held = self.items.get(key)
            if held is None:
                self.items[key] = item
            elif held is not item:
                both = self.items[key] = held.copy()
                both._absorb(item, depth - 1)

    def copy(self) -> Carried:
        """Return another value that carries the same."""
        made = Carried()
        made._absorb(self, _MAX_DEPTH)
        return made

    def flat(self) -> Carried:
        """Return what a value carries that is made of this one in an unknown way."""
        made = Carried()
        made._gather(self, _MAX_DEPTH)
        return made

    def _gather(self, other: Carried, depth: int) -> None:
        self.computed |= other.computed
        self.exits.update(other.exits)
        self.perhaps.update(other.perhaps)
        if depth:
            for item in list(other.items.values()):
                self._gather(item, depth - 1)

    def item(self, key: Any) -> Carried:
        """Return what the item of a known key carries, or the attribute of a known name."""
        found = self.items.get(key)
        if not self.is_tainted:
            return found if found is not None else Carried()
        return self._own() if found is None else self._own().absorb(found)

    def element(self) -> Carried:
        """Return what an item carries whose key is not known."""
        items = list(self.items.values())
        if len(items) == 1 and not self.is_tainted:
            return items[0]
        return self._own().absorb(*items)

    def _own(self) -> Carried:
        made = Carried(computed=self.computed)
        made.exits.update(self.exits)
        made.perhaps.update(self.perhaps)
        return made


def together(parts: list[Carried]) -> Carried:
    """Return what a value carries that is made of some parts in an unknown way."""
    return Carried().absorb(*(part.flat() for part in parts))
