"""Writers of the log of a run: TensorBoard's files, MLflow, trackio."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, Protocol

from tape_magic.engine.process.output import hide_output
from tape_magic.errors import LineError, shorten

Scalars = Mapping[str, float]


class LogWriter(Protocol):
    """Where a log is written.

    Attributes
    ----------
    note
        What the report says of it.
    """

    note: str

    def write(self, scalars: Scalars, step: int, *, validation: bool = False) -> None:
        """Write scalars of a step; raises whatever the library raises."""

    def close(self) -> None:
        """Write what waits to be written; raises whatever the library raises."""


class TensorBoard:
    """Event files for TensorBoard in ``DIR/train`` and ``DIR/validation``, as Keras's callback names them.

    Parameters
    ----------
    folder
        The folder, made where it is missing; all of TensorFlow's file systems will do. If it holds the
        events of another run, the name gets a number, since TensorBoard would join the two curves.
    resume
        Whether the run goes on from an earlier one, whose events it continues.

    Raises :class:`LineError` for a folder that cannot be written to.
    """

    def __init__(self, folder: str, *, resume: bool) -> None:
        import tensorflow as tf

        self._folder, earlier = _free_folder(folder, resume=resume)
        self._writers: dict[str, Any] = {}
        # TensorFlow's own tf.summary.scalar needs TensorBoard, which TensorFlow 2.21 no longer installs.
        metadata = tf.compat.v1.SummaryMetadata
        self._metadata = metadata(plugin_data=metadata.PluginData(plugin_name="scalars"), data_class=1)
        try:
            self._writer("train").flush()
        except (tf.errors.OpError, OSError) as error:
            raise LineError(f"--log {folder}: {told(error)}; give a folder to write to.") from None
        self.note = f"logged to {self._folder}: tensorboard --logdir {self._folder}"
        if earlier:
            self.note += f" ({folder} has the log of an earlier run)"

    def _writer(self, part: str) -> Any:
        import tensorflow as tf

        if part not in self._writers:
            where = tf.io.gfile.join(self._folder, part)
            self._writers[part] = tf.summary.create_file_writer(where, flush_millis=10_000)
        return self._writers[part]

    def write(self, scalars: Scalars, step: int, *, validation: bool = False) -> None:
        """Write scalars of a step, all in one event."""
        import tensorflow as tf

        summary = tf.compat.v1.Summary
        event = summary(
            value=[
                summary.Value(
                    tag=tag, tensor=tf.make_tensor_proto(value, tf.float32), metadata=self._metadata
                )
                for tag, value in scalars.items()
            ]
        )
        with self._writer("validation" if validation else "train").as_default():
            tf.summary.experimental.write_raw_pb(event.SerializeToString(), step=step)

    def close(self) -> None:
        """Write what waits to be written."""
        for writer in self._writers.values():
            writer.flush()
            writer.close()


class Mlflow:
    """The active run of MLflow, or one of its own.

    Raises :class:`LineError` where MLflow is not installed, or refuses.
    """

    def __init__(self) -> None:
        self._mlflow = _library("mlflow")
        with _refused("mlflow"):
            active = self._mlflow.active_run()
            self._own = active is None
            run = active or self._mlflow.start_run()
        self.note = f"logged to MLflow, run {run.info.run_name}"

    def write(self, scalars: Scalars, step: int, *, validation: bool = False) -> None:
        """Write scalars of a step; MLflow takes no brackets in names."""
        prefix = "val_" if validation else ""
        named = {re.sub(r"[^\w.\- :/]", "_", prefix + tag): value for tag, value in scalars.items()}
        self._mlflow.log_metrics(named, step=step)

    def close(self) -> None:
        """End the run, if it is the log's own."""
        if self._own:
            self._mlflow.end_run()


class Trackio:
    """The current run of trackio, or one of its own in the project ``tape_magic``.

    Raises :class:`LineError` where trackio is not installed, or refuses.
    """

    PROJECT = "tape_magic"

    def __init__(self) -> None:
        self._trackio = _library("trackio")
        with _refused("trackio"):
            run = self._trackio.context_vars.current_run.get()
            self._own = run is None
            if self._own:
                with hide_output():
                    run = self._trackio.init(project=self.PROJECT)
        project = run.project
        self.note = f"logged to trackio, run {run.name}: trackio show --project {project}"

    def write(self, scalars: Scalars, step: int, *, validation: bool = False) -> None:
        """Write scalars of a step."""
        prefix = "val_" if validation else ""
        self._trackio.log({prefix + tag: value for tag, value in scalars.items()}, step=step)

    def close(self) -> None:
        """End the run, if it is the log's own."""
        if self._own:
            with hide_output():
                self._trackio.finish()


def writer_of(where: str, *, resume: bool) -> LogWriter:
    """Return what writes the log of ``--log where``: ``mlflow``, ``trackio``, or a folder."""
    if where == "mlflow":
        return Mlflow()
    return Trackio() if where == "trackio" else TensorBoard(where, resume=resume)


def _free_folder(folder: str, *, resume: bool) -> tuple[str, bool]:
    """Return the folder for a run, and whether an earlier run has the one that was asked for."""
    wanted = last = os.path.expanduser(folder).rstrip("/") or "/"
    for name in itertools.chain([wanted], (f"{wanted}-{number}" for number in itertools.count(2))):
        if not _has_events(name):
            break
        last = name
    return (last, False) if resume else (name, name != wanted)


def _has_events(folder: str) -> bool:
    import tensorflow as tf

    with contextlib.suppress(tf.errors.OpError, OSError):
        return bool(tf.io.gfile.glob(tf.io.gfile.join(folder, "train", "events.out.tfevents.*")))
    return False


def _library(name: str) -> ModuleType:
    """Import a library that writes logs. Raises :class:`LineError` where it cannot be."""
    with _refused(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                raise LineError(f"--log {name} needs {name}: pip install {name}") from None
            raise


@contextlib.contextmanager
def _refused(name: str) -> Iterator[None]:
    """Raise :class:`LineError` for whatever a library raises."""
    try:
        yield
    except LineError:
        raise
    except Exception as error:
        raise LineError(f"--log {name}: {told(error)}") from None


def told(error: Exception) -> str:
    """Return what an error says, without the names of TensorFlow's operations."""
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    line = next((line.strip() for line in str(text).splitlines() if line.strip()), type(error).__name__)
    line = line.rpartition("; ")[2]  # TensorFlow names a file before what the system says of it
    return shorten(re.sub(r"^\{\{.*?\}\} ?|\s*\[Op:.*|\.$", "", line), 120)
