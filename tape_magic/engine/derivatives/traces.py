"""Divergences and Laplacians: traces of Jacobians and Hessians, neither of which is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tape_magic.engine.derivatives.gradient_table import GradientRecord, Leaves, tape_gradient
from tape_magic.engine.derivatives.gradients import Gradients
from tape_magic.engine.derivatives.jacobians import Shape, one_tensor
from tape_magic.engine.derivatives.points import mixes_points, weights_of_components
from tape_magic.engine.derivatives.request import Request
from tape_magic.engine.derivatives.run import Structures
from tape_magic.engine.internals.vectorized import by_chunks
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.record.recorder import bytes_heard
from tape_magic.engine.values.leaves import Leaf
from tape_magic.errors import LineError, TargetError
from tape_magic.notation import Target
from tape_magic.results.gradients import Derivative

_ONE_BY_ONE = 32
"""The most coordinates that are differentiated one by one; of more, many at once, which is traced first."""


@dataclass(frozen=True)
class Coordinates:
    """How the elements of a source divide into points and the coordinates of each.

    Attributes
    ----------
    points
        The leading axes of the source that count points; none where all elements belong to one point.
    count
        The number of coordinates of a point.
    result
        The shape of what is computed, which has one number for each point.
    """

    points: Shape
    count: int
    result: Shape


class Divergences(Gradients):
    """The divergence of each output by each of its sources: Σ ∂Fᵢ/∂xᵢ over the last axis of both.

    An output has the shape of its source: (d,) for one point, whose divergence is a scalar, or (n, d) for
    points in rows, whose divergences have the shape (n,). Parameters and errors are those of
    :class:`~tape_magic.engine.derivatives.run.Run`. Raises :class:`LineError` besides for a target of another
    order; and while it differentiates, :class:`TargetError` for other shapes, for complex numbers, and where
    a point of the output depends on other points of the source.
    """

    asks_tape_again = True  # once for each coordinate

    def __init__(
        self, program: Program, namespace: Namespace, targets: Sequence[Target], request: Request
    ) -> None:
        for target in targets:
            self.refuse_order(target)
        super().__init__(program, namespace, targets, request)

    def refuse_order(self, target: Target) -> None:
        """Raise :class:`LineError` for a target of which there is none of this kind."""
        if target.order > 1:
            raise LineError(
                f"{target.key} is no first derivative, of which a divergence is: "
                f"write d{target.name}/d{target.wrt[0]}, or {target.name} --wrt {target.wrt[0]}."
            )

    def coordinates(self, name: str, leaf: Leaf) -> Coordinates:
        """Return the points and coordinates of a leaf by which an output is differentiated.

        Raises :class:`TargetError` where the shapes do not fit each other.
        """
        shape = tuple(one_tensor(self.output(name), name).shape)
        if shape != leaf.shape:
            raise TargetError(
                f"--divergence needs a field of its source's shape, (d,) or (points, d): {name} is of shape "
                f"{shape}, {leaf.name} of shape {leaf.shape}. Name the source with --wrt; it holds all "
                "coordinates, and the field all components, on the last axis."
            )
        return Coordinates(shape[:-1], math.prod(shape[-1:]), shape[:-1])

    def take(self, tape: Any, record: GradientRecord) -> list[Any]:
        """Return the divergences of an output, which must be one tensor, by its leaves."""
        field = one_tensor(record.value, record.output)
        found = []
        for leaf in record.leaves:
            self.refuse_complex(record.output, field, leaf)
            coordinates = self.coordinates(record.output, leaf)
            found.append(self.trace(tape, field, leaf, coordinates, record.output))
        return found

    def refuse_complex(self, name: str, output: Any, leaf: Leaf) -> None:
        """Raise :class:`TargetError` where an output or a leaf is complex."""
        for called, dtype in ((name, output.dtype), (leaf.name, leaf.value.dtype)):
            if dtype.is_complex:
                raise TargetError(
                    f"{called} is complex, and --{self.request.kind.value} is of real numbers: "
                    "compute with its real and imaginary parts in the cell."
                )

    def refuse_mixed_points(
        self, tape: Any, name: str, leaf: Leaf, whole: Any = None, largest: float = 0.0
    ) -> None:
        """Raise :class:`TargetError` where an output at one point depends on a leaf at others.

        `whole` and `largest` are as :func:`~tape_magic.engine.derivatives.points.mixes_points` takes them.
        """
        output, points = one_tensor(self.output(name), name), self.coordinates(name, leaf).points
        if mixes_points(tape, output, leaf.value, points, whole, largest):
            what = self.request.kind.value.replace("laplacian", "Laplacian")
            raise TargetError(
                f"{name} at one row depends on other rows of {leaf.name}, so it has no {what} row by row: "
                "keep the rows apart in the cell. BatchNormalization does with training=False."
            )

    def trace(self, tape: Any, field: Any, leaf: Leaf, coordinates: Coordinates, name: str = "") -> Any:
        """Return the sums over the coordinates; ``None`` where a field does not depend on the leaf.

        The field has the shape of the leaf. With its `name`, :class:`TargetError` is raised where one of its
        points depends on other points of the leaf.
        """
        import tensorflow as tf

        points, count = coordinates.points, coordinates.count

        def derivative(index: Any) -> Any:
            """Return the derivative of one component of all points by the leaf."""
            one = tf.one_hot(index, count, dtype=field.dtype)
            seed = tf.broadcast_to(tf.reshape(one, leaf.shape[len(points) :]), leaf.shape)
            found = tape.gradient(field, leaf.value, output_gradients=seed)
            return None if found is None else tf.convert_to_tensor(found)

        def at(index: Any, derivative: Any) -> Any:
            return tf.gather(tf.reshape(derivative, (*points, count)), index, axis=-1)

        if not 0 < count <= _ONE_BY_ONE:
            if tape.gradient(field, leaf.value) is None:
                return None
            if name:
                self.refuse_mixed_points(tape, name, leaf)
            return self._trace_at_once(lambda index: at(index, derivative(index)), leaf, coordinates)
        whole = derivative(0)
        if whole is None:
            return None
        total, magnitudes = at(0, whole), tf.abs(whole)
        for index, weight in enumerate(weights_of_components(count)[1:], start=1):
            one = derivative(index)
            total += at(index, one)
            if name and points:
                whole += weight * one
                magnitudes = tf.maximum(magnitudes, abs(weight) * tf.abs(one))
        if name and points and tf.executing_eagerly():
            finite = tf.where(tf.math.is_finite(magnitudes), magnitudes, tf.zeros_like(magnitudes))
            largest = float(tf.reduce_max(finite)) if math.prod(leaf.shape) else 0.0
            self.refuse_mixed_points(tape, name, leaf, whole, largest)
        return tf.reshape(total, coordinates.result)

    def _trace_at_once(self, one: Callable[[Any], Any], leaf: Leaf, coordinates: Coordinates) -> Any:
        """Return the sum of what `one` gives for each coordinate, computed for many of these at once."""
        import tensorflow as tf

        if not coordinates.count:
            return tf.zeros(coordinates.result, leaf.value.dtype)
        size = bytes_heard(self.tapes.recorder) + math.prod(leaf.shape) * leaf.value.dtype.size
        attempt = by_chunks(one, coordinates.count, self.request.limit // max(size, 1))
        self.note(*attempt.notes)
        return tf.reshape(tf.reduce_sum(attempt.value, axis=0), coordinates.result)

    def shape(self, name: str, leaves: Leaves) -> Shape:
        """Return the shape of an output's divergence by a leaf."""
        return () if self.table[name, ()].known_reason else self.coordinates(name, leaves[0]).result

    def row(self, name: str, leaves: Leaves) -> Derivative:
        """Return the row of an output's divergence by a leaf, in which no sum is differentiated."""
        row = super().row(name, leaves)
        return replace(row, sums=(1,) * len(leaves), source=None)


class Laplacians(Divergences):
    """The Laplacian of each output by each of its sources: Σ ∂²u/∂xᵢ².

    An output of one number has one, over all elements of the source. By a source of shape (n, d), whose rows
    are points, an output of shape (n,) or (n, 1) has one for each row, of its own shape; by a source of shape
    (n,), an output of shape (n,) has one for each element. Parameters and errors are those of
    :class:`Divergences`.
    """

    def refuse_order(self, target: Target) -> None:
        """Raise :class:`LineError` for a target that is no second derivative by one source."""
        if target.order not in (0, 2) or len(set(target.wrt)) > 1:
            raise LineError(
                f"{target.key} is no second derivative by one source, of which a Laplacian is: "
                f"write d2{target.name}/d{target.wrt[0]}2, or {target.name} --wrt {target.wrt[0]}."
            )

    def coordinates(self, name: str, leaf: Leaf) -> Coordinates:
        """Return the points and coordinates of a leaf by which an output is differentiated."""
        shape, source = tuple(one_tensor(self.output(name), name).shape), leaf.shape
        if math.prod(shape) == 1:
            return Coordinates((), math.prod(source), shape)
        if shape in (source[:-1], (*source[:-1], 1)):
            return Coordinates(source[:-1], source[-1], shape)
        if shape == source and len(source) == 1:
            return Coordinates(source, 1, shape)
        raise TargetError(
            f"--laplacian needs one number, or one for each row of the source: {name} is of shape {shape}, "
            f"{leaf.name} of shape {source}. Name one component, such as {name}0 = {name}[..., 0], "
            "or the source with --wrt."
        )

    def take(self, tape: Any, record: GradientRecord) -> list[Any]:
        """Return the gradients of an output by its leaves, or the divergence of such a gradient."""
        import tensorflow as tf

        output = one_tensor(self.output(record.output), record.output)
        if not record.before:
            for leaf in record.leaves:
                self.refuse_complex(record.output, output, leaf)
                self.coordinates(record.output, leaf)
            found = tape_gradient(tape, record)
            return [None if one is None else tf.convert_to_tensor(one) for one in found]
        (leaf,) = record.leaves
        self.refuse_mixed_points(self.tapes.gradient_tapes[0], record.output, leaf, record.value)
        return [self.trace(tape, record.value, leaf, self.coordinates(record.output, leaf))]

    def shape(self, name: str, leaves: Leaves) -> Shape:
        """Return the shape of an output's Laplacian by a leaf."""
        return super().shape(name, leaves[:1])

    def rows(self) -> tuple[list[Derivative], Structures]:
        """Return a row for each leaf of each target's sources; a Laplacian is found by its source, too."""
        rows, structures = super().rows()
        return rows, {
            **structures,
            **{(name, wrt[:1]): value for (name, wrt), value in structures.items()},
        }
