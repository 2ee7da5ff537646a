"""TensorFlow's log lines, read and kept off the user's screen for a while."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _ThreadFilter(logging.Filter):
    """Takes the records of the threads that keep them; those of others pass as by the level before.

    One for all threads, since the logger and its level are the whole program's.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.level, self._shown = logger.level, logger.getEffectiveLevel()
        self.messages: dict[int, list[list[str]]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        mine = self.messages.get(threading.get_ident())
        if not mine:
            return record.levelno >= self._shown
        mine[-1].append(record.getMessage())
        return False


_LOCK = threading.Lock()


@contextmanager
def kept_log(*, details: bool = False) -> Iterator[list[str]]:
    """Within this, what TensorFlow logs on this thread goes into the list that it gives.

    With `details`, also what TensorFlow logs for its own developers.
    """
    import tensorflow as tf

    logger: logging.Logger = tf.get_logger()
    messages: list[str] = []
    thread = threading.get_ident()
    with _LOCK:
        kept = next((one for one in logger.filters if isinstance(one, _ThreadFilter)), None) or _ThreadFilter(
            logger
        )
        kept.messages.setdefault(thread, []).append(messages)
        logger.addFilter(kept)
        if details:
            logger.setLevel(logging.DEBUG)
    try:
        yield messages
    finally:
        with _LOCK:
            kept.messages[thread].pop()
            if not kept.messages[thread]:
                del kept.messages[thread]
            if not kept.messages:
                logger.removeFilter(kept)
                logger.setLevel(kept.level)
