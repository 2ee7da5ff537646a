"""Compiled loops that wait for the next run of an unchanged cell."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Any

CAPACITY = 16
"""The most entries; the least recently used one is forgotten first."""

ATTRIBUTE = "_tape_magic_loops"
"""The attribute of a variable or a function that holds entries, and the cache of :func:`cache_of`."""


class LoopCache:
    """Keeps at most :data:`CAPACITY` entries, each for as long as the variable that owns it lives.

    An entry refers to its variables, so a reference from here would keep these for good. An attribute of the
    variable holds the entry instead: both are freed together once nothing else refers to the variable.

    Parameters
    ----------
    lends
        Whether an entry is gone until it is put back, so that two threads never run with the same one.

    Examples
    --------
    >>> cache = LoopCache()
    >>> cache.put("cell 1", entry, owner=variable)   # doctest: +SKIP
    >>> cache.get("cell 1") is entry                 # doctest: +SKIP
    True
    """

    def __init__(self, *, lends: bool = False) -> None:
        self._lends = lends
        self._entries: OrderedDict[Hashable, tuple[Any, Any]] = OrderedDict()
        self._lock = threading.RLock()  # the magic may be called from several threads

    def get(self, key: Hashable) -> Any:
        """Return what was put there, while its owner lives; else ``None``."""
        with self._lock:
            held, _ = self._entries.get(key, (None, None))
            entry = held() if isinstance(held, weakref.ref) else held
            if entry is None:
                self._entries.pop(key, None)
                return None
            if self._lends:
                self.drop(key)
                return entry
            self._entries.move_to_end(key)
            return entry

    def put(self, key: Hashable, entry: Any, owner: Any = None) -> None:
        """Keep an entry while its owner lives; without an owner, until there are too many."""
        with self._lock:
            self.drop(key)
            if owner is None:
                self._entries[key] = entry, None
            else:
                vars(owner).setdefault(ATTRIBUTE, {})[id(entry)] = entry
                self._entries[key] = weakref.ref(entry), weakref.ref(owner)
            while len(self._entries) > CAPACITY:
                self.drop(next(iter(self._entries)))

    def drop(self, key: Hashable) -> None:
        """Forget an entry."""
        held, owner = self._entries.pop(key, (None, None))
        entry = held() if isinstance(held, weakref.ref) else None
        alive = None if owner is None else owner()
        if entry is not None and alive is not None:
            vars(alive).get(ATTRIBUTE, {}).pop(id(entry), None)

    def clear(self) -> None:
        """Forget all entries."""
        for key in list(self._entries):
            self.drop(key)


def cache_of(holders: Iterable[Any]) -> LoopCache | None:
    """Return the cache that lives as long as the first of some objects; ``None`` where none can hold one.

    The cache is an attribute of that object, a variable or a function.
    """
    for holder in holders:
        try:
            cache: LoopCache = (
                vars(holder).setdefault(ATTRIBUTE, {}).setdefault("calls", LoopCache(lends=True))
            )
        except (TypeError, AttributeError):  # no attributes, or not writable
            continue
        return cache
    return None
