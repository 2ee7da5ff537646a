"""TensorFlow's log lines, read and kept off the user's screen for a while."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Kept(logging.Filter):
    """Takes every record of this thread for itself; those of others pass as by the level before."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.messages: list[str] = []
        self._level = level
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread not in (None, self._thread):
            return record.levelno >= self._level
        self.messages.append(record.getMessage())
        return False


@contextmanager
def kept_log(*, details: bool = False) -> Iterator[list[str]]:
    """Within this, what TensorFlow logs on this thread goes into the list that it gives.

    With `details`, also what TensorFlow logs for its own developers.
    """
    import tensorflow as tf

    logger: logging.Logger = tf.get_logger()
    level = logger.level
    kept = _Kept(logger.getEffectiveLevel())
    logger.addFilter(kept)
    if details:
        logger.setLevel(logging.DEBUG)
    try:
        yield kept.messages
    finally:
        logger.removeFilter(kept)
        if details:
            logger.setLevel(level)
