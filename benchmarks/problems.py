"""Four minimisations, each in TensorFlow, JAX and PyTorch, from the same numbers to the same steps."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray[Any, Any]]
Run = Callable[[int], object]
"""A function that puts the start values back, applies a number of steps, and waits until they are done."""

EPSILON = 1e-7
"""The epsilon of Adam: Keras's default, given to the other libraries too."""


@dataclass(frozen=True)
class Problem:
    """A loss, and the values from which it is minimised.

    Attributes
    ----------
    name
        The name of the task.
    cell
        The statements that compute `loss` with TensorFlow from the names below.
    start, data
        The arrays by name, float32 and int32: those that change, and those that are only read.
    optimizer, rate
        ``sgd`` or ``adam``, and the learning rate.
    steps
        The number of steps of a long run.
    jax_loss, torch_loss
        The same loss, as a function of two dicts: the arrays that change, and the data.
    """

    name: str
    cell: str
    start: Arrays
    data: Arrays
    optimizer: str
    rate: float
    steps: int
    jax_loss: Callable[[Any, Any], Any]
    torch_loss: Callable[[Any, Any], Any]


def problems(*, quick: bool = False) -> list[Problem]:
    """Return the four problems; with `quick`, with so few steps that they only show that they work."""
    made = [_quadratic(), _rosenbrock(), _logistic(), _network()]
    if not quick:
        return made
    return [Problem(**{**vars(problem), "steps": max(problem.steps // 50, 3)}) for problem in made]


def _quadratic() -> Problem:
    def loss(p: Any, d: Any) -> Any:
        return d["a"] * p["x"] ** 2 + d["b"] * p["x"] + d["c"]

    numbers = {name: np.float32(value) for name, value in (("a", 1.0), ("b", -2.0), ("c", 1.0))}
    data = {name: np.asarray(value) for name, value in numbers.items()}
    return Problem(
        "the tutorial's quadratic, SGD",
        "loss = a*tf.pow(x, 2) + b*x + c",
        {"x": np.zeros((), np.float32)},
        data,
        "sgd",
        0.01,
        1_000_000,
        loss,
        loss,
    )


def _rosenbrock() -> Problem:
    def loss(p: Any, d: Any) -> Any:
        w = p["w"]
        return (100.0 * (w[1:] - w[:-1] ** 2) ** 2 + (1.0 - w[:-1]) ** 2).sum()

    return Problem(
        "Rosenbrock-100, Adam",
        "loss = tf.reduce_sum(100.0 * (w[1:] - w[:-1]**2)**2 + (1.0 - w[:-1])**2)",
        {"w": np.zeros(100, np.float32)},
        {},
        "adam",
        1e-3,
        200_000,
        loss,
        loss,
    )


def _logistic() -> Problem:
    def jax_loss(p: Any, d: Any) -> Any:
        import optax

        return optax.sigmoid_binary_cross_entropy(d["X"] @ p["w"] + p["bias"], d["t"]).mean()

    def torch_loss(p: Any, d: Any) -> Any:
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(d["X"] @ p["w"] + p["bias"], d["t"])

    generator = np.random.default_rng(0)
    x = generator.normal(size=(10_000, 100)).astype(np.float32)
    t = (x @ generator.normal(size=100) + generator.normal(size=10_000) > 0).astype(np.float32)
    return Problem(
        "logistic regression 10,000 × 100, Adam",
        "logits = tf.linalg.matvec(X, w) + bias\n"
        "loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=t, logits=logits))",
        {"w": np.zeros(100, np.float32), "bias": np.zeros((), np.float32)},
        {"X": x, "t": t},
        "adam",
        1e-2,
        3_000,
        jax_loss,
        torch_loss,
    )


def _network() -> Problem:
    def jax_loss(p: Any, d: Any) -> Any:
        import jax
        import optax

        hidden = jax.nn.relu(d["X"] @ p["W1"] + p["b1"])
        logits = hidden @ p["W2"] + p["b2"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, d["t"]).mean()

    def torch_loss(p: Any, d: Any) -> Any:
        from torch.nn import functional

        hidden = functional.relu(d["X"] @ p["W1"] + p["b1"])
        return functional.cross_entropy(hidden @ p["W2"] + p["b2"], d["t"].long())

    generator = np.random.default_rng(0)
    return Problem(
        "MLP 784-128-10, batch 1024, Adam",
        "logits = tf.nn.relu(X @ W1 + b1) @ W2 + b2\n"
        "loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=t, logits=logits))",
        {
            "W1": (0.05 * generator.normal(size=(784, 128))).astype(np.float32),
            "b1": np.zeros(128, np.float32),
            "W2": (0.1 * generator.normal(size=(128, 10))).astype(np.float32),
            "b2": np.zeros(10, np.float32),
        },
        {
            "X": generator.normal(size=(1024, 784)).astype(np.float32),
            "t": generator.integers(0, 10, 1024).astype(np.int32),
        },
        "adam",
        1e-3,
        200,
        jax_loss,
        torch_loss,
    )


def tensors(problem: Problem) -> dict[str, Any]:
    """Return the problem's names with TensorFlow's variables and constants, and ``tf``."""
    import tensorflow as tf

    return {
        "tf": tf,
        **{name: tf.constant(value) for name, value in problem.data.items()},
        **{name: tf.Variable(value) for name, value in problem.start.items()},
    }


def by_hand(problem: Problem, *, record: bool) -> Run:
    """Return the loop that an expert writes: ``tf.while_loop`` under XLA, the number of steps a tensor.

    With `record`, it also returns the loss of each step, as every result of ``%%minimize`` does.
    """
    import keras
    import tensorflow as tf

    names = tensors(problem)
    variables = [names[name] for name in problem.start]
    starts = list(problem.start.values())
    exec(f"def loss_of():\n{textwrap.indent(problem.cell, '    ')}\n    return loss\n", names)
    optimizer = keras.optimizers.get({"class_name": problem.optimizer, "config": {}})
    optimizer.learning_rate = problem.rate
    optimizer.build(variables)
    kept = [tf.identity(variable) for variable in optimizer.variables]

    @tf.function(jit_compile=True, autograph=False, input_signature=[tf.TensorSpec([], tf.int32)])
    def loop(steps: Any) -> Any:
        def body(step: Any, *losses: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = names["loss_of"]()
            optimizer.apply(tape.gradient(loss, variables), variables)
            return step + 1, *(array.write(step, loss) for array in losses)

        arrays = [tf.TensorArray(tf.float32, problem.steps, element_shape=[])] if record else []
        step, *losses = tf.while_loop(lambda step, *_: step < steps, body, (tf.constant(0), *arrays))
        return step, *(array.stack() for array in losses)

    def run(steps: int) -> object:
        for variable, value in zip([*optimizer.variables, *variables], [*kept, *starts], strict=True):
            variable.assign(value)
        return [tensor.numpy() for tensor in loop(tf.constant(steps))]

    return run


def by_jax(problem: Problem, *, record: bool) -> Run:
    """Return the loop in JAX and optax, compiled as a whole; with `record`, it returns the losses too."""
    import jax
    import optax

    optimizer = (
        optax.sgd(problem.rate) if problem.optimizer == "sgd" else optax.adam(problem.rate, eps=EPSILON)
    )
    start = {name: jax.numpy.asarray(value) for name, value in problem.start.items()}
    data = {name: jax.numpy.asarray(value) for name, value in problem.data.items()}

    @jax.jit
    def loop(start: Any, data: Any, steps: Any) -> Any:
        def body(step: Any, carried: Any) -> Any:
            parameters, state, losses = carried
            loss, gradients = jax.value_and_grad(problem.jax_loss)(parameters, data)
            updates, state = optimizer.update(gradients, state)
            # XLA leaves out the loss itself where its value is not used.
            losses = losses.at[step].set(loss) if record else losses
            return optax.apply_updates(parameters, updates), state, losses

        losses = jax.numpy.zeros(problem.steps if record else 0)
        return jax.lax.fori_loop(0, steps, body, (start, optimizer.init(start), losses))

    return lambda steps: jax.block_until_ready(loop(start, data, steps))


def by_torch(problem: Problem) -> Run:
    """Return the usual loop of PyTorch, which runs step by step."""
    import torch

    data = {name: torch.tensor(value) for name, value in problem.data.items()}

    def run(steps: int) -> object:
        parameters = {name: torch.tensor(value, requires_grad=True) for name, value in problem.start.items()}
        values = list(parameters.values())
        optimizer = (
            torch.optim.SGD(values, problem.rate)
            if problem.optimizer == "sgd"
            else torch.optim.Adam(values, problem.rate, eps=EPSILON)
        )
        for _ in range(steps):
            optimizer.zero_grad()
            problem.torch_loss(parameters, data).backward()
            optimizer.step()
        return values

    return run
