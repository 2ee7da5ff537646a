"""``devices()``: read, plan, apply, report; and the entrances to the doctor and the sampler.

TensorFlow's runtime settles its devices when it starts, at the first tensor. Until then they can be changed,
and nothing here starts the runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tape_magic.engine.devices.cards import match_cards
from tape_magic.engine.devices.notes import why_no_gpu
from tape_magic.engine.devices.plan import make_plan
from tape_magic.engine.devices.report import build_report
from tape_magic.engine.devices.request import DeviceRequest, read_request
from tape_magic.engine.devices.settings import (
    NOTHING,
    Change,
    peak_reset,
    read_settings,
    remarks,
    settings_now,
)
from tape_magic.engine.devices.setup import carry_out, check_required, freest_gpu, order_notes
from tape_magic.engine.devices.state import has_started, read_state
from tape_magic.engine.devices.words import WAIT
from tape_magic.engine.devices.workers import read_wait, read_workers
from tape_magic.engine.distribution.cluster import join, joined
from tape_magic.engine.doctor.driver import ask_first, ask_if_there
from tape_magic.engine.internals.loading import load_tensorflow
from tape_magic.engine.internals.log_level import quiet_log
from tape_magic.errors import DeviceError
from tape_magic.results.devices import DeviceReport, Membership, SetupOutcome

if TYPE_CHECKING:
    from tape_magic.engine.devices.sampling import Sampler
    from tape_magic.results.doctor import DoctorReport


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
    workers: str | Sequence[str] | None = None,
    worker: int | None = None,
    wait: float | None = None,
) -> DeviceReport:
    """Show the devices, or set them up before TensorFlow starts.

    A call with devices, memory or `cpu` is one whole setup of these: arguments that it leaves out take
    TensorFlow's defaults, so that the same call always leads to the same devices. The further settings, from
    `allocator` to `placement`, change only where the call names them. A call without arguments only reports.

    Parameters
    ----------
    indices
        The GPUs to keep visible, by TensorFlow's numbers from 0, or ``"freest"``, the GPU with the most free
        memory according to NVML; ``None`` keeps all.
    growth
        Take memory as needed, on every visible GPU alike.
    limit
        A cap on each visible GPU's memory: ``"512M"``, ``"4G"`` or ``"4GiB"`` in units of 1024, a share such
        as ``"50%"`` or 0.5, or a whole number of bytes; rounded down to whole MiB.
    cpu
        Hide every GPU.
    split
        With `limit`, the number of logical GPUs of that size on each GPU; with `cpu`, the number of
        logical CPUs, to try distribution strategies without a GPU.
    allocator
        ``"bfc"``, TensorFlow's own, ``"cuda_malloc_async"`` or ``"cuda_malloc"``.
    precision
        The dtype policy of Keras: ``"mixed_bfloat16"``, ``"mixed_float16"``, ``"float32"`` and others.
    deterministic
        Make operations give the same bits each time.
    seed
        The seed of the random numbers of Python, NumPy, TensorFlow and Keras, set at each call.
    placement
        Have TensorFlow log the device of each operation.
    reset_peak
        Reset the peak of memory in use.
    require
        Raise an error where there is no GPU; by default, the report gives the reason why TensorFlow continues
        on the CPU.
    workers
        The addresses of all processes that are to compute together, ``"node1:5000, node2:5000"``, the same in
        each of them; ``"TF_CONFIG"`` for those of that environment variable. The call waits for the others,
        then TensorFlow starts, and this process is one of the workers until it ends: `minimize` with
        ``strategy="workers"`` then computes on all of them.
    worker
        The number of this process among them, from 0; by default that of TF_CONFIG.
    wait
        The most seconds to wait for the others (60).

    Returns
    -------
    DeviceReport
        The devices after the call, and the outcome.

    Raises
    ------
    DeviceError
        With nothing changed, for arguments that contradict each other, a GPU that does not exist, an invalid
        size, another setup than the one that TensorFlow started with, and a setter of TensorFlow that fails.
        For a worker that does not come, with the devices set up and nothing started.

    Examples
    --------
    >>> report = devices(0, growth=True)  # doctest: +SKIP
    >>> report.headline  # doctest: +SKIP
    'Done: GPU 0 memory as needed, GPU 1 hidden.'
    """
    settings = read_settings(allocator, precision, deterministic, placement, seed)
    place = read_workers(workers, worker)
    if wait is not None and place is None:
        raise DeviceError("wait says how long to wait for the other workers: give workers as well.")
    patience = read_wait(wait, WAIT)
    request = read_request(
        indices,
        growth=growth,
        limit=limit,
        cpu=cpu,
        split=split,
        require=require,
        settings=settings,
        reset_peak=reset_peak,
        workers=place,
    )
    # imported after the checks of the arguments, since the import takes seconds
    tf = load_tensorflow()
    with quiet_log():
        return _carried_out(tf, request, seed, order_notes(indices), patience)


def _carried_out(
    tf: Any, request: DeviceRequest, seed: int | None, notes: tuple[str, ...], patience: float
) -> DeviceReport:
    """Return the report after a request has been carried out; `notes` are on its words.

    `patience` is how long to wait for other workers.
    """
    settings, reset_peak = request.settings, request.reset_peak
    driver = ask_first()
    if driver is not None and driver.failure is not None and tf.test.is_built_with_cuda():
        raise DeviceError(driver.refusal)

    def driver_says() -> str:
        asked = driver or ask_if_there()
        return "" if asked is None else asked.why_no_gpu

    why = partial(why_no_gpu, tf, driver_says)

    state, started = read_state(tf), has_started(tf)
    check_required(request, state, why)
    located = match_cards(tf, state, None if driver is None else driver.unsafe)
    if request.only_asks:
        return build_report(tf, state, started, SetupOutcome.ASKED, located, why, cluster=_place())
    _check_workers(request, started)
    if request.freest:
        request, more = freest_gpu(request, state, started, located)
        notes += more
    # without devices in the call, they stay as they are
    plan = make_plan(request, located.totals) if request.names_devices else None
    peak: tuple[Change, ...] = ()
    if reset_peak:
        peak, note = peak_reset(tf, state, started)
        notes += (note,)
    outcome = carry_out(tf, request, plan, state, started, peak)
    if reset_peak and not request.names_devices and settings == NOTHING:
        outcome = SetupOutcome.DONE if peak else SetupOutcome.ASKED
    if request.workers is not None and joined() is None:
        join(request.workers, patience)
        started, outcome = True, SetupOutcome.DONE
    if not state.gpus and request.names_devices and not request.cpu:
        outcome = SetupOutcome.NO_GPU
    after, done = read_state(tf), settings_now(tf, seed)
    notes += remarks(settings, located.capabilities(tf, after))
    return build_report(tf, after, started, outcome, located, why, notes, done, _place())


def _place() -> Membership | None:
    """Return the place of this process among the workers that it has joined."""
    cluster = joined()
    return None if cluster is None else cluster.place


def _check_workers(request: DeviceRequest, started: bool) -> None:
    """Raise :class:`DeviceError` where this process can no longer join the workers of a request."""
    place, wanted = _place(), request.workers
    if wanted is None or wanted == place or not (started or place):
        return
    why = "TensorFlow has already started without other workers"
    if place is not None:
        why = f"this process is {place.text} already"
    raise DeviceError(
        f"{why}. Only a kernel restart can change that: restart, and put this line first: {request.line}"
    )


def diagnose() -> DoctorReport:
    """Walk the chain from the wheel to a small computation, and report the first link that is broken."""
    from tape_magic.engine.doctor.examine import examine

    return examine()


def open_sampler() -> Sampler:
    """Return a reader of the devices' memory and load; its caller closes it."""
    from tape_magic.engine.devices.sampling import Sampler

    driver = ask_first()
    return Sampler(None if driver is None else driver.unsafe)
