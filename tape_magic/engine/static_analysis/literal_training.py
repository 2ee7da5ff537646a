"""Calls that are told to train whatever they are called for: ``model(x, training=True)``."""

from __future__ import annotations

import ast

from tape_magic.engine.program.program import Text
from tape_magic.engine.static_analysis.statements import syntax_tree


def literal_training(text: Text) -> list[str]:
    """Return the lines of a text that call something with ``training=True``: ``["line 2"]``."""
    tree = syntax_tree(text.filename, text.lines) if text.filename else None
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)] if tree is not None else []
    lines = {
        call.lineno
        for call in calls
        for word in call.keywords
        if word.arg == "training" and isinstance(word.value, ast.Constant) and word.value.value is True
    }
    return [f"line {line}" for line in sorted(lines)]
