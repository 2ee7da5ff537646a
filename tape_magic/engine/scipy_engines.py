"""The functions that SciPy calls, on the fastest engine that runs a program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tape_magic.engine import sources as src
from tape_magic.engine.asked import Stopped
from tape_magic.engine.eager_loop import Settle, creates_a_variable
from tape_magic.engine.engines import failure_of_compiling
from tape_magic.engine.flat import Flat, Vector
from tape_magic.engine.losses import require_loss, require_residuals
from tape_magic.engine.program import Namespace, Program, Untraceable
from tape_magic.engine.request import LIMIT
from tape_magic.engine.scipy_eager import EagerProgram, without_gradient_named
from tape_magic.engine.scipy_evaluations import Derivatives
from tape_magic.engine.scipy_methods import Method, refuse_size
from tape_magic.engine.trace import Traced, failure_of_trace
from tape_magic.engine.unconnected import Record, record_of
from tape_magic.engine.waiting import Waiting, compiling
from tape_magic.errors import CompileError, TapeMagicError


@dataclass(eq=False)
class Prepared:
    """What was compiled for a program, which its next run can use again.

    Attributes
    ----------
    asked, engine, reason
        The engine that was asked for, the one that it is compiled for, and why that is not a faster one.
    traced, flat, connected
        As a graph; what has a gradient, as a vector; and for each thing minimised over, whether it has one.
    functions
        By their names in :class:`Derivatives`.
    lifted
        The variables that stand for floats and arrays, in the order in which they were made.
    """

    asked: str
    engine: str
    reason: str
    traced: Traced
    flat: Flat
    connected: Sequence[bool]
    functions: dict[str, Callable[..., Any]]
    lifted: list[Any] = field(default_factory=list)


class Evaluations:
    """A program's loss and derivatives as functions of one float64 vector, a compiled call for each.

    Parameters
    ----------
    program, namespace, loss_name
        What is minimised.
    method
        Which says what is asked of it.
    settle
        The variables that were read → what is minimised over.
    asked
        One of :data:`~tape_magic.engine.settings.ENGINES`.
    tracked
        Further scalars that the program assigns.
    made
        What an earlier run left.

    Attributes
    ----------
    engine, reason
        The one that runs, and why it is not a faster one; empty if it is the first choice.
    connected
        For each thing minimised over, whether the loss has a gradient by it.
    flat
        Those that have one, as a vector; all of them for a method that takes no gradient.
    made
        What the next run can use again; ``None`` while nothing is compiled.
    """

    flat: Flat

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        method: Method,
        settle: Settle,
        *,
        asked: str,
        tracked: Sequence[str] = (),
        made: Prepared | None = None,
    ) -> None:
        self._program, self._namespace, self._loss_name = program, namespace, loss_name
        self._method, self._settle, self._asked = method, settle, asked
        self._tracked, self.made = tuple(tracked), made
        self._require = require_residuals if method.residuals else require_loss
        self._traced: Traced | None = None
        self._eager: EagerProgram | None = None
        self._functions: dict[str, Callable[..., Any]] = {}
        self._at: Vector | None = None
        self.connected: Sequence[bool] = ()
        self.engine = ""
        self.reason = ""

    def record(self) -> Record | None:
        """The operations of the program's graph, if it has one."""
        return None if self._traced is None else record_of(self._traced.concrete)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which of :class:`Derivatives` the method needs."""
        if self._method.residuals:
            return "residuals", "jacobian"
        second = {"hessp": ("product",), "hess": ("hessian",)}.get(self._method.second, ())
        return ("gradient", *second) if self._method.gradient else ("loss",)

    def start(self, ready: Callable[[], Vector], waiting: Waiting) -> None:
        """Compile for the fastest engine that runs the program, and call each function once.

        `ready` is called when it is known what is minimised over, for the vector to start from. A run that is
        stopped while it waits can evaluate as a graph.
        """
        import tensorflow as tf

        if self.made is not None:
            self._take_up(self.made)
            ready()
            return
        if self._asked != "eager":
            self.reason = self._trace()
            start = None if self.reason else ready()
            for engine in ("xla", "graph") if self._asked == "auto" else (self._asked,):
                if start is None:
                    break
                try:
                    self._compile(engine, waiting)
                    self._try(start, waiting)
                    self._keep_for_next()
                    return
                except Stopped:
                    self.reason = ""
                    self._compile("graph", Waiting())
                    return
                except (tf.errors.OpError, ValueError, TypeError, LookupError, NotImplementedError) as error:
                    assert self._traced is not None
                    line = self._traced.line_of(str(error))
                    self.reason = failure_of_compiling(engine, error, line)
            if self._asked != "auto":
                # If the program itself is at fault, its own error comes first.
                self._program.run(dict(self._namespace), {})
                raise CompileError(f"--engine {self._asked} cannot run this: {self.reason}")
        self._start_eagerly()
        self._try(ready(), waiting)

    def call(self, kind: str, *vectors: Vector) -> Any:
        """One evaluation at the first of the vectors → NumPy arrays of float64."""
        import tensorflow as tf

        try:
            with self._uncounted(kind):
                found = self._functions[kind](*(tf.constant(vector, tf.float64) for vector in vectors))
        except tf.errors.OpError:
            if self.engine != "eager":
                # A graph's error speaks of nodes; the program by itself says it with the user's line.
                self._program.run(dict(self._namespace), {})
            raise
        self._at = vectors[0].copy()
        if isinstance(found, tuple | list):
            return tuple(np.array(one) for one in found)
        return np.array(found)

    def gradients_at(self, x: Vector) -> Vector | None:
        """The gradient, for a method that takes none itself; ``None`` where there is none."""
        import tensorflow as tf

        self.flat.assign(x)
        try:
            if self._traced is None:
                assert self._eager is not None
                return np.array(Derivatives(self._eager.compute, self.flat).gradient(tf.constant(x))[1])
            evaluation = self._traced.evaluation(self.flat.leaves)
        except LookupError:
            return None
        if not any(evaluation.connected):
            return None
        with self._uncounted("gradients"):
            gradients = iter(evaluation.call()[1])
        return np.array(
            self.flat.joined(
                [
                    next(gradients) if has else tf.zeros(leaf.value.shape, leaf.value.dtype)
                    for leaf, has in zip(self.flat.leaves, evaluation.connected, strict=True)
                ]
            )
        )

    def norms(self, gradient: Vector) -> Mapping[int, float]:
        """Of the parts of a gradient, by the identity of the variable that each is by."""
        return {id(leaf.value): float(np.linalg.norm(part)) for leaf, part in self.flat.split(gradient)}

    def tracked_at(self, x: Vector) -> list[float]:
        """What is tracked, at a vector."""
        if not self._tracked:
            return []
        self.flat.assign(x)
        if self._eager is not None:
            self._run_at(x)
            return [float(number) for number in self._eager.scalars(self._tracked)]
        assert self._traced is not None
        with self._uncounted("tracked"):
            return [float(number) for number in self._traced.values()[1]]

    def finish(self, x: Vector) -> Any:
        """Leave the variables and the program's names at a vector; the value of its last expression."""
        self.flat.assign(x)
        if self._eager is not None:
            self._run_at(x)
            return self._eager.value
        assert self._traced is not None
        with self._uncounted("outputs"):
            computed = self._traced.values()[2]
        value, assigned = self._traced.outputs(computed)
        self._program.finish(self._namespace, assigned)
        return value

    def _run_at(self, x: Vector) -> None:
        assert self._eager is not None
        if self._at is None or not np.array_equal(self._at, x):
            self._eager.compute()
            self._at = x.copy()

    # -- engines -----------------------------------------------------------------------------------

    def _trace(self) -> str:
        """Trace the program, or say why it cannot be."""
        try:
            self._traced = Traced(
                self._program,
                self._namespace,
                self._loss_name,
                tracked=self._tracked,
                for_xla=self._asked != "graph",
                require=self._require,
            )
            leaves = self._settle(self._traced.variables)
            self._keep(leaves, self._connected(self._traced, leaves))
        except TapeMagicError:
            raise
        except Untraceable as error:
            return str(error)
        except Exception as error:
            if "singleton tf.Variable" in str(error):
                raise creates_a_variable(self._program, error) from None
            return failure_of_trace(error, self._program)
        return ""

    def _connected(self, traced: Traced, leaves: Sequence[src.Leaf]) -> Sequence[bool]:
        if not self._method.gradient:
            return [True] * len(leaves)
        with without_gradient_named():
            return traced.evaluation(leaves).connected

    def _keep(self, leaves: Sequence[src.Leaf], connected: Sequence[bool]) -> None:
        self.connected = connected
        self.flat = Flat([leaf for leaf, has in zip(leaves, connected, strict=True) if has])

    def _compile(self, engine: str, waiting: Waiting) -> None:
        import tensorflow as tf

        assert self._traced is not None
        self.engine, traced = engine, self._traced
        derivatives = Derivatives(
            lambda: traced.values()[0],
            self.flat,
            traced.backward,
            vectorize=not traced.branches,
        )
        vector = tf.TensorSpec([self.flat.size], tf.float64)
        for kind in self.kinds:
            compiled = tf.function(getattr(derivatives, kind), autograph=False, jit_compile=engine == "xla")
            vectors = (vector, vector) if kind == "product" else (vector,)
            lay_out = partial(compiled.get_concrete_function, *vectors)
            self._functions[kind] = waiting.lay_out(lay_out, engine)

    def _take_up(self, made: Prepared) -> None:
        self.engine, self.reason, self._traced = made.engine, made.reason, made.traced
        self._settle(made.traced.variables)
        self.flat, self.connected, self._functions = made.flat, made.connected, made.functions

    def _keep_for_next(self) -> None:
        assert self._traced is not None
        self.made = Prepared(
            self._asked, self.engine, self.reason, self._traced, self.flat, self.connected, self._functions
        )

    def _start_eagerly(self) -> None:
        self.engine = "eager"
        self._traced = None
        self._eager = EagerProgram(self._program, self._namespace, self._loss_name, self._require)
        self._keep(*self._eager.start(self._settle, gradient=self._method.gradient))
        derivatives = Derivatives(self._eager.compute, self.flat)
        self._functions = {kind: getattr(derivatives, kind) for kind in self.kinds}

    def _try(self, start: Vector, waiting: Waiting) -> None:
        """Each function once, so that what cannot run shows before the run begins."""
        size = self.flat.size
        refuse_size(self._method, size, 0, LIMIT)
        for kind in self.kinds:
            vectors = [start, *([np.zeros(size)] if kind == "product" else [])]
            if self.engine == "xla":  # a graph is compiled in no time
                self._wait_for(self._functions[kind], vectors, waiting)
            found = self.call(kind, *vectors)
            if kind == "residuals":
                refuse_size(self._method, size, len(found), LIMIT)

    def _wait_for(self, function: Any, vectors: Sequence[Vector], waiting: Waiting) -> None:
        import tensorflow as tf

        begun = compiling(function, [tf.constant(vector, tf.float64) for vector in vectors])
        if begun is not None:
            waiting.wait(begun, self.engine)
            begun.check()

    @contextlib.contextmanager
    def _uncounted(self, kind: str) -> Iterator[None]:
        """What the program assigns to variables itself counts once for each loss, not for derivatives."""
        counts = kind in ("loss", "gradient", "residuals")
        kept = [] if counts or self._traced is None else self._traced.written
        before = src.contents(kept)
        yield
        for variable, value in zip(kept, before, strict=True):
            variable.assign(value)
