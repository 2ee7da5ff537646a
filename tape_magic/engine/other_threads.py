"""The threads that go on beside a run, told from those that do its work."""

from __future__ import annotations

import threading


class OtherThreads:
    """The threads of the program at the time of making, without the one that makes it.

    What TensorFlow calls back into Python runs on threads of its own, which count as the run's, and
    so do threads that the run starts.
    """

    def __init__(self) -> None:
        known = [thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)]
        self._idents = {thread.ident for thread in known} - {threading.get_ident()}

    @property
    def here(self) -> bool:
        """Whether one of them asks."""
        return threading.get_ident() in self._idents
