"""The loop of a minimisation, in chunks of steps: compiled, or step by step.

An iteration applies the gradients of the one before and evaluates the loss anew. So the loss that
was evaluated last always belongs to the variables as they are, and a loop that a rule stops has
applied no step too many.
"""

from __future__ import annotations

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

CAPACITY = 1 << 20
"""The most steps in a chunk; its losses take 4 or 8 bytes each."""


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

    def step_back(self, state: State) -> State:
        """Put back the variables as they were before the last step, and evaluate there."""


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
        self._capacity = min(steps, CAPACITY) + 1
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

    def step_back(self, state: State) -> State:
        """Put back the variables as they were before the last step, and evaluate there."""
        for leaf, value in zip(self._leaves, self._before, strict=True):
            leaf.value.assign(value)
        step = state.step - 1
        return self._called(State(step, math.nan, True, state.gradients), step, fresh=True)[0]

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
            before = [tf.identity(leaf.value.read_value()) for leaf in self._leaves]
            step += tf.cond(fresh, lambda: zero, lambda: applied(gradients))
            loss, *gradients = self._evaluate()
            finite = tf.math.is_finite(loss)
            for gradient in gradients:
                finite &= tf.reduce_all(tf.math.is_finite(gradient))
            history = tf.tensor_scatter_nd_update(history, [[step - start]], [loss])
            return step, tf.constant(False), finite, loss, history, gradients, before

        before = [leaf.value.read_value() for leaf in self._leaves]
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

    def step_back(self, state: State) -> State:
        """Put back the variables as they were before the last step, and evaluate there."""
        for leaf, value in zip(self._leaves, self._before, strict=True):
            leaf.value.assign(value)
        return _state(state.step - 1, *self._evaluate())

    def _evaluate(self) -> tuple[Any, list[Any]]:
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for leaf in self._leaves:
                tape.watch(leaf.value)
            loss = self._loss()
        return loss, _dense(_gradients(tape, loss, self._leaves))

    def _loss(self) -> Any:
        self._namespace.update(self._entry)
        self.value = self._program.run(self._namespace, {})
        return require_loss(self.value, self._namespace, self._loss_name)


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
