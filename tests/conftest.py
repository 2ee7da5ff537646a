"""The shell that the tests type into, and the two doors that a case goes through."""

from __future__ import annotations

import gc
import itertools
import math
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from tests.support.doors import Door, through_the_magic_once
from tests.support.notebook import Notebook

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Whoever starts the tests in the background may have interrupts ignored, in the kernels they start, too.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is slow, and no fault of what is tested.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.hookimpl(tryfirst=True)  # before the order is drawn anew
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the second runs of a case, and where there is no card of NVIDIA's, what needs one."""
    kept = through_the_magic_once(items)
    if not Path("/dev/nvidia0").exists():
        kept = [item for item in kept if not item.get_closest_marker("gpu")]
    left_out = set(items).difference(kept)
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """With ``--durations``, say how many seconds the tests of each folder took, all workers together."""
    if config.getoption("durations") is None:
        return
    tests, seconds = Counter[str](), Counter[str]()
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            folder = report.nodeid.partition("::")[0].rpartition("/")[0]
            tests[folder] += report.when == "call"
            seconds[folder] += report.duration
    terminalreporter.section("seconds of each folder")
    for folder, spent in seconds.most_common():
        terminalreporter.line(f"{spent:8.1f} s {tests[folder]:6,} tests  {folder}")
    terminalreporter.line(f"{seconds.total():8.1f} s {tests.total():6,} tests  in all")


@pytest.fixture(autouse=True)
def same_initial_weights() -> None:
    """Seed Python's generator, from which Keras draws the seed of an initializer that is given none."""
    random.seed(0)


@pytest.fixture(scope="session")
def interactive_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    """One shell for all tests, apart from the profile and the history of whoever runs them."""
    import tensorflow  # noqa: F401

    folder: Path = tmp_path_factory.mktemp("ipython")
    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    config.InteractiveShell.colors = "NoColor"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder))
        yield InteractiveShell.instance(config=config)
        InteractiveShell.clear_instance()


@pytest.fixture
def bare_shell(interactive_shell: InteractiveShell) -> Notebook:
    """A notebook with nothing in it, before `%load_ext tape_magic`."""
    interactive_shell.reset(new_session=True)
    # A reset collects garbage. What has survived that, TensorFlow's modules and graphs above all, need not be
    # looked through again at each of thousands of resets.
    gc.freeze()
    interactive_shell.config.pop("TapeMagics", None)  # what %config set in the test before
    return Notebook(interactive_shell)


@pytest.fixture
def shell(bare_shell: Notebook) -> Iterator[Notebook]:
    """A notebook with nothing in it but the extension."""
    bare_shell.shell.run_line_magic("load_ext", "tape_magic")
    yield bare_shell
    bare_shell.shell.run_line_magic("unload_ext", "tape_magic")


@pytest.fixture
def no_xla_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA never pays, however slow the machine is: what begins as a graph stays one."""
    from tape_magic.engine.minimization import engine_choice

    monkeypatch.setattr(engine_choice, "XLA_LEAST", math.inf)


@pytest.fixture(params=["function", "magic"])
def door(request: pytest.FixtureRequest, shell: Notebook) -> Door:
    """Return a way in: the magic for the first case of a test, the Python function for the others.

    An only case goes both ways. With the mark ``both_doors``, so it is for each value of the parameters that
    the mark names. The two ways meet at ``grad_program`` and ``minimize_program``: what lies behind these is
    tested once.
    """
    return Door(request.param, shell)
