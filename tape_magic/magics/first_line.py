"""The first line of a cell: forms of a magic's line that IPython does not take by itself.

``%grad dy/dx`` as the first line is ``%%grad``, below which editors see Python; a comment may stand above
the magic, and ``--help`` needs no cell. For a misspelt magic, the one that is meant is named. Every other
cell passes as it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError

from tape_magic.errors import LineError, shorten
from tape_magic.magics.line.minimize import NEGATIVE
from tape_magic.magics.line.options import MAGICS
from tape_magic.magics.line.typed import uncommented

_BY_NAME = {magic.name: magic for magic in MAGICS}
_CELL_MAGICS = {magic.name for magic in MAGICS if magic.cell}
_SIGNS = {magic.name: magic.sign for magic in MAGICS}

_MAGIC = re.compile(r"[^\S\n]*(?P<signs>%+)(?P<gap>[^\S\n]*)(?P<name>\w++)(?P<glued>[^\s?][^\s]*)?(?=\s|$)")

_ASKED = re.compile(rf"(%(?:{'|'.join(sorted(_CELL_MAGICS))})\?\??)\s*$")

_LIKE = 0.8
"""How much alike a misspelt name is, from 0 to 1."""

_MEANT = {
    word: name
    for name, words in {
        "grad": "gradient gradients derivative derivatives derive diff differentiate autodiff jacobian "
        "hessian",
        "minimize": "minimise minimizer maximize maximise argmin optimize optimise optim fit train solve "
        "descend",
        "tfgpu": "gpu gpus devices tfdevices",
    }.items()
    for word in words.split()
}
"""What users call the magics → their names."""


def continued(line: str, cell: str) -> tuple[str, str]:
    r"""Return the line of a magic with what continues it after a backslash, and the rest of the cell.

    Blank lines stand in their places, so that the lines of the cell keep their numbers.

    >>> continued("dy/dx \\", "    --check\ny = x**2")
    ('dy/dx     --check', '\ny = x**2')
    """
    taken = 0
    while uncommented(line).rstrip().endswith("\\") and cell:
        more, _, cell = cell.partition("\n")
        line, taken = line.rstrip()[:-1] + more, taken + 1
    return line, "\n" * taken + cell


class FirstLine:
    """Transforms the lines of a cell before IPython's own transformers see them.

    Parameters
    ----------
    knows
        Says whether the shell has a magic of a name, for a cell or for a line.
    """

    def __init__(self, knows: Callable[[str, bool], bool]) -> None:
        self._knows = knows

    def __call__(self, lines: list[str]) -> list[str]:
        """Return the lines, changed or as they are."""
        at = 0  # no generator: Python drops an interrupt that comes while an unfinished one is closed
        while at < len(lines) and (not lines[at].strip() or lines[at].startswith("#")):
            at += 1
        if at < len(lines) and (asked := _ASKED.match(lines[at])):
            return [*lines[:at], f"%{asked[1]}\n", *lines[at + 1 :]]
        found = _MAGIC.match(lines[at]) if at < len(lines) else None
        if found is None:
            return lines
        signs, gap, name, glued = found.groups()
        if gap or glued or len(signs) > 2:
            ours = name in _SIGNS or (not self._knows(name, len(signs) > 1) and meant(name))
            return _refused(found.group().strip()) if ours else lines
        if name in _CELL_MAGICS:
            # IPython wants a space behind the name, and none before it.
            line = f"%%{name} {lines[at][found.end() :].lstrip()}".rstrip() + "\n"
            lines = [*lines[:at], line, *lines[at + 1 :]]
            if at:  # the comment changes places with the magic, so that no other line moves
                lines = [lines[at], *lines[:at], *lines[at + 1 :]]
            asks = len(lines) == 1 and _BY_NAME[name].asks_for_help(line.partition(" ")[2])
            return _with_cell(lines) if asks else lines
        if not self._knows(name, signs == "%%") and meant(name):
            return _refused(signs + name)
        return lines


def _with_cell(lines: list[str]) -> list[str]:
    """Give a cell magic without a cell an empty one, which is refused in our words and not in IPython's."""
    alone = len(lines) == 1 and re.match(rf"%%(?:{'|'.join(sorted(_CELL_MAGICS))})(?:\s|$)", lines[0])
    return [f"{lines[0].rstrip()}\n", "\n"] if alone else lines


# A terminal that asks whether a cell is complete does not call it: the first line is never all of it.
_with_cell.has_side_effects = True  # type: ignore[attr-defined]


def _refused(written: str) -> list[str]:
    return [f"get_ipython().magics_manager.registry['TapeMagics'].no_magic({written!r})\n"]


def _not_first(name: str) -> Callable[[str], None]:
    """Return the line magic for a cell magic below the first line, which IPython calls by its second sign."""

    def refuse(line: str) -> None:
        raise UsageError(f"%%{name} begins a cell, and only comments may stand above it: write two cells.")

    return refuse


def meant(name: str) -> str:
    """Return the magic that is meant by another name, with its signs; empty where none is like it."""
    word = name.lower()
    if word in _MEANT:
        return _SIGNS[_MEANT[word]]
    near = difflib.get_close_matches(word, _SIGNS, n=1, cutoff=_LIKE)
    return _SIGNS[near[0]] if near else ""


def refusal(written: str) -> LineError:
    """Return the error for a magic that does not exist."""
    name = "".join(re.findall(r"\w+", written)[:1])
    if name.lower().startswith("max"):
        return LineError(f"there is no magic {shorten(written)}: {NEGATIVE.format('y')}.")
    return LineError(f"there is no magic {shorten(written)}; did you mean {meant(name)}?")


def install_first_line(shell: Any) -> None:
    """Put the transformer behind IPython's own that clean a cell up."""
    remove_first_line(shell)
    magics = shell.magics_manager

    def knows(name: str, cell: bool) -> bool:
        return name in magics.magics["cell" if cell else "line"] or name in getattr(magics, "lazy_magics", ())

    shell.input_transformers_cleanup.extend([FirstLine(knows), _with_cell])
    magics.magics["line"].update({f"%{name}": _not_first(name) for name in sorted(_CELL_MAGICS)})


def remove_first_line(shell: Any) -> None:
    """Take the transformer out of the shell."""
    transformers = shell.input_transformers_cleanup
    transformers[:] = [one for one in transformers if not (isinstance(one, FirstLine) or one is _with_cell)]
    for name in _CELL_MAGICS:
        shell.magics_manager.magics["line"].pop(f"%{name}", None)
