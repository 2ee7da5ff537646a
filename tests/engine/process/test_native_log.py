"""TensorFlow's own log lines: which are dropped, and that nothing else is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tape_magic.engine.process import native_log
from tape_magic.engine.process.kernel_stderr import KernelLog
from tape_magic.engine.process.native_log import VARIABLE, QuietDefault, without_log_lines

ROOT = Path(__file__).resolve().parents[3]

CELLS = """
import os
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

shell = InteractiveShell.instance(config=Config({"HistoryManager": {"hist_file": ":memory:"}}))

def run(cell):
    assert shell.run_cell(cell).success

def say(text):
    os.write(2, f"{text}\\n".encode())

"""
LOAD, IMPORT = 'run("%load_ext tape_magic")\n', 'run("import tensorflow as tf\\nx = tf.Variable(3.0)")\n'
MINIMIZE = "run(\"%%minimize --steps 3 --engine xla\\nos.write(2, b'mine\\\\n')\\nx**2\")\n"


def stderr_of(code: str, tmp_path: Path) -> list[str]:
    """What a fresh process writes to its standard error, with nothing set that TensorFlow reads."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "CUDA_"))}
    done = subprocess.run(
        [sys.executable, "-c", CELLS + code],
        env=kept | {"IPYTHONDIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr.splitlines()


def test_a_first_notebook_has_no_line_of_tensorflows(tmp_path: Path) -> None:
    compiling = "[one.join() for one in threading.enumerate() if one.name.startswith('tape_magic')]"
    after = f'import threading\n{compiling}\nsay("end")'
    lines = stderr_of(LOAD + IMPORT + "shell.user_ns['os'] = os\n" + MINIMIZE + after, tmp_path)
    assert lines[-1] == "end"
    assert set(lines[:-1]) == {"mine"}


def test_only_warnings_and_errors_pass_while_a_magic_runs(tmp_path: Path) -> None:
    """TensorFlow was imported first, and the run is the first that compiles with XLA, which logs that."""
    if native_log_is_beyond_reach():
        pytest.skip("TensorFlow 2.20 logs by a level that only a kernel can make up for")
    code = IMPORT + LOAD + "shell.user_ns['os'] = os\n" + 'say("begin")\n' + MINIMIZE + 'say("end")'
    lines = stderr_of(code, tmp_path)
    assert any(line.startswith("I0000") for line in lines[: lines.index("begin")]), "the import's"
    assert set(lines[lines.index("begin") + 1 : lines.index("end")]) == {"mine"}


def native_log_is_beyond_reach() -> bool:
    import tensorflow as tf

    return bool(tf.__version__.startswith("2.20."))


def test_lines_below_the_level_are_dropped_and_no_others() -> None:
    info = b"I0000 00:00:1795979788.488091    4912 port.cc:153] oneDNN custom operations are on.\n"
    dated = b"2026-11-29 19:20:49.958584: I external/local_xla/xla/service.cc:163] XLA service\n"
    error = b"E0000 00:00:1795979791.132961    4912 cuda_platform.cc:52] failed call to cuInit\n"
    warned = b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    mine = b"Info: step 3\nI0000 is my part number\n2026-11-29 19:20:49 done\nno end of line"
    assert without_log_lines(warned + info + dated + error + mine, 1) == error + mine
    assert without_log_lines(error + mine, 3) == mine
    assert without_log_lines(info + mine, 0) == info + mine


class BuildForGPUs:
    """Of TensorFlow, what looks for GPUs, and logs two errors, one of them about GPUs."""

    looked = 0

    def __init__(self) -> None:
        self.test, self.config = SimpleNamespace(is_built_with_cuda=lambda: True), self

    def list_physical_devices(self, kind: str) -> None:
        self.looked += 1
        os.write(2, f"{ABOUT_GPUS}\n{ABOUT_MEMORY}\n".encode())


ABOUT_GPUS = "E0000 00:00:1795979791.132961    4912 cuda_platform.cc:52] failed call to cuInit"
ABOUT_MEMORY = "E0000 00:00:1795979791.132961    4912 allocator.cc:52] out of memory"


def test_where_there_is_no_driver_only_the_error_about_that_is_dropped(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    build = BuildForGPUs()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(native_log, "_DRIVER", "lib_there_is_none.so.1")
    native_log._look_for_gpus(build)
    assert build.looked == 1
    assert capfd.readouterr().err == f"{ABOUT_MEMORY}\n"


def test_where_there_is_a_driver_nothing_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    build = BuildForGPUs()
    monkeypatch.setattr(native_log.ctypes, "CDLL", lambda name: None)
    native_log._look_for_gpus(build)
    assert build.looked == 0


def test_a_build_that_cannot_look_is_imported_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(native_log, "_DRIVER", "lib_there_is_none.so.1")
    native_log._look_for_gpus(SimpleNamespace())
    assert capfd.readouterr().err == ""


def test_the_default_is_set_only_before_tensorflow_and_where_nobody_has_set_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    default = QuietDefault()
    monkeypatch.setenv(VARIABLE, "0")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    default.begin()
    assert os.environ[VARIABLE] == "0"
    assert not default.holds
    monkeypatch.delenv(VARIABLE)
    finders = list(sys.meta_path)
    default.begin()
    assert default.holds
    assert os.environ[VARIABLE] == "1"
    default.end()
    assert VARIABLE not in os.environ
    assert sys.meta_path == finders
    monkeypatch.setitem(sys.modules, "tensorflow", sys)
    default.begin()
    assert VARIABLE not in os.environ


def test_a_kernel_drops_lines_of_the_time_of_a_run_in_pieces_too() -> None:
    written = io.StringIO()
    stream = SimpleNamespace(write=written.write, watch_fd_thread=threading.current_thread())
    log = KernelLog.of(stream)
    assert log is not None
    assert KernelLog.of(stream) is log
    before = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time.time() - 100))
    log.begin()
    line = (
        f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(time.time() + 1))}.500000: I xla/a.cc:163] XLA\n"
    )
    mine = f"{before}.500000: I xla/a.cc:163] before\n{line.replace(': I ', ': E ')}{before[:10]}"
    for piece in (line[:40], line[40:], line[:24], line[24:] + mine, "3", "4\n"):
        stream.write(piece)
    assert written.getvalue() == mine + "34\n"
    log.end()
    stream.watch_fd_thread = None  # what Python itself prints
    stream.write(line)
    assert written.getvalue() == mine + "34\n" + line


def test_a_stream_that_is_no_kernels_is_left_alone() -> None:
    assert KernelLog.of(io.StringIO()) is None
