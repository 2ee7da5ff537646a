"""What the workers of a cluster tell each other in a run, all of it in one order.

Each worker goes through the same calls: a collective ends when all have come to it. So nothing may depend on
a clock or on what one worker alone knows. Before anything that all compute together, they agree: each says
whether it goes on, and some numbers. A worker that fails says so there, and all end with its line.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tape_magic.engine.distribution.cluster import Cluster
from tape_magic.engine.distribution.watch import watched
from tape_magic.engine.internals.coordination import drop_value, put_value, report_error, value_of
from tape_magic.errors import ClusterError, describe_error, in_one_line, shorten

Array = np.ndarray[Any, Any]

PATIENCE = 600.0
"""Seconds for which workers wait for another one, which may trace, compile, save or pause beforehand."""

TELLING, COMPUTING = 1 << 28, (1 << 28) + 1
"""Keys of the group of all workers, beyond those that TensorFlow's strategies count up from 1."""

_SLICE = 0.2
_WIDTH = 6
_MOST_TEXT = 500

_TASK = re.compile(r"/job:worker/(?:replica:0/)?task:(\d+)")
_REPORTED = re.compile(r"Error reported from /job:worker/(?:replica:0/)?task:(\d+): ([^\n]*)")

_SILENT = "stopped sending heartbeats"
"""In what TensorFlow reports in the name of a worker that no longer answers."""

_CAUSES = (
    ("Connection reset", "connection reset"),
    ("Connection refused", "connection refused"),
    ("heartbeat", "it stopped answering"),
    ("timed out", "it took no part within the limit"),
)
"""Parts of TensorFlow's messages, and the cause in words."""


class Together:
    """One run that all workers of a cluster take part in.

    Parameters
    ----------
    cluster
        The workers.
    advice
        How to go on after the loss of a worker, as a sentence; an attribute, too.

    Attributes
    ----------
    workers, place, count
        The workers, which of them this is, and how many there are.
    step
        The steps that are taken, for messages.
    seconds, seconds_of_first
        What the last chunk of steps took here, and what worker 0 has said that it took there.
    computing
        Whether all compute together, so that nobody can say that it fails until all have done so.
    over
        Whether all that is done together is done.
    """

    def __init__(self, cluster: Cluster, advice: str = "") -> None:
        self.workers, self.place, self.count = cluster, cluster.place, cluster.count
        self.step, self.seconds, self.seconds_of_first = 0, 0.0, 0.0
        self.computing = self.over = False
        self.advice = advice

    @property
    def leads(self) -> bool:
        """Whether this is worker 0, whose values, seed and clock are everyone's."""
        return self.place.worker == 0

    # -- agreements ----------------------------------------------------------------------------------

    def begin(self, line: str) -> None:
        """Wait until all workers have begun; an interrupt ends the wait.

        Raises :class:`ClusterError` where another worker's `line`, the settings and the text of what it runs,
        differs, after :data:`PATIENCE` where one does not come, and at once where one was lost before.
        """
        if self.workers.lost:
            raise ClusterError(f"{self.workers.lost}: restart the engines of all workers.")
        key, run = "tape_magic/begun", str(self.workers.runs)
        missing = [one for one in range(self.count) if one != self.place.worker]
        deadline = time.monotonic() + PATIENCE
        if put_value(f"{key}/{self.place.worker}", run):
            try:
                while missing:
                    if value_of(f"{key}/{missing[0]}", _SLICE) == run:
                        missing.pop(0)
                    elif time.monotonic() > deadline:
                        raise ClusterError(
                            f"{self.place.name_of(missing[0])} has not begun this cell: run it on all."
                        )
                    else:
                        time.sleep(_SLICE / 10)  # and an interrupt is heard
            except BaseException:
                drop_value(f"{key}/{self.place.worker}")
                self.over = True  # nobody else has begun
                raise
        said = self.agree(*_digest(line.encode(errors="replace")))
        self.workers.runs += 1
        other = next((one for one in range(self.count) if list(said[one]) != list(said[0])), None)
        if other is not None:
            raise ClusterError(
                f"{self.place.name_of(other)} runs another cell or line than worker 0, or with other "
                "settings: run the same on all."
            )

    def agree(self, *numbers: float) -> Array:
        """Return the numbers of all workers, (workers, numbers), float64, once all have come to this call.

        Raises :class:`ClusterError` with the line of a worker that has failed, or for one that is gone.
        """
        said = self._said("", numbers)
        return said[:, 1 : 1 + len(numbers)]

    def fail(self, error: BaseException) -> None:
        """Tell the other workers that this one fails; they end with its line."""
        if self.over:
            return
        self.over = True
        line = "interrupted" if isinstance(error, KeyboardInterrupt) else describe_error(error)
        if self.computing:
            self._lose(self.place.worker, "has failed", line)
            report_error(shorten(line, _MOST_TEXT))
            return
        try:
            self._said(shorten(line, _MOST_TEXT), ())
        except ClusterError:
            return  # they end, too

    def _said(self, failure: str, numbers: Sequence[float]) -> Array:
        text = failure.encode()[:_MOST_TEXT]
        row = np.zeros([self.count, _WIDTH])
        row[self.place.worker, : 1 + len(numbers)] = [len(text), *numbers]
        said = self.summed(row)
        failed = np.flatnonzero(said[:, 0])
        if not len(failed):
            return said
        first = int(failed[0])
        letters = np.zeros(int(said[first, 0]), np.int32)
        if first == self.place.worker:
            letters[:] = np.frombuffer(text, np.uint8)
        letters = self.summed(letters)
        self.over = True
        line = letters.astype(np.uint8).tobytes().decode(errors="replace")
        raise ClusterError(f"{self.place.name_of(first)} has ended the run: {line}")

    # -- what worker 0 has ---------------------------------------------------------------------------

    def bytes_of_first(self, data: bytes | None) -> bytes:
        """Return the bytes that worker 0 gives; the other workers give ``None``."""
        own = np.frombuffer(data or b"", np.uint8).astype(np.int32)
        size = int(self.agree(len(own) if self.leads else 0)[0, 0])
        if not size:
            return b""
        found = self.summed(own if self.leads else np.zeros(size, np.int32))
        return bytes(found.astype(np.uint8).tobytes())

    def assign_first(self, variables: Sequence[Any]) -> None:
        """Give all variables the values, to the bit, that they have in worker 0.

        Raises :class:`ClusterError` where the workers' variables are of other kinds.
        """
        import tensorflow as tf

        held = [(one.dtype.name, tuple(one.shape)) for one in variables]
        said = self.agree(*_digest(repr(held).encode()))
        if not (said == said[0]).all():
            raise ClusterError(
                "the workers minimise over variables of other shapes: run the same cells on all."
            )
        for variable in variables:
            value = tf.convert_to_tensor(variable)
            whole = tf.cast(value, tf.uint8) if value.dtype == tf.bool else value
            size = whole.dtype.size
            kind = {4: tf.int32, 8: tf.int64}.get(size, tf.uint8)
            bits = tf.cast(tf.bitcast(whole, kind), tf.int64 if size == 8 else tf.int32)
            found = self._reduced(bits if self.leads else tf.zeros_like(bits))
            value = tf.bitcast(tf.cast(found, kind), whole.dtype)
            variable.assign(tf.cast(value, variable.dtype))

    def require_same(self, batch: Sequence[Any], label: str) -> None:
        """Raise :class:`ClusterError` where the first batches of the workers differ."""
        import tensorflow as tf

        parts = tf.nest.flatten(batch, expand_composites=True)
        said = self.agree(*_digest(b"".join(part.numpy().tobytes() for part in parts)))
        for worker in range(1, self.count):
            if list(said[worker]) != list(said[0]):
                raise ClusterError(
                    f"{self.place.name_of(worker)} reads another first batch of {label} than worker 0: give "
                    "each shuffle in it a seed, such as shuffle(1000, seed=0)."
                )

    # -- collectives ---------------------------------------------------------------------------------

    def summed(self, array: Array) -> Array:
        """Return the sum of the arrays of all workers; to be called after an agreement."""
        import tensorflow as tf

        with tf.device("CPU:0"):
            found: Array = self._reduced(tf.constant(array)).numpy()
        return found

    def _reduced(self, tensor: Any) -> Any:
        """Return the sum of the tensors of all workers."""
        import tensorflow as tf

        key = self.workers.next_key()
        with watched(self.place, f"told {key}", PATIENCE), tf.device("CPU:0"):
            try:
                return _all_reduced(tensor, self.count, TELLING, key)
            except tf.errors.OpError as error:
                raise self.lost(error) from None

    def lost(self, error: BaseException) -> ClusterError:
        """Return what to say of an error of TensorFlow's with which a collective has ended."""
        self.over = True
        text = str(error)
        reported = _REPORTED.search(text)
        failed = reported is not None and _SILENT not in reported[2]
        if reported:
            worker, cause = int(reported[1]), reported[2].strip()
        else:
            others = [int(task) for task in _TASK.findall(text) if int(task) != self.place.worker]
            worker = others[0] if others else 1 - self.place.worker if self.count == 2 else -1
            cause = describe_error(error)
        if not failed:
            cause = next((words for part, words in _CAUSES if part in text), cause)
        gone = self._lose(worker, "has failed" if failed else "is gone", cause)
        return in_one_line(ClusterError(f"{gone} after step {self.step:,}. {self.advice}"))

    def _lose(self, worker: int, what: str, cause: str) -> str:
        """Note that the workers can no longer compute together, and return why."""
        who = self.place.name_of(worker) if 0 <= worker < self.count else "a worker"
        gone = f"{who} {what} ({shorten(cause, 200)})"
        self.workers.lost = self.workers.lost or gone
        return gone


def _all_reduced(tensor: Any, count: int, group: int, key: Any) -> Any:
    """Return the sum of the tensors of `count` workers; an operation that a graph may have, too.

    Parameters
    ----------
    tensor
        float16, bfloat16, float32, float64, int32 or int64; of the same shape in all workers.
    count, group
        The number of workers, and the key of their group.
    key
        int32 scalar, the same in all workers; another one for each collective of the group, and for each call
        of a graph.
    """
    import tensorflow as tf

    return tf.raw_ops.CollectiveReduceV2(
        input=tensor,
        group_size=count,
        group_key=group,
        instance_key=key,
        ordering_token=[],
        merge_op="Add",
        final_op="Id",
    )


def summed_over_workers(tensors: Sequence[Any], workers: Cluster, key: Any) -> list[Any]:
    """Return the sums over all workers of some tensors, in one collective for each dtype; part of a graph.

    Parameters
    ----------
    tensors
        Of any numeric dtype and shape, the shapes the same in all workers.
    workers
        The workers.
    key
        int32 scalar; the next :data:`STRIDE` - 1 numbers are taken, too.
    """
    import tensorflow as tf

    carried = [_carrier(tensor) for tensor in tensors]
    found: list[Any] = [None] * len(tensors)
    for number, dtype in enumerate(dict.fromkeys(one.dtype for one in carried)):
        places = [place for place, one in enumerate(carried) if one.dtype == dtype]
        flat = tf.concat([tf.reshape(carried[place], [-1]) for place in places], 0)
        summed = _all_reduced(flat, workers.count, COMPUTING, key + number)
        sizes = [tf.size(carried[place]) for place in places]
        for place, part in zip(places, tf.split(summed, sizes), strict=True):
            shaped = tf.reshape(part, tf.shape(carried[place]))
            shaped.set_shape(carried[place].shape)
            found[place] = _carried(shaped, tensors[place].dtype)
    return found


def _carrier(tensor: Any) -> Any:
    """Return a tensor in a dtype that collectives add: integers that they lack by their bits."""
    import tensorflow as tf

    dtype = tensor.dtype
    if dtype in (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int32, tf.int64):
        return tensor
    if dtype in (tf.uint32, tf.uint64):
        return tf.bitcast(tensor, tf.int32 if dtype == tf.uint32 else tf.int64)
    return tf.cast(tensor, tf.int32)


def _carried(tensor: Any, dtype: Any) -> Any:
    import tensorflow as tf

    return tf.bitcast(tensor, dtype) if dtype in (tf.uint32, tf.uint64) else tf.cast(tensor, dtype)


def is_collective(error: BaseException) -> bool:
    """Return whether TensorFlow's error is that of a collective, and not of what was computed."""
    return "Collective" in str(error)


def _digest(data: bytes) -> tuple[float, float]:
    """Return two numbers that tell some bytes from others."""
    found = hashlib.sha256(data).digest()
    return float(int.from_bytes(found[:6])), float(int.from_bytes(found[6:12]))
