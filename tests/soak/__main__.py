"""``python -m tests.soak --cells 2000 --seed 1``: the soak as long as you like."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.soak.soak import Soak

parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
parser.add_argument("--cells", type=int, default=2000, help="how many cells")
parser.add_argument("--seed", type=int, default=0, help="the same cells for the same seed")
parser.add_argument("--verbose", action="store_true", help="say each cell")
options = parser.parse_args()

with tempfile.TemporaryDirectory(prefix="tape_magic_soak") as folder:
    said = (lambda text: print(text, flush=True)) if options.verbose else (lambda text: None)
    soak = Soak(Path(folder), options.seed, said)
    try:
        report = soak.run(options.cells)
    finally:
        soak.close()
print(report)
sys.exit(bool(report.faults))
