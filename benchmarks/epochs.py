"""Epochs of two networks over the same rows, in TensorFlow, Keras's ``fit``, JAX and PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Epoch = Callable[[], object]
"""A function that puts the start values back, trains for the epochs of a work, and waits for the end."""

SHUFFLED = 10_000
"""Rows among which a ``tf.data`` pipeline shuffles."""


@dataclass(frozen=True)
class Work:
    """A network, its rows, and the size of a batch.

    Attributes
    ----------
    name
        The name of the task.
    batch
        How many rows a batch has.
    convolutions
        Whether the network begins with two convolutions.
    images, labels
        uint8, (rows, 784) or (rows, 28, 28, 1); int32, (rows,).
    epochs
        The epochs of a run.
    """

    name: str
    batch: int
    convolutions: bool
    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    epochs: int = 1

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.images)

    @property
    def steps(self) -> int:
        """The number of batches in an epoch; the last one may be smaller."""
        return -(-self.rows // self.batch)


def perceptron(rows: int, epochs: int = 1) -> Work:
    """Return the MLP 784-128-10, with batches of 128."""
    images, labels = _rows(rows, (784,))
    return Work(f"MLP 784-128-10, {rows:,} rows, batch 128", 128, False, images, labels, epochs)


def convolutional(rows: int, epochs: int = 1) -> Work:
    """Return the small network with two convolutions, with batches of 64."""
    images, labels = _rows(rows, (28, 28, 1))
    return Work(f"CNN 28 × 28, {rows:,} rows, batch 64", 64, True, images, labels, epochs)


def _rows(rows: int, shape: tuple[int, ...]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (rows, *shape), dtype=np.uint8)
    return images, generator.integers(0, 10, rows).astype(np.int32)


# -- TensorFlow ------------------------------------------------------------------------------------------


def pipeline(work: Work) -> Any:
    """Return the rows as a ``tf.data`` pipeline that shuffles and prefetches."""
    import tensorflow as tf

    rows = tf.data.Dataset.from_tensor_slices((work.images, work.labels))
    return rows.shuffle(min(SHUFFLED, work.rows)).batch(work.batch).prefetch(tf.data.AUTOTUNE)


def network(work: Work, *, scales: bool = False) -> Any:
    """Return the network as a Keras model of float32 inputs, or of uint8 which it `scales` itself."""
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input(work.images.shape[1:]), *([keras.layers.Rescaling(1 / 255)] if scales else [])]
    if work.convolutions:
        layers += [
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
        ]
    else:
        layers.append(keras.layers.Dense(128, activation="relu"))
    return keras.Sequential([*layers, keras.layers.Dense(10)])


def restarting(variables: list[Any]) -> Callable[[], None]:
    """Return a function that puts variables back to what they hold now."""
    import tensorflow as tf

    held = [tf.identity(variable) for variable in variables]

    def restart() -> None:
        for variable, value in zip(variables, held, strict=True):
            variable.assign(value)

    return restart


def by_hand(work: Work, data: Any, *, xla: bool) -> Epoch:
    """Return the epoch that an expert writes: one ``tf.function`` with the iterator in it.

    It loops over the known number of batches, takes each by ``next``, and writes the losses into a
    ``tf.TensorArray``. With `xla`, the step is compiled by XLA; ``tf.data`` itself cannot be.
    """
    import keras
    import tensorflow as tf

    model, optimizer = network(work), keras.optimizers.Adam()
    variables = model.trainable_variables
    optimizer.build(variables)
    restart = restarting([variable.value for variable in [*variables, *optimizer.variables]])

    @tf.function(autograph=False, jit_compile=xla)
    def step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(tf.cast(images, tf.float32) / 255.0)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    @tf.function(autograph=False)
    def epoch(iterator: Any) -> Any:
        def body(at: Any, losses: Any) -> Any:
            return at + 1, losses.write(at, step(*next(iterator)))

        losses = tf.TensorArray(tf.float32, work.steps, element_shape=[])
        return tf.while_loop(lambda at, _: at < work.steps, body, (tf.constant(0), losses))[1].stack()

    def once() -> object:
        restart()
        return [epoch(iter(data)).numpy() for _ in range(work.epochs)]

    return once


def by_fit(work: Work, data: Any, *, jit_compile: bool, steps_per_execution: int) -> Epoch:
    """Return an epoch of ``keras.Model.fit``, without a progress bar."""
    import keras

    model = network(work, scales=True)
    model.compile(
        keras.optimizers.Adam(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
        steps_per_execution=steps_per_execution,
    )
    model.optimizer.build(model.trainable_variables)
    restart = restarting([one.value for one in [*model.trainable_variables, *model.optimizer.variables]])

    def once() -> object:
        restart()
        return model.fit(data, epochs=work.epochs, verbose=0, shuffle=False)

    return once


def by_cell(
    run: Callable[[str], object], names: dict[str, Any], work: Work, data: Any, engine: str, *, fresh: bool
) -> Epoch:
    """Return an epoch of ``%%minimize`` over a pipeline, or over the arrays where `data` is ``None``.

    Parameters
    ----------
    run, names
        Runs a cell of a notebook; the names of that notebook.
    fresh
        Whether each cell is another one, which has to be compiled.
    """
    import tensorflow as tf

    model = network(work)
    restart = restarting([variable.value for variable in model.trainable_variables])
    given = {"images": work.images, "labels": work.labels} if data is None else {"train": data}
    source = f'(images, labels)" --batch {work.batch}' if data is None else 'train"'
    line = f'%%minimize loss --over model --for "xb, yb in {source} --epochs {work.epochs} --engine {engine}'
    cell = (
        "logits = model(tf.cast(xb, tf.float32)/255)\n"
        "loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=yb, logits=logits))"
    )
    numbers = itertools.count()

    def once() -> object:
        restart()
        names.update(given, tf=tf, model=model)
        return run(f"{line}\n# {next(numbers) if fresh else ''}\n{cell}")

    return once


# -- other libraries -------------------------------------------------------------------------------------


def weights(work: Work) -> dict[str, np.ndarray[Any, Any]]:
    """Return the weights of the network by name, as Keras lays them out."""
    made = network(work).get_weights()
    kinds = ("K1", "k1", "K2", "k2", "W", "b") if work.convolutions else ("W1", "b1", "W2", "b2")
    return dict(zip(kinds, made, strict=True))


def by_jax(work: Work) -> Epoch:
    """Return an epoch in JAX and optax: one ``scan`` under ``jit`` over rows picked in a drawn order."""
    import jax
    import optax
    from jax import numpy as jnp

    start = {name: jnp.asarray(value) for name, value in weights(work).items()}
    images, labels = jnp.asarray(work.images), jnp.asarray(work.labels)
    optimizer, whole = optax.adam(1e-3, eps=1e-7), work.rows // work.batch

    def convolved(x: Any, kernel: Any, bias: Any) -> Any:
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + bias)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def loss_of(p: Mapping[str, Any], x: Any, y: Any) -> Any:
        x = x.astype(jnp.float32) / 255
        if work.convolutions:
            x = convolved(convolved(x, p["K1"], p["k1"]), p["K2"], p["k2"])
            logits = x.reshape(len(x), -1) @ p["W"] + p["b"]
        else:
            logits = jax.nn.relu(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(carried: Any, rows: Any) -> Any:
        p, state = carried
        loss, gradients = jax.value_and_grad(loss_of)(p, images[rows], labels[rows])
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(p, updates), state), loss

    @jax.jit
    def epoch(p: Any, state: Any, order: Any) -> Any:
        (p, state), losses = jax.lax.scan(step, (p, state), order)
        return p, state, losses

    def once() -> object:
        p, state = start, optimizer.init(start)
        for _ in range(work.epochs):
            order = np.random.permutation(work.rows)[: whole * work.batch].reshape(whole, work.batch)
            p, state, losses = jax.block_until_ready(epoch(p, state, order))
        return losses

    return once


def by_torch(work: Work) -> Epoch:
    """Return the usual epoch of PyTorch, step by step, over rows picked from tensors in a drawn order."""
    import torch
    from torch.nn import functional

    images = torch.tensor(work.images.transpose(0, 3, 1, 2) if work.convolutions else work.images)
    labels = torch.tensor(work.labels).long()

    def network_of_torch() -> Any:
        if not work.convolutions:
            return torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 16, 3),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(16, 32, 3),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(800, 10),
        )

    def once() -> object:
        model = network_of_torch()
        optimizer, losses = torch.optim.Adam(model.parameters(), eps=1e-7), []
        orders = (torch.randperm(work.rows).split(work.batch) for _ in range(work.epochs))
        for rows in itertools.chain.from_iterable(orders):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images[rows].float() / 255), labels[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses).numpy()

    return once
