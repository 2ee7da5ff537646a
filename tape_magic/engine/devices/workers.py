"""Which workers there are, and which of them this process is to be: the line's words, or TF_CONFIG."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Address
from numbers import Integral, Real
from typing import Any

from tape_magic.engine.devices.words import TF_CONFIG
from tape_magic.errors import DeviceError, closest, describe_error, shorten
from tape_magic.results.devices import Membership

_ADDRESS = re.compile(
    r"(?:\[([0-9a-f:.]+)(?:%[\w.-]+)?\]|(?!-)[\w-]{1,63}(?:\.[\w-]{1,63})*\.?):(\d{1,5})",
    re.ASCII | re.IGNORECASE,
)
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
        if not one and len(found) > 1:
            raise DeviceError(f"a comma of {shorten(repr(workers))} has no address beside it: leave it out.")
        if not _is_address(one):
            raise DeviceError(f"{shorten(repr(one))} is no address of a worker: {_cure(one)}")
        if (count := sum(_key(one) == _key(other) for other in found)) > 1:
            raise DeviceError(f"{one} is named {count} times: each worker has a port of its own.")
    if not found:
        raise DeviceError('workers names none: give their addresses, as "node1:5000, node2:5000".')
    return found


def _is_address(text: str) -> bool:
    match = _ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        return False
    try:
        return match[1] is None or bool(IPv6Address(match[1]))
    except ValueError:
        return False


def _key(address: str) -> tuple[str, str]:
    """Return what is the same for two ways to write an address."""
    host, _, port = address.rpartition(":")
    return host.lower(), port.lstrip("0")


def _cure(text: str) -> str:
    """Return what to give in place of a text that is no address."""
    if near := closest(text, [TF_CONFIG]):
        return near.removeprefix("; ")
    if "//" in text:
        return f"leave out {shorten(text.partition('//')[0] + '//')} and what follows the port."
    if re.search(r"\d[\s;]+\S", text):
        return "give a comma between two addresses."
    if text.count(":") > 1 and "[" not in text:
        return "an address of IPv6 stands in brackets, such as [::1]:5000."
    letters = "" if text.isascii() else " in ASCII"
    return f"give host:port{letters}, such as node1:5000."


def _of_environment(environ: Mapping[str, str]) -> tuple[tuple[str, ...], int]:
    """Return the addresses and the number of this worker in TF_CONFIG, the chief being worker 0."""
    text = environ.get(TF_CONFIG)
    if not text:
        raise DeviceError(f'{TF_CONFIG} is not set: give --workers "node1:5000, node2:5000" and --worker.')
    try:
        read = json.loads(text)
        jobs, task = read["cluster"], read["task"]
        kind, index = task["type"], task["index"]
        chief, others = _job(jobs, "chief"), _job(jobs, "worker")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DeviceError(
            f"{TF_CONFIG} cannot be read ({describe_error(error)}): it needs a text such as "
            '{"cluster": {"worker": ["node1:5000", "node2:5000"]}, "task": {"type": "worker", "index": 0}}.'
        ) from None
    if kind not in ("chief", "worker") or set(jobs) - {"chief", "worker", "evaluator"}:
        raise DeviceError(
            f"{TF_CONFIG} makes this {shorten(repr(kind))} among {shorten(', '.join(sorted(jobs)))}: here, "
            "all are workers, so give --workers and --worker."
        )
    own = chief if kind == "chief" else others
    if type(index) is not int or not 0 <= index < len(own):
        raise DeviceError(
            f"{TF_CONFIG} makes this {kind} {shorten(repr(index))}, which its cluster does not have "
            f"(addresses of type {kind}, numbered from 0: {len(own)}): correct one of the two."
        )
    return _addresses(chief + others), index + (len(chief) if kind == "worker" else 0)


def _job(jobs: Any, kind: str) -> list[Any]:
    """Return the addresses of a job of TF_CONFIG. Raises ``TypeError`` for what is no list of them."""
    found = jobs.get(kind, [])
    if not isinstance(found, list):
        raise TypeError(f"{kind} is no list")
    return found
