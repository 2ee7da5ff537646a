"""The devices of this machine: what they are, and one whole setup, checked first and then set.

What is set and read is TensorFlow's own. The runtime settles its devices when it starts, at the first tensor;
until then they can be changed, and nothing here starts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tape_magic.engine import device_settings
from tape_magic.engine.device_cards import Located, locate
from tape_magic.engine.device_notes import why_no_gpu
from tape_magic.engine.device_peak import peak_anew
from tape_magic.engine.device_report import build_report
from tape_magic.engine.device_request import Request, read_request
from tape_magic.engine.device_settings import NOTHING, read_settings
from tape_magic.engine.device_state import Plan, State, has_started, make_plan, read_state
from tape_magic.engine.device_steps import apply
from tape_magic.engine.importing import load_tensorflow
from tape_magic.engine.random_state import tensorflow_seed
from tape_magic.errors import DeviceError
from tape_magic.results.devices import DeviceReport, Outcome, size_text


def devices(
    indices: int | str | Sequence[int] | None = None,
    *,
    growth: bool = False,
    limit: str | int | float | None = None,
    cpu: bool = False,
    split: int | None = None,
    allocator: str | None = None,
    precision: str | None = None,
    deterministic: bool = False,
    seed: int | None = None,
    placement: bool = False,
    reset_peak: bool = False,
    require: bool = False,
) -> DeviceReport:
    """Shows the devices, or sets them up before TensorFlow starts.

    A call that names devices, memory or `cpu` is one whole setup of these: what it does not name goes to
    TensorFlow's default, so the same call always leads to the same devices. What stands beside them, from
    `allocator` to `placement`, changes only where it is named. A call that names nothing only reports.

    - `indices`: the GPUs to keep visible, numbered as TensorFlow numbers them, from 0, or "freest", the one
      with the most free memory as NVML tells it; None keeps all.
    - `growth`: memory is taken as needed, on every visible GPU alike.
    - `limit`: a cap on each visible GPU's memory: "512M", "4G" or "4GiB" in units of 1024, a part as "0.5",
      "50%" or 0.5, or a whole number of bytes. It is rounded down to whole MiB.
    - `cpu`: hides every GPU.
    - `split`: with `limit`, the number of logical GPUs of that size on each GPU; with `cpu`, the number of
      logical CPUs, to try distribution strategies without a GPU.
    - `allocator`: "bfc", TensorFlow's own, "cuda_malloc_async" or "cuda_malloc".
    - `precision`: what Keras's layers compute in: "mixed_bfloat16", "mixed_float16", "float32" and others.
    - `deterministic`: operations give the same bits each time.
    - `seed`: the random numbers of Python, NumPy, TensorFlow and Keras begin here, each time anew.
    - `placement`: TensorFlow logs the device of each operation.
    - `reset_peak`: the peak of memory in use begins anew.
    - `require`: no GPU is an error. Without it the report says that TensorFlow continues on the CPU, and why.

    Raises `DeviceError`, and then has changed nothing, for arguments that contradict each other, a GPU that
    does not exist, a size that is none, a setup that differs after TensorFlow has started, and a setter of
    TensorFlow that fails.

    >>> report = devices(0, growth=True)  # doctest: +SKIP
    >>> report.headline  # doctest: +SKIP
    'Done: GPU 0 memory as needed, GPU 1 hidden.'
    """
    settings = read_settings(allocator, precision, deterministic, placement, seed)
    request = read_request(
        indices,
        growth=growth,
        limit=limit,
        cpu=cpu,
        split=split,
        require=require,
        settings=settings,
        reset_peak=reset_peak,
    )
    # imported here, since it takes seconds, and only once the arguments are known to make sense
    tf = load_tensorflow()
    state, started = read_state(tf), has_started(tf)
    _check_required(tf, request, state)
    located = locate(tf, state)
    if request.only_asks:
        return build_report(tf, state, started, Outcome.ASKED, located)
    notes = _about_order(indices)
    if request.freest:
        request, more = _freest(request, state, started, located)
        notes += more
    # a setting alone leaves the devices as they are
    plan = make_plan(request, located.totals) if request.names_devices else None
    peak: tuple[device_settings.Change, ...] = ()
    if reset_peak:
        peak, note = peak_anew(tf, state, started)
        notes += (note,)
    outcome = _carry_out(tf, request, plan, state, started, peak)
    if reset_peak and not request.names_devices and settings == NOTHING:
        outcome = Outcome.DONE if peak else Outcome.ASKED
    if not state.gpus and request.names_devices and not request.cpu:
        outcome = Outcome.NO_GPU
    after, done = read_state(tf), device_settings.settings_now(tf, seed)
    notes += device_settings.remarks(settings, located.capabilities(tf, after))
    return build_report(tf, after, started, outcome, located, notes, done)


def _carry_out(
    tf: Any,
    request: Request,
    plan: Plan | None,
    state: State,
    started: bool,
    last: tuple[device_settings.Change, ...],
) -> Outcome:
    changes = device_settings.changes(tf, request.settings)
    so = plan is None or (plan.is_so(state) and (started or state.growth_alike))
    if started:
        found = () if so or plan is None else plan.differences(state)
        found += tuple(change.difference for change in changes if change.difference)
        if found:
            raise DeviceError(
                f"TensorFlow has already started with other devices: {'; '.join(found)}. Only a"
                f" kernel restart can change them: restart, and put this line first: {request.line}"
            )
    seed = request.settings.seed
    known = seed is None or tensorflow_seed() == seed
    anew = () if seed is None else (device_settings.reseed(tf, seed),)
    apply(tf, None if so else plan, state, (*changes, *anew, *last))
    return Outcome.ALREADY_SO if so and known and not changes else Outcome.DONE


def _check_required(tf: Any, request: Request, state: State) -> None:
    if not request.require:
        return
    if not state.gpus:
        raise DeviceError(f"There is no GPU, and require asks for one: {why_no_gpu(tf)}.")
    if not request.names_devices and not state.visible:
        raise DeviceError("Every GPU is hidden, and require asks for one: name it, as in %tfgpu 0 --require.")


def _freest(
    request: Request, state: State, started: bool, located: Located
) -> tuple[Request, tuple[str, ...]]:
    """The request with the index that "freest" means here and now, and a sentence on it."""
    number = len(state.gpus)
    if number == 0:
        return request, ()
    if number == 1:
        return replace(request, indices=(0,)), ()
    if started and len(state.visible) == 1:
        # chosen before, and its memory is now held by this very program
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


def _about_order(indices: int | str | Sequence[int] | None) -> tuple[str, ...]:
    if indices is None or isinstance(indices, int | str) or list(indices) == sorted(indices):
        return ()
    return (
        f"TensorFlow numbers GPUs in the machine's order: {','.join(map(str, indices))} is the same as"
        f" {','.join(map(str, sorted(indices)))}.",
    )
