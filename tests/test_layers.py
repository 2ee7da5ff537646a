"""The floors of the package: what each module may import, and what loading the extension brings along."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

import tape_magic

PACKAGE = Path(tape_magic.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]


@dataclass(frozen=True)
class Imported:
    """One module that a file imports, and whether only when a function runs."""

    name: str
    line: int
    late: bool

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class Floor:
    """What the modules of one floor may import.

    `own` are floors of the package; `outside` are other people's packages, dotted where only that
    part of them may be imported; `late` are packages that may be imported only when a function runs.
    """

    own: frozenset[str]
    outside: frozenset[str] = frozenset()
    late: frozenset[str] = frozenset()


FLOORS = {
    "errors": Floor(frozenset()),
    "syntax": Floor(frozenset({"errors"})),
    "notation": Floor(frozenset({"syntax", "errors"})),
    "results": Floor(
        frozenset({"results", "notation", "syntax", "errors"}), frozenset({"numpy"}), frozenset({"pandas"})
    ),
    "engine": Floor(
        frozenset({"engine", "results", "notation", "syntax", "errors"}),
        frozenset({"numpy", "psutil"}),
        frozenset({"tensorflow", "keras", "ml_dtypes", "scipy", "pynvml"}),
    ),
    "display": Floor(
        frozenset({"display", "results", "notation", "syntax", "errors"}),
        frozenset({"numpy", "IPython.display"}),
        frozenset({"ipywidgets", "rich", "matplotlib", "mpl_toolkits"}),
    ),
    "magics": Floor(
        frozenset({"magics", "display", "engine", "results", "notation", "syntax", "errors"}),
        frozenset({"IPython", "traitlets"}),
        frozenset({"ipywidgets", "zmq"}),
    ),
    # The package itself gives names away when they are asked for.
    "__init__": Floor(frozenset({"magics", "engine"})),
}


DOORS = {
    ("results/views.py", "tape_magic.display.describe"),
    ("results/views.py", "tape_magic.display.html.render"),
    ("results/views.py", "tape_magic.display.text.encoding"),
    ("results/views.py", "tape_magic.display.text.render"),
    ("results/views.py", "tape_magic.display.live.inspector"),
    ("results/views.py", "tape_magic.display.plots"),
}
"""Imports that point up, each in one function that waits for a user's call."""

LOW = {"engine/values", "engine/internals", "engine/process", "results", "notation", "syntax"}
RUN = LOW | {"engine/program", "engine/record"}
MINIMIZATION = RUN | {"engine/diagnosis", "engine/tracing", "engine/static_analysis", "engine/verdict"}
MINIMIZATION |= {"engine/distribution"}

ROOMS: dict[str, set[str]] = {
    "engine/process": set(),
    "engine/internals": {"engine/process"},
    "engine/values": {"syntax"},
    "engine/program": {"engine/values", "syntax"},
    "engine/record": {"engine/internals", "engine/values"},
    "engine/static_analysis": {"engine/program", "engine/values"},
    "engine/tracing": {"engine/internals", "engine/program", "engine/values", "syntax"},
    "engine/distribution": {
        "engine/diagnosis/graph_operations.py",
        "engine/internals",
        "engine/process",
        "engine/tracing",
        "engine/values",
        "results",
    },
    "engine/diagnosis": {
        "engine/record",
        "engine/static_analysis",
        "engine/program",
        "engine/values",
        "engine/internals",
        "engine/tracing/pushforward.py",
        "results",
    },
    "engine/verdict": RUN | {"engine/diagnosis"},
    "engine/derivatives": RUN | {"engine/diagnosis", "engine/tracing"},
    "engine/check": RUN | {"engine/derivatives", "engine/diagnosis"},
    "engine/minimization/quasi_newton": {"engine/values"},
    "engine/minimization": MINIMIZATION | {"engine/minimization/quasi_newton"},
    "engine/minimization/data": {"engine/values"},
    "engine/minimization/keras_loop": MINIMIZATION
    | {"engine/minimization", "engine/minimization/data", "engine/minimization/quasi_newton"},
    "engine/minimization/scipy_solver": MINIMIZATION | {"engine/minimization"},
    "engine/devices": {"engine/internals", "results"},
    "engine/doctor": {"engine/devices", "engine/internals", "results"},
    "engine/accumulation": RUN
    | {"engine/check", "engine/derivatives", "engine/distribution", "engine/minimization/data"},
    "engine/api": MINIMIZATION
    | {"engine/accumulation", "engine/distribution"}
    | {"engine/derivatives", "engine/check", "engine/devices", "engine/doctor"}
    | {"engine/minimization", "engine/minimization/keras_loop", "engine/minimization/scipy_solver"},
    "display/content": set(),
    "display/text": {"display/content"},
    "display/pictures": {"display/content"},
    "display/html": {"display/content", "display/text", "display/pictures"},
    "display/describe": {"display/content", "results", "notation"},
    "display/live": {
        "display/content",
        "display/describe",
        "display/html",
        "display/pictures",
        "display/text",
        "results",
    },
    "display/plots.py": {"display/content", "display/describe", "results"},
    "magics/cell": {"engine/program"},
    "magics/line": {"engine/minimization", "engine/devices/words.py", "engine/distribution/strategies.py"}
    | {"notation", "syntax"},
    "magics": {
        "engine/api",
        "engine/process/interrupts.py",
        "engine/process/native_log.py",
        "engine/process/output.py",
        "magics/cell",
        "magics/line",
        "engine/internals/log_level.py",
        "display/content",
        "display/describe",
        "display/html",
        "display/live",
        "display/text",
        "results",
    },
}
"""What the modules of a room may import besides the room itself and the errors; late imports count."""


def room_of(name: str) -> str:
    """The innermost room of the table that a module, given by its dotted name, stands in."""
    parts = name.split(".")[1:]
    paths = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((path for path in paths if path in ROOMS), parts[0] if parts else "")


def dotted(path: Path) -> str:
    """The name that a file is imported by."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {dotted(path) for path in FILES}


def names_within(path: Path) -> Iterator[Imported]:
    """Each module of the package that a file imports, with those named after ``import`` resolved."""
    yield from _names_within(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def _names_within(nodes: Iterable[ast.AST]) -> Iterator[Imported]:
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tape_magic"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield Imported(full if full in MODULES else str(node.module), node.lineno, late=True)
        elif isinstance(node, ast.Import):
            # The package itself imports nothing as it loads.
            yield from (
                Imported(alias.name, node.lineno, late=True)
                for alias in node.names
                if alias.name.startswith("tape_magic.")
            )


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_rooms_import_what_stands_below(path: Path) -> None:
    room = room_of(dotted(path)) if "." in dotted(path) else ""
    room = "display/plots.py" if path.name == "plots.py" else room
    if room not in ROOMS:
        return
    for imported in names_within(path):
        other = room_of(imported.name)
        exact = imported.name.removeprefix("tape_magic.").replace(".", "/") + ".py"
        if other in (room, "errors") or exact in ROOMS[room]:
            continue
        assert other in ROOMS[room], f"{path.name}:{imported.line} imports {imported.name}"


def _run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below this one that can run, so without what only a checker of types reads."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _run_time(child)


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """The sets of modules that lead to each other, each larger than one, by what modules import."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen, queue = set[str](), list(graph[start])
        while queue:
            name = queue.pop()
            if name not in seen:
                seen.add(name)
                queue += graph.get(name, ())
        reached[start] = seen
    found: list[set[str]] = []
    for name in graph:
        together = {other for other in reached[name] if name in reached.get(other, ())}
        if together and together not in found:
            found.append(together)
    return found


def test_there_are_no_circles_of_imports_late_ones_counted() -> None:
    graph = {}
    for path in FILES:
        here = path.relative_to(PACKAGE).as_posix()
        nodes = _run_time(ast.parse(path.read_text(encoding="utf-8")))
        names = {one.name for one in _names_within(nodes)}
        graph[dotted(path)] = {name for name in names if (here, name) not in DOORS}
    assert circles(graph) == []


def test_a_circle_would_be_seen() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]
    assert circles({"a": {"b"}, "b": set()}) == []


WITH_CODE = {"__init__.py", "results/__init__.py", "display/describe/__init__.py"}
"""The package itself and the names of the reports' classes, which users import, and `describe`."""


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=str)
def test_init_files_hold_a_docstring_only(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    has_code = len(tree.body) > 1
    assert has_code == (path.relative_to(PACKAGE).as_posix() in WITH_CODE)


def imports_of(path: Path) -> Iterator[Imported]:
    yield from _imports(ast.parse(path.read_text(encoding="utf-8")), late=False)


def _imports(node: ast.AST, *, late: bool) -> Iterator[Imported]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (Imported(alias.name, child.lineno, late) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: a relative import"
            if child.module == "tape_magic":
                yield from (Imported(f"tape_magic.{alias.name}", child.lineno, late) for alias in child.names)
            else:
                yield Imported(str(child.module), child.lineno, late)
        elif isinstance(child, ast.Call) and ast.unparse(child.func) in (
            "importlib.import_module",
            "import_module",
        ):
            name = child.args[0]
            if isinstance(name, ast.Constant):
                yield Imported(str(name.value), child.lineno, late)
        inner = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from _imports(child, late=inner)


def floor_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def modules() -> list[ModuleType]:
    """Every module of the package."""
    dotted = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in FILES]
    return [importlib.import_module(name.removesuffix(".__init__")) for name in dotted]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_point_down(path: Path) -> None:
    floor = FLOORS[floor_of(path)]
    for imported in imports_of(path):
        where = f"{path.name}:{imported.line} imports {imported.name}"
        if (path.relative_to(PACKAGE).as_posix(), imported.name) in DOORS:
            assert imported.late, f"{where} as the module loads"
            continue
        if imported.name == "tape_magic":  # the package itself, which imports nothing as it loads
            continue
        if imported.top == "tape_magic":
            assert imported.name.split(".")[1] in floor.own, where
            continue
        if imported.top in sys.stdlib_module_names:
            continue
        allowed = any(imported.name == name or imported.name.startswith(f"{name}.") for name in floor.outside)
        assert allowed or imported.top in floor.late, where
        assert allowed or imported.late, f"{where} as the module loads"


def test_the_walk_sees_an_import_in_any_place() -> None:
    text = (
        "import a.b\n"
        "try:\n    from c import d\nexcept ImportError:\n    pass\n"
        "if TYPE_CHECKING:\n    import never\n"
        "class K:\n    import e\n    def m(self):\n        from tape_magic import magics\n"
        "f = lambda: [importlib.import_module('g.h')]\n"
    )
    found = [(one.name, one.late) for one in _imports(ast.parse(text), late=False)]
    assert found == [("a.b", False), ("c", False), ("e", False), ("tape_magic.magics", True), ("g.h", True)]


def test_every_floor_is_known() -> None:
    assert {floor_of(path) for path in FILES} == set(FLOORS)


def test_public_names_are_no_modules() -> None:
    public = set(tape_magic.__all__)
    extension = {"load_ipython_extension", "unload_ipython_extension"}
    assert public == {"grad", "derivative", "minimize", "devices"} | extension
    assert not public & {entry.stem for entry in PACKAGE.iterdir()}
    modules()
    for name in public:
        assert callable(getattr(tape_magic, name)), name
        assert not isinstance(getattr(tape_magic, name), ModuleType)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(tape_magic, "nothing")  # noqa: B009  # written so, a linter does not know better


LINES, CLASS_LINES, ATTRIBUTES = 350, 250, 15
"""The most lines of a module, and the most lines and instance attributes of a class."""

LARGE_MODULES: dict[str, int] = {}
"""Modules that are longer for now, by their lines; one that has become short enough leaves the table."""

LARGE_CLASSES: dict[str, tuple[int, int]] = {}
"""Classes that are larger for now, by their lines and their instance attributes, those of bases included.

The numbers only become smaller; a class that has become small enough leaves the table.
"""


@dataclass(frozen=True)
class ClassSize:
    """How large a class is: its own lines, and the attributes that it or a base of the package sets."""

    lines: int
    attributes: frozenset[str]
    bases: tuple[str, ...]
    is_record: bool


def class_sizes(tree: ast.Module) -> dict[str, ClassSize]:
    """The classes of a module by their names, each without its bases.

    Attributes are what methods assign to ``self``, and the fields of a dataclass.
    """
    found = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        assigned = {
            part.attr
            for part in ast.walk(node)
            if isinstance(part, ast.Attribute)
            and isinstance(part.ctx, ast.Store)
            and ast.unparse(part.value) == "self"
        }
        fields = {part.target for part in node.body if isinstance(part, ast.AnnAssign)}
        decorators = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
        assert node.end_lineno is not None
        found[node.name] = ClassSize(
            node.end_lineno - node.lineno + 1,
            frozenset(assigned | {field.id for field in fields if isinstance(field, ast.Name)}),
            tuple(ast.unparse(base).partition("[")[0] for base in node.bases),
            "dataclass" in decorators and "frozen=True" in decorators,
        )
    return found


def all_classes() -> dict[str, ClassSize]:
    """Every class of the package, with the attributes of its bases; a name that stands for two is refused."""
    own: dict[str, ClassSize] = {}
    for path in FILES:
        for name, size in class_sizes(ast.parse(path.read_text(encoding="utf-8"))).items():
            assert name not in own, f"two classes are called {name}"
            own[name] = size

    def attributes(name: str) -> frozenset[str]:
        size = own.get(name)
        if size is None:
            return frozenset()
        return size.attributes.union(*map(attributes, size.bases))

    return {name: replace(size, attributes=attributes(name)) for name, size in own.items()}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_modules_are_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    name = path.relative_to(PACKAGE).as_posix()
    assert lines <= LARGE_MODULES.get(name, LINES)
    assert (lines > LINES) == (name in LARGE_MODULES), f"{name} is short enough: take it out of the table"


def test_classes_are_small() -> None:
    large = {}
    for name, size in all_classes().items():
        # What a frozen record holds is data, not state.
        attributes = 0 if size.is_record else len(size.attributes)
        if size.lines > CLASS_LINES or attributes > ATTRIBUTES:
            large[name] = size.lines, attributes
    grown = {
        name: size
        for name, size in large.items()
        if any(now > before for now, before in zip(size, LARGE_CLASSES.get(name, (0, 0)), strict=True))
    }
    assert grown == {}
    assert set(LARGE_CLASSES) - set(large) == set(), "small enough: take them out of the table"


def test_the_attributes_of_a_class_are_counted() -> None:
    text = (
        "class A(B[int]):\n    field: int\n    def m(self):\n"
        "        self.x, self.y = 1, 2\n        self.x = other.z = 3\n"
    )
    (size,) = class_sizes(ast.parse(text)).values()
    assert size == ClassSize(5, frozenset({"field", "x", "y"}), ("B",), is_record=False)


MUTABLE = (list, dict, set, bytearray)
MUTATORS = {"append", "extend", "insert", "remove", "sort", "reverse", "pop", "popitem", "clear", "add"}
MUTATORS |= {"update", "discard", "setdefault"}


def changes(tree: ast.Module, names: set[str]) -> list[str]:
    """Where a module changes an object that one of its global names holds."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            found.append(f"line {node.lineno}: global {', '.join(node.names)}")
        target = None
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            target = node.value
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS
        ):
            target = node.func.value
        elif isinstance(node, ast.AugAssign):
            target = node.target
        if isinstance(target, ast.Name) and target.id in names:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_no_module_changes_its_globals(path: Path) -> None:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    held = {
        key for key, value in vars(module).items() if isinstance(value, MUTABLE) and not key.startswith("__")
    }
    assert changes(ast.parse(path.read_text(encoding="utf-8")), held) == []
    # An iterator changes with each value that it gives.
    assert [key for key, value in vars(module).items() if isinstance(value, Iterator)] == []
    # What is written in small letters is no constant.
    assert [key for key in held if key != key.upper()] == []


def test_a_changed_global_would_be_seen() -> None:
    text = "A = {}\ndef f():\n    global B\n    A['x'] = 1\n    A.update(x=1)\n    del A['x']\n"
    assert len(changes(ast.parse(text), {"A"})) == 4


IN_A_FRESH_PROCESS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
shell = InteractiveShell.instance()
before = set(sys.modules)
with capture_output() as captured:
    cells = "%load_ext tape_magic", "%config TapeMagics", "%%grad?"
    success = all(shell.run_cell(cell).success for cell in cells)
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    shell.run_cell("%%grad --nonsense\\ny = 1")
print(json.dumps({
    "success": success,
    "loaded": sorted(loaded),
    "refused": captured.stderr,
    "tensorflow": sorted({"tensorflow", "keras"} & set(sys.modules)),
}))
"""

SILENT = """
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
assert shell.run_cell("%load_ext tape_magic").success
assert shell.run_cell("%reload_ext tape_magic").success
assert shell.run_cell("%unload_ext tape_magic").success
"""


def run_fresh(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"IPYTHONDIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=True,
    )


def test_loading_leaves_tensorflow_out(tmp_path: Path) -> None:
    seen = json.loads(run_fresh(IN_A_FRESH_PROCESS, tmp_path).stdout.splitlines()[-1])
    assert seen["success"]
    assert seen["tensorflow"] == []
    assert "tape_magic" in seen["loaded"]
    assert not {"numpy", "ipywidgets", "pandas", "psutil", "rich", "scipy"} & set(seen["loaded"])
    # A line that cannot be read is refused without TensorFlow too.
    assert seen["refused"].startswith("UsageError: %%grad has no option --nonsense")


def test_loading_prints_nothing(tmp_path: Path) -> None:
    done = run_fresh(SILENT, tmp_path)
    assert (done.stdout, done.stderr) == ("", "")


# -- one name for one thing --------------------------------------------------------------------------------


def class_names() -> dict[str, list[str]]:
    """Return the class names of the package, without leading underscores, with the files that define them."""
    found: dict[str, list[str]] = {}
    for path, name in zip(FILES, IDS, strict=True):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name.lstrip("_"), []).append(name)
    return found


def test_no_class_name_stands_for_two_things() -> None:
    assert {name: files for name, files in class_names().items() if len(files) > 1} == {}


# -- private parts of other people's packages -------------------------------------------------------

PRIVATE_MODULES = ("tensorflow.python", "keras.src")
PRIVATE_NAME = re.compile(r"_[A-Za-z]\w*")

DOCUMENTED = {"_asdict", "_exit", "_fields", "_getframe", "_render_traceback_", "_view_count"}
"""Names with an underscore that their owners document: the C library, Python, IPython, and ipywidgets."""

PRIVATE_ELSEWHERE = {
    # Read for every operation of a cell, where the call of a function would be felt.
    "engine/record/recorder.py": {"_datatype_enum", "_id", "_num_elements"},
    # Python's class of threads that it did not start. No public function tells them from the others.
    "engine/process/output.py": {"_DummyThread"},
    # The module that `open.__module__` names.
    "engine/static_analysis/impure_calls.py": {"_io"},
    # How the attributes begin that TensorFlow adds to a `tf.Module`; nothing below `values` may be asked.
    "engine/values/objects.py": {"_self_"},
    # The name under which the package leaves compiled loops on a variable of the user's.
    "engine/minimization/reuse.py": {"_tape_magic_loops"},
    # IPython's and ipykernel's, each beside what stands in where a version lacks it.
    "magics/cell/cell.py": {"_filename_map"},
    "magics/comms.py": {"_recv_callback", "_shell_channel_to_main", "_topic"},
    "magics/front_end.py": {"_allow_stdin"},
}
"""Private names that modules outside of `engine/internals` use."""


def defined_in(tree: ast.Module) -> set[str]:
    """The names that a module's text defines or assigns, as variables, functions, or attributes of `self`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own(node.value):
            found.add(node.attr)
    return found


def is_own(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def foreign_names(text: str) -> set[str]:
    """The names with one leading underscore that a text uses, and neither defines nor finds on `self`.

    As attributes, as what is imported from a module, and as strings, which `getattr` may be given.
    """
    tree, used = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not is_own(node.value):
            used.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            used.add(node.value)
        elif isinstance(node, ast.ImportFrom):
            used |= {alias.name for alias in node.names}
    return {name for name in used if PRIVATE_NAME.fullmatch(name)} - defined_in(tree)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_private_parts_stand_in_one_room(path: Path) -> None:
    name, text = path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")
    if name.startswith("engine/internals/"):
        return
    assert [module for module in PRIVATE_MODULES if module in text] == []
    assert foreign_names(text) - DOCUMENTED == PRIVATE_ELSEWHERE.get(name, set())


def test_a_private_part_would_be_seen() -> None:
    text = (
        "from keras import _hidden\n"
        "class Own:\n"
        "    _limit = 1\n"
        "    def __init__(self, other):\n"
        "        self._held = other\n"
        "        other._written = 2\n"
        "    def __eq__(self, other):\n"
        "        return other._held == self._inherited and other._limit\n"
        "def read(layer):\n"
        "    return layer._flat, getattr(layer, '_named', None), layer.__dict__, Own._limit, 'a _word'\n"
    )
    assert foreign_names(text) == {"_hidden", "_written", "_flat", "_named"}
