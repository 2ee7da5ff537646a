"""``python -m tests.soak.killed --rounds 10``: runs that are killed at random moments end with the same bits.

Each round kills a run twice with SIGKILL, and lets it go on; it has to end as the run that nobody cut.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.soak.killed_cases import DATA, ENGINES
from tests.support.forks import Forks

KILLS = 2


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.killed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="rounds of each engine over each kind of data")
    parser.add_argument("--seed", type=int, default=0, help="where the moments are drawn from")
    parser.add_argument("--engine", choices=ENGINES, nargs="+", default=ENGINES)
    options = parser.parse_args()
    generator, faults = np.random.default_rng(options.seed), 0
    with tempfile.TemporaryDirectory(prefix="tape_magic_killed") as name:
        forks = Forks("tests.soak.killed_cases", {}, Path(name))
        folder = Path(name) / "run"
        for engine in options.engine:
            for kind in DATA:
                uncut = forks.run("run", engine, kind, None, None)
                seconds, killed, same = uncut.pop("seconds"), 0, 0
                for _ in range(options.rounds):
                    shutil.rmtree(folder, ignore_errors=True)
                    for _ in range(KILLS):
                        cut = "seconds", round(float(generator.uniform(0.0, seconds)), 4)
                        killed += forks.status("run", engine, kind, str(folder), cut) != 0
                    ended = forks.run("run", engine, kind, str(folder), None)
                    # A run that was over when it was killed has nothing to do, and no engine but the first.
                    different = [key for key in uncut if key != "engine" and ended[key] != uncut[key]]
                    same += not different
                    if different:
                        print(f"  {', '.join(different)}: not the same", flush=True)
                faults += options.rounds - same
                print(
                    f"{engine}, {kind}: {same} of {options.rounds} as uncut, {killed} kills, ended by "
                    f"{uncut['engine']}, {seconds:.1f} s uncut",
                    flush=True,
                )
        forks.close()
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
