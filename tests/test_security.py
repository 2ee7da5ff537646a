"""What SECURITY.md says: no network, and no file written but those asked for and TensorFlow's own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Python tells such a hook of each socket, file and process that is opened. What the compiled parts of
# TensorFlow open it does not see: their files lie in the folders afterwards, their sockets are open ones.
SCRIPT = r"""
import json, os, sys
cells = json.load(open(sys.argv[1]))
seen = []
watched = ("socket.", "subprocess.", "os.", "shutil.", "urllib.", "http.", "tempfile.", "ftplib.", "smtplib.")
quiet = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "tempfile.mkstemp", "tempfile.mkdtemp")

def imports():
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False

def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        writes = set(mode) & set("wax+") if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_RDWR)
        if writes and not imports():
            seen.append([event, str(path)])
    elif event in ("subprocess.Popen", "os.posix_spawn"):
        seen.append(["process", " ".join(str(word) for word in arguments[1])])
    elif event.startswith(watched) and event not in quiet and not imports():
        seen.append([event, str(arguments[0] if arguments else "")])

def sockets():
    found = set()
    for entry in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            found.add(os.readlink(f"/proc/self/fd/{entry}"))
        except OSError:
            pass
    return {one for one in found if one.startswith("socket:")}

from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
import tensorflow
before = sockets()
sys.addaudithook(hook)
failed = []
for cell in cells:
    with capture_output() as captured:
        done = shell.run_cell(cell, store_history=True)
    if not done.success:
        failed.append([cell, captured.stdout + captured.stderr])
found = list(seen)
print("\n" + json.dumps({"failed": failed, "seen": found, "sockets": sorted(sockets() - before)}))
"""

MORE = [
    "%reset -f\n%load_ext tape_magic\nimport tensorflow as tf, numpy as np\nx = tf.Variable(3.0)",
    "%%minimize y --over x --steps 4 --checkpoint saved --resume\ny = (x - 1)**2",
    "%%minimize y --over x --steps 4\nif x > 0:\n    y = (x - 1)**2\nelse:\n    y = x*x",
    "%%minimize --over x --for 'xb in np.ones(8)' --batch 4 --epochs 2\ntf.reduce_sum((x - xb)**2)",
    "%%minimize y --over x --optimizer bfgs\ny = (x - 1)**2",
    "%config TapeMagics.progress = 'widget'",
    "%%minimize y --over x --time 0.8s --engine eager\ny = (x - 1)**2",
    "%%grad dy/dx --inspect\ny = tf.math.log(x - x)",
    "%%grad dy/dx --check\ny = x*x",
    "%tfgpu",
    "%unload_ext tape_magic",
]


@dataclass(frozen=True)
class Traces:
    """What the run left behind."""

    failed: list[list[str]]
    seen: list[list[str]]
    sockets: list[str]
    folder: Path


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    """Nearly all examples and some more cells, in a fresh process with folders of its own."""
    folder = tmp_path_factory.mktemp("security")
    # What the notebook on devices sets up holds until the process ends.
    # Several machines are what its notebook names: it opens connections to them.
    names = (path for path in (ROOT / "examples").glob("*.ipynb") if path.stem != "cluster")
    paths = sorted(names, key=lambda path: path.stem == "devices")
    cells = [
        "".join(cell["source"])
        for path in paths
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code" and "raises-exception" not in cell["metadata"].get("tags", [])
    ]
    (folder / "cells.json").write_text(json.dumps(cells + MORE))
    names = {name: folder / name.lower() for name in ("HOME", "TMPDIR", "IPYTHONDIR", "KERAS_HOME")}
    for path in (*names.values(), folder / "work"):
        path.mkdir()
    environment = os.environ | {name: str(path) for name, path in names.items()}
    environment |= {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Python would keep the compiled form of what AutoGraph writes, beside it.
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder / "cells.json")],
        cwd=folder / "work",
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return Traces(**json.loads(done.stdout.splitlines()[-1]), folder=folder)


def test_every_cell_ran(traces: Traces) -> None:
    # Each of the notebooks has its own devices, of which a process can have only one set.
    assert [one for one in traces.failed if "TensorFlow has already started with other" not in one[1]] == []


def test_no_socket_and_no_process_but_the_doctors(traces: Traces) -> None:
    assert traces.sockets == []
    assert [one for one in traces.seen if one[0].startswith(("socket", "urllib", "http"))] == []
    assert [one for one in traces.seen if re.match(r"os\.(system|exec|fork|spawn)", one[0])] == []
    doctor = ROOT / "tape_magic" / "engine" / "doctor"
    doctors = re.compile(
        rf"{re.escape(sys.executable)} -P {re.escape(str(doctor))}/(probe|trial)_program\.py( .*)?", re.S
    )
    assert [one for event, one in traces.seen if event == "process" and not doctors.match(one)] == []


def test_nothing_is_written_but_the_checkpoint_and_what_autograph_needs(traces: Traces) -> None:
    temporary = traces.folder / "tmpdir"
    ours = re.compile(r"saved(/.*)?")
    autographs = re.compile(re.escape(str(temporary)) + r"(/__autograph_generated_file\w+\.py)?")
    files = [one for one in traces.seen if one[1] != os.devnull and one[0] != "process"]
    others = [one for one in files if not ours.fullmatch(one[1]) and not autographs.fullmatch(one[1])]
    assert others == []
    # The hook does see what is written.
    assert ["os.mkdir", "saved"] in files
    assert any("__autograph_generated_file" in path for _, path in files)


def test_what_lies_in_the_folders_afterwards(traces: Traces) -> None:
    """The compiled parts of TensorFlow write past Python, and the checkpoint is theirs."""
    left = {path.relative_to(traces.folder).as_posix() for path in traces.folder.rglob("*") if path.is_file()}
    work = {path for path in left if path.startswith("work/")}
    assert "work/saved/checkpoint" in work
    assert all(path.startswith(("work/saved/", "work/runs/")) for path in work)
    temporary = {path for path in left if path.startswith("tmpdir/")}
    assert all(re.fullmatch(r"tmpdir/__autograph_generated_file\w+\.py", path) for path in temporary)
