"""What a trace of a program depends on, so that an unchanged cell need not be traced again.

A trace holds on to the tensors and variables that the program read, and to the values that Python had:
numbers, the contents of lists and arrays, and what the notebook's own functions read in turn. An object that
may hold anything else has no fingerprint, and then the cell is traced again. That takes a moment, but a loop
that is out of date would give wrong numbers.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import types
import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tape_magic.engine.distribution.strategies import devices_of
from tape_magic.engine.internals.keras_layers import inner_layers
from tape_magic.engine.minimization.optimizer_groups import groups_of
from tape_magic.engine.minimization.optimizers import is_optimizer, settings_of
from tape_magic.engine.minimization.reuse import ATTRIBUTE
from tape_magic.engine.minimization.settings import Settings
from tape_magic.engine.minimization.stop_rules import Rules
from tape_magic.engine.program.program import Namespace, Program
from tape_magic.engine.values.functions import is_users, unwrapped
from tape_magic.engine.values.introspection import attributes_of, elements_of, is_a, pairs_of
from tape_magic.engine.values.reach import reached_from
from tape_magic.engine.values.tensors import is_liftable, is_tensor, is_variable
from tape_magic.syntax import place


class NotHashable(Exception):
    """A value may have changed unseen, so it has no fingerprint."""


class Same:
    """The identity of an object, which it does not keep alive; that of a freed object equals nothing."""

    def __init__(self, value: Any) -> None:
        self._id = id(value)
        try:
            self._held: Callable[[], Any] = weakref.ref(value)
        except TypeError:  # no weak references; such objects are small
            self._held = lambda: value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Same):
            return NotImplemented
        value = self._held()
        return value is not None and value is other._held()

    def __hash__(self) -> int:
        return self._id


_PLAIN = frozenset({bool, bytes, complex, float, int, str, type(None), type(...), range, slice})


class Fingerprints:
    """Makes fingerprints of values.

    Parameters
    ----------
    home
        The notebook's names: functions whose globals these are count with what they read.
    """

    def __init__(self, home: Mapping[str, Any]) -> None:
        self._home = home
        self._module = str(home.get("__name__", "__main__"))
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []

    def of_names(
        self, names: Iterable[str], namespace: Mapping[str, Any], lifted: Iterable[str] = ()
    ) -> Hashable:
        """Return a hashable for what names hold; floats of `lifted` names count by their type only."""
        held = {name: namespace[name] for name in names if name in namespace}
        return tuple((name, self.of(value, lifted=name in lifted)) for name, value in held.items())

    def of(self, value: Any, *, lifted: bool = False) -> Hashable:
        """Return a hashable that is equal for values which a trace would treat alike.

        Raises :class:`NotHashable` for an object that may have changed unseen.
        """
        kind = type(value)
        if lifted and (is_liftable(value) or is_tensor(value)):
            return kind, np.shape(value), str(np.asarray(value).dtype)
        if kind in _PLAIN or is_a(value, np.generic):
            return kind, repr(value)
        if id(value) in self._seen:  # seen before, maybe within itself
            return "again", self._seen[id(value)]
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)  # so that its id stays its own
        if is_a(value, np.ndarray):
            return Same(value), value.dtype.str, value.shape, _digest(value)
        if is_a(value, list | tuple):
            return kind, tuple(self.of(item, lifted=lifted) for item in elements_of(value))
        if is_a(value, dict):
            return kind, tuple((self.of(key), self.of(item, lifted=lifted)) for key, item in pairs_of(value))
        if is_a(value, set | frozenset):
            return kind, frozenset(self.of(item) for item in elements_of(value))
        return self._of_object(value)

    def of_root(self, value: Any) -> Hashable:
        """Return a hashable for the function that is run, which may be made anew for each run.

        So it counts by its code and by what that reaches: a ``lambda`` in a loop is the same in each round.
        """
        function = unwrapped(value)
        mine = is_a(function, types.FunctionType) and function.__globals__ is self._home
        return self._contents(function) if mine and function is value else self.of(value)

    def of_settings(self, settings: Mapping[str, Any]) -> Hashable:
        """Return a hashable for what an optimizer is made from."""
        rest = {key: value for key, value in settings.items() if key != "learning_rate"}
        return repr(rest), self.of(settings.get("learning_rate"))

    def _of_object(self, value: Any) -> Hashable:
        function = unwrapped(value)
        if is_a(function, types.MethodType):
            return self.of(function.__self__), self.of(function.__func__)
        if is_a(function, functools.partial):
            return self.of(function.func), self.of(function.args), self.of(function.keywords)
        if is_a(function, types.FunctionType):
            return self._of_function(function)
        if is_a(value, type):
            return self._of_class(value)
        if is_a(value, types.ModuleType):
            file = getattr(value, "__file__", None)
            if file is not None and is_users(file):
                raise NotHashable(value)
            return Same(value)
        if is_a(value, types.BuiltinFunctionType) and not is_a(value.__self__, types.ModuleType):
            return Same(value), self.of(value.__self__)
        if is_a(value, types.BuiltinFunctionType | np.ufunc):
            return Same(value)
        return self._of_instance(value)

    def _of_function(self, function: types.FunctionType) -> Hashable:
        if function.__globals__ is not self._home:
            if is_users(function.__code__.co_filename):  # the user may load that file again
                raise NotHashable(function)
            return Same(function)
        return Same(function), self._contents(function)

    def _contents(self, function: types.FunctionType) -> Hashable:
        reached = reached_from(function, self._home)
        defaults = self.of(function.__defaults__), self.of(function.__kwdefaults__)
        own = [(name, item) for name, item in vars(function).items() if name != ATTRIBUTE]
        attributes = tuple((name, self.of(item)) for name, item in own)
        return function.__code__, defaults, attributes, tuple(self.of(item) for item in reached)

    def _of_class(self, kind: type) -> Hashable:
        if kind.__module__ != self._module:
            if self._users_own(kind):
                raise NotHashable(kind)
            return Same(kind)
        parts = [
            (name, self.of(getattr(item, "__func__", getattr(item, "fget", item))))
            for name, item in vars(kind).items()
            if not name.startswith("__") or is_a(item, types.FunctionType)
        ]
        return Same(kind), tuple(parts), tuple(self.of(base) for base in kind.__bases__)

    def _of_instance(self, value: Any) -> Hashable:
        import keras
        import tensorflow as tf

        kind = self._of_class(type(value))
        random = tf.random.Generator | keras.random.SeedGenerator  # their state is a variable
        composite = tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices
        unchanging = composite | tf.DType | tf.TensorSpec | tf.data.Dataset | keras.DTypePolicy
        if is_variable(value) or is_tensor(value) or is_a(value, unchanging | random):
            return Same(value)
        if is_a(value, keras.Layer):
            return Same(value), kind, self._of_layer(value)
        if is_a(value, keras.Optimizer):
            return Same(value), kind, self.of_settings(settings_of(value))
        if is_a(value, keras.Loss | keras.Metric | keras.Initializer):
            return Same(value), kind, repr(value.get_config())
        if is_a(value, keras.optimizers.schedules.LearningRateSchedule):  # one is as good as another
            own = self._users_own(type(value))
            return kind, self._own_attributes(value, everything=True) if own else repr(value.get_config())
        if is_a(value, tf.Module) or type(value).__module__ == self._module:
            return Same(value), kind, self._own_attributes(value, everything=True)
        raise NotHashable(value)

    def _of_layer(self, layer: Any) -> Hashable:
        """Return a hashable for the settings and weights of a layer, and of each layer within."""
        import keras

        weights = tuple(Same(variable) for variable in layer.variables)
        layers = inner_layers(layer)
        if layers is None:
            raise NotHashable(layer)
        inner = tuple(self.of(part) for part in layers)
        if self._users_own(type(layer)):
            given = self._own_attributes(layer, everything=True, besides=frozenset(vars(keras.Layer())))
            return layer.trainable, weights, inner, given
        if is_a(layer, keras.Model):  # its layers stand for it
            return layer.trainable, weights, inner
        return layer.trainable, weights, inner, repr(layer.get_config())

    def _own_attributes(
        self, value: Any, *, everything: bool = False, besides: frozenset[str] = frozenset()
    ) -> Hashable:
        """Return a hashable for an object's public attributes: all of them, or the plain values only."""
        named = [
            (name, item)
            for name, item in attributes_of(value).items()
            if not name.startswith("_") and name not in besides
        ]
        return tuple((name, self.of(item)) for name, item in named if everything or type(item) in _PLAIN)

    def _users_own(self, kind: type) -> bool:
        """Return whether a class is the notebook's, or from a file of the user's."""
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        return kind.__module__ == self._module or (file is not None and is_users(file))


def _digest(array: np.ndarray[Any, Any]) -> bytes:
    """Return a digest of an array's contents, which a trace takes over."""
    if array.dtype.hasobject:
        raise NotHashable(array)
    return hashlib.blake2b(np.ascontiguousarray(array).view(np.uint8).data, digest_size=16).digest()


def fingerprint_of_run(
    program: Program,
    namespace: Namespace,
    loss_name: str | None,
    over: Sequence[str] | None,
    settings: Settings,
) -> Hashable:
    """Return what a later run must have in common with this one to use its loops; ``None`` for nothing.

    The parameters are those of :class:`~tape_magic.engine.minimization.problem.Problem`.
    """
    roots = program.roots()
    if program.source is None and not roots:
        return None
    prints = Fingerprints(program.home(namespace))
    lifted = [name for name in over or () if name.isidentifier()]
    named = [place(name)[0] for name in over or () if name not in settings.sources]
    read = dict.fromkeys([*program.names.reads, *named])
    try:
        return (
            program.source,
            tuple(prints.of_root(root) for root in roots),
            loss_name,
            tuple(over) if over is not None else None,
            (_of_optimizer(settings, prints), prints.of(settings.lr), settings.seed is not None),
            (prints.of_root(settings.schedule), settings.clip),
            (settings.engine == "graph", settings.keep, settings.track, Rules.of(settings)),
            (settings.val is None, settings.training),
            None if settings.strategy is None else devices_of(settings.strategy),
            prints.of(dict(settings.bounds)),
            (settings.names, settings.pattern),
            prints.of(dict(settings.sources)),
            prints.of_names([name for name in read if name not in settings.names], namespace, lifted),
        )
    except Exception:  # whatever an object of the user's raises when it is looked at
        return None


def _of_optimizer(settings: Settings, prints: Fingerprints) -> Hashable:
    if isinstance(settings.optimizer, Mapping):
        groups = groups_of(settings.optimizer)
        return tuple(
            (place, _of_one(group.optimizer, group.made_here, prints), prints.of(group.rate))
            for place, group in groups.items()
        )
    return _of_one(settings.optimizer, settings.made_here, prints)


def _of_one(optimizer: Any, made_here: bool, prints: Fingerprints) -> Hashable:
    if isinstance(optimizer, str):
        return optimizer
    if made_here and is_optimizer(optimizer):
        config = settings_of(optimizer)
        del config["name"]  # Keras numbers optimizers: "adam", "adam_1"
        return type(optimizer), prints.of_settings(config)
    return prints.of(optimizer)
