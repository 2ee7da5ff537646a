"""Which engine runs a minimisation: the fastest that can, or the one that was asked for."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from tape_magic.engine import sources as src
from tape_magic.engine import unconnected
from tape_magic.engine.loop import (
    CompiledLoop,
    EagerLoop,
    Loop,
    State,
    creates_a_variable,
    operation_without_gradient,
)
from tape_magic.engine.program import Namespace, Program, Untraceable
from tape_magic.engine.recording import Recorder
from tape_magic.engine.trace import Traced, failure_of_trace, require_loss
from tape_magic.errors import CompileError, TapeMagicError


class Engines:
    """The ways to run the loop of one program, from the fastest on.

    Parameters
    ----------
    program, namespace, loss_name
        What is minimised.
    settle
        The variables that were read → what is minimised over.
    optimizer
        What has a gradient → the optimizer for it.
    asked
        One of :data:`~tape_magic.engine.settings.ENGINES`.
    steps
        How many steps will be asked for at the most.
    seeded
        Whether the random numbers have to be the same in the next run.

    Attributes
    ----------
    engine
        The one that runs.
    reason
        Why it is not a faster one; empty if it is the first choice.
    loop
        Its loop, once started.
    """

    loop: Loop

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        settle: Callable[[Iterable[Any]], Sequence[src.Leaf]],
        optimizer: Callable[[Sequence[src.Leaf]], Any],
        *,
        asked: str,
        steps: int,
        seeded: bool,
    ) -> None:
        self._program, self._namespace, self._loss_name = program, namespace, loss_name
        self._settle, self._optimizer = settle, optimizer
        self._asked, self._steps, self._seeded = asked, steps, seeded
        self._traced: Traced | None = None
        self._recorder = Recorder()
        self.engine = ""
        self.reason = ""

    def start(self) -> State:
        """Build the fastest loop that runs the program, and evaluate the loss at the start."""
        if self._asked != "eager":
            self.reason = self._trace()
            engines = ("xla", "graph") if self._asked == "auto" else (self._asked,)
            for engine in () if self.reason else engines:
                state, reason = self._try_compiled(engine)
                if state is not None:
                    return state
                self.reason = reason
            if self._asked != "auto":
                # If the program itself is at fault, its own error comes first.
                self._program.run(dict(self._namespace), {})
                raise CompileError(f"--engine {self._asked} cannot run this: {self.reason}")
        self.engine = "eager"
        self.loop = EagerLoop(self._program, self._namespace, self._loss_name, self._settle, self._optimizer)
        with self._recorder.listening():
            return self.loop.start()

    def forget(self) -> None:
        """Let go of what :meth:`record` needs."""
        self._recorder.close()

    def record(self, state: State) -> unconnected.Record:
        """The operations of the evaluation that :meth:`start` did, for what has to be explained."""
        if isinstance(self.loop, CompiledLoop):
            assert self._traced is not None
            return unconnected.record_of(self._traced.concrete, state.loss)
        assert isinstance(self.loop, EagerLoop)
        loss = require_loss(self.loop.value, self._namespace, self._loss_name)
        return unconnected.Record(self._recorder, loss)

    def advance(self, state: State, end: int) -> tuple[State, np.ndarray[Any, Any]]:
        """A chunk of steps; see :meth:`Loop.advance`."""
        import tensorflow as tf

        try:
            return self.loop.advance(state, end)
        except tf.errors.OpError:
            if self.engine != "eager":
                # A graph's error speaks of nodes; the program by itself says it with the user's line.
                self._program.run(dict(self._namespace), {})
            raise

    def finish(self) -> Any:
        """Leave the program's names at the final values; the value of its last expression."""
        if isinstance(self.loop, CompiledLoop):
            assert self._traced is not None
            value, assigned = self._traced.outputs(self.loop.earlier)
            self._program.finish(self._namespace, assigned)
            return value
        assert isinstance(self.loop, EagerLoop)
        return self.loop.value

    def _trace(self) -> str:
        """Trace the program, or say why it cannot be."""
        try:
            self._traced = Traced(
                self._program, self._namespace, self._loss_name, for_xla=self._asked != "graph"
            )
            self._settle(self._traced.variables)
        except TapeMagicError:
            raise
        except Untraceable as error:
            return str(error)
        except Exception as error:
            if "singleton tf.Variable" in str(error):
                raise creates_a_variable(self._program, error) from None
            return failure_of_trace(error, self._program)
        return ""

    def _try_compiled(self, engine: str) -> tuple[State | None, str]:
        import tensorflow as tf

        assert self._traced is not None
        if engine == "xla" and (op := self._random_op()):
            return None, f"XLA cannot seed the random numbers of {op}"
        try:
            self.engine = engine
            self.loop = CompiledLoop(
                self._traced,
                self._settle(()),
                self._optimizer,
                jit=engine == "xla",
                steps=self._steps,
            )
            return self.loop.start(), ""
        except (tf.errors.OpError, ValueError, TypeError, LookupError, NotImplementedError) as error:
            return None, _failure_of_compiling(engine, error, self._traced.line_of(str(error)))

    def _random_op(self) -> str:
        """An operation whose random numbers XLA draws from a generator that no seed reaches."""
        if not self._seeded or self._traced is None:
            return ""
        return next((node.op for node in self._traced.operations() if node.op in _STATEFUL_RANDOM), "")


_STATEFUL_RANDOM = frozenset(
    {
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "TruncatedNormal",
    }
)


def _failure_of_compiling(engine: str, error: Exception, line: int | None) -> str:
    """Why an engine could not run the graph, in one clause, and the line of the user's that is at fault."""
    where = f" (line {line})" if line else ""
    message = str(getattr(error, "message", error))
    kernels = re.search(r"unsupported operations[^:]*:\s*(\w+)", message)
    if kernels:
        return f"XLA has no kernel for {kernels[1]}{where}"
    if isinstance(error, LookupError) and (operation := operation_without_gradient(error)):
        return f"TensorFlow has no gradient of {operation}{where}"
    first = message.strip().partition("\n")[0]
    runner = "XLA" if engine == "xla" else "a graph"
    return f"{runner} cannot run it{where}: {textwrap.shorten(first, 160, placeholder='…')}"
