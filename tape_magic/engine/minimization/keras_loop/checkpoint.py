"""Saves a run in a folder, so that the run can go on after its kernel was lost."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tape_magic.engine.minimization.composite import kind_of
from tape_magic.engine.values.tensors import tf_variable
from tape_magic.errors import LineError

SECONDS = 30.0
"""Least seconds between two saves."""

_FORMAT = 1
_KEPT = 2
_EXTRAS = "extras/.ATTRIBUTES/VARIABLE_VALUE"

Arrays = Sequence[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class SavedRun:
    """How far a run came, besides the values of its variables.

    Attributes
    ----------
    step
        Steps applied, and batches taken.
    seed
        The seed of the order of the data.
    memory, best
        As in :class:`~tape_magic.engine.minimization.keras_loop.protocol.Position`.
    series
        Recorded steps and values in turn, for the loss and for each tracked scalar.
    starts
        The values of the leaves before the first step.
    tracked
        The names of the tracked scalars.
    means
        The sums of :class:`~tape_magic.engine.minimization.running_means.RunningMeans`; empty without data.
    validation
        As :attr:`~tape_magic.engine.minimization.validation_log.ValidationLog.arrays` has it.
    """

    step: int
    seed: int
    memory: Arrays
    best: Arrays
    series: Arrays
    starts: Arrays
    tracked: tuple[str, ...] = ()
    means: Arrays = ()
    validation: Arrays = ()


class Checkpoints:
    """The checkpoints of one run in a folder, through ``tf.train.CheckpointManager``.

    Parameters
    ----------
    folder
        The folder, which is made where it is missing.
    resume
        Whether the run is to go on from the checkpoint there.

    Attributes
    ----------
    saved
        How far the run of the last checkpoint came; ``None`` if the folder has none.
    trouble
        Why the last save failed; empty if it did not.

    Raises :class:`LineError` for a folder that cannot be written to, that holds checkpoints of something
    else, or that holds one of this run where it is not to be resumed.

    >>> checkpoints = Checkpoints("run", resume=True)        # doctest: +SKIP
    >>> checkpoints.attach(["x"], [x], optimizer)            # doctest: +SKIP
    """

    def __init__(self, folder: str, *, resume: bool) -> None:
        import tensorflow as tf

        self._folder = Path(folder).expanduser()
        self._resume = resume
        self._require_writable()
        self._latest = tf.train.latest_checkpoint(str(self._folder))
        self.saved: SavedRun | None = None
        self._described: dict[str, Any] = {}
        if self._latest is not None:
            self._read()
        self._manager: Any = None
        self._saved_at = time.monotonic()
        self._step = -1
        self.trouble = ""

    def _require_writable(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise LineError(
                f"--checkpoint {self._folder}: {error.strerror or error}; give a folder to write to."
            ) from None

    def _read(self) -> None:
        import tensorflow as tf

        try:
            reader = tf.train.load_checkpoint(self._latest)
            known = reader.has_tensor(_EXTRAS)
            arrays = _unpacked(reader.get_tensor(_EXTRAS)) if known else {}
            self._described = json.loads(str(arrays["described"])) if known else {}
        except (tf.errors.OpError, RuntimeError, ValueError, KeyError) as error:
            text = str(error).partition("\n")[0]
            raise LineError(
                f"--checkpoint {self._folder}: the checkpoint there cannot be read ({text}); "
                "give another folder."
            ) from None
        if self._described.get("format") != _FORMAT:
            raise LineError(
                f"--checkpoint {self._folder} holds checkpoints of something else; give another folder."
            )
        self.saved = _run_of(arrays, self._described.pop("tracked"))
        if not self._resume:
            raise LineError(
                f"--checkpoint {self._folder} holds a run at step {self.saved.step:,}: "
                "add --resume to go on from it, or give another folder."
            )

    def attach(self, names: Sequence[str], variables: Sequence[Any], optimizer: Any) -> None:
        """Save some variables from now on, and put back their saved values.

        Parameters
        ----------
        names
            The names of the leaves.
        variables
            All variables that a step changes.
        optimizer
            The optimizer, whose variables are among `variables`.

        Raises :class:`LineError` if the checkpoint is of other variables or another optimizer.
        """
        import tensorflow as tf

        held = [tf_variable(variable) for variable in variables]
        described = {
            "format": _FORMAT,
            "over": list(names),
            "variables": [[variable.dtype.name, list(variable.shape)] for variable in held],
            "optimizer": kind_of(optimizer),
        }
        if self._latest is not None and self._described != described:
            raise LineError(
                f"--checkpoint {self._folder} {self._difference(described)}; give another folder."
            )
        self._now = described
        self._extras = tf.Variable(b"", trainable=False)
        # As a list, so by number: the user's names are not always fit for a key.
        self._checkpoint = tf.train.Checkpoint(variables=held, extras=self._extras)
        if self._latest is not None:
            self._checkpoint.restore(self._latest).assert_existing_objects_matched()
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(self._folder), max_to_keep=_KEPT)

    def _difference(self, described: Mapping[str, Any]) -> str:
        before = self._described
        if before["optimizer"] != described["optimizer"]:
            return f"is of a run with {before['optimizer']}, and this one is with {described['optimizer']}"
        if before["over"] != described["over"]:
            return f"is of a run over {', '.join(before['over'][:4])}"
        return "is of a run over variables of other shapes"

    def due(self) -> bool:
        """Return whether it is time for the next save."""
        return time.monotonic() - self._saved_at >= SECONDS

    def save(self, saved: SavedRun) -> None:
        """Save, with the variables as they are. A failure is kept in :attr:`trouble`, and the run goes on."""
        import tensorflow as tf

        if saved.step == self._step:
            return
        self._saved_at = time.monotonic()
        self._extras.assign(_packed(saved, self._now))
        try:
            self._manager.save(checkpoint_number=saved.step)
        except (OSError, tf.errors.OpError) as error:
            text = str(getattr(error, "message", error)).partition("\n")[0]
            text = re.sub(r"\{\{.*?\}\} *|\S*\.tempstate\d+; *| *\[Op:\w+\]", "", text)
            self.trouble = f"the run could not be saved in {self._folder} at step {saved.step:,}: {text}"
            return
        self._step, self.trouble = saved.step, ""


def packed(saved: SavedRun) -> bytes:
    """Return how far a run came as bytes, for :func:`unpacked`."""
    return _packed(saved, {})


def unpacked(data: bytes) -> SavedRun | None:
    """Return how far a run came; ``None`` for no bytes."""
    if not data:
        return None
    arrays = _unpacked(data)
    return _run_of(arrays, json.loads(str(arrays["described"]))["tracked"])


def _run_of(arrays: Mapping[str, Any], tracked: Sequence[str]) -> SavedRun:
    lists = {key: _listed(arrays, key) for key in _LISTS}
    return SavedRun(int(arrays["step"]), int(arrays["seed"]), **lists, tracked=tuple(tracked))


_LISTS = ("memory", "best", "series", "starts", "means", "validation")


def _packed(saved: SavedRun, described: Mapping[str, Any]) -> bytes:
    arrays: dict[str, Any] = {
        "described": json.dumps({**described, "tracked": saved.tracked}),
        "step": saved.step,
        "seed": saved.seed,
    }
    for key in _LISTS:
        for number, array in enumerate(getattr(saved, key)):
            arrays[f"{key}{number}"] = array
    with io.BytesIO() as file:
        np.savez(file, **arrays)
        return file.getvalue()


def _unpacked(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _listed(arrays: Mapping[str, Any], key: str) -> Arrays:
    found: list[np.ndarray[Any, Any]] = []
    with contextlib.suppress(KeyError):
        while True:
            found.append(arrays[f"{key}{len(found)}"])
    return found
