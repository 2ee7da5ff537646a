"""``accumulated``: the gradient over all rows of the data, from runs of the program on parts of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from typing import Any

from tape_magic.engine.accumulation.batches import BatchData, DataPart, parts_of
from tape_magic.engine.accumulation.first_rows import FewRows, look_at
from tape_magic.engine.accumulation.sums import PartResult, Sums
from tape_magic.engine.check.rerun import Rerun
from tape_magic.engine.derivatives.differentiate import differentiate
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import RunResult
from tape_magic.engine.distribution.reductions import Reduction
from tape_magic.engine.distribution.strategies import devices_of, nothing_to_share
from tape_magic.engine.internals.contexts import restore_after_interrupt
from tape_magic.engine.process.interrupts import guarded_cleanup
from tape_magic.engine.program.program import Namespace, Program, names_as_now
from tape_magic.engine.values.tensors import is_tensor
from tape_magic.errors import CheckError, LineError, SourceError, TargetError, a_kind
from tape_magic.notation import Kind, read_targets
from tape_magic.syntax import place


def accumulated(
    program: Program,
    namespace: Namespace,
    request: Request,
    given: BatchData,
    silence: Callable[[], AbstractContextManager[Any]],
) -> RunResult:
    """Run a program on one part of the data after the other, and add the gradients up.

    A mean over the rows of each part counts by its rows, a sum by 1. Which of them an output is, is told on a
    few rows, whole and in two parts, for which the program runs three times before; nothing stays changed. A
    part of a batch that has as many rows by chance, such as a weight for each class, stays whole where the
    numbers only then follow from those of the parts. An output that a target names is left with its value
    over all rows.

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
        look = FewRows(first.cut)
        if second is not None:

            def compute(part: DataPart) -> PartResult:
                bind(part)
                done = _result_of(program, namespace, request, part, precision=True)
                _refuse_outputs(done)
                return done

            look = look_at(first, second, compute, _rerun(program, namespace, request), silence)
        sums = Sums(look.reductions, devices[0] if devices else "")
        for part in itertools.chain(filter(None, (first, second)), parts):
            own = look.seen(part)
            bind(own)
            done = run(own)
            if part is first:
                _refuse_outputs(done)
            sums.add(done)
        for name, value in sums.outputs().items():
            if name in program.names.assigns or program.names.opaque:
                namespace[name] = value
        notes = look.notes(sums.outputs(), given.names if len(devices) > 1 else (), first)
    return sums.result([*_summary(sums, devices, look.reductions, notes), *notes])


def _result_of(
    program: Program, namespace: Namespace, request: Request, part: DataPart, *, precision: bool = False
) -> PartResult:
    """Return the derivatives of a part, whose names are bound."""
    import tensorflow as tf

    try:
        with tf.device(part.device or None):
            return PartResult.of(
                part, partial(differentiate, program, namespace, request), precision=precision
            )
    except Exception as error:
        cure = "; --batch N takes fewer rows at once" * isinstance(error, tf.errors.ResourceExhaustedError)
        cut = f", with {part.beside} cut to these rows" * bool(part.beside and not part.is_whole)
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


def _rerun(program: Program, namespace: Namespace, request: Request) -> Rerun | None:
    """Return what runs a program again; ``None`` for one that cannot run twice."""
    try:
        return Rerun(program, namespace, request.wrt or ())
    except CheckError:
        return None


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


# -- what is said -----------------------------------------------------------------------------------------


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
