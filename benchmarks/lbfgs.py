"""Times ``--optimizer lbfgs`` beside ``--optimizer l-bfgs-b``, which is SciPy's, and beside optax's L-BFGS.

    python -m benchmarks.lbfgs
    python -m benchmarks.lbfgs --quick

Contestants run in turns in one process, from the same numbers in float32, all compiled before they are timed.
The time of an iteration is (a run of many iterations − a run of one) / iterations; the time to the minimum is
that of a run until the loss is at most a target, the same for all. optax, of the extra ``bench``, runs as one
compiled loop that records nothing; ours have the live display on. ``auto`` chooses its engine before it is
timed, by runs that are not counted. The tables are Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.minimize import Notebook, Row, race_of, step_times, table
from benchmarks.problems import Problem, Run, problems, tensors
from benchmarks.side_by_side import Race, RaceTimes, environment, run

OURS, XLA = "lbfgs", "lbfgs --engine xla"
SCIPY, OPTAX = "l-bfgs-b", "optax.lbfgs, jitted"
SETTLING = 10
"""So many whole runs of ours come first."""

Search = Callable[[int, float], int]
"""Puts the start values back, iterates at most so often and until the loss is at most a target, and returns
the number of iterations."""


@dataclass(frozen=True)
class Task:
    """A problem, and the loss that counts as its minimum; iterations for the time of one."""

    problem: Problem
    target: float
    iterations: int


def main() -> None:
    """Time all contestants, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, which only show that it works")
    rounds = 2 if parser.parse_args().quick else 11
    notebook = Notebook()
    print(environment("tensorflow", "keras", "numpy", "scipy", "jax", "optax"))
    print(f"load before: {', '.join(f'{load:.2f}' for load in os.getloadavg())}\n")
    for task in tasks(notebook):
        searches = {
            OURS: by_cell(notebook, task.problem, OURS),
            XLA: by_cell(notebook, task.problem, XLA),
            SCIPY: by_cell(notebook, task.problem, SCIPY),
            OPTAX: by_optax(task.problem),
        }
        for _ in range(SETTLING):
            searches[OURS](100_000, task.target)
        iterations = race_of(
            task.problem.name,
            {name: _counted(search) for name, search in searches.items()},
            dict.fromkeys(searches, task.iterations),
            rounds,
        )
        taken = {name: search(100_000, task.target) for name, search in searches.items()}
        whole = run(
            Race(
                task.problem.name,
                {name: _whole(search, task.target) for name, search in searches.items()},
                rounds,
                warm_up=1,
            )
        )
        ratios = "auto to it", "XLA to it"
        head = task.problem.name, "µs an iteration", *ratios, "iterations", f"to {task.target:.6g}", *ratios
        print(table(head, rows(task, iterations, taken, whole)), flush=True)


def tasks(notebook: Notebook) -> list[Task]:
    """Return the three tasks; the minimum of the regression is found first."""
    _, rosenbrock, logistic, network = problems()
    rosenbrock = replace(
        rosenbrock,
        name="Rosenbrock-100",
        start={"w": np.where(np.arange(100) % 2, 1.0, -1.2).astype(np.float32)},
    )
    logistic = replace(logistic, name="logistic regression 10,000 × 100")
    network = replace(network, name="MLP 784-128-10, 101,770 weights, batch 1024")
    by_cell(notebook, logistic, OURS)(1000, -np.inf)
    lowest = float(notebook.shell.user_ns["minimum"].loss)
    return [
        Task(rosenbrock, 1e-6, 200),
        Task(logistic, lowest * (1 + 1e-5), 20),
        Task(network, 1e-2, 20),
    ]


def by_cell(notebook: Notebook, problem: Problem, optimizer: str) -> Search:
    """Return the search as a cell; the same arguments give the same text."""
    names = tensors(problem)
    line = f"%%minimize loss --over {' '.join(problem.start)} --optimizer {optimizer}"

    def search(iterations: int, target: float) -> int:
        notebook.shell.user_ns.update(names)
        for name, value in problem.start.items():
            names[name].assign(value)
        wanted = f" --target {target!r}" if np.isfinite(target) else ""
        notebook.run(f"{line} --steps {iterations}{wanted}\n{problem.cell}")
        return int(notebook.shell.user_ns["minimum"].steps)

    return search


def by_optax(problem: Problem) -> Search:
    """Return the search by optax's L-BFGS with its own zoom line search, as one compiled loop."""
    import jax
    import optax

    optimizer = optax.lbfgs(memory_size=10)
    start = {name: jax.numpy.asarray(value) for name, value in problem.start.items()}
    data = {name: jax.numpy.asarray(value) for name, value in problem.data.items()}

    @jax.jit
    def loop(start: Any, data: Any, iterations: Any, target: Any) -> Any:
        def loss(parameters: Any) -> Any:
            return problem.jax_loss(parameters, data)

        def body(carried: Any) -> Any:
            count, parameters, state, _ = carried
            value, gradients = optax.value_and_grad_from_state(loss)(parameters, state=state)
            updates, state = optimizer.update(
                gradients, state, parameters, value=value, grad=gradients, value_fn=loss
            )
            found = optax.tree.get(state, "value")
            return count + 1, optax.apply_updates(parameters, updates), state, found

        def goes_on(carried: Any) -> Any:
            return (carried[0] < iterations) & (carried[3] > target)

        return jax.lax.while_loop(goes_on, body, (0, start, optimizer.init(start), jax.numpy.inf))

    def search(iterations: int, target: float) -> int:
        return int(jax.block_until_ready(loop(start, data, iterations, target))[0])

    return search


def _counted(search: Search) -> Run:
    return lambda iterations: search(iterations, -np.inf)


def _whole(search: Search, target: float) -> Callable[[], object]:
    return lambda: search(100_000, target)


def rows(task: Task, times: RaceTimes, taken: dict[str, int], whole: RaceTimes) -> Iterator[Row]:
    """Yield a row for each contestant: its times, and ours divided by them, `auto` first."""
    steps = {name: step_times(times, name, task.iterations) for name in whole.seconds}
    for name, total in whole.seconds.items():
        yield (
            name,
            f"{1e6 * statistics.median(steps[name]):,.1f}",
            *(_ratio(steps[ours], steps[name]) for ours in (OURS, XLA)),
            f"{taken[name]:,}",
            f"{1e3 * statistics.median(total):,.1f} ms",
            *(_ratio(whole.seconds[ours], total) for ours in (OURS, XLA)),
        )


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the median of the ratios, and the quartiles, which tell the spread."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True) if other > 0]
    if len(ratios) < 2:
        return "–"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
