"""`devices()`: the public function: read, plan, apply, report.

What is set and read is TensorFlow's own. The runtime settles its devices when it starts, at the first tensor;
until then they can be changed, and nothing here starts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tape_magic.engine.devices.cards import locate
from tape_magic.engine.devices.plan import make_plan
from tape_magic.engine.devices.report import build_report
from tape_magic.engine.devices.request import read_request
from tape_magic.engine.devices.settings import (
    NOTHING,
    Change,
    peak_anew,
    read_settings,
    remarks,
    settings_now,
)
from tape_magic.engine.devices.setup import about_order, carry_out, check_required, freest_gpu
from tape_magic.engine.devices.state import has_started, read_state
from tape_magic.engine.internals.loading import load_tensorflow
from tape_magic.results.devices import DeviceReport, SetupOutcome

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
    check_required(tf, request, state)
    located = locate(tf, state)
    if request.only_asks:
        return build_report(tf, state, started, SetupOutcome.ASKED, located)
    notes = about_order(indices)
    if request.freest:
        request, more = freest_gpu(request, state, started, located)
        notes += more
    # a setting alone leaves the devices as they are
    plan = make_plan(request, located.totals) if request.names_devices else None
    peak: tuple[Change, ...] = ()
    if reset_peak:
        peak, note = peak_anew(tf, state, started)
        notes += (note,)
    outcome = carry_out(tf, request, plan, state, started, peak)
    if reset_peak and not request.names_devices and settings == NOTHING:
        outcome = SetupOutcome.DONE if peak else SetupOutcome.ASKED
    if not state.gpus and request.names_devices and not request.cpu:
        outcome = SetupOutcome.NO_GPU
    after, done = read_state(tf), settings_now(tf, seed)
    notes += remarks(settings, located.capabilities(tf, after))
    return build_report(tf, after, started, outcome, located, notes, done)


def diagnose() -> DoctorReport:
    """Walk the chain from the wheel to a small computation, and report the first link that is broken."""
    from tape_magic.engine.doctor.examine import examine

    return examine()


def open_sampler() -> Sampler:
    """Return a reader of the devices' memory and load; its caller closes it."""
    from tape_magic.engine.devices.sampling import Sampler

    return Sampler()
