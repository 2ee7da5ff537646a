"""Output of a repeated run, hidden, and the streams that stand in for the notebook's meanwhile."""

from __future__ import annotations

import gc
import io
import sys
import threading
import weakref
from contextlib import redirect_stderr, redirect_stdout

from tape_magic.engine.process.output import hide_output


def test_a_stream_that_stood_in_lives_on() -> None:
    """Another thread may be within print, which holds no reference to the stream (python/cpython#130163)."""
    seen = []
    with redirect_stdout(io.StringIO()) as stdout:
        for _ in range(3):
            with hide_output():
                seen.append(weakref.ref(sys.stdout))
            gc.collect()
        assert sys.stdout is stdout
        held = seen[0]()
        assert held is not None
        assert all(one() is held for one in seen)
        print("late", file=held)
    assert stdout.getvalue() == "late\n"


def test_what_other_threads_print_passes() -> None:
    go, done = threading.Event(), threading.Event()

    def speak() -> None:
        go.wait(60)
        print("from beside")
        done.set()

    with redirect_stdout(io.StringIO()) as stdout:
        thread = threading.Thread(target=speak)
        thread.start()
        with hide_output():
            print("hidden")
            go.set()
            assert done.wait(60)
        thread.join()
        print("shown")
    assert stdout.getvalue() == "from beside\nshown\n"


class OfFileOne(io.StringIO):
    """A stream that says that it writes to file 1, whose text waits while the file is muted."""

    def fileno(self) -> int:
        return 1


def test_what_waited_is_written_once_where_both_streams_are_one() -> None:
    stream = OfFileOne()
    with redirect_stdout(stream), redirect_stderr(stream):
        go = threading.Event()
        thread = threading.Thread(target=lambda: (go.wait(60), print("from beside")))
        thread.start()
        with hide_output():
            go.set()
            thread.join(60)
    assert stream.getvalue() == "from beside\n"


def test_within_itself() -> None:
    with redirect_stdout(io.StringIO()) as stdout:
        with hide_output():
            print("hidden")
            with hide_output():
                print("hidden")
            print("hidden")
        print("shown")
    assert stdout.getvalue() == "shown\n"
