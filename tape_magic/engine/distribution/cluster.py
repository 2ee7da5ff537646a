"""The workers that this process has joined, for good: TensorFlow can neither leave them nor join others."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tape_magic.engine.distribution.lookout import await_workers
from tape_magic.engine.distribution.strategies import WORKERS, devices_of
from tape_magic.engine.process.interrupts import guarded_cleanup
from tape_magic.errors import ClusterError, DeviceError, describe_error
from tape_magic.results.devices import Membership

STRIDE = 8
"""How many collectives of one call may count up from its key."""

_CALLS = 128
"""How many calls there may be between two things that the workers tell each other."""


@dataclass(eq=False)
class Cluster:
    """The workers that this process computes together with.

    Attributes
    ----------
    strategy
        The ``tf.distribute.MultiWorkerMirroredStrategy``.
    place
        Which of the workers this is, and the addresses of all.
    lost
        Which of them is gone, and why, so that they can no longer compute together; empty for none.
    told
        How often the workers have told each other something.
    runs
        How many runs all workers have begun together.
    """

    strategy: Any
    place: Membership
    lost: str = ""
    told: int = 0
    runs: int = 0
    _calls: int = 0

    def next_key(self) -> int:
        """Return the key of what the workers tell each other next."""
        self.told, self._calls = self.told + 1, 0
        return self.told

    def call_key(self) -> int:
        """Return the key of a call in which all compute together, after what they have told each other.

        One worker may make calls that others do not: the next one after that counts from the same number.
        """
        self._calls += 1
        return (self.told * _CALLS + self._calls) * STRIDE % (1 << 31)

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices of this worker."""
        return tuple(self.strategy.extended.worker_devices)

    @property
    def count(self) -> int:
        """How many workers there are."""
        return len(self.addresses)

    @property
    def index(self) -> int:
        """The number of this worker, from 0."""
        return self.place.worker

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of all workers."""
        return self.place.addresses


class _Here:
    """What this process has joined: at most one cluster, until it ends."""

    cluster: Cluster | None = None


_HERE = _Here()


def joined() -> Cluster | None:
    """Return the cluster that this process has joined; ``None`` for none."""
    return _HERE.cluster


def cluster_of(strategy: Any) -> Cluster | None:
    """Return the workers that a strategy means; ``None`` for one of this process alone.

    Parameters
    ----------
    strategy
        A word, or a ``tf.distribute`` strategy; a ``MultiWorkerMirroredStrategy`` may be the notebook's own.

    Raises :class:`ClusterError` for ``"workers"`` where this process has joined none.
    """
    if isinstance(strategy, str) and strategy == WORKERS:
        if _HERE.cluster is None:
            raise ClusterError(
                'no cluster: put %tfgpu --workers "host:port, …" first, before TensorFlow starts.'
            )
        return _HERE.cluster
    resolver = getattr(strategy, "cluster_resolver", None)
    addresses = tuple(resolver.cluster_spec().as_dict().get("worker", ())) if resolver else ()
    if isinstance(strategy, str) or resolver is None or len(addresses) < 2:
        return None
    if _HERE.cluster is None or _HERE.cluster.strategy is not strategy:
        _HERE.cluster = Cluster(strategy, Membership(int(resolver.task_id), addresses))
    return _HERE.cluster


def key_of(strategy: Any) -> Hashable:
    """Return what two strategies have in common that share batches out to the same devices.

    Raises what :func:`cluster_of` and :func:`~tape_magic.engine.distribution.strategies.devices_of` raise.
    """
    cluster = cluster_of(strategy)
    return devices_of(strategy) if cluster is None else cluster.place


def join(place: Membership, seconds: float) -> Cluster:
    """Join the other workers, once all are there; start TensorFlow.

    An interrupt ends the wait at once. It waits itself in the moment in which TensorFlow joins.

    Parameters
    ----------
    place
        The workers, and which of them this is.
    seconds
        How long to wait for the others.

    Raises :class:`DeviceError` where a worker does not come, the workers differ, or TensorFlow refuses.
    """
    import keras
    import tensorflow as tf

    versions = {
        "TensorFlow": tf.__version__,
        "Keras": keras.__version__,
        "tape_magic": sys.modules["tape_magic"].__version__,
    }
    with guarded_cleanup() as guard, quiet_info(), _kept_sigterm():

        def hold() -> None:
            guard.waits = True

        await_workers(place, seconds, hold, versions)
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": [*place.addresses]}),
            task_type="worker",
            task_id=place.worker,
            rpc_layer="grpc",
        )
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except Exception as error:
            raise DeviceError(
                f"TensorFlow could not join the workers ({describe_error(error)}): restart the kernels."
            ) from error
        _HERE.cluster = Cluster(strategy, place)
    return _HERE.cluster


@contextmanager
def _kept_sigterm() -> Iterator[None]:
    """Leave it to whom it was what SIGTERM does.

    TensorFlow 2.20 to 2.22 handle it from the moment in which workers join (``SigtermNotifier``, for
    ``tf.distribute.experimental.PreemptionCheckpointHandler``): a kernel would then outlive its shutdown, and
    hold its address. No public issue says so.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # Only the main thread may say what signals do. None: not from Python, and out of its reach.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def quiet_info() -> Iterator[None]:
    """Keep back the lines of level INFO that TensorFlow's strategies log through Python."""
    import tensorflow as tf

    logger = tf.get_logger()
    before = logger.level
    logger.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(before)
