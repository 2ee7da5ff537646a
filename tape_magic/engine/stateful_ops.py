"""Whether operations keep nothing but variables, so that steps can be repeated.

What TensorFlow knows of a kind of operation is private API; without it, only the kinds listed here count.
"""

from __future__ import annotations

from collections.abc import Iterable

_IN_VARIABLES = frozenset(
    {
        "Assert",
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "Case",
        "If",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "ResourceScatterAdd",
        "ResourceScatterNdAdd",
        "ResourceScatterNdUpdate",
        "ResourceScatterUpdate",
        "ResourceStridedSliceAssign",
        "RngReadAndSkip",
        "RngSkip",
        "StatefulPartitionedCall",
        "StatefulRandomBinomial",
        "StatefulStandardNormalV2",
        "StatefulTruncatedNormal",
        "StatefulUniform",
        "StatefulUniformFullInt",
        "StatefulUniformInt",
        "VariableShape",
        "While",
    }
)
"""Stateful operations whose only state is in variables."""


def all_in_variables(kinds: Iterable[str]) -> bool:
    """Whether all state of some kinds of operations is in variables.

    >>> all_in_variables(["MatMul", "AssignVariableOp"])   # doctest: +SKIP
    True
    >>> all_in_variables(["PrintV2"])                      # doctest: +SKIP
    False
    """
    return all(kind in _IN_VARIABLES or not _is_stateful(kind) for kind in kinds)


def _is_stateful(kind: str) -> bool:
    try:
        from tensorflow.python.framework import op_def_registry
    except ImportError:
        return True
    definition = op_def_registry.get(kind)
    return definition is None or bool(definition.is_stateful)
