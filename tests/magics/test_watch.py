"""`%tfgpu --watch`: the thread that reads, what it draws on, and how it ends."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from IPython.core.displaypub import CapturingDisplayPublisher

from tape_magic.engine.devices.sampling import Sampler
from tape_magic.errors import DeviceError
from tape_magic.magics import watching
from tape_magic.magics.front_end import VARIABLE
from tape_magic.magics.watching import Watch
from tape_magic.results.watching import Reading, Sample
from tests.support.notebook import Notebook
from tests.support.stub_nvml import StubCard, pynvml

PATIENCE = 300  # seconds until a thread counts as hung; no test waits for them to pass
WIDGET = "application/vnd.jupyter.widget-view+json"


class Reads:
    """Samples that a test counts, and a failure after so many."""

    missing: str | None = None

    def __init__(self, fails_after: int = 10**9) -> None:
        self.taken, self.closed, self.fails_after = 0, False, fails_after

    def sample(self) -> Sample:
        self.taken += 1
        if self.taken > self.fails_after:
            raise OSError("gone")
        return Sample(float(self.taken), (Reading("CPU", "", 1, 2, 0.5),))

    def close(self) -> None:
        self.closed = True


class Shows:
    """What is drawn, and a flag to wait for."""

    def __init__(self, enough: int = 3) -> None:
        self.drawn: list[int] = []
        self.enough, self.reached = enough, threading.Event()
        self.notes: Sequence[str] | None = None

    def show(self, samples: Sequence[Sample]) -> None:
        self.drawn.append(len(samples))
        if len(self.drawn) >= self.enough:
            self.reached.set()

    def finish(self, samples: Sequence[Sample], notes: Sequence[str]) -> None:
        assert self.notes is None
        self.notes = notes


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PERIOD", 0.01)


def test_it_draws_at_once_and_goes_on_until_it_is_stopped() -> None:
    reads, shows = Reads(), Shows()
    watch = Watch(reads, 3600)
    watch.start(shows)
    assert shows.drawn[0] == 1
    assert shows.reached.wait(PATIENCE)
    watch.stop()
    watch._thread.join(PATIENCE)
    watch.stop()
    assert watch.ended
    assert reads.closed
    assert shows.notes is not None
    assert shows.notes[0].startswith("watched until ")
    drawn = len(shows.drawn)
    assert shows.drawn == list(range(1, drawn + 1))


@pytest.mark.parametrize(("reads", "note"), [(Reads(), "watched until"), (Reads(3), "OSError: gone")])
def test_it_ends_by_itself(reads: Reads, note: str, capsys: pytest.CaptureFixture[str]) -> None:
    shows = Shows()
    watch = Watch(reads, 0.05 if note.startswith("watched") else 3600)
    watch.start(shows)
    watch._thread.join(PATIENCE)
    assert watch.ended
    assert shows.notes is not None
    assert any(one.startswith(note) for one in shows.notes)
    assert capsys.readouterr() == ("", "")


def test_no_first_picture_and_nothing_stays_open() -> None:
    reads = Reads(0)
    watch = Watch(reads, 3600)
    with pytest.raises(OSError, match="gone"):
        watch.start(Shows())
    assert reads.closed
    assert watch.ended


@pytest.mark.parametrize("fails", ["WatchView", "display"])
def test_a_picture_that_fails_leaves_no_stub_of_nvml_open(
    shell: Notebook, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("no front end")

    module = pynvml(StubCard("T4"))
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setattr(f"tape_magic.display.live.watch.{fails}", fail)
    shell.ok("%config TapeMagics.progress = 'widget'")
    assert shell.refused("%tfgpu --watch") == "%tfgpu failed: OSError: no front end"
    assert module.opened == 0


@pytest.fixture
def published(shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(shell.shell, "display_pub", publisher)
    return publisher.outputs


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """A /proc with so many busy and idle ticks, from which psutil reads."""
    if not sys.platform.startswith("linux"):
        pytest.skip("a made-up /proc")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    sizes = {"MemTotal": 1000, "MemFree": 100, "MemAvailable": 250, "Buffers": 0, "Cached": 0}
    sizes |= {"Shmem": 0, "Active": 0, "Inactive": 0, "Slab": 0, "SReclaimable": 0}

    def write(busy: int, idle: int) -> None:
        # 40 ticks waiting for a disk, and 30 of a virtual machine, which are among the busy ones
        text = f"cpu  {busy} 0 0 {idle - 40} 40 0 0 0 30 0\ncpu0 1 2 3 4\n"
        (tmp_path / "stat").write_text(text)
        (tmp_path / "meminfo").write_text("".join(f"{name}: {size} kB\n" for name, size in sizes.items()))

    return write


def test_what_is_read_with_a_stub_of_nvml(
    proc: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pynvml(StubCard("T4", total=100, used=25, load=50), StubCard(load=None, total=None))
    monkeypatch.setitem(sys.modules, "pynvml", module)
    proc(100, 100)
    sampler = Sampler()
    proc(175, 125)
    first, second, cpu = sampler.sample().readings
    assert (first.name, first.product, first.share, first.load) == ("GPU 0", "T4", 0.25, 0.5)
    assert (second.share, second.load) == (None, None)
    assert (cpu.used, cpu.total, cpu.load) == (750 * 1024, 1000 * 1024, pytest.approx(0.75))
    assert module.opened == 1
    sampler.close()
    assert module.opened == 0


def test_nothing_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    def refused() -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "cpu_times", refused)
    with pytest.raises(
        DeviceError, match=r"nothing to watch.*(nvidia-ml-py is not installed|no NVIDIA card)"
    ):
        Sampler()


def test_a_load_is_known_without_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    def refused() -> None:
        raise OSError("no such file")

    monkeypatch.setattr(psutil, "virtual_memory", refused)
    (cpu,) = Sampler().sample().readings
    assert (cpu.name, cpu.used, cpu.total) == ("CPU", None, None)


def test_a_widget_and_then_its_picture(published: list[dict[str, Any]], shell: Notebook) -> None:
    run = shell.shell.run_cell
    run("%config TapeMagics.progress = 'widget'")
    assert run("%tfgpu --watch").success
    (first,) = published
    assert {WIDGET, "text/html", "text/plain"} == set(first["data"])
    assert "CPU" in first["data"]["text/plain"]
    magics = shell.shell.magics_manager.registry["TapeMagics"]
    earlier = magics._watch
    assert run("%tfgpu --watch").success  # takes the place of the one before
    assert earlier.ended
    first, last, second = published
    assert last["update"]
    assert last["transient"] == first["transient"]
    assert set(last["data"]) == {"text/html", "text/plain"}
    assert "watched until" in last["data"]["text/html"]
    watch = magics._watch
    watch._shows._button.click()
    assert watch.ended
    assert published[-1]["transient"] == second["transient"]
    assert watch._shows._html.comm is None
    assert magics._watch is None


def test_unloading_ends_it(published: list[dict[str, Any]], shell: Notebook) -> None:
    shell.shell.run_cell("%config TapeMagics.progress = 'widget'\n%tfgpu --watch")
    watch = shell.shell.magics_manager.registry["TapeMagics"]._watch
    shell.shell.run_line_magic("unload_ext", "tape_magic")
    assert watch.ended
    assert published[-1]["update"]


def test_where_nobody_watches_one_picture(shell: Notebook) -> None:
    shell.ok("%config TapeMagics.progress = 'none'")
    (shown,) = shell.ok("%tfgpu --watch").displayed
    assert "base64" in shown.html
    assert shown.text.startswith(("CPU", "GPU"))


def test_in_a_terminal_one_line(shell: Notebook) -> None:
    shell.ok("%config TapeMagics.progress = 'terminal'")
    run = shell.ok("%tfgpu --watch")
    assert run.displayed == ()
    assert run.stdout.count("\n") == 1
    assert "the picture that moves is in a notebook" in run.stdout


def test_it_is_shown_as_runs_are(shell: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "terminal")
    run = shell.ok("%tfgpu --watch")
    assert run.displayed == ()
    assert "the picture that moves is in a notebook" in run.stdout
    monkeypatch.setenv(VARIABLE, "loud")
    assert shell.refused("%tfgpu --watch").startswith("TAPE_MAGIC_PROGRESS is 'loud'; it can be auto")
    shell.ok("%config TapeMagics.progress = 'quiet'")
    assert shell.refused("%tfgpu --watch").startswith("TapeMagics.progress is 'quiet'; it can be auto")


def test_lines_that_do_not_go_with_it(shell: Notebook) -> None:
    assert shell.refused("%tfgpu 0 --watch").startswith(
        "--watch only looks, and sets nothing; leave out INDEX"
    )
    assert "leave out --watch" in shell.refused("%tfgpu --doctor --watch")
    assert "--seed" in shell.refused("%tfgpu --doctor --seed 0")
    assert "-o and -q" in shell.refused("%tfgpu --watch -q")
