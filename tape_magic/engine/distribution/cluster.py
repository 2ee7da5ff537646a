"""The workers that this process has joined, for good: TensorFlow can neither leave them nor join others."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from tape_magic.engine.distribution.lookout import await_workers
from tape_magic.engine.process.interrupts import guarded_cleanup
from tape_magic.errors import DeviceError, describe_error
from tape_magic.results.devices import Membership


@dataclass(eq=False)
class Cluster:
    """The workers that this process computes together with.

    Attributes
    ----------
    strategy
        The ``tf.distribute.MultiWorkerMirroredStrategy``.
    place
        Which of the workers this is, and the addresses of all.
    keys
        Numbers for collectives: each is taken once, and in the same order by all workers.
    runs
        How many runs all workers have begun together.
    """

    strategy: Any
    place: Membership
    keys: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    runs: int = 0

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
        "tape_magic": metadata.version("tape_magic"),
    }
    with guarded_cleanup() as guard, quiet_info():

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
