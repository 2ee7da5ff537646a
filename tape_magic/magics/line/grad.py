"""The line of `%%grad`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tape_magic.engine.distribution.strategies import MIRRORED
from tape_magic.errors import LineError, shorten
from tape_magic.magics.line import words
from tape_magic.magics.line.meant import COMMON, MEANT_BY_GRAD
from tape_magic.magics.line.option import Completed, Option
from tape_magic.magics.line.parser import NAME, QUIET, Magic, assignment, identifier, place_name
from tape_magic.magics.line.words import DataOption
from tape_magic.notation import Kind, Target, read_targets


@dataclass(frozen=True)
class GradOptions:
    """The line of ``%%grad``.

    Attributes
    ----------
    targets
        The derivatives, or the outputs, as :func:`~tape_magic.notation.split` gives them.
    jacobian, batch_jacobian, hessian, laplacian, divergence, per_example
        Whether that kind of derivative is computed.
    jvp, hvp
        For a product, each source with the expression of its vector.
    vjp
        For a product, each output with the expression of its vector.
    data
        The names of a batch, and the expression of the data that the gradients are added up over.
    batch, strategy
        The rows that are differentiated at once, and who shares them: values, or expressions.
    check
        Whether the derivatives are compared with central differences.
    define
        The name of the compiled function, where the line asks for one.
    inspect
        Whether the inspector opens.
    name
        The name that the report is bound to, where the line says it.
    quiet
        Whether nothing is shown.
    arguments
        The further arguments of :class:`~tape_magic.engine.derivatives.request.Request` that the line gives.
    """

    targets: tuple[str, ...] = ()
    jacobian: bool = False
    batch_jacobian: bool = False
    hessian: bool = False
    laplacian: bool = False
    divergence: bool = False
    per_example: bool = False
    jvp: tuple[tuple[str, str], ...] | None = None
    hvp: tuple[tuple[str, str], ...] | None = None
    vjp: tuple[tuple[str, str], ...] | None = None
    data: DataOption | None = None
    batch: Any = None
    strategy: Any = None
    check: bool = False
    define: str | None = None
    inspect: bool = False
    name: str | None = None
    quiet: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        chosen = [flag for flag, value in self._kinds if value]
        if len(chosen) > 1:
            raise LineError(f"{chosen[0]} and {chosen[1]} are different things; write two cells.")
        targets = _plainly_read(self.targets)
        named = [target.key for target in targets if target.wrt]
        if "wrt" in self.arguments and named and len(named) == len(targets):
            raise LineError(
                f"{shorten(named[0])} says what to differentiate by; leave out --wrt, or the denominator."
            )
        if "order" in self.arguments and named:
            raise LineError(f"{shorten(named[0])} says its order; leave out --order, or the denominator.")
        if self.data is not None:
            self._check_accumulated()
        reporting = ("--check", self.check), ("--inspect", self.inspect), ("-o", self.name)
        idle = [flag for flag, value in reporting if value]
        if self.define is not None and idle:
            raise LineError(f"--def makes a function, and nothing runs to report on: leave out {idle[0]}.")
        if self.jvp and "wrt" in self.arguments:
            raise LineError("--jvp says what to differentiate by; leave out --wrt.")
        sources = [name for name, _ in self.vectors]
        twice = next((name for name in sources if sources.count(name) > 1), None)
        if twice is not None:
            raise LineError(f"{chosen[0]} gives two vectors for {shorten(twice)}; give their sum.")

    def _check_accumulated(self) -> None:
        """Raise :class:`LineError` for what does not go with ``--for``."""
        chosen = [flag for flag, value in self._kinds if value]
        if chosen:
            raise LineError(
                f"--for adds gradients up, and {chosen[0]} is another thing: leave one of them out."
            )
        for flag, value in (("--check", self.check), ("--def", self.define)):
            if value:
                raise LineError(
                    f"{flag} is for one run of the cell, and --for makes several: leave one of them out."
                )

    @property
    def _kinds(self) -> tuple[tuple[str, Any], ...]:
        return (
            ("--jacobian", self.jacobian),
            ("--batch-jacobian", self.batch_jacobian),
            ("--hessian", self.hessian),
            ("--laplacian", self.laplacian),
            ("--divergence", self.divergence),
            ("--per-example", self.per_example),
            ("--jvp", self.jvp),
            ("--hvp", self.hvp),
            ("--vjp", self.vjp),
        )

    @property
    def kind(self) -> Kind:
        """The kind of the derivatives."""
        chosen = next((flag for flag, value in self._kinds if value), "--gradient")
        return Kind(chosen[2:].replace("-", " "))

    @property
    def vectors(self) -> tuple[tuple[str, str], ...]:
        """Each source or output of a product with the expression of its vector."""
        return self.jvp or self.hvp or self.vjp or ()


def _plainly_read(words: tuple[str, ...]) -> tuple[Target, ...]:
    """Return the targets in their plain reading, which no names decide; none where a word cannot be read."""
    try:
        return read_targets(words, lambda name: False)
    except LineError:  # which tells when the names are known
        return ()


GRAD = Magic(
    "grad",
    cell=True,
    summary="Run the cell under a gradient tape and report derivatives of what it computes.",
    options=(
        Option(
            "targets",
            (),
            "y, dy/dx, d2y/dx2, d2y/dx da, ∂y/∂x or ∇loss; by default, the last expression",
            "TARGET",
            many=True,
            names=Completed.TARGETS,
        ),
        Option(
            "wrt",
            ("--wrt",),
            "sources to differentiate by, for targets that name none",
            "NAME",
            place_name,
            many=True,
            names=Completed.CELL_SOURCES,
        ),
        Option(
            "order",
            ("--order",),
            "order of the derivatives, for targets that name no source (1)",
            "N",
            int,
        ),
        Option(
            "jacobian",
            ("--jacobian",),
            "derivatives of each output element by each source element, nothing summed",
        ),
        Option("batch_jacobian", ("--batch-jacobian",), "a Jacobian for each row of a batch"),
        Option("hessian", ("--hessian",), "all second derivatives, with eigenvalues and verdict"),
        Option(
            "jvp",
            ("--jvp",),
            "product of the Jacobian with a vector, in forward mode",
            "NAME=V",
            assignment("--jvp"),
            many=True,
            names=Completed.CELL_SOURCES,
        ),
        Option(
            "hvp",
            ("--hvp",),
            "product of the Hessian with a vector, without building the Hessian",
            "NAME=V",
            assignment("--hvp"),
            many=True,
            names=Completed.CELL_SOURCES,
        ),
        Option(
            "vjp",
            ("--vjp",),
            "product of a vector with the Jacobian of output NAME, in reverse mode",
            "NAME=V",
            assignment("--vjp"),
            many=True,
            names=Completed.OUTPUTS,
        ),
        Option("laplacian", ("--laplacian",), "sum of the second derivatives by each coordinate, row by row"),
        Option("divergence", ("--divergence",), "divergence of a field of the source's shape, row by row"),
        Option(
            "per_example",
            ("--per-example",),
            "norms of the gradient of each example's loss, and the example with the largest",
        ),
        Option(
            "data",
            ("--for",),
            'add the gradients up over data: "xb, yb in (x, y)"',
            "FOR",
            words.data,
            names=Completed.FOR,
            phrase=True,
        ),
        Option(
            "batch",
            ("--batch",),
            "rows that are differentiated at once, where the data are arrays (all)",
            "N",
            int,
            evaluated=True,
        ),
        Option(
            "strategy",
            ("--strategy",),
            "share each batch out: mirrored, to all devices of this machine, or a tf.distribute strategy",
            "NAME",
            words.strategy,
            choices=(MIRRORED,),
            evaluated=True,
        ),
        Option("check", ("--check",), "compare with central differences, and report the largest error"),
        Option("zero", ("--zero",), "zeros instead of None where the output does not depend on the source"),
        Option(
            "define",
            ("--def",),
            "make a compiled function of the cell instead of running it",
            "NAME",
            identifier,
        ),
        Option("inspect", ("--inspect",), "open the report in the inspector, a browser of widgets"),
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
    meant=MappingProxyType(COMMON | MEANT_BY_GRAD),
)
