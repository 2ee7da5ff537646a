"""Functions that lay out ``tf.data`` pipelines, traced once and kept from run to run.

A pipeline with functions in it takes TensorFlow tens of milliseconds to trace. So the pipelines of this
package are built within a ``tf.function`` whose inputs are the user's data: another array or dataset of the
same kind is laid out by a call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PipelinePlan:
    """How a dataset is laid out.

    Attributes
    ----------
    key
        Equal for functions that lay out the same for the same arguments; ``None`` for a function of its own.
    build
        Returns the dataset.
    arguments
        What `build` takes: structures of tensors, and datasets.
    own
        Whether none of it is the user's, so that ``tf.data`` need not look for what it could rewrite.
    few
        Returns a dataset of the first elements that is ready much sooner, or ``None``.
    """

    key: Hashable
    build: Callable[..., Any]
    arguments: Sequence[Any]
    own: bool = False
    few: Callable[[], Any] | None = None


class Pipelines:
    """Keeps the functions that lay out datasets.

    Examples
    --------
    >>> doubled = lambda count: tf.data.Dataset.range(count).map(lambda one: 2*one)  # doctest: +SKIP
    >>> layout = PipelinePlan("doubled", doubled, [tf.constant(3, tf.int64)])              # doctest: +SKIP
    >>> list(Pipelines().ready(layout, 2))                                           # doctest: +SKIP
    [0, 2]
    """

    def __init__(self) -> None:
        self._functions: dict[Hashable, Any] = {}

    def ready(self, layout: PipelinePlan, count: int, *, soon: bool = False, tuned: bool = False) -> Any:
        """Return a dataset that is ready to be read; traced once for each kind of arguments.

        Parameters
        ----------
        layout
            How it is laid out.
        count
            The most elements; -1 for all.
        soon
            Whether the first element should come soon, and few will be read.
        tuned
            Whether ``tf.data`` tunes it.
        """
        import tensorflow as tf

        def build(count: Any, *arguments: Any) -> Any:
            rewrites = not (soon or layout.own)
            return _ready(layout.build(*arguments), count, soon=soon, tuned=tuned, rewrites=rewrites)

        with tf.device("CPU:0"):
            limit = tf.constant(count, tf.int64)
            few = layout.few() if soon and layout.few is not None else None
            if few is not None:
                return _ready(few, limit, soon=True, tuned=False, rewrites=False)
            if layout.key is None:
                return build(limit, *layout.arguments)
            specs = [_specs_of(argument) for argument in layout.arguments]
            soon = soon and not layout.own  # the run's own function is there already, and as quick
            key = layout.key, soon, tuned, repr(specs)
            if key not in self._functions:
                function = tf.function(build, autograph=False)
                self._functions[key] = function.get_concrete_function(_specs_of(limit), *specs)
            return self._functions[key](limit, *layout.arguments)


def _specs_of(argument: Any) -> Any:
    import tensorflow as tf

    return tf.nest.map_structure(tf.type_spec_from_value, argument)


def _ready(dataset: Any, count: Any, *, soon: bool, tuned: bool, rewrites: bool) -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    if not tuned:
        # In TensorFlow 2.21, letting go of an iterator may wait for the thread that tunes it, with Python
        # locked, until that looks up again: 0.63 s, 1.27 s, 2.55 s … after its start.
        options.autotune.enabled = False
    if not rewrites:
        options.experimental_optimization.apply_default_optimizations = False
    dataset = dataset.take(count)
    return (dataset if soon else dataset.prefetch(tf.data.AUTOTUNE)).with_options(options)


def only(element: Any, spec: Any) -> Any:
    """Return a dataset of a single element, a structure of tensors that `spec` describes."""
    import tensorflow as tf

    with tf.device("CPU:0"):
        variant = tf.data.experimental.to_variant(tf.data.Dataset.from_tensors(element))
        dataset = tf.data.experimental.from_variant(variant, structure=spec)
        return _ready(dataset, 1, soon=True, tuned=False, rewrites=False)


def unconverted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that AutoGraph leaves alone, which would take longer than to trace it."""
    import tensorflow as tf

    converted: Callable[..., Any] = tf.autograph.experimental.do_not_convert(function)
    return converted
