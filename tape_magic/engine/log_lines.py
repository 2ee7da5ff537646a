"""TensorFlow's log lines, read and kept off the user's screen for a while."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Kept(logging.Filter):
    """Takes every record for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.messages.append(record.getMessage())
        return False


@contextmanager
def kept_log(*, details: bool = False) -> Iterator[list[str]]:
    """Within this, what TensorFlow logs goes into the list that it gives.

    With `details`, also what TensorFlow logs for its own developers.
    """
    import tensorflow as tf

    logger: logging.Logger = tf.get_logger()
    kept, level = _Kept(), logger.level
    logger.addFilter(kept)
    if details:
        logger.setLevel(logging.DEBUG)
    try:
        yield kept.messages
    finally:
        logger.removeFilter(kept)
        if details:
            logger.setLevel(level)
