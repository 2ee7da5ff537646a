"""TensorFlow's log lines, captured from one thread for a while and kept off the user's screen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _ThreadFilter(logging.Filter):
    """Takes the records of the threads that capture; those of others pass at the level that was set before.

    One filter serves all threads, since the logger and its level belong to the whole process.
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
def capture_log(*, details: bool = False) -> Iterator[list[str]]:
    """Capture what TensorFlow logs on this thread in the block; yield the list that the messages go into.

    With `details`, messages of any level are captured, also those for TensorFlow's own developers.
    """
    import tensorflow as tf

    logger: logging.Logger = tf.get_logger()
    messages: list[str] = []
    thread = threading.get_ident()
    with _LOCK:
        installed = next((one for one in logger.filters if isinstance(one, _ThreadFilter)), None)
        taking = installed or _ThreadFilter(logger)
        taking.messages.setdefault(thread, []).append(messages)
        logger.addFilter(taking)
        if details:
            logger.setLevel(logging.DEBUG)
    try:
        yield messages
    finally:
        with _LOCK:
            taking.messages[thread].pop()
            if not taking.messages[thread]:
                del taking.messages[thread]
            if not taking.messages:
                logger.removeFilter(taking)
                logger.setLevel(taking.level)
