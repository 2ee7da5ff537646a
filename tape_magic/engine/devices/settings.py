"""The settings beside the devices: allocator, precision, determinism, placement, seed, memory peak."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tape_magic.engine.devices.state import DeviceState
from tape_magic.engine.devices.words import ALLOCATORS, PRECISIONS
from tape_magic.engine.internals.device_config import end_determinism, is_deterministic
from tape_magic.engine.internals.log_level import show_log
from tape_magic.engine.internals.random_state import seed_restorer
from tape_magic.errors import DeviceError, closest, shorten


def peak_reset(tf: Any, state: DeviceState, started: bool) -> tuple[tuple[Change, ...], str]:
    """Return the change that resets the memory peak of every visible GPU, and the note for the report.

    Before TensorFlow has started there is no peak to reset, and asking for one would start TensorFlow.
    """
    if not state.visible:
        return (), "No GPU is in use, so there is no peak to reset: TensorFlow counts no memory of the CPU."
    if not started:
        return (), "TensorFlow has not started, so there is no peak of memory to reset."
    logical = tf.config.list_logical_devices("GPU")
    names = [device.name.removeprefix("/device:") for device in logical]

    def reset() -> None:
        for name in names:
            tf.config.experimental.reset_memory_stats(name)

    # A reset cannot be undone, so that `carry_out` makes this change last: nothing after it can fail.
    change = Change("the peak of memory", reset, lambda: None, lambda: True)
    return (change,), f"The peak of memory begins anew on {', '.join(names)}."


ALLOCATOR = "TF_GPU_ALLOCATOR"

_SEED_LIMIT = 2**32
"""NumPy refuses seeds from here on."""


@dataclass(frozen=True)
class RuntimeSettings:
    """The settings that a request names; None and False leave a setting as it is."""

    allocator: str | None = None
    precision: str | None = None
    deterministic: bool = False
    placement: bool = False
    seed: int | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The options of the magic line that ask for these settings."""
        valued = {"--allocator": self.allocator, "--precision": self.precision, "--seed": self.seed}
        words = [f"{flag} {value}" for flag, value in valued.items() if value is not None]
        words += ["--deterministic"] * self.deterministic + ["--placement"] * self.placement
        return tuple(words)


NOTHING = RuntimeSettings()
"""Settings that change nothing."""


def read_settings(
    allocator: str | None, precision: str | None, deterministic: bool, placement: bool, seed: int | None
) -> RuntimeSettings:
    """Return the arguments as :class:`RuntimeSettings`; raise `DeviceError` for an unknown value."""
    for label, value, known in (("allocator", allocator, ALLOCATORS), ("precision", precision, PRECISIONS)):
        if value is not None and value not in known:
            near = closest(str(value), known)
            raise DeviceError(f"{label} {shorten(repr(value))} is none of {', '.join(known)}{near}.")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise DeviceError(f"seed {shorten(repr(seed))} is not a whole number.")
    if seed is not None and not 0 <= seed < _SEED_LIMIT:
        raise DeviceError(f"seed {shorten(str(seed))} is out of range: NumPy takes 0 to {_SEED_LIMIT - 1}.")
    return RuntimeSettings(allocator, precision, bool(deterministic), bool(placement), seed)


def allocator_now(environ: Mapping[str, str] = os.environ) -> str:
    """Return the name of the allocator that the environment selects, which TensorFlow reads at its start."""
    named = environ.get(ALLOCATOR)
    return named if named in ALLOCATORS else "bfc"


@dataclass(frozen=True)
class Change:
    """One setting to change.

    Attributes
    ----------
    text
        The name of the setting in messages.
    do, undo
        Set the new value, and the value from before.
    holds
        Whether the setting has the new value.
    difference
        The clause for an error after TensorFlow's start, for a setting that TensorFlow reads only once;
        empty for a setting that can be changed at any time.
    """

    text: str
    do: Callable[[], object]
    undo: Callable[[], object]
    holds: Callable[[], bool] = lambda: False
    difference: str = ""


def changes_of(tf: Any, wanted: RuntimeSettings) -> tuple[Change, ...]:
    """Return the changes that bring the settings about, in order; none for a setting that is so already.

    The seed is not among these: `reseed` sets it every time.
    """
    found = []
    if wanted.allocator not in (None, allocator_now()):
        found.append(_allocator(str(wanted.allocator)))
    if wanted.precision not in (None, precision_now()):
        found.append(_precision(tf, str(wanted.precision)))
    if wanted.deterministic and not is_deterministic():
        enable = tf.config.experimental.enable_op_determinism
        found.append(Change("determinism", lambda: enable(), end_determinism, is_deterministic))
    if wanted.placement and not placement_now(tf):
        log = tf.debugging.set_log_device_placement
        is_on = partial(placement_now, tf)
        found.append(Change("the log of placement", lambda: log(True), lambda: log(False), is_on))
    return tuple(found)


def _allocator(name: str) -> Change:
    before = os.environ.get(ALLOCATOR)

    def put(value: str | None) -> None:
        if value is None:
            os.environ.pop(ALLOCATOR, None)
        else:
            os.environ[ALLOCATOR] = value

    return Change(
        "the allocator",
        lambda: put(None if name == "bfc" else name),
        lambda: put(before),
        lambda: allocator_now() == name,
        f"the allocator is {allocator_now()}, not {name}",
    )


def _precision(tf: Any, name: str) -> Change:
    policies = tf.keras.mixed_precision
    before = policies.global_policy()
    return Change(
        "the precision",
        lambda: policies.set_global_policy(name),
        lambda: policies.set_global_policy(before),
        lambda: bool(policies.global_policy().name == name),
    )


def precision_now() -> str:
    """Return the name of Keras's precision policy.

    Before Keras is imported the policy is the default; importing it just to ask would take a second.
    """
    tf = sys.modules.get("tensorflow")
    if tf is None or not {"keras", "tf_keras"} & set(sys.modules):
        return "float32"
    return str(tf.keras.mixed_precision.global_policy().name)


def placement_now(tf: Any) -> bool:
    """Return whether TensorFlow logs the device of each operation."""
    try:
        return bool(tf.debugging.get_log_device_placement())
    except (ValueError, TypeError):
        # TensorFlow 2.21 validates its whole configuration here, and fails if GPUs differ in growth or a
        # memory limit is not a number.
        return False


def reseed(tf: Any, seed: int) -> Change:
    """Return the change that seeds the random numbers of Python, NumPy, TensorFlow and Keras."""
    return Change("the seed", lambda: tf.keras.utils.set_random_seed(seed), seed_restorer(), lambda: True)


def settings_now(tf: Any, seed: int | None) -> tuple[str, ...]:
    """Return in words each setting that differs from its default, and the seed just set; start nothing."""
    found = {
        f"allocator {allocator_now()}": allocator_now() != "bfc",
        f"precision {precision_now()}": precision_now() != "float32",
        "operations deterministic": is_deterministic(),
        "placement logged": placement_now(tf),
        f"seed {seed}": seed is not None,
    }
    return tuple(text for text, holds in found.items() if holds)


def remarks(settings: RuntimeSettings, capabilities: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """Return a sentence for each named setting that has a catch here."""
    found = []
    if settings.deterministic and settings.seed is None:
        found.append("Deterministic random operations need a seed: --seed N gives one to all of them.")
    if settings.placement:
        level = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0")
        hidden = "" if show_log() else f", and TF_CPP_MIN_LOG_LEVEL={level} hides it: restart without that"
        found.append(
            f"The device of each operation goes to TensorFlow's log{hidden};"
            " tf.debugging.set_log_device_placement(False) ends it."
        )
    slow = {"mixed_float16": (7, 0), "mixed_bfloat16": (8, 0)}.get(settings.precision or "")
    below = [capability for capability in capabilities if slow is not None and capability < slow]
    if slow is not None and below:
        found.append(
            f"{settings.precision} is fast from compute capability {slow[0]}.{slow[1]} on;"
            f" this GPU has {below[0][0]}.{below[0][1]}."
        )
    return tuple(found)
