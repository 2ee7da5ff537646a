"""Carries a request out: refuses a change that a started TensorFlow forbids, and applies the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tape_magic.engine.devices.apply import apply
from tape_magic.engine.devices.cards import CardMatches
from tape_magic.engine.devices.plan import DevicePlan
from tape_magic.engine.devices.request import DeviceRequest
from tape_magic.engine.devices.settings import Change, changes_of, reseed
from tape_magic.engine.devices.state import DeviceState
from tape_magic.engine.internals.random_state import tensorflow_seed
from tape_magic.errors import DeviceError, size_text
from tape_magic.results.devices import SetupOutcome


def carry_out(
    tf: Any,
    request: DeviceRequest,
    plan: DevicePlan | None,
    state: DeviceState,
    started: bool,
    last: tuple[Change, ...],
) -> SetupOutcome:
    """Bring about the plan and the settings of the request, then `last`; return the outcome.

    Raises `DeviceError` if TensorFlow has started with other devices.
    """
    changes = changes_of(tf, request.settings)
    as_planned = plan is None or (plan.holds(state) and (started or state.growth_alike))
    if started:
        found = () if as_planned or plan is None else plan.differences(state)
        found += tuple(change.difference for change in changes if change.difference)
        if found:
            raise DeviceError(
                f"TensorFlow has already started with other devices: {'; '.join(found)}. Only a"
                f" kernel restart can change them: restart, and put this line first: {request.line}"
            )
    seed = request.settings.seed
    same_seed = seed is None or tensorflow_seed() == seed
    seeding = () if seed is None else (reseed(tf, seed),)
    apply(tf, None if as_planned else plan, state, (*changes, *seeding, *last))
    return SetupOutcome.ALREADY_SO if as_planned and same_seed and not changes else SetupOutcome.DONE


def check_required(request: DeviceRequest, state: DeviceState, why: Callable[[], str]) -> None:
    """Raise :class:`DeviceError` where a GPU is required and there is none, or none is visible.

    `why` gives the reason why there is none.
    """
    if not request.require:
        return
    if not state.gpus:
        raise DeviceError(f"There is no GPU, and require asks for one: {why()}.")
    if not request.names_devices and not state.visible:
        raise DeviceError("Every GPU is hidden, and require asks for one: name it, as in %tfgpu 0 --require.")


def freest_gpu(
    request: DeviceRequest, state: DeviceState, started: bool, located: CardMatches
) -> tuple[DeviceRequest, tuple[str, ...]]:
    """Return the request with the index of the GPU that has the most free memory, and a note on the choice.

    Raises `DeviceError` if the free memory of a GPU is not known.
    """
    number = len(state.gpus)
    if number == 0:
        return request, ()
    if number == 1:
        return replace(request, indices=(0,)), ()
    if started and len(state.visible) == 1:
        # An earlier line chose this GPU, and its memory is now held by this very program.
        return replace(request, indices=(state.gpus.index(state.visible[0]),)), ()
    free = [card.free if card is not None else None for card in located.cards]
    unknown = [index for index, one in enumerate(free) if one is None]
    if unknown:
        why = located.missing or f"NVML does not tell that of GPU {unknown[0]}"
        raise DeviceError(
            f"freest needs the free memory of each GPU, and {why}; name a GPU by its index, as in %tfgpu 0."
        )
    sizes = [one or 0 for one in free]
    index = sizes.index(max(sizes))
    others = ", ".join(size_text(size) for i, size in enumerate(sizes) if i != index)
    note = f"GPU {index} has the most free memory: {size_text(sizes[index])}, the others {others}."
    return replace(request, indices=(index,)), (note,)


def order_notes(indices: int | str | Sequence[int] | None) -> tuple[str, ...]:
    """Return a note if the indices are not in ascending order, since TensorFlow does not keep their order."""
    if indices is None or isinstance(indices, int | str) or list(indices) == sorted(indices):
        return ()
    return (
        f"TensorFlow numbers GPUs in the machine's order: {','.join(map(str, indices))} is the same as"
        f" {','.join(map(str, sorted(indices)))}.",
    )
