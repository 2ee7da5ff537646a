"""Reports made by hand: what the display shows must not depend on what an engine computes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tape_magic.results.devices import Device, DeviceReport, Holder, Policy, PolicyKind, SetupOutcome
from tape_magic.results.doctor import DoctorReport, Examined, Link, LinkState
from tape_magic.results.gradients import Derivative, GradReport
from tape_magic.results.minimum import Divergence, MinimizeResult, StopReason, VariableChange
from tape_magic.results.reasons import Cause, Reason

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    'it\'s <b>bold</b> & "quoted"',
    "\u202e\u2066reversed\u2069",
    "bell\x07 and \x1b[31mred\x1b[0m",
)


def derivative(target: str, *wrt: str, value: Any = 0.0, **more: Any) -> Derivative:
    """One row; the shape and type are those of the value unless they are given."""
    array = np.asarray(0.0 if value is None else value, more.pop("dtype", "float32"))
    facts: dict[str, Any] = {"shape": array.shape, "dtype": str(array.dtype), "sums": (1,) * len(wrt), **more}
    return Derivative(target, wrt, None if value is None else array, **facts)


def gradients(*rows: Derivative, **more: Any) -> GradReport:
    return GradReport(rows, forward_seconds=0.0012, backward_seconds=0.002, **more)


def change(start: Any, end: Any, gradient: float | None = 0.0) -> VariableChange:
    return VariableChange(np.asarray(start, "float32"), np.asarray(end, "float32"), gradient)


def minimum(history: list[float], variables: dict[str, VariableChange], **more: Any) -> MinimizeResult:
    """A run whose figures follow from its history."""
    losses = np.asarray(history, "float64")
    facts: dict[str, Any] = {
        "loss_name": "y",
        "loss": float(losses[-1]),
        "start_loss": float(losses[0]),
        "best_loss": float(np.nanmin(losses)),
        "best_step": int(np.nanargmin(losses)),
        "steps": len(losses) - 1,
        "steps_asked": len(losses) - 1,
        "reason": StopReason.STEPS,
        "seconds": 0.19,
        "compile_seconds": 0.18,
        "engine": "xla",
        "engine_reason": "",
        "optimizer": "SGD(0.01)",
        "learning_rate": 0.01,
        "history": losses,
        "history_steps": np.arange(len(losses)),
        "variables": variables,
    }
    return MinimizeResult(**{**facts, **more})


def diverged() -> MinimizeResult:
    return minimum(
        [1.0, 10.0, 1000.0, 100000.0],
        {"w": change(np.zeros((100, 1)), np.full((100, 1), 3.1e36), 8.8e37), "b": change(0.0, -1.2e36, 4e36)},
        loss_name="loss",
        steps=811,
        reason=StopReason.DIVERGED,
        divergence=Divergence(812, "loss", float("inf"), values_of=811),
    )


def gpu(index: int, kind: PolicyKind, *limits: int, **more: Any) -> Device:
    visible = kind is not PolicyKind.HIDDEN
    facts: dict[str, Any] = {
        "logical_names": (f"GPU:{index}",) if visible else (),
        "product": "NVIDIA H200",
        "compute_capability": (9, 0),
        "memory_total": None,
        "memory_used": None,
        "memory_peak": None,
        "visible": visible,
    }
    return Device(kind="GPU", index=index, policy=Policy(kind, limits), **{**facts, **more})


CPU = Device(
    kind="CPU",
    index=0,
    logical_names=("CPU:0",),
    product="AMD EPYC, 16 cores",
    compute_capability=None,
    memory_total=128 * 2**30,
    memory_used=None,
    memory_peak=None,
    policy=Policy(PolicyKind.HOST),
    visible=True,
)


def machine(*gpus: Device, **more: Any) -> DeviceReport:
    facts: dict[str, Any] = {
        "tensorflow": "2.21.0",
        "cuda": "12.5.1",
        "cudnn": "9",
        "started": False,
        "outcome": SetupOutcome.DONE,
        "why_no_gpu": None,
        "notes": (),
    }
    return DeviceReport(devices=(*gpus, CPU), **{**facts, **more})


def hostile_reports(name: str) -> list[Any]:
    """A report of each kind that carries `name` wherever a name can stand."""
    row = derivative(name, name, value=[1.0, np.nan])
    cut = derivative(name, name, value=None, connected=False, reason=Reason(Cause.CUT, f"cut at {name}"))
    model = derivative(name, name, value=np.arange(12.0), of_model=True)
    folded = [derivative(name, name, value=0.5)] * 30
    return [
        gradients(row, cut, notes=(name,)),
        gradients(row, *folded),
        gradients(model, notes=(name,)),
        minimum(
            [3.0, 2.0, 1.0],
            {name: change([1.0] * 9, [2.0] * 9), f"{name}2": change(0.0, 1.0, None)},
            loss_name=name,
            engine="eager",
            engine_reason=name,
            optimizer=name,
            notes=(name,),
            tracked={name: np.array([3.0, 2.0, 1.0])},
            tracked_steps={name: np.arange(3)},
        ),
        machine(gpu(0, PolicyKind.GROWTH, product=name), tensorflow=name, notes=(name,)),
        machine(outcome=SetupOutcome.NO_GPU, why_no_gpu=name, notes=(name,), settings=(name,)),
        machine(gpu(0, PolicyKind.GROWTH, holders=(Holder(1, 1, name, None), Holder(2, 1, name, name)))),
        DoctorReport(
            (Examined(Link.DRIVER, LinkState.MISSING, (name,), ((name, LinkState.MISSING, name),)),),
            name,
            name,
            name,
            name,
        ),
    ]


REPORTS = [
    gradients(*(derivative("y", f"w{i}", value=range(20), sums=(3,)) for i in range(25))),
    gradients(derivative("y", "m/kernel", value=range(20), of_model=True)),
    minimum([3.0, 1.0, 0.5, 0.2], {"x": change(0.0, 1.0)}),
    diverged(),
    machine(gpu(0, PolicyKind.GROWTH, memory_total=2**34, memory_used=2**33), gpu(1, PolicyKind.HIDDEN)),
    *(report for name in HOSTILE for report in hostile_reports(name)),
]
"""One of each kind, and each kind with each hostile name."""
