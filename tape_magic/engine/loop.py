"""The loop of a minimisation, in chunks of steps: compiled, or step by step.

An iteration applies the gradients of the one before and evaluates the loss anew. So the loss that
was evaluated last always belongs to the variables as they are, and a loop that a rule stops has
applied no step too many.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tape_magic.engine import sources as src
from tape_magic.engine.program import Namespace, Program
from tape_magic.engine.trace import Traced, require_loss
from tape_magic.errors import TargetError

CHUNK_SECONDS = 0.05
"""About how long a chunk lasts: Stop, Ctrl-C and the display are served between chunks."""

XLA_CAPACITY = 1 << 20
GRAPH_CAPACITY = 1 << 12
"""The most steps in a chunk, whose losses a buffer holds. XLA writes into it; a graph copies all of it at
each step, so that a long one would take longer to copy than a step takes."""


@dataclass(frozen=True)
class State:
    """Where a loop stands.

    Attributes
    ----------
    step
        Steps applied.
    loss
        At the variables as they are.
    finite
        Whether the loss and its gradients are.
    gradients
        At the variables as they are, one tensor for each variable with a gradient.
    """

    step: int
    loss: float
    finite: bool
    gradients: tuple[Any, ...]


class Loop(Protocol):
    """What the engines have in common."""

    @property
    def connected(self) -> Sequence[bool]:
        """For each thing minimised over, whether the loss has a gradient by it."""

    def start(self) -> State:
        """Evaluate the loss at the start; compiles."""

    def advance(self, state: State, end: int) -> tuple[State, np.ndarray[Any, Any]]:
        """Apply steps until `end`, or until something is not finite; the losses after each of them."""

    def put_back(self) -> None:
        """The variables as they were before the last step, or evaluation."""

    def step_back(self, state: State) -> State:
        """Put them back, and evaluate there."""


class CompiledLoop:
    """Whole chunks of steps inside TensorFlow, compiled by XLA or run as a graph.

    Parameters
    ----------
    traced
        The program.
    leaves
        What is minimised over.
    optimizer
        Makes the Keras optimizer, built for the leaves that have a gradient.
    jit
        Whether XLA compiles it.
    steps
        How many steps will be asked for at the most.
    """

    def __init__(
        self,
        traced: Traced,
        leaves: Sequence[src.Leaf],
        optimizer: Callable[[Sequence[src.Leaf]], Any],
        *,
        jit: bool,
        steps: int,
    ) -> None:
        import tensorflow as tf

        self._evaluate, self.connected = traced.gradients(leaves)
        self._leaves = [leaf for leaf, has in zip(leaves, self.connected, strict=True) if has]
        self._optimizer = optimizer(self._leaves)
        own = {id(leaf.value) for leaf in self._leaves}
        self._written = [variable for variable in traced.written if id(variable) not in own]
        # What a step back puts back: what the optimizer moves, and what the program itself assigns.
        self._moved = [*(leaf.value for leaf in self._leaves), *self._written]
        self._capacity = min(steps, XLA_CAPACITY if jit else GRAPH_CAPACITY) + 1
        self._before: list[Any] = []
        loss_type = self._evaluate.structured_outputs[0].dtype  # type: ignore[attr-defined]
        self._history = tf.zeros([self._capacity], loss_type)
        count, flag = tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.bool)
        gradients = [tf.TensorSpec(leaf.value.shape, leaf.value.dtype) for leaf in self._leaves]
        # A concrete function: TensorFlow would warn of retracing when the fifth cell makes a loop.
        self._chunk = tf.function(self._run, autograph=False, jit_compile=jit).get_concrete_function(
            count, count, flag, tf.TensorSpec([self._capacity], loss_type), gradients
        )

    def start(self) -> State:
        """Evaluate the loss without a step."""
        import tensorflow as tf

        zeros = tuple(tf.zeros(leaf.value.shape, leaf.value.dtype) for leaf in self._leaves)
        return self._called(State(0, math.nan, True, zeros), 0, fresh=True)[0]

    def advance(self, state: State, end: int) -> tuple[State, np.ndarray[Any, Any]]:
        """One chunk; at most the loop's capacity of steps."""
        return self._called(state, min(end, state.step + self._capacity - 1), fresh=False)

    def put_back(self) -> None:
        """The variables as they were before the last step, or evaluation."""
        for variable, value in zip(self._moved, self._before, strict=True):
            variable.assign(value)

    @property
    def earlier(self) -> list[tuple[Any, Any]]:
        """What the program itself assigns, with the values before the last evaluation."""
        return list(zip(self._written, self._before[len(self._leaves) :], strict=True))

    def step_back(self, state: State) -> State:
        """Put them back, and evaluate there."""
        self.put_back()
        kept = [variable.read_value() for variable in self._written]
        step = state.step - 1
        state = self._called(State(step, math.nan, True, state.gradients), step, fresh=True)[0]
        for variable, value in zip(self._written, kept, strict=True):
            variable.assign(value)  # this was no further step
        return state

    def _called(self, state: State, end: int, *, fresh: bool) -> tuple[State, np.ndarray[Any, Any]]:
        import tensorflow as tf

        numbers = tf.constant(state.step, tf.int64), tf.constant(end, tf.int64), tf.constant(fresh)
        step, finite, loss, self._history, gradients, self._before = self._chunk(
            *numbers, self._history, list(state.gradients)
        )
        reached = int(step)
        losses = self._history[1 : reached - state.step + 1].numpy().astype(np.float64)
        return State(reached, float(loss), bool(finite), tuple(gradients)), losses

    def _run(self, start: Any, end: Any, fresh: Any, history: Any, gradients: list[Any]) -> Any:
        """The chunk that is compiled. `fresh`: nothing to apply yet, only to evaluate."""
        import tensorflow as tf

        one, zero = tf.constant(1, tf.int64), tf.constant(0, tf.int64)

        def applied(gradients: list[Any]) -> Any:
            self._optimizer.apply(gradients, [leaf.owner for leaf in self._leaves])
            return one

        def iteration(
            step: Any, fresh: Any, finite: Any, loss: Any, history: Any, gradients: Any, before: Any
        ) -> Any:
            before = [tf.identity(variable.read_value()) for variable in self._moved]
            step += tf.cond(fresh, lambda: zero, lambda: applied(gradients))
            loss, *gradients = self._evaluate()
            finite = tf.math.is_finite(loss)
            for gradient in gradients:
                finite &= tf.reduce_all(tf.math.is_finite(gradient))
            history = tf.tensor_scatter_nd_update(history, [[step - start]], [loss])
            return step, tf.constant(False), finite, loss, history, gradients, before

        before = [variable.read_value() for variable in self._moved]
        step, _, finite, loss, history, gradients, before = tf.while_loop(
            lambda step, fresh, finite, *_: finite & (fresh | (step < end)),
            iteration,
            (start, fresh, tf.constant(True), tf.zeros([], history.dtype), history, gradients, before),
        )
        return step, finite, loss, history, gradients, before


class EagerLoop:
    """Step by step in Python, for what cannot be compiled; each step runs the program once."""

    def __init__(
        self,
        program: Program,
        namespace: Namespace,
        loss_name: str | None,
        settle: Callable[[Iterable[Any]], Sequence[src.Leaf]],
        optimizer: Callable[[Sequence[src.Leaf]], Any],
    ) -> None:
        self._program, self._namespace, self._loss_name = program, namespace, loss_name
        names = program.names
        # Each step begins with what the names held before the run, as a compiled step does.
        self._entry = {name: namespace[name] for name in names.reads_first if name in namespace}
        self._settle, self._make_optimizer = settle, optimizer
        self._leaves: list[src.Leaf] = []
        self._optimizer: Any = None
        self._before: list[Any] = []
        self._evaluated = False
        self.connected: Sequence[bool] = ()
        self.value: Any = None

    def start(self) -> State:
        """Evaluate the loss without a step."""
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self._loss()
            # What a variable holds is watched as it is read; what is not trainable has to be said.
            leaves = self._settle(tape.watched_variables())
        if any(not getattr(leaf.value, "trainable", True) for leaf in leaves):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for leaf in leaves:
                    tape.watch(leaf.value)
                loss = self._loss()
        gradients = _gradients(tape, loss, leaves)
        self.connected = [gradient is not None for gradient in gradients]
        self._leaves = [leaf for leaf, has in zip(leaves, self.connected, strict=True) if has]
        self._before = [leaf.value.read_value() for leaf in self._leaves]
        self._optimizer = self._make_optimizer(self._leaves)
        return _state(0, loss, _dense(gradients))

    def advance(self, state: State, end: int) -> tuple[State, np.ndarray[Any, Any]]:
        """Steps for about the time of a chunk."""
        losses: list[float] = []
        deadline = time.perf_counter() + CHUNK_SECONDS
        while state.finite and state.step < end and (not losses or time.perf_counter() < deadline):
            self._before = [leaf.value.read_value() for leaf in self._leaves]
            self._optimizer.apply(list(state.gradients), [leaf.owner for leaf in self._leaves])
            state = _state(state.step + 1, *self._evaluate())
            losses.append(state.loss)
        return state, np.array(losses)

    def put_back(self) -> None:
        """The variables as they were before the last step; what the program assigns itself stays."""
        for leaf, value in zip(self._leaves, self._before, strict=True):
            leaf.value.assign(value)

    def step_back(self, state: State) -> State:
        """Put them back, and evaluate there."""
        self.put_back()
        return _state(state.step - 1, *self._evaluate())

    def _evaluate(self) -> tuple[Any, list[Any]]:
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for leaf in self._leaves:
                tape.watch(leaf.value)
            loss = self._loss()
        return loss, _dense(_gradients(tape, loss, self._leaves))

    def _loss(self) -> Any:
        import tensorflow as tf

        def refuse(create: Any, **arguments: Any) -> Any:
            raise _VariableCreated

        self._namespace.update(self._entry)
        # Layers that were not built yet make their variables in the first evaluation.
        scope = tf.variable_creator_scope(refuse) if self._evaluated else contextlib.nullcontext()
        try:
            with scope:
                self.value = self._program.run(self._namespace, {})
        except _VariableCreated as error:
            self.put_back()
            raise creates_a_variable(self._program, error) from None
        self._evaluated = True
        return require_loss(self.value, self._namespace, self._loss_name)


class _VariableCreated(Exception):
    """The program created a variable when it had none left to create."""


def creates_a_variable(program: Program, error: BaseException) -> TargetError:
    """The refusal of a program that an error stopped as it created a variable."""
    line = program.line_of(error)
    return TargetError(
        f"{f'line {line[0]}' if line else 'the loss'} creates a variable, "
        "which would be a new one at each step: create it in a cell above."
    )


def _gradients(tape: Any, loss: Any, leaves: Sequence[src.Leaf]) -> list[Any]:
    try:
        return list(tape.gradient(loss, [leaf.value for leaf in leaves]))
    except LookupError as error:
        operation = operation_without_gradient(error)
        if not operation:
            raise
        raise TargetError(
            f"the loss goes through {operation}, which TensorFlow has no gradient of."
        ) from None


def operation_without_gradient(error: LookupError) -> str:
    """The kind of operation that TensorFlow missed a gradient of; empty if the error is another one."""
    found = re.search(
        r"gradient registry has no entry for: (\w+)|No gradient defined .*op type: (\w+)", str(error)
    )
    return (found[1] or found[2]) if found else ""


def _dense(gradients: Sequence[Any]) -> list[Any]:
    """The gradients that there are, those of lookups as full tensors."""
    import tensorflow as tf

    return [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]


def _state(step: int, loss: Any, gradients: Sequence[Any]) -> State:
    import tensorflow as tf

    number = float(loss)
    finite = math.isfinite(number) and all(bool(tf.reduce_all(tf.math.is_finite(g))) for g in gradients)
    return State(step, number, finite, tuple(gradients))


def next_end(state: State, steps: int, taken: int, seconds: float) -> int:
    """The step at which the next chunk should end, after one of `taken` steps in `seconds`.

    A chunk grows at most sixteenfold, since the first ones are too short to be timed well.
    """
    fitting = CHUNK_SECONDS / (seconds / taken) if taken and seconds > 0 else 1
    return min(steps, state.step + max(1, int(min(fitting, 16 * taken))))
