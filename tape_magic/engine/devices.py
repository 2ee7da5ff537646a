"""The devices of this machine: what they are, and one whole setup, checked first and then set.

What is set and read is TensorFlow's own. The runtime settles its devices when it starts, at the first tensor;
until then they can be changed, and nothing here starts it.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from tape_magic.engine.device_report import build_report, why_no_gpu
from tape_magic.engine.device_request import Request, read_request
from tape_magic.engine.device_state import Plan, State, has_started, make_plan, read_state
from tape_magic.engine.device_steps import apply
from tape_magic.errors import DeviceError
from tape_magic.results.devices import DeviceReport, Outcome


def devices(
    indices: int | Sequence[int] | None = None,
    *,
    growth: bool = False,
    limit: str | int | float | None = None,
    cpu: bool = False,
    split: int | None = None,
    require: bool = False,
) -> DeviceReport:
    """Shows the devices, or sets them up before TensorFlow starts.

    A call is one whole setup: what it does not name goes to TensorFlow's default, so the same call always
    leads to the same devices. A call that names nothing changes nothing and only reports.

    - `indices`: the GPUs to keep visible, numbered as TensorFlow numbers them, from 0; None keeps all.
    - `growth`: memory is taken as needed, on every visible GPU alike.
    - `limit`: a cap on each visible GPU's memory: "512M", "4G" or "4GiB" in units of 1024, a part as "0.5",
      "50%" or 0.5, or a whole number of bytes. It is rounded down to whole MiB.
    - `cpu`: hides every GPU.
    - `split`: with `cpu`, the number of logical CPUs, to try distribution strategies without a GPU.
    - `require`: no GPU is an error. Without it the report says that TensorFlow continues on the CPU, and why.

    Raises `DeviceError`, and then has changed nothing, for arguments that contradict each other, a GPU that
    does not exist, a size that is none, a setup that differs after TensorFlow has started, and a setter of
    TensorFlow that fails.

    >>> report = devices(0, growth=True)  # doctest: +SKIP
    >>> report.headline  # doctest: +SKIP
    'Done: GPU 0 memory as needed, GPU 1 hidden.'
    """
    request = read_request(indices, growth, limit, cpu, split, require)
    # imported here, since it takes seconds, and only once the arguments are known to make sense
    tf: Any = importlib.import_module("tensorflow")
    state, started = read_state(tf), has_started(tf)
    _check_required(tf, request, state)
    if request.only_asks:
        return build_report(tf, state, started, Outcome.ASKED)
    # TensorFlow does not tell how much memory a GPU has
    plan = make_plan(request, totals=(None,) * len(state.gpus))
    outcome = _carry_out(tf, request, plan, state, started)
    if not state.gpus and not request.cpu:
        outcome = Outcome.NO_GPU
    return build_report(tf, read_state(tf), started, outcome, _about_order(indices))


def _carry_out(tf: Any, request: Request, plan: Plan, state: State, started: bool) -> Outcome:
    if plan.is_so(state) and (started or state.growth_alike):
        return Outcome.ALREADY_SO
    if started:
        raise DeviceError(
            f"TensorFlow has already started with other devices: {'; '.join(plan.differences(state))}. Only a"
            f" kernel restart can change them: restart, and put this line first: {request.line}"
        )
    apply(tf, plan, state)
    return Outcome.DONE


def _check_required(tf: Any, request: Request, state: State) -> None:
    if not request.require:
        return
    if not state.gpus:
        raise DeviceError(f"There is no GPU, and require asks for one: {why_no_gpu(tf)}.")
    if request.only_asks and not state.visible:
        raise DeviceError("Every GPU is hidden, and require asks for one: name it, as in %tfgpu 0 --require.")


def _about_order(indices: int | Sequence[int] | None) -> tuple[str, ...]:
    if indices is None or isinstance(indices, int) or list(indices) == sorted(indices):
        return ()
    return (
        f"TensorFlow numbers GPUs in the machine's order: {','.join(map(str, indices))} is the same as"
        f" {','.join(map(str, sorted(indices)))}.",
    )
