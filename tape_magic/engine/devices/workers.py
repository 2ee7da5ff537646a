"""Which workers there are, and which of them this process is to be: the line's words, or TF_CONFIG."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from tape_magic.engine.devices.words import TF_CONFIG
from tape_magic.errors import DeviceError, describe_error, shorten
from tape_magic.results.devices import Membership

_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+):(\d{1,5})", re.ASCII)
"""A host and a port; an address of IPv6 stands in brackets."""


def read_workers(
    workers: str | Sequence[str] | None, worker: Any, environ: Mapping[str, str] = os.environ
) -> Membership | None:
    """Return the workers, and which of them this is; ``None`` where none are named.

    Parameters
    ----------
    workers
        Addresses, in one text with commas or as a sequence; ``"TF_CONFIG"`` for those of that variable.
    worker
        The number of this one; ``None`` for that of TF_CONFIG.
    environ
        The environment.

    Raises :class:`DeviceError` for what is no such thing.

    >>> read_workers("node1:5000, node2:5000", 1).text
    'worker 1 (node2:5000) of 2'
    """
    if workers is None:
        if worker is not None:
            raise DeviceError(
                f'worker {shorten(repr(worker))} needs workers: --workers "node1:5000, node2:5000".'
            )
        return None
    if isinstance(workers, str) and workers.strip() == TF_CONFIG:
        addresses, own = _of_environment(environ)
    else:
        addresses, own = _addresses(workers), None
        if worker is None:
            named, own = _of_environment(environ) if TF_CONFIG in environ else ((), None)
            if own is None:
                raise DeviceError(
                    f"which of the {len(addresses)} workers is this? Give its number, from 0: --worker 0."
                )
            if named != addresses:
                raise DeviceError(
                    f"{TF_CONFIG} names other workers ({shorten(', '.join(named))}), so that its number of "
                    "this one does not count: give --worker as well."
                )
    number = own if worker is None else _number(worker)
    if number is None or not 0 <= number < len(addresses):
        raise DeviceError(
            f"worker {number} is none of the {len(addresses)} workers: their numbers are 0 to "
            f"{len(addresses) - 1}."
        )
    return Membership(number, addresses)


def read_wait(wait: Any, default: float) -> float:
    """Return the seconds to wait for the other workers. Raises :class:`DeviceError` for no such number."""
    if wait is None:
        return default
    if isinstance(wait, bool) or not isinstance(wait, Real) or not math.isfinite(wait) or wait < 0:
        raise DeviceError(f"wait {shorten(repr(wait))} is no time: give seconds, such as 120.")
    return float(wait)


def _number(worker: Any) -> int:
    whole = isinstance(worker, Integral) and not isinstance(worker, bool)
    if not whole:
        raise DeviceError(f"worker {shorten(repr(worker))} is no number of a worker: give 0, 1 and so on.")
    return int(worker)


def _addresses(workers: Any) -> tuple[str, ...]:
    """Return the addresses, each once."""
    several = workers.split(",") if isinstance(workers, str) else workers
    if not isinstance(several, Sequence) or not all(isinstance(one, str) for one in several):
        raise DeviceError(
            f'workers are addresses, as "node1:5000, node2:5000", and not {shorten(repr(workers))}.'
        )
    found = tuple(one.strip() for one in several)
    for one in found:
        port = _ADDRESS.fullmatch(one)
        if port is None or not 0 < int(port[1]) < 1 << 16:
            raise DeviceError(
                f"{shorten(repr(one))} is no address of a worker: give host:port, such as node1:5000."
            )
        if found.count(one) > 1:
            raise DeviceError(f"{one} is named {found.count(one)} times: each worker has a port of its own.")
    if not found:
        raise DeviceError('workers names none: give their addresses, as "node1:5000, node2:5000".')
    return found


def _of_environment(environ: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """Return the addresses and the number of this worker in TF_CONFIG, the chief being worker 0."""
    text = environ.get(TF_CONFIG)
    if not text:
        raise DeviceError(f'{TF_CONFIG} is not set: give --workers "node1:5000, node2:5000" and --worker.')
    try:
        read = json.loads(text)
        jobs, task = read["cluster"], read["task"]
        kind, index = task["type"], task["index"]
        chief, others = list(jobs.get("chief", ())), list(jobs.get("worker", ()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DeviceError(f"{TF_CONFIG} cannot be read ({describe_error(error)}).") from None
    if kind not in ("chief", "worker") or set(jobs) - {"chief", "worker", "evaluator"}:
        raise DeviceError(
            f"{TF_CONFIG} makes this {shorten(repr(kind))} among {', '.join(sorted(map(str, jobs)))}: "
            "here, all are workers."
        )
    return _addresses(chief + others), _number(index) + (len(chief) if kind == "worker" else 0)
