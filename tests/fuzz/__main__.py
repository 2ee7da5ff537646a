"""``python -m tests.fuzz --seconds 600``: lines of the magics, changed towards code that none has reached.

Needs atheris (``pip install atheris``), which has libFuzzer count the branches of this package that a line
takes. The first line that breaks what ``judge.py`` says ends it, and is shown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("python -m tests.fuzz needs atheris: pip install atheris")

with atheris.instrument_imports(include=["tape_magic", "argparse"]):
    from tests.fuzz.judge import judge_bytes
    from tests.fuzz.seeds import SEEDS, WORDS

parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
parser.add_argument("--seconds", type=int, default=600, help="how long")
parser.add_argument("--seed", type=int, default=1, help="of libFuzzer's random numbers")
parser.add_argument("--corpus", type=Path, help="a folder that keeps the lines that reached something new")
parser.add_argument("--longest", type=int, default=400, help="the bytes of a line")
options = parser.parse_args()

folder = Path(tempfile.mkdtemp(prefix="tape_magic_fuzz"))
corpus = options.corpus or folder / "corpus"
corpus.mkdir(parents=True, exist_ok=True)
for number, seed in enumerate(SEEDS):
    (corpus / f"seed{number}").write_bytes(seed)
words = folder / "words"
written = ["".join(f"\\x{byte:02x}" for byte in word.encode()) for word in WORDS]
words.write_text("".join(f'"{word}"\n' for word in written))
atheris.Setup(
    [
        sys.argv[0],
        str(corpus),
        f"-dict={words}",
        f"-max_total_time={options.seconds}",
        f"-max_len={options.longest}",
        f"-seed={options.seed}",
        f"-artifact_prefix={folder}/",
        "-timeout=20",
        "-print_final_stats=1",
    ],
    judge_bytes,
)
atheris.Fuzz()
