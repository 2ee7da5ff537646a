"""Where a value left TensorFlow on its way from a source to an output: what the run showed, and the text."""

from __future__ import annotations

import ast
import linecache
import re
from collections.abc import Hashable, Iterable
from contextlib import suppress
from typing import Any

from tape_magic.engine.diagnosis.evidence import NamedTensors, RunEvidence, at_line, line_label_of
from tape_magic.engine.record.conversions import Conversion
from tape_magic.engine.static_analysis.carried import Carried, TensorFlowExit
from tape_magic.engine.static_analysis.leaving_tensorflow import ExitSearch
from tape_magic.engine.static_analysis.statements import base_name, names_read, syntax_tree
from tape_magic.engine.values.places import look_up
from tape_magic.engine.values.reach import reachable
from tape_magic.engine.values.tensors import is_module, is_variable, tf_variable
from tape_magic.results.reasons import Cause, Reason, Where

SHAPE_OPERATIONS = frozenset({"Shape", "ShapeN", "Size", "Rank"})
"""Operations that read no values."""

_DECIDING = re.compile(r"\b(if|elif|while|and|or|not|cond|case|while_loop)\b")
"""What a line has that decides by a truth value; an assertion of TensorFlow's takes one out, too."""


class LeavingExplainer:
    """Finds where a value of a source left TensorFlow.

    Parameters
    ----------
    evidence
        The evidence of the run.
    """

    def __init__(self, evidence: RunEvidence) -> None:
        self._evidence = evidence
        self._searches: dict[Hashable, ExitSearch] = {}  # one for all leaves of a model

    def explain(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Return where a value left on its way to a target that no operation leads to from the source.

        A value that left can have come back only as numbers that were made tensors during the run,
        upstream of the target. ``None`` where there are none, or none that can be made of the source. For
        ``h = np.sin(x)`` on line 3: "line 3 leaves TensorFlow: np.sin(x)", and the cure "use tf.sin".
        """
        came_in = self._came_in(target)
        found = self._explain_arrivals(came_in, target, source) if came_in else None
        return found or self._explain_attribute(target, source)

    def _explain_arrivals(
        self, came_in: set[int], target: NamedTensors, source: NamedTensors
    ) -> Reason | None:
        conversions = self._evidence.recorder.conversions
        arrivals = [one for one in conversions.arrivals if one.key in came_in]
        unheard = came_in.difference(one.key for one in arrivals)
        search = self._search(source, arrivals)
        if search is None:
            return None
        found = search.exits_to_arrivals()
        if unheard and not target.name.startswith("∂"):
            found = found.copy().absorb(search.exits_to(_output(target.name)))
        return self._reason(found, target, source)

    def explain_output(self, target: str, source: NamedTensors) -> Reason | None:
        """Return where the value left that an output holds, which need not be a tensor."""
        search = self._search(source, ())
        if search is None:
            return None
        exits = search.exits_to(_output(target)).exits
        return self._left(next(iter(exits))) if exits else None

    def decided_by(self, source: NamedTensors) -> Where | None:
        """Return the first line that took a truth value of a source, as ``if x > 0:`` does."""
        recorder = self._evidence.recorder
        depending = self._evidence.flow.downstream(source.keys, beyond=SHAPE_OPERATIONS)
        for one in recorder.conversions.exits:
            if one.key in depending and one.calls and _is_truth(recorder.tensor(one.key)):
                where = self._evidence.where(one.calls[0].frames)
                if where is not None and _DECIDING.search(where.text):
                    return where
        return None

    def _came_in(self, target: NamedTensors) -> set[int]:
        """Return the tensors that a target is computed of, and that numbers were made into during the run."""
        recorder, flow = self._evidence.recorder, self._evidence.flow
        return {
            key
            for key in flow.upstream(target.keys)
            if key > recorder.start and key not in flow.makers and recorder.tensor(key) is not None
        }

    def _search(self, source: NamedTensors, arrivals: Iterable[Conversion]) -> ExitSearch | None:
        text = self._evidence.text
        tree = syntax_tree(text.filename, text.lines) if text.filename else None
        if tree is None:
            return None
        names = self._names_leading_to(source, names_read(tree))
        others = self._other_variables(source, names, tree)
        exits, given = _distinct(self.exits(source)), _distinct(arrivals)
        numbers = [frozenset(one.number for one in same) for same in given.values()]
        (mine,) = source.tensors
        calls = [one for same in [*exits.values(), *given.values()] for one in same[0].calls]
        owners = {id(one.owner): one.owner for one in calls if one.owner is not None}
        leading = frozenset(key for key, owner in owners.items() if self._leads(owner, mine))
        heard = tuple(exits), tuple(zip(given, numbers, strict=True))
        key = frozenset(names), frozenset(others), *heard, leading, id(mine) if leading else None
        if key not in self._searches:
            came = [(same[0].calls, found) for same, found in zip(given.values(), numbers, strict=True)]
            left = [same[0].calls for same in exits.values()]
            self._searches[key] = ExitSearch(
                text.filename,
                text.lines,
                text.namespace,
                names,
                others,
                left,
                came,
                lambda value: self._leads(value, mine),
            )
        return self._searches[key]

    def exits(self, source: NamedTensors) -> list[Conversion]:
        """Return the exits of values that depend on a source.

        A truth value decides, and no number can be made of it but by a call that the text shows.
        """
        recorder = self._evidence.recorder
        depending = self._evidence.flow.downstream(source.keys, beyond=SHAPE_OPERATIONS)
        left = [one for one in recorder.conversions.exits if one.key in depending]
        return [one for one in left if not _is_truth(recorder.tensor(one.key))]

    def _explain_attribute(self, target: NamedTensors, source: NamedTensors) -> Reason | None:
        """Return which number that left is an attribute of an operation that leads to a target.

        Such is the slope in ``tf.nn.leaky_relu(a, alpha=float(x))``; 0 and 1 are attributes of many.
        """
        flow = self._evidence.flow
        attributes = {
            value
            for index in flow.leading_to(target.keys)
            for value in (flow.entries[index].attrs or ())[1::2]
            if isinstance(value, float) and value not in (0.0, 1.0)
        }
        for one in self.exits(source) if attributes else ():
            tensor = self._evidence.recorder.tensor(one.key)
            single = tensor is not None and tensor.dtype.is_floating and tensor.shape.rank == 0
            if one.calls and single and float(tensor) in attributes:
                return self._perhaps(target, source, self._evidence.where(one.calls[0].frames))
        return None

    # -- sentences ---------------------------------------------------------------------------------

    def _reason(self, found: Carried, target: NamedTensors, source: NamedTensors) -> Reason | None:
        if found.exits:
            return self._left(next(iter(found.exits)))
        if not found.perhaps:
            return None
        return self._perhaps(target, source, self._where(next(iter(found.perhaps))))

    def _perhaps(self, target: NamedTensors, source: NamedTensors, where: Where | None) -> Reason:
        name = "the output" if target.name == "_" else target.name
        text = f"{name} reads {source.name} by no operation, but its value may have left TensorFlow"
        return Reason(Cause.UNKNOWN, text + at_line(where), "", "", where)

    def _left(self, found: TensorFlowExit) -> Reason:
        where = self._where(found)
        cause = f"{line_label_of(where)} leaves TensorFlow: {found.text}"
        return Reason(Cause.LEFT, cause, found.cure, "", where)

    def _where(self, found: TensorFlowExit) -> Where:
        line = linecache.getline(found.filename, found.line).strip()
        return Where(found.line, line, self._evidence.text.label(found.filename))

    def leads(self, source: NamedTensors, place: str) -> bool | None:
        """Return whether a place holds a source, or begins with a name that leads to it.

        ``None`` for a name that does not, which may still have been computed from it.
        """
        (mine,) = source.tensors
        value = None
        with suppress(Exception):  # an expression of the user's may raise anything
            value = look_up(place, self._evidence.text.namespace)
        if "." in place and (is_variable(value) or is_module(value)):
            return self._leads(value, mine)
        return bool(self._names_leading_to(source, [_first_name(place)]) & {_first_name(place)}) or None

    def _names_leading_to(self, source: NamedTensors, names: Iterable[str]) -> set[str]:
        """Return the names whose objects are the source, or hold it as models and functions do."""
        found, home = {_first_name(source.name)}, self._evidence.text.namespace
        (mine,) = source.tensors
        return found.union(name for name in names if self._leads(home.get(name), mine))

    def _leads(self, value: Any, mine: Any) -> bool:
        """Return whether an object is a source, or holds it as models, functions and containers do."""
        home = self._evidence.text.namespace
        own = type(value).__module__ == home.get("__name__", "__main__") and hasattr(value, "__dict__")
        within = reachable([value, *(vars(value).values() if own else ())], home)
        return any(_holds(one, mine) for one in within)

    def _other_variables(self, source: NamedTensors, names: set[str], tree: ast.AST) -> set[str]:
        """Return the expressions that give another variable of a model or layer than the source."""
        (mine,) = source.tensors
        home = self._evidence.text.namespace
        models = {name for name in names if is_module(home.get(name))}
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and base_name(node) & models:
                with suppress(Exception):  # an expression of the user's may raise anything
                    value = look_up(ast.unparse(node), home)
                    if is_variable(value) and tf_variable(value) is not mine:
                        found.add(ast.unparse(node))
        return found


def _distinct(conversions: Iterable[Conversion]) -> dict[Hashable, list[Conversion]]:
    """Return conversions by the calls that were under way: those of a loop come to the same places."""
    found: dict[Hashable, list[Conversion]] = {}
    for one in conversions:
        key = tuple((id(call.code), call.instruction) for call in one.calls)
        found.setdefault(key, []).append(one)
    return found


def _is_truth(tensor: Any) -> bool:
    return tensor is not None and bool(tensor.dtype.is_bool)


def _output(target: str) -> str:
    return "" if target == "_" else _first_name(target)


def _first_name(place: str) -> str:
    """Return the name with which a place begins: ``p`` of ``p['w']``."""
    return place.partition("[")[0].partition(".")[0]


def _holds(value: Any, tensor: Any) -> bool:
    """Return whether a value is a variable or tensor, or a model or layer with that variable."""
    held = value.trainable_variables if is_module(value) else [value]
    return any((tf_variable(one) if is_variable(one) else one) is tensor for one in held)
