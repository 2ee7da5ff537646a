"""`Walk`: everything that a program leads to, each object once, and nothing of the user's is asked."""

from __future__ import annotations

import collections
import functools
import textwrap
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tape_magic.engine.program.function import FunctionProgram
from tape_magic.engine.program.program import Names
from tape_magic.engine.program.walk import Visitor, Walk, Write

Point = collections.namedtuple("Point", "x y")


class Seen(Visitor):
    """Takes note of all that a walk meets."""

    def __init__(self) -> None:
        self.variables: list[Any] = []
        self.arrays: list[Any] = []
        self.containers: list[Any] = []
        self.classes: list[type] = []
        self.globals: list[str] = []
        self.objects: list[Any] = []
        self.fields: list[tuple[Any, Any, Any]] = []
        self.places: list[tuple[Any, Callable[[Any], None]]] = []

    def visit_variable(self, variable: Any) -> None:
        self.variables.append(variable)

    def visit_array(self, array: Any) -> None:
        self.arrays.append(array)

    def visit_container(self, container: Any) -> None:
        self.containers.append(container)

    def visit_class(self, kind: type) -> None:
        self.classes.append(kind)

    def visit_fields(self, owner: Any, fields: list[tuple[Any, Any]], write: Write) -> None:
        self.fields += [(owner, key, value) for key, value in fields]

    def visit_global(self, name: str) -> None:
        self.globals.append(name)

    def visit_object(self, value: Any) -> None:
        self.objects.append(value)

    def visit_place(self, owner: Any, key: Any, value: Any, write: Write) -> None:
        self.places.append((value, functools.partial(write, owner, key)))

    @property
    def everything(self) -> list[Any]:
        return [*self.variables, *self.arrays, *self.containers, *self.classes, *self.objects]


def notebook(text: str = "", **names: Any) -> dict[str, Any]:
    """The names of a notebook in which a text was run."""
    home = {"__name__": "a_notebook", "tf": tf, "np": np, "keras": keras, "functools": functools, **names}
    exec(textwrap.dedent(text), home)
    return home


def seen_from(home: dict[str, Any], reads: str = "value") -> Seen:
    """What a walk meets from a function of a notebook that returns what one of its names holds."""
    exec(f"def program():\n    return {reads}\n", home)
    seen = Seen()
    Walk(seen, FunctionProgram(home["program"], {}), {}).run()
    return seen


def met(value: Any, values: list[Any]) -> int:
    """How often an object is among others, by identity."""
    return sum(one is value for one in values)


@pytest.fixture
def mark() -> np.ndarray[Any, Any]:
    """An array to be found."""
    return np.zeros(3)


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda mark: mark,
    "list": lambda mark: [0.0, mark],
    "dict": lambda mark: {"a": 1, "b": mark},
    "tuple": lambda mark: (1, mark),
    "named tuple": lambda mark: Point(1, mark),
    "deque": lambda mark: deque([mark]),
    "OrderedDict": lambda mark: OrderedDict(a=mark),
    "defaultdict": lambda mark: defaultdict(int, a=mark),
    "nested": lambda mark: [{"a": ({"b": deque([(mark,)])},)}],
    "object array": lambda mark: np.array([mark, None], dtype=object),
    "partial": lambda mark: functools.partial(print, mark),
    "partial, by name": lambda mark: functools.partial(print, end=mark),
    "bound method of a list": lambda mark: [mark].append,
    "tracked list": lambda mark: tracked([mark]),
    "tracked dict": lambda mark: tracked({"a": mark}),
}


def tracked(value: Any) -> Any:
    """What TensorFlow makes of a list or dict that a module holds."""
    module = tf.Module()
    module.held = value
    return module.held


@pytest.mark.parametrize("holder", HOLDERS)
def test_holders_are_looked_into(holder: str, mark: Any) -> None:
    seen = seen_from(notebook(value=HOLDERS[holder](mark)))
    assert met(mark, seen.arrays) == 1


@pytest.mark.parametrize("kind", [set, frozenset])
def test_sets_are_looked_into(kind: type) -> None:
    home = notebook("class Own: pass\nown = Own()")
    home["value"] = kind([home["own"]])
    seen = seen_from(home)
    assert met(home["own"], seen.objects) == 1


CODE = {
    "global": "def value():\n    return mark",
    "global of an inner function": "def value():\n    return lambda: [mark for _ in range(1)]",
    "default": "def value(x=mark): pass",
    "default of a keyword": "def value(*, x=mark): pass",
    "attribute of a function": "def value(): pass\nvalue.cache = {'a': mark}",
    "closure": "def outer(held):\n    return lambda: held\nvalue = outer(mark)",
    "closure in a closure": (
        "def outer(f):\n    return lambda: f()\nvalue = outer((lambda m: lambda: m)(mark))"
    ),
    "by way of another function": "def other():\n    return mark\ndef value():\n    return other()",
    "tf.function": "@tf.function\ndef value():\n    return mark",
    "decorated": "@functools.lru_cache\ndef value():\n    return mark",
    "decorated by the user": """
        def twice(f):
            @functools.wraps(f)
            def call():
                return f() + f()
            return call
        @twice
        def value():
            return mark
    """,
    "attribute of an object": "class Own: pass\nvalue = Own()\nvalue.held = mark",
    "slot": "class Own:\n    __slots__ = ('held', 'empty')\nvalue = Own()\nvalue.held = mark",
    "inherited slot": """
        class Base:
            __slots__ = ("__held",)
            def __init__(self):
                self.__held = mark
        class Own(Base):
            __slots__ = ()
        value = Own()
        value.__init__()
    """,
    "attribute beside a slot": """
        class Base:
            __slots__ = ("empty",)
        class Own(Base): pass
        value = Own()
        value.held = mark
    """,
    "attribute of a class": "class Own:\n    held = mark\nvalue = Own",
    "class of an object": "class Own:\n    held = mark\nvalue = Own()",
    "base class": "class Base:\n    held = mark\nclass Own(Base): pass\nvalue = Own()",
    "method": "class Own:\n    def get(self):\n        return mark\nvalue = Own()",
    "bound method": "class Own:\n    def get(self): pass\none = Own()\none.held = mark\nvalue = one.get",
    "class method": "class Own:\n    @classmethod\n    def get(cls):\n        return mark\nvalue = Own()",
    "static method": "class Own:\n    @staticmethod\n    def get():\n        return mark\nvalue = Own()",
    "property": "class Own:\n    @property\n    def get(self):\n        return mark\nvalue = Own()",
    "cached property": (
        "class Own:\n    @functools.cached_property\n    def get(self):\n        return mark\nvalue = Own()"
    ),
    "the user's own list": "class Own(list): pass\nvalue = Own([mark])",
    "the user's own dict": "class Own(dict): pass\nvalue = Own(a=mark)",
}


@pytest.mark.parametrize("code", CODE)
def test_the_users_code_and_objects_are_looked_into(code: str, mark: Any) -> None:
    seen = seen_from(notebook(CODE[code], mark=mark))
    assert met(mark, seen.arrays) == 1


def test_a_library_is_not_looked_into(mark: Any) -> None:
    library = notebook("def get():\n    return held\nclass Box: pass\nbox = Box()", held=mark)
    library["__name__"] = "a_library"
    library["Box"].__module__ = "a_library"
    library["box"].held = mark
    home = notebook(get=library["get"], box=library["box"], Box=library["Box"])
    seen = seen_from(home, "get, box, Box, np.linalg.norm, keras.Model, tf.reduce_sum, tf")
    assert seen.arrays == []
    assert seen.classes == []
    assert seen.objects == [library["box"]]


def test_each_object_once(mark: Any) -> None:
    home = notebook(
        """
        class Own: pass
        one = Own()
        one.a = one.b = shared
        def f():
            return shared, one, g
        def g(x=shared):
            return f, one, shared
        value = [shared, shared, {"a": shared, "b": one}, one, f, g, f, (one.a, one.b)]
        """,
        shared={"mark": mark, "v": tf.Variable(1.0)},
    )
    seen = seen_from(home, "value, shared, one, f, g")
    assert [met(one, seen.everything) for one in seen.everything] == [1] * len(seen.everything)
    assert met(home["shared"], seen.containers) == 1
    assert met(home["one"], seen.objects) == 1
    assert seen.arrays == [mark]
    assert len(seen.variables) == 1
    assert sorted(seen.globals) == sorted({*seen.globals})


def test_a_cell_of_two_closures_once(mark: Any) -> None:
    home = notebook(
        """
        def pair(held):
            def get():
                return held
            def put(new):
                nonlocal held
                held = new
            return get, put
        value = pair(mark)
        """,
        mark=mark,
    )
    (cell,) = home["value"][0].__closure__
    seen = seen_from(home)
    assert [(owner, held) for owner, _, held in seen.fields] == [(cell, mark)]


CYCLES = {
    "list": "value = []\nvalue.append(value)",
    "dict": "value = {}\nvalue['self'] = value",
    "two lists": "value, other = [], []\nvalue.append(other)\nother.append(value)",
    "tuple": "inner = []\nvalue = (inner,)\ninner.append(value)",
    "object": "class Own: pass\nvalue = Own()\nvalue.me = value",
    "slot": "class Own:\n    __slots__ = ('me',)\nvalue = Own()\nvalue.me = value",
    "method": "class Own:\n    def f(self): pass\nvalue = Own()\nvalue.g = value.f",
    "function": "def value():\n    return value",
    "closure": "def outer():\n    def inner():\n        return inner\n    return inner\nvalue = outer()",
    "class": "class Own: pass\nOwn.me = Own\nvalue = Own",
    "array": "value = np.array([None], dtype=object)\nvalue[0] = value",
}


@pytest.mark.parametrize("cycle", CYCLES)
def test_circles_end(cycle: str) -> None:
    seen = seen_from(notebook(CYCLES[cycle]))
    assert [met(one, seen.everything) for one in seen.everything] == [1] * len(seen.everything)


def test_the_notebook_itself_is_no_container() -> None:
    home = notebook("value = globals()\nunmentioned = [1]")
    seen = seen_from(home)
    assert met(home, seen.containers) == met(home["unmentioned"], seen.containers) == 0


def test_undefined_globals_are_told() -> None:
    seen = seen_from(notebook("def value():\n    return not_yet"))
    assert {"value", "not_yet"} <= set(seen.globals)


def test_an_empty_cell_and_an_empty_slot_are_passed_over(mark: Any) -> None:
    text = """
        def outer():
            def inner():
                return later, mark
            return inner
            later = 1
        class Own:
            __slots__ = ("empty",)
        value = outer(), Own()
    """
    seen = seen_from(notebook(text, mark=mark))
    assert met(mark, seen.arrays) == 1
    assert seen.fields == []


def test_where_the_text_says_what_is_read_nothing_else_is_followed() -> None:
    class Program(FunctionProgram):
        def roots(self) -> list[Any]:
            return []

    def cell() -> None:
        pass

    program = Program(cell, {})
    namespace = {name: np.zeros(1) for name in ("a", "b", "c", "d")}
    program.names = Names(reads=("a",), assigns={"b": 1})
    seen = Seen()
    Walk(seen, program, namespace, ["c"]).run()
    assert {id(one) for one in seen.arrays} == {id(namespace[name]) for name in "abc"}
    program.names = Names(opaque=True)
    seen = Seen()
    Walk(seen, program, namespace).run()
    assert len(seen.arrays) == 4


def test_containers_that_may_change_are_shown_and_a_librarys_are_not() -> None:
    text = "class Own(dict): pass\nvalue = [{}, set(), frozenset(), (), deque(), bytearray(), Own()]"
    home = notebook(text, deque=deque, others=(tracked([1]), collections.Counter("ab")))
    seen = seen_from(home, "value, others")
    kinds = [type(one).__name__ for one in seen.containers if one is not vars(home["program"])]
    assert sorted(kinds) == sorted(["list", "dict", "set", "deque", "bytearray", "Own"])


def test_attributes_are_shown_as_a_dict() -> None:
    home = notebook("class Own: pass\nvalue = Own()\nvalue.number = 1")
    assert met(vars(home["value"]), seen_from(home).containers) == 1


PLACES = {
    "list": ("value = [0, mark]", "value[1]"),
    "dict": ("value = {'a': mark}", "value['a']"),
    "deque": ("import collections\nvalue = collections.deque([mark])", "value[0]"),
    "global": ("value = mark", "value"),
    "attribute": ("class Own: pass\nvalue = Own()\nvalue.held = mark", "value.held"),
    "slot": ("class Own:\n    __slots__ = ('held',)\nvalue = Own()\nvalue.held = mark", "value.held"),
    "class": ("class Own:\n    held = mark\nvalue = Own", "value.held"),
    "closure": ("def outer(held):\n    return lambda: held\nvalue = outer(mark)", "value()"),
}


@pytest.mark.parametrize(
    "found", [tf.constant(1.0), tf.Variable(1.0), keras.Variable(1.0), np.ones(1), (1.0,)], ids=repr
)
@pytest.mark.parametrize("place", PLACES)
def test_what_stands_at_a_place_can_be_replaced(place: str, found: Any) -> None:
    text, where = PLACES[place]
    home = notebook(text, mark=found)
    seen = seen_from(home)
    assert eval(where, home) is found
    for value, write in seen.places:
        assert value is found
        write("another")
    assert eval(where, home) == "another"


def test_nothing_else_has_a_place() -> None:
    seen = seen_from(
        notebook("class Own: pass\nvalue = [1.0, 'a', None, [], {}, set(), Own(), print, np.float32(1)]")
    )
    assert seen.places == []


def test_a_model_leads_to_its_variables_and_its_optimizers() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dropout(0.5)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    seen = seen_from(notebook(value=model))
    expected = [*model.variables, *model.optimizer.variables]
    assert {id(one) for one in seen.variables} == {id(one) for one in expected}
    assert len(seen.variables) == len({id(one) for one in expected})
    assert met(model, seen.objects) == 1


KEEPERS = {
    "tf.Module": lambda: tracked_module(),
    "metric": lambda: keras.metrics.Mean(),
    "optimizer": lambda: keras.optimizers.SGD(),
    "SeedGenerator": lambda: keras.random.SeedGenerator(1),
    "tf.random.Generator": lambda: tf.random.Generator.from_seed(1),
}


def tracked_module() -> tf.Module:
    module = tf.Module()
    module.held = [tf.Variable(1.0), {"a": tf.Variable(2.0)}]
    return module


@pytest.mark.parametrize("keeper", KEEPERS)
def test_what_keeps_variables_leads_to_them(keeper: str) -> None:
    value = KEEPERS[keeper]()
    seen = seen_from(notebook(value=value))
    expected = getattr(value, "variables", None) or [value.state]
    assert {id(one) for one in seen.variables} == {id(one) for one in expected} != set()


LAYER = """
class Own(keras.Layer):
    def __init__(self):
        super().__init__()
        self.notes = {}
    def build(self, shape):
        self.w = self.add_weight(shape=(2,))
    def call(self, x):
        return x*self.w
value = Own()
"""


def test_the_users_layer_is_looked_into_once_it_is_built() -> None:
    home = notebook(LAYER)
    assert met(vars(home["value"]), seen_from(home).containers) == 0
    home["value"](tf.ones((1, 2)))
    seen = seen_from(home)
    assert met(vars(home["value"]), seen.containers) == 1
    assert met(home["value"].w, seen.variables) == 1


def test_an_object_may_call_itself_unbuilt(mark: Any) -> None:
    seen = seen_from(
        notebook("class House: pass\nvalue = House()\nvalue.built, value.held = False, mark", mark=mark)
    )
    assert met(mark, seen.arrays) == 1


# -- nothing is asked ----------------------------------------------------------------------------------


class Asked(BaseException):
    """Raised by what must not be asked."""


HOSTILE = """
def refuse(*args, **kwargs):
    raise Asked

class Meta(type):
    __getattribute__ = __setattr__ = __instancecheck__ = __subclasscheck__ = __call__ = refuse
    __iter__ = __len__ = __bool__ = __eq__ = __repr__ = __dir__ = refuse
    __hash__ = type.__hash__

names = '''__getattribute__ __getattr__ __setattr__ __delattr__ __iter__ __next__ __len__ __bool__
__contains__ __getitem__ __setitem__
__eq__ __ne__ __lt__ __hash__ __repr__ __str__ __dir__ __call__ __get__ __array__
__tf_tensor__ __reduce__ __reduce_ex__ __copy__ __deepcopy__ __sizeof__ __float__ __int__ __index__ __format__
keys values items append update clear copy'''.split()
refusals = dict.fromkeys(names, refuse)
properties = ['__class__', 'python_function', 'variables', 'optimizer', 'built']
refusals |= dict.fromkeys(properties, property(refuse))
refusals |= {'__module__': __name__, 'held': mark}

def hostile(base, meta=type):
    kind = type.__new__(meta, 'Hostile', (base,), dict(refusals))
    return base.__new__(kind)
"""

ADD: dict[str, Callable[[Any, Any], Any]] = {
    "object": lambda one, value: object.__getattribute__(one, "__dict__").update(inside=value),
    "list": list.append,
    "dict": lambda one, value: dict.__setitem__(one, "inside", value),
    "deque": deque.append,
}
BASES: dict[str, type] = {
    "object": object,
    "list": list,
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "deque": deque,
}


@pytest.mark.parametrize("meta", ["type", "Meta"])
@pytest.mark.parametrize("base", BASES)
def test_a_hostile_object_is_not_asked_anything(base: str, meta: str, mark: Any) -> None:
    home = notebook(HOSTILE, mark=mark, Asked=Asked)
    one = home["one"] = home["hostile"](BASES[base], home.get(meta, type))
    inside = np.ones(1)
    if base in ADD:
        ADD[base](one, inside)
    seen = seen_from(home, "one")
    assert met(inside, seen.arrays) == (base in ADD)
    assert met(one, seen.objects) == (base == "object")
    assert met(one, seen.containers) == (base not in ("object", "tuple"))
