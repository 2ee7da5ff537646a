"""``accumulated``: the gradient over all rows of the data, from runs of the program on parts of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from tape_magic.engine.accumulation.batches import BatchData, DataPart, few_rows, parts_of
from tape_magic.engine.accumulation.sums import PartResult, Sums
from tape_magic.engine.check.rerun import Rerun
from tape_magic.engine.derivatives.differentiate import differentiate
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import RunResult
from tape_magic.engine.distribution.reductions import Reduction, Told, causes_of, reduction_of
from tape_magic.engine.distribution.strategies import devices_of, nothing_to_share
from tape_magic.engine.internals.contexts import restore_after_interrupt
from tape_magic.engine.process.interrupts import guarded_cleanup
from tape_magic.engine.program.program import Namespace, Program, names_as_now
from tape_magic.engine.values.tensors import is_inexact, is_tensor
from tape_magic.errors import CheckError, LineError, SourceError, TargetError, a_kind, describe_error
from tape_magic.notation import Kind, read_targets
from tape_magic.syntax import place

_FEW = 12
"""The most rows on which a sum is told from a mean."""

_SAMPLE = 10_000
"""The most numbers of each gradient by which a sum is told from a mean."""


def accumulated(
    program: Program,
    namespace: Namespace,
    request: Request,
    given: BatchData,
    silence: Callable[[], AbstractContextManager[Any]],
) -> RunResult:
    """Run a program on one part of the data after the other, and add the gradients up.

    A mean over the rows of each part counts by its rows, a sum by 1. Which of them an output is, is told on a
    few rows, whole and in two parts, for which the program runs three times more; the state is then that of
    its own runs. An output that a target names is left with its value over all rows.

    Parameters
    ----------
    program, namespace, request
        As :func:`~tape_magic.engine.derivatives.differentiate.differentiate` takes them. The names of the
        batch are as before when this returns, and when it raises.
    given
        The data, and the devices that share them.
    silence
        Makes a context manager that hides what the program displays.

    Raises what ``differentiate`` raises; :class:`LineError` for anything but first derivatives,
    :class:`SourceError` for sources that differ from part to part, and :class:`TargetError` for outputs that
    are not one number. An exception of the program passes, with a note that names the rows.
    """
    _refuse(program, namespace, request, given)
    devices = devices_of(given.strategy) if given.strategy is not None else ()
    run = partial(_result_of, program, namespace, request)
    with (
        closing(parts_of(given, devices)) as parts,
        _bound(namespace, given.names) as bind,
        restore_after_interrupt(),
    ):
        first, second = next(parts), next(parts, None)
        bind(first)
        rerun = None if second is None else _rerun(program, namespace, request)
        done = run(first)
        _refuse_outputs(done)
        reductions: Mapping[str, Reduction] = {}
        notes: list[str] = []
        if second is not None:
            reductions, notes = _told(
                rerun, request, done, partial(few_rows, first, second, _FEW), silence, bind
            )
        sums = Sums(reductions, devices[0] if devices else "")
        sums.add(done)
        for part in itertools.chain([second] if second is not None else [], parts):
            bind(part)
            sums.add(run(part))
        for name, value in sums.outputs().items():
            if name in program.names.assigns or program.names.opaque:
                namespace[name] = value
    return sums.result([*_summary(sums, devices, reductions, notes), *notes])


def _result_of(program: Program, namespace: Namespace, request: Request, part: DataPart) -> PartResult:
    """Return the derivatives of a part, whose names are bound."""
    import tensorflow as tf

    try:
        with tf.device(part.device or None):
            return PartResult.of(part, partial(differentiate, program, namespace, request))
    except Exception as error:
        cure = "; --batch N takes fewer rows at once" * isinstance(error, tf.errors.ResourceExhaustedError)
        cut = f", with {part.beside} cut to these rows" * bool(part.beside)
        error.add_note(f"in {part.label}{cut}{cure}")
        raise


@contextmanager
def _bound(namespace: Namespace, names: Sequence[str]) -> Iterator[Callable[[DataPart], None]]:
    """Give what binds the names of a batch to a part; afterwards they are what they were."""
    give_back = names_as_now(namespace, names)

    def bind(part: DataPart) -> None:
        namespace.update(zip(names, part.values, strict=True))

    with guarded_cleanup() as guard:
        try:
            yield bind
        finally:
            guard.waits = True
            give_back()


# -- what cannot be accumulated ----------------------------------------------------------------------------


def _refuse(program: Program, namespace: Namespace, request: Request, given: BatchData) -> None:
    if request.kind is not Kind.GRADIENT:
        what = request.kind.value.replace(" ", "-")
        raise LineError(f"--for adds gradients up, and --{what} is another thing: leave one of them out.")
    targets = read_targets(request.words, {*namespace, *program.names.assigns, *given.names}.__contains__)
    for target in targets:
        if target.order > 1:
            raise LineError(f"{target.key} is of order {target.order}, and --for adds first derivatives up.")
    if request.order > 1:
        raise LineError(f"the order is {request.order}, and --for adds first derivatives up.")
    named = dict.fromkeys([*(name for target in targets for name in target.wrt), *(request.wrt or ())])
    for name in named:
        base = place(name)[0]
        if base in given.names:
            raise SourceError(f"{name} is of the batch, and has other rows in each part: leave out --for.")
        if program.names.assigned_first(base):
            raise SourceError(
                f"{name} is assigned in the cell, anew for each part of the batch: leave out --for, or "
                "differentiate by what stays."
            )


def _refuse_outputs(done: PartResult) -> None:
    for name, value in done.outputs.items():
        if isinstance(value, dict | list | tuple):
            raise TargetError(
                f"{name} is {a_kind(value)}, and --for adds up the gradients of one number: name one."
            )
        if is_tensor(value) and value.shape.rank:
            raise TargetError(
                f"{name} is of shape {tuple(value.shape)}, and --for adds up the gradients of one number: "
                f"take its mean, tf.reduce_mean({name})."
            )


# -- sums and means --------------------------------------------------------------------------------------


def _rerun(program: Program, namespace: Namespace, request: Request) -> Rerun | CheckError:
    try:
        return Rerun(program, namespace, request.wrt or ())
    except CheckError as error:
        return error


def _told(
    rerun: Rerun | CheckError | None,
    request: Request,
    done: PartResult,
    few: Callable[[], DataPart],
    silence: Callable[[], AbstractContextManager[Any]],
    bind: Callable[[DataPart], None],
) -> tuple[Mapping[str, Reduction], list[str]]:
    """Return which outputs are sums and which are means, and sentences on those that are neither.

    The program runs on a few rows and on two parts of them, from the state that its own run began in.
    """
    unknown = "taken for a mean over its rows, since the cell could not run again on a few of them"
    if not isinstance(rerun, Rerun):
        return {}, [f"{', '.join(done.outputs)}: {unknown}"]
    whole = few()
    cut = whole.rows - max(1, whole.rows // 3)
    spans = (0, whole.rows), (0, cut), (cut, whole.rows)
    rows = [end - begin for begin, end in spans]
    found: list[PartResult] = []
    try:
        with rerun.opened(silence):
            for begin, end in spans:
                part = replace(whole, values=whole.picked(begin, end), rows=end - begin)

                def compute(program: Program, namespace: Namespace, part: DataPart = part) -> PartResult:
                    bind(part)
                    return _result_of(program, namespace, request, part)

                found.append(rerun.run(compute))
    except Exception as error:
        with_rows = f", with {whole.beside} cut to them" * bool(whole.beside)
        return {}, [f"{', '.join(done.outputs)}: {unknown}{with_rows} ({describe_error(error)})"]
    told = {name: _reduction(name, found, rows[1:]) for name in done.outputs}
    reductions = {name: one.reduction for name, one in told.items() if one is not None}
    return reductions, _notes(told, rerun.changed_names())


def _reduction(name: str, found: Sequence[PartResult], rows: Sequence[int]) -> Told | None:
    """Return how an output follows from those of parts; ``None`` where a number is missing or not finite."""
    arrays: list[list[Any]] = []
    by = [row.wrt for row in found[0].result.report.rows if row.target == name]
    for one in found:
        values = {row.wrt: row.value for row in one.result.report.rows if row.target == name}
        if not (is_tensor(one.outputs[name]) and is_inexact(one.outputs[name])):
            return None
        arrays.append([one.outputs[name].numpy(), *(_sample(values.get(wrt)) for wrt in by)])
    known = [at for at in range(len(by) + 1) if all(one[at] is not None for one in arrays)]
    arrays = [[one[at] for at in known] for one in arrays]
    if not all(np.all(np.isfinite(array)) for one in arrays for array in one):
        return None
    low = found[0].outputs[name].dtype.size < 4
    return reduction_of(arrays[0], arrays[1:], rows, low=low)


def _sample(value: Any) -> Any:
    """Return some numbers of a derivative as an array; of a lookup's, the sum of its rows."""
    import tensorflow as tf

    if value is None:
        return None
    if isinstance(value, tf.IndexedSlices):
        value = tf.reduce_sum(value.values, 0)
    return tf.reshape(value, [-1])[:_SAMPLE].numpy()


def _notes(told: Mapping[str, Told | None], changed: Sequence[str]) -> list[str]:
    causes = causes_of(changed)
    why = f"; {' and '.join(causes)}" if causes else ""
    notes = [
        f"{name} of a batch is not made of those of its rows ({one.shown(2)}): results differ from those of "
        f"the whole batch{why}"
        for name, one in told.items()
        if one is not None and not one.fits
    ]
    return notes or (
        [f"{' and '.join(causes)}: results differ from those of the whole batch"] if causes else []
    )


def _summary(
    sums: Sums, devices: Sequence[str], reductions: Mapping[str, Reduction], notes: Sequence[str]
) -> list[str]:
    """Return how many rows and parts there were, and how they were added up."""
    if sums.parts == 1:
        if devices and len(devices) == 1:
            return [nothing_to_share(devices[0])]
        return []
    used = min(len(devices), sums.parts)
    on = f" on {used} devices" if used > 1 else ""
    sentences = [f"{sums.rows:,} rows in {sums.parts:,} parts{on}"]
    for reduction, said in _SAID.items():
        names = [name for name, one in reductions.items() if one is reduction]
        if names and not any(note.startswith(f"{names[0]} of a batch") for note in notes):
            sentences.append(f"{', '.join(names)} is {said}")
    return ["; ".join(sentences)]


_SAID = {
    Reduction.MEAN: "a mean over its rows, and each part counts by its rows",
    Reduction.SUM: "a sum over its rows, and so are the parts added up",
}
