"""Whether all units of an activation are off, or saturated, on all rows, so that nothing behind it learns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tape_magic.engine.diagnosis.evidence import at_line
from tape_magic.engine.diagnosis.flow import DataFlow
from tape_magic.engine.diagnosis.replay import BackwardReplay
from tape_magic.engine.record.entry import Entry
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import to_array
from tape_magic.engine.verdict.facts import Array, RunFacts
from tape_magic.engine.verdict.recorded_loss import RecordedLoss, keys_of, layer_of
from tape_magic.results.findings import Finding, FindingKind

FEWEST_ROWS = 8
"""Of a batch with fewer rows, all may be on one side by accident; without batches, two rows are enough."""

MORE_BATCHES = 3
"""On so many further batches no unit may react either."""

CLOSED = 1e-3
"""A unit passes nothing on where its slope is below this share of the largest."""

SATURATED = 0.95
"""The share of outputs that are saturated where a layer is: of unscaled data, a few are not by accident."""

ASKED = 0.01
"""By this share of itself the loss would fall, to first order, if the units went where they are wanted."""

LEARNT = 0.1
"""A run whose loss fell below this share of the first learns, although its units are saturated."""

DONE = 1e-5
"""Below this share of the first loss, nothing is left to be learnt."""

_OFF, _FLAT = frozenset({"Maximum", "Relu", "Relu6"}), frozenset({"Sigmoid", "Tanh"})


@dataclass(frozen=True, eq=False)
class _Layer:
    """The operations of one activation: one, or one for each round of a loop.

    Attributes
    ----------
    entries
        The operations.
    leaf
        The nearest leaf that the first is computed from.
    behind
        The indices of all such leaves.
    rows, axis
        The rows of data that it is computed of, and the axis on which they lie.
    last
        Whether no further leaves come behind it.
    """

    entries: Sequence[Entry]
    leaf: Leaf
    behind: frozenset[int]
    rows: int
    axis: int
    last: bool


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find that no unit of a layer reacts to the data, while the loss would fall if some did.

    A rectifier is 0 for all rows, or a sigmoid or tanh is at its ends for nearly all; and the gradient that
    arrives there asks for the other direction than that in which the unit is at its end. So nothing is said
    of a hinge that all rows satisfy, of a clipped value, or of probabilities that are rightly 0 and 1.
    """
    if not abs(facts.losses[-1]) > DONE * abs(facts.losses[0]):
        return
    cut = _cut(facts)
    recorded = facts.recorded if cut or _is_high(facts) else None
    if recorded is None:
        return
    flat = _is_high(facts) and not _FLAT.isdisjoint(kind for kind, _ in recorded.operations())
    if not flat and not any(behind <= cut for behind in recorded.leaves_behind(_OFF | _FLAT, facts.leaves)):
        return
    closed = [layer for layer in _layers(facts, recorded) if _is_closed(recorded.flow, layer, cut)]
    replay = recorded.replay(facts.leaves) if closed else None
    if replay is None:
        return
    asked = [layer for layer in closed if _is_asked(facts, recorded.flow, layer, replay)]
    if asked and _stays(facts, asked[0]):
        # Behind a layer that is off, others are off as well, and hear nothing of the loss.
        yield _finding(facts, recorded, next(one for one in closed if one.behind <= asked[0].behind))


def _is_high(facts: RunFacts) -> bool:
    """Return whether the loss is still a good part of the first."""
    return bool(facts.losses[-1] > LEARNT * facts.losses[0])


def _cut(facts: RunFacts) -> frozenset[int]:
    """Return the indices of the leaves that no gradient reaches, but that of a penalty on them."""
    if facts.probe is None or facts.divergence is not None or facts.at_end is None:
        return frozenset()
    return _without_gradient(facts.probe.values(), facts.at_end.gradients)


def _without_gradient(values: Sequence[Array], gradients: Sequence[Array]) -> frozenset[int]:
    sizes = [_norm(gradient) / max(1, gradient.size) ** 0.5 for gradient in gradients]
    least = CLOSED * 0.1 * max(sizes, default=0.0)
    return frozenset(
        index
        for index, (value, gradient, size) in enumerate(zip(values, gradients, sizes, strict=True))
        if size <= least or _along(gradient, value) or _along(gradient, np.sign(value))
    )


def _along(gradient: Array, value: Array) -> bool:
    """Return whether a gradient is that of a penalty on the value alone: a multiple of it."""
    size = _norm(gradient) * _norm(value)
    return gradient.size > 1 and size > 0 and abs(float(np.vdot(gradient, value))) > (1 - 1e-5) * size


def _norm(array: Array) -> float:
    return float(np.linalg.norm(np.asarray(array, np.float64)))


# -- the layers ----------------------------------------------------------------------------------------


def _layers(facts: RunFacts, recorded: RecordedLoss) -> list[_Layer]:
    """Return the activations of rows of data and leaves that let next to nothing through, in their order."""
    flow, path = recorded.flow, recorded.way(facts.leaves)
    by_key = {key: index for index, leaf in enumerate(facts.leaves) for key in keys_of([leaf])}
    found: dict[tuple[str, int], list[Entry]] = {}
    for entry in path:
        if entry.type in _OFF | _FLAT and _rectified(flow, entry) is not None:
            nearest = _nearest_leaf(flow, _rectified(flow, entry), by_key)
            if nearest is not None and not _is_gate(flow, path, entry):
                found.setdefault((entry.type, nearest), []).append(entry)
    layers = []
    for (kind, nearest), entries in found.items():
        if min(_closed_share(kind, to_array(flow.value(one.outputs[0]))) for one in entries) < SATURATED:
            continue
        shape = tuple(flow.value(entries[0].outputs[0]).shape)
        data = recorded.data_behind(entries[0].outputs[0], facts.leaves)
        axis = next((axis for axis in (0, -1) if shape and _is_axis_of(data, shape, axis)), None)
        if axis is None or shape[axis] < (FEWEST_ROWS if facts.of_data else 2):
            continue
        behind = frozenset(by_key[key] for key in flow.upstream(entries[0].inputs) if key in by_key)
        last = _is_last(flow, path, entries, by_key)
        layers.append(_Layer(entries, facts.leaves[nearest], behind, shape[axis], axis, last))
    return layers


def _is_last(
    flow: DataFlow, path: Sequence[Entry], entries: Sequence[Entry], leaves: Collection[int]
) -> bool:
    """Return whether what some operations give meets no leaves on its way, but in a penalty that is added."""
    behind = flow.downstream(key for one in entries for key in one.outputs)
    of_leaves = flow.downstream(leaves)
    met = (
        flow.value(key)
        for entry in path
        if not behind.isdisjoint(entry.inputs)
        for key in entry.inputs
        if key in of_leaves and key not in behind
    )
    return all(value is not None and value.shape.rank == 0 for value in met)


def _is_axis_of(data: Sequence[tuple[int, ...]], shape: tuple[int, ...], axis: int) -> bool:
    return any(one and one[axis] == shape[axis] for one in data)


def _rectified(flow: DataFlow, entry: Entry) -> int | None:
    """Return the key of what an activation is given; ``None`` for a maximum of something else and 0."""
    if entry.type != "Maximum":
        return entry.inputs[0]
    values = [flow.value(key) for key in entry.inputs]
    zero = [value is not None and value.shape.rank == 0 and float(value) == 0 for value in values]
    return entry.inputs[1 - zero.index(True)] if any(zero) else None


def _nearest_leaf(flow: DataFlow, key: int | None, leaves: dict[int, int]) -> int | None:
    """Return the index of the leaf that is fewest operations away, none of them an activation."""
    now, seen = [key], set[int | None]()
    while now:
        for one in now:
            if one in leaves:
                return leaves[one]
        seen.update(now)
        makers = [flow.makers[one] for one in now if one in flow.makers]
        inner = [maker for maker in makers if maker.type not in _OFF | _FLAT]
        now = [one for maker in inner for one in maker.inputs if one not in seen]
    return None


def _is_gate(flow: DataFlow, path: Sequence[Entry], entry: Entry) -> bool:
    """Return whether a sigmoid or tanh is multiplied by what else the data give: an open gate is no end."""
    if entry.type in _OFF:
        return False
    passed, shape = set(entry.outputs), tuple(flow.value(entry.outputs[0]).shape)
    for reader in path:
        if passed.isdisjoint(reader.inputs) or reader.type not in ("AddV2", "Cast", "Identity", "Mul", "Sub"):
            continue
        others = [flow.value(key) for key in reader.inputs if key not in passed]
        if all(other is not None and other.shape.rank == 0 for other in others):
            passed.update(reader.outputs)
        elif reader.type == "Mul" and any(other is None or other.shape == shape for other in others):
            return True
    return False


# -- what they do --------------------------------------------------------------------------------------


def _is_closed(flow: DataFlow, layer: _Layer, cut: frozenset[int]) -> bool:
    """Return whether nothing gets through an activation."""
    shares = [_closed_share(entry.type, to_array(flow.value(entry.outputs[0]))) for entry in layer.entries]
    if layer.entries[0].type in _OFF:
        return min(shares) == 1 and layer.behind <= cut
    return min(shares) >= (1 if layer.last else SATURATED)  # a picture may be black but for a few pixels


def _closed_share(kind: str, output: Array) -> float:
    """Return the share of the outputs at which the slope of an activation is next to nothing."""
    return float((_slope(kind, output) < CLOSED).mean())


def _slope(kind: str, output: Array) -> Array:
    """Return the slope of an activation as a share of its largest, from what it gave."""
    if kind == "Sigmoid":
        return np.asarray(4 * output * (1 - output))
    if kind == "Tanh":
        return np.asarray(1 - output * output)
    return (output > 0) & (output < (6 if kind == "Relu6" else np.inf))


def _is_asked(facts: RunFacts, flow: DataFlow, layer: _Layer, replay: BackwardReplay) -> bool:
    """Return whether the loss would fall if the units went the way that they can go."""
    gain, unsure = 0.0, False
    for entry in layer.entries:
        gradient = replay.gradient(entry.outputs[0])
        if gradient is None:
            continue
        output, wanted = to_array(flow.value(entry.outputs[0])), -to_array(gradient)
        middle = {"Relu6": 3.0, "Sigmoid": 0.5}.get(entry.type, 0.0)
        way = np.where(output > middle, -1.0, 1.0)  # a rectifier is at 0 here
        gain += float((np.maximum(0.0, wanted * way) * _reach(flow, layer, entry)).sum())
        # Units that tell the rows apart, and a curve that is fitted where it has levelled off, may be right.
        curve = entry.type in _FLAT and _units(output, layer) == 1
        unsure = unsure or curve or bool(output.std(axis=layer.axis).max() > CLOSED)
    sizes = np.abs(facts.losses)
    enough = gain > ASKED * max(sizes[-1], float(np.median(sizes)))
    return enough and (_is_high(facts) or not unsure)


def _units(output: Array, layer: _Layer) -> int:
    return int(output.shape[-1 if layer.axis == 0 else 0]) if output.ndim > 1 else 1


def _reach(flow: DataFlow, layer: _Layer, entry: Entry) -> Any:
    """Return how far units would go: as far as what a rectifier is given varies over the rows.

    Where it does not vary, since the layer before is off as well, that is not known, and 1 is common.
    """
    if entry.type in _FLAT:
        return 1.0
    given = _rectified(flow, entry)
    assert given is not None
    spread = to_array(flow.value(given)).std(axis=layer.axis, keepdims=True)
    return spread if spread.any() else 1.0


def _stays(facts: RunFacts, layer: _Layer) -> bool:
    """Return whether no gradient comes through a rectifier on further batches either."""
    probe = facts.probe
    if probe is None or layer.entries[0].type in _FLAT:
        return probe is not None
    for batch in probe.batches(MORE_BATCHES):
        if facts.clock.left <= 0:
            return False
        gradients = probe.evaluate(batch).gradients
        if not layer.behind <= _without_gradient(probe.values(), gradients):
            return False
    return True


# -- in words ------------------------------------------------------------------------------------------


def _finding(facts: RunFacts, recorded: RecordedLoss, layer: _Layer) -> Finding:
    entry, flow = layer.entries[0], recorded.flow
    output = to_array(flow.value(entry.outputs[0]))
    units = _units(output, layer)
    where = recorded.evidence.where(entry.frames)
    name = f" of {layer_of(layer.leaf)}" if "/" in layer.leaf.name else ""
    evidence: dict[str, Any] = {"units": units, "rows": layer.rows, "operation": entry.type}
    if entry.type in _OFF:
        off = f"0 of {units:,} units{name} fire" if units > 1 else f"the one unit{name} does not fire"
        text = f"{off} on these {layer.rows:,} rows"
    else:
        share = evidence["share"] = _closed_share(entry.type, output)
        kind = f"{entry.type.lower()}{name}"
        outputs = f"all {units:,} outputs" if share == 1 else f"{int(100 * share)} % of the outputs"
        flat = f"{outputs} of {kind} are" if units > 1 else f"the output of {kind} is"
        text = f"{flat} saturated on these {layer.rows:,} rows"
    size = _input_size(facts, flow, layer)
    if size > 3:
        cure = f"scale the input, which is about {size:.2g}, to about 1"
        evidence["input"] = size
    elif facts.losses.max() > 5 * facts.losses[0]:
        cure = f"start again with a smaller {'--lr' if facts.by_name else 'learning rate'}"
    elif entry.type in _OFF:
        cure = "start with a bias of 0 and weights by he_normal, or take a leaky_relu"
    else:
        cure = "start with smaller weights, and a bias of 0"
    return Finding(FindingKind.DEAD_UNITS, text + at_line(where), evidence, where, cure)


def _input_size(facts: RunFacts, flow: DataFlow, layer: _Layer) -> float:
    """Return the size of the data that a layer multiplies by its weights; 0 if another layer gives them."""
    downstream = flow.downstream(keys_of(facts.leaves))
    makers, seen = [flow.makers.get(key) for key in layer.entries[0].inputs], 0
    while makers and seen < 10:
        maker, seen = makers.pop(0), seen + 1
        if maker is None:
            continue
        if maker.type in ("MatMul", "BatchMatMulV2", "Conv2D", "Mul", "Einsum"):
            data = [flow.value(key) for key in maker.inputs if key not in downstream]
            if any(one is None or one.shape.rank == 0 for one in data):
                return 0.0
            return float(np.sqrt(np.mean(np.square(to_array(data[0]))))) if len(data) == 1 else 0.0
        makers += [flow.makers.get(key) for key in maker.inputs]
    return 0.0
