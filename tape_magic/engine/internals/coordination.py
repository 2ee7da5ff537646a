"""TensorFlow's coordination service, which all workers reach: values by keys, and errors for all.

Private (seen in TensorFlow 2.20 and 2.21). Where a version lacks it, no value is there, and nobody is told.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

UNAVAILABLE = 14
"""The code of the error that all workers are told."""

DEADLINE_EXCEEDED = 4
"""The code of the error of a wait that takes too long."""


def _service() -> Any:
    try:
        from tensorflow.python.eager import context

        return context.context()
    except (ImportError, AttributeError):
        return None


def put_value(key: str, value: str) -> bool:
    """Leave a value for all workers, in place of an earlier one; return whether that is possible."""
    import tensorflow as tf

    service = _service()
    try:
        with suppress(tf.errors.OpError):
            service.delete_config_key_value(key)
        service.set_config_key_value(key, value)
    except (AttributeError, TypeError, ValueError, RuntimeError, tf.errors.OpError):
        return False
    return True


def value_of(key: str, seconds: float) -> str | None:
    """Return a value, waiting for it if need be; ``None`` where it does not come. Nothing interrupts this."""
    import tensorflow as tf

    try:
        return str(_service().get_config_key_value(key, timeout_in_ms=max(1, round(1000 * seconds))))
    except (AttributeError, TypeError, ValueError, RuntimeError, tf.errors.OpError):
        return None


def drop_value(key: str) -> None:
    """Take a value back."""
    import tensorflow as tf

    with suppress(AttributeError, TypeError, ValueError, RuntimeError, tf.errors.OpError):
        _service().delete_config_key_value(key)


def report_error(text: str) -> None:
    """Have all collectives of all workers end with an error, at once and for good."""
    import tensorflow as tf

    with suppress(AttributeError, TypeError, ValueError, RuntimeError, tf.errors.OpError):
        _service().report_error_to_cluster(UNAVAILABLE, text)


def end_collectives(text: str) -> None:
    """Have all collectives of this worker end with an error, at once and for good."""
    import tensorflow as tf

    with suppress(AttributeError, TypeError, ValueError, RuntimeError, tf.errors.OpError):
        _service().abort_collective_ops(DEADLINE_EXCEEDED, text)
