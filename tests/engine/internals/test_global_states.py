"""Random states, contexts and settings in versions that lack one of the private parts that hold them."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function import eager_function_run

from tape_magic.engine.internals.contexts import (
    capture_call_context,
    restore_after_interrupt,
    run_eagerly_here,
)
from tape_magic.engine.internals.device_config import (
    end_determinism,
    forget_logical_devices,
    is_deterministic,
)
from tape_magic.engine.internals.random_state import preserve_random_state, seed_restorer, tensorflow_seed
from tests.support.other_version import remove_module

HOLDERS = ["tensorflow.python.eager.context", "tensorflow.python.ops.stateful_random_ops"]
HOLDERS += ["keras.src.backend.common.global_state"]


def drawn() -> tuple[float, float]:
    return random.random(), float(np.random.random())


@pytest.mark.parametrize("missing", HOLDERS)
def test_the_other_random_states_are_preserved(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    random.seed(1)
    np.random.seed(1)
    expected = drawn()
    random.seed(1)
    np.random.seed(1)
    remove_module(monkeypatch, missing)
    with preserve_random_state():
        drawn()
    restore = seed_restorer()
    first = drawn()
    restore()
    assert first == drawn() == expected


@pytest.mark.parametrize("part", ["_rng", "_seed"])
def test_a_context_without_its_seeds(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    tf.random.set_seed(3)
    assert tensorflow_seed() == 3
    monkeypatch.delattr(context.context(), part)
    assert tensorflow_seed() == (None if part == "_seed" else 3)
    with preserve_random_state():
        random.random()
    seed_restorer()()


def test_an_interrupt_passes_where_contexts_cannot_be_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ag_ctx, "_control_ctx")
    with pytest.raises(KeyboardInterrupt), restore_after_interrupt():
        raise KeyboardInterrupt


def test_a_thread_calls_functions_where_nothing_can_be_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(context.Context, "function_call_options")
    with capture_call_context()():
        assert float(tf.constant(2.0) * 3.0) == 6.0


def test_functions_of_all_threads_run_eagerly_where_the_flag_is_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(eager_function_run, "RUN_FUNCTIONS_EAGERLY")
    seen: list[bool] = []
    for wanted in (True, False):
        run_eagerly_here(wanted)
        thread = threading.Thread(target=lambda: seen.append(tf.config.functions_run_eagerly()))
        thread.start()
        thread.join()
        # The public setting has put the flag where it was taken from.
        monkeypatch.delattr(eager_function_run, "RUN_FUNCTIONS_EAGERLY")
    assert seen == [True, False]


def test_determinism_that_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow.python.framework import config

    with monkeypatch.context() as patch:
        patch.delattr(config, "is_op_determinism_enabled")
        patch.delattr(config, "disable_op_determinism")
        assert not is_deterministic()
        with pytest.raises(RuntimeError, match="no way to end determinism; restart the kernel"):
            end_determinism()
    remove_module(monkeypatch, "tensorflow.python.framework.config")
    assert not is_deterministic()
    with pytest.raises(RuntimeError, match="no way to end determinism"):
        end_determinism()


@pytest.mark.parametrize("missing", ["map", "module"])
def test_logical_devices_that_cannot_be_forgotten(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    device: Any = object()
    forget_logical_devices(device)
    if missing == "map":
        monkeypatch.delattr(context.context(), "_virtual_device_map")
    else:
        remove_module(monkeypatch, "tensorflow.python.eager.context")
    with pytest.raises(RuntimeError, match="no way to take logical devices back; restart the kernel"):
        forget_logical_devices(device)
