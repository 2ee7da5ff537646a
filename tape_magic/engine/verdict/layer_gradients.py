"""Whether the gradient shrinks, or grows, from layer to layer, so that the first do not learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tape_magic.engine.record.entry import Entry
from tape_magic.engine.values.leaves import Leaf
from tape_magic.engine.values.tensors import to_array
from tape_magic.engine.verdict.facts import Array, LossAt, RunFacts, Walker
from tape_magic.engine.verdict.recorded_loss import RecordedLoss, keys_of, layer_of
from tape_magic.results.findings import Finding, FindingKind

FEWEST = 4
"""So many layers in a row are needed to see what happens from each to the next."""

DECADES = 3.0
"""The gradients of the first and last layer differ by so many powers of ten; in healthy nets, by one."""

STEADY = 0.75
"""The share of layers from each of which to the next the gradient changes in the same direction."""

LARGEST_JUMP = 0.5
"""No pair of layers makes more than this share of the change: a dead layer would, or a scale on one."""

SMALL = 1e-4
"""A layer's gradient is small where doubling its weights would change the loss by less than this share."""

STANDS = 0.01
"""A layer stands still if as many steps as the run took would change it by less than this share."""

LARGE = 0.1
"""A step is large that changes a layer by more than this share of it."""

LEARNT, LOST = 0.01, 0.9
"""A loss below the one share of the first has been learnt; one above the other has not come down."""


def look(facts: RunFacts) -> Iterator[Finding]:
    """Find that the back-propagated gradient changes geometrically along a chain of layers.

    Compared is what arrives at the outputs of each layer, row by row: the gradients by weights are sums over
    the rows, and nearly 0 in all layers once the last have settled. It vanishes where a layer also stands
    still, by the optimizer's own steps: Adam makes up for small gradients. It explodes where the loss did not
    come down, and steps are large. Only weights of one rank are layers of one kind, and no tables of
    embeddings.
    """
    chains = [chain for rank in (2, 3, 4, 5) if (chain := _of_rank(facts.leaves, rank))]
    if not chains or facts.walker is None or facts.at_end is None:
        return
    layers = [index for chain in chains for index in chain]
    if _stands_still(facts, facts.walker, facts.at_end, layers):
        yield from _changes(facts, facts.walker, chains, FindingKind.VANISHING)
    elif _is_lost(facts, facts.walker, facts.at_end, layers):
        yield from _changes(facts, facts.walker, chains, FindingKind.EXPLODING)


def _of_rank(leaves: Sequence[Leaf], rank: int) -> list[int]:
    """Return the indices of the leaves of a rank, if they are enough to be a chain."""
    found = [index for index, leaf in enumerate(leaves) if len(leaf.shape) == rank]
    return found if len(found) >= FEWEST else []


def _stands_still(facts: RunFacts, probe: Walker, end: LossAt, layers: Sequence[int]) -> bool:
    """Return whether some layer hardly moves, although the loss has not come down to next to nothing."""
    if facts.divergence is not None or facts.losses[-1] < LEARNT * facts.losses[0]:
        return False
    values = probe.values()
    effects = [_norm(end.gradients[index]) * _norm(values[index]) for index in layers if values[index].any()]
    if min(effects, default=np.inf) >= SMALL * abs(end.loss):
        return False
    return min(_relative_steps(probe, layers)) * (int(facts.steps[-1]) - facts.first_step) < STANDS


def _is_lost(facts: RunFacts, probe: Walker, end: LossAt, layers: Sequence[int]) -> bool:
    """Return whether the loss did not come down for long steps, from where it has not run away to."""
    if not len(facts.losses) or end.loss > 2 * facts.losses[0]:
        return False
    if facts.divergence is not None:
        return True
    return bool(facts.losses[-1] > LOST * facts.losses[0]) and max(_relative_steps(probe, layers)) > LARGE


def _relative_steps(probe: Walker, layers: Sequence[int]) -> list[float]:
    """Return the shares of themselves by which the next step would change layers that are not 0."""
    before = probe.values()
    probe.step()
    after = probe.values()
    probe.back()
    return [_norm(after[one] - before[one]) / _norm(before[one]) for one in layers if before[one].any()]


def _norm(array: Array) -> float:
    return float(np.linalg.norm(np.asarray(array, np.float64)))


def _changes(
    facts: RunFacts, probe: Walker, chains: Sequence[Sequence[int]], kind: FindingKind
) -> Iterator[Finding]:
    recorded = facts.recorded or RecordedLoss(probe.record(), facts.text, lambda: facts.clock.left)
    uses = _uses(facts, recorded)
    replay = recorded.replay(facts.leaves)
    if replay is None:
        return
    for chain in chains:
        used = [(facts.leaves[index], entry) for index, entry in uses.items() if index in chain]
        arrived = [replay.gradient(entry.outputs[0]) for _, entry in used]
        sizes = [0.0 if one is None else float(np.sqrt(np.mean(np.square(to_array(one))))) for one in arrived]
        if len(used) >= FEWEST and all(sizes) and _is_geometric(np.array(sizes), kind):
            yield _finding(recorded, used, sizes[0] / sizes[-1], kind)
            return


def _uses(facts: RunFacts, recorded: RecordedLoss) -> dict[int, Entry]:
    """Return the operation that uses each leaf first, in their order; not for tables of embeddings."""
    by_key = {keys_of([leaf])[0]: index for index, leaf in enumerate(facts.leaves)}
    found: dict[int, Entry] = {}
    for entry in recorded.way(facts.leaves):
        for key in entry.inputs:
            if key not in by_key:
                continue
            if entry.type in ("Cast", "Identity", "ReadVariableOp"):
                by_key[entry.outputs[0]] = by_key[key]
            elif not entry.type.startswith(("Gather", "ResourceGather")):
                found.setdefault(by_key[key], entry)
    return found


def _is_geometric(sizes: Array, kind: FindingKind) -> bool:
    """Return whether gradients change from each layer to the next, and by powers of ten in all."""
    up = np.diff(np.log10(sizes)) * (1 if kind is FindingKind.VANISHING else -1)
    return bool(up.sum() >= DECADES and (up > 0).mean() >= STEADY and up.max() <= LARGEST_JUMP * up.sum())


def _finding(
    recorded: RecordedLoss, used: Sequence[tuple[Leaf, Entry]], ratio: float, kind: FindingKind
) -> Finding:
    (first, entry), (last, _) = used[0], used[-1]
    power = f"10{str(round(np.log10(ratio))).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"
    verb, size = ("shrinks", "larger") if kind is FindingKind.VANISHING else ("grows", "smaller")
    cure = f"start with {size} weights (he_normal, glorot_uniform), or normalise between the layers"
    if kind is FindingKind.VANISHING and "Sigmoid" in {one for one, _ in recorded.operations()}:
        cure = "use relu with he_normal in place of sigmoid, or normalise between the layers"
    text = f"the gradient {verb} by {power} from {layer_of(last)} to {layer_of(first)}"
    where = recorded.evidence.where(entry.frames)
    return Finding(kind, text, {"ratio": ratio, "layers": len(used)}, where, cure)
