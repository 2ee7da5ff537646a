"""A magic's line → frozen options."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from tape_magic.engine.device_words import ALLOCATORS, FREEST, PRECISIONS
from tape_magic.errors import LineError
from tape_magic.magics.minimize_line import MINIMIZE
from tape_magic.magics.parsing import NAME, QUIET, Magic, Option, assignment, identifier, place_name, whole
from tape_magic.notation import Kind, shorten

__all__ = ["GRAD", "MAGICS", "MINIMIZE", "TFGPU", "DeviceOptions", "GradOptions"]


@dataclass(frozen=True)
class GradOptions:
    """The line of ``%%grad``."""

    targets: tuple[str, ...]
    wrt: tuple[str, ...] | None
    order: int | None
    jacobian: bool
    batch_jacobian: bool
    hessian: bool
    jvp: tuple[tuple[str, str], ...] | None
    hvp: tuple[tuple[str, str], ...] | None
    check: bool
    zero: bool
    define: str | None
    inspect: bool
    name: str | None
    quiet: bool

    def __post_init__(self) -> None:
        chosen = [flag for flag, value in self._kinds if value]
        if len(chosen) > 1:
            raise LineError(f"{chosen[0]} and {chosen[1]} are different things; write two cells.")
        named = [word for word in self.targets if "/" in word]
        if self.wrt and named and len(named) == len(self.targets):
            raise LineError(
                f"{shorten(named[0])} says what to differentiate by; leave out --wrt, or the denominator."
            )
        if self.order is not None and named:
            raise LineError(f"{shorten(named[0])} says its order; leave out --order, or the denominator.")
        reporting = ("--check", self.check), ("--inspect", self.inspect), ("-o", self.name)
        idle = [flag for flag, value in reporting if value]
        if self.define is not None and idle:
            raise LineError(f"--def makes a function, and nothing runs to report on: leave out {idle[0]}.")
        if self.jvp and self.wrt:
            raise LineError("--jvp says what to differentiate by; leave out --wrt.")
        sources = [name for name, _ in self.vectors]
        twice = next((name for name in sources if sources.count(name) > 1), None)
        if twice is not None:
            raise LineError(f"{chosen[0]} gives two vectors for {shorten(twice)}; give their sum.")

    @property
    def _kinds(self) -> tuple[tuple[str, Any], ...]:
        return (
            ("--jacobian", self.jacobian),
            ("--batch-jacobian", self.batch_jacobian),
            ("--hessian", self.hessian),
            ("--jvp", self.jvp),
            ("--hvp", self.hvp),
        )

    @property
    def kind(self) -> Kind:
        """What is to be computed."""
        chosen = next((flag for flag, value in self._kinds if value), "--gradient")
        return Kind(chosen[2:].replace("-", " "))

    @property
    def vectors(self) -> tuple[tuple[str, str], ...]:
        """What a product is taken with: each source with the expression of its vector."""
        return self.jvp or self.hvp or ()


@dataclass(frozen=True)
class DeviceOptions:
    """The line of ``%tfgpu``."""

    indices: tuple[int | str, ...] | None
    growth: bool
    limit: str | None
    cpu: bool
    split: int | None
    allocator: str | None
    precision: str | None
    deterministic: bool
    seed: int | None
    placement: bool
    reset_peak: bool
    require: bool
    doctor: bool
    watch: bool
    json: bool
    name: str | None
    quiet: bool

    def __post_init__(self) -> None:
        if self.indices and FREEST in self.indices and len(self.indices) > 1:
            raise LineError("freest is one GPU by itself; leave out the others.")
        if self.json and self.quiet:
            raise LineError("--json prints the report, and -q shows nothing; leave out one of them.")
        alone = [flag for flag, value in (("--doctor", self.doctor), ("--watch", self.watch)) if value]
        setting = [
            flag
            for flag, value in {
                "INDEX": self.indices or None,
                **{f"--{name.replace('_', '-')}": value for name, value in self.setup.items()},
            }.items()
            if value is not None and value is not False
        ]
        if alone and (setting or alone[1:]):
            other = (alone[1:] or setting)[0]
            raise LineError(
                f"{alone[0]} only looks, and sets nothing; leave out {other}, or write two lines."
            )

        if self.watch and (self.json or self.quiet or self.name):
            raise LineError("--watch shows a picture that moves, and no report: leave out --json, -o and -q.")

    @property
    def setup(self) -> dict[str, Any]:
        """What the engine is asked for, beside the indices."""
        left = ("indices", "doctor", "watch", "json", "name", "quiet")
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in left}


def _index(word: str) -> int | str:
    if word == FREEST:
        return word
    if not word.isdecimal():
        raise LineError(
            f"{shorten(word)!r} is not the index of a GPU; give numbers such as 0 or 0,1, or {FREEST}."
        )
    return int(word)


GRAD = Magic(
    "grad",
    cell=True,
    summary="Run the cell under a gradient tape and report derivatives of what it computes.",
    options=(
        Option(
            "targets",
            (),
            "y, dy/dx, d2y/dx2, d2y/dx da, ∂y/∂x or ∇loss; without any, the last expression",
            "TARGET",
            many=True,
        ),
        Option(
            "wrt",
            ("--wrt",),
            "what to differentiate by, where the target does not say",
            "NAME",
            place_name,
            many=True,
        ),
        Option(
            "order",
            ("--order",),
            "order of the derivative, where the target does not say",
            "N",
            whole(1, "--order"),
        ),
        Option("jacobian", ("--jacobian",), "each element of an output by each of a source, nothing summed"),
        Option("batch_jacobian", ("--batch-jacobian",), "the same for each row of a batch by itself"),
        Option("hessian", ("--hessian",), "all second derivatives, with eigenvalues and what they say"),
        Option(
            "jvp",
            ("--jvp",),
            "the Jacobian times a vector, in forward mode",
            "NAME=V",
            assignment("--jvp"),
            many=True,
        ),
        Option(
            "hvp",
            ("--hvp",),
            "the Hessian times a vector, without the Hessian",
            "NAME=V",
            assignment("--hvp"),
            many=True,
        ),
        Option("check", ("--check",), "compares with central differences, and says how far off it is"),
        Option("zero", ("--zero",), "zeros instead of None where there is no connection"),
        Option(
            "define",
            ("--def",),
            "does not run the cell, but makes a compiled function of it",
            "NAME",
            identifier,
        ),
        Option("inspect", ("--inspect",), "opens the report in a browser of widgets"),
        NAME,
        QUIET,
    ),
    examples=(
        (
            "Two derivatives, left in the notebook as dy_dx and d2y_dx2",
            "%%grad dy/dx, d2y/dx2\ny = a*x**2 + b*x + c",
        ),
        (
            "By everything that a model learns",
            "%%grad loss --wrt model\nloss = loss_fn(labels, model(images))",
        ),
        ("By an input that the cell itself assigns", "%%grad dy/dx\nx = 3.0\ny = tf.sin(x)"),
    ),
    options_class=GradOptions,
)

TFGPU = Magic(
    "tfgpu",
    cell=False,
    summary="Show the devices that TensorFlow can use, or choose among them.",
    options=(
        Option(
            "indices",
            (),
            "GPUs to use, by number, or freest, the one with the most free memory; the others are hidden",
            "INDEX",
            _index,
            many=True,
        ),
        Option("growth", ("--growth",), "memory is taken as it is needed"),
        Option("limit", ("--limit",), "memory is capped: 4G, 512M, or a share such as 0.5 or 50%", "SIZE"),
        Option("cpu", ("--cpu",), "hide every GPU"),
        Option(
            "split",
            ("--split",),
            "with --limit: so many logical GPUs of that size on each; with --cpu: logical CPUs",
            "N",
            int,
        ),
        Option(
            "allocator",
            ("--allocator",),
            "who hands out the GPU's memory: bfc, cuda_malloc_async or cuda_malloc",
            "NAME",
            choices=ALLOCATORS,
            closed=True,
        ),
        Option(
            "precision",
            ("--precision",),
            "what Keras computes in: mixed_bfloat16, mixed_float16, float32 and others",
            "NAME",
            choices=PRECISIONS,
            closed=True,
        ),
        Option("deterministic", ("--deterministic",), "operations give the same bits each time"),
        Option(
            "seed",
            ("--seed",),
            "where the random numbers of Python, NumPy, TensorFlow and Keras begin",
            "N",
            whole(0, "--seed"),
        ),
        Option("placement", ("--placement",), "TensorFlow logs the device of each operation"),
        Option("reset_peak", ("--reset-peak",), "the peak of memory in use begins anew"),
        Option("require", ("--require",), "without a GPU, stop with an error"),
        Option("doctor", ("--doctor",), "why there is no GPU, and the one thing to do about it"),
        Option("watch", ("--watch",), "memory and load over the last minute, while cells run"),
        Option("json", ("--json",), "prints the report as JSON"),
        NAME,
        QUIET,
    ),
    examples=(
        ("What there is", "%tfgpu"),
        ("The first GPU only, memory as needed", "%tfgpu 0 --growth"),
        ("Why there is no GPU", "%tfgpu --doctor"),
    ),
    options_class=DeviceOptions,
)

MAGICS = (GRAD, MINIMIZE, TFGPU)
