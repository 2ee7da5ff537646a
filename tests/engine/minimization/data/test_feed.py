"""The data of a minimisation: which batches come, in which order, and from any place on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tape_magic.engine.minimization.data.feed import BATCH, Feed
from tape_magic.errors import LineError, SourceError
from tests.support.covering import covering

Batch = tuple[int, int, Any]


def batches(feed: Feed, taken: int = 0) -> list[Batch]:
    return [
        (int(place[0]), int(place[1]), tf.nest.map_structure(lambda part: part.numpy().tolist(), values))
        for place, values in feed.start(taken)
    ]


def places(epochs: int, steps: int) -> list[tuple[int, int]]:
    return [(epoch, index) for epoch in range(epochs) for index in range(steps)]


class Pairs(keras.utils.PyDataset):
    """Three batches, and a tenfold more after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 1
        self.told: list[str] = []

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        rows = np.arange(2 if index < 2 else 1) + 2 * index
        return rows * self.scale, rows[:, None] / 2

    def on_epoch_begin(self) -> None:
        self.told.append("begin")

    def on_epoch_end(self) -> None:
        self.told.append("end")
        self.scale *= 10


class Loader:
    """What can be iterated over again, as a torch DataLoader; its batches are lists."""

    def __iter__(self) -> Iterator[Any]:
        for start in (0, 2, 4):
            yield [np.arange(start, min(start + 2, 5)), np.arange(start, min(start + 2, 5)) ** 2]


def generated() -> Iterator[Any]:
    yield from Loader()


def shuffled() -> tf.data.Dataset:
    return tf.data.Dataset.range(7).shuffle(7, seed=3).map(lambda x: (x, x * x)).batch(3).prefetch(1)


def filtered() -> tf.data.Dataset:
    return tf.data.Dataset.range(7).filter(lambda x: x != 3).map(lambda x: (x, x * x)).batch(4)


SQUARES = [([0, 1], [0, 1]), ([2, 3], [4, 9]), ([4], [16])]


# -- arrays ----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=12)
@given(
    rows=st.integers(1, 40),
    batch=st.integers(1, 45),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_epoch_deals_each_row_once(rows: int, batch: int, epochs: int, seed: int) -> None:
    feed = Feed((np.arange(rows), np.arange(rows) ** 2), ("x", "y"), batch, epochs, seed)
    steps = -(-rows // batch)
    dealt = batches(feed)
    assert feed.steps_per_epoch == steps
    assert feed.total == epochs * steps
    assert [place[:2] for place in dealt] == places(epochs, steps)
    for epoch in range(epochs):
        values = [values for number, _, values in dealt if number == epoch]
        assert [len(x) for x, _ in values] == [min(batch, rows - batch * step) for step in range(steps)]
        assert sorted(row for x, _ in values for row in x) == list(range(rows))
        assert all(square == row**2 for x, y in values for row, square in zip(x, y, strict=True))
    assert batches(Feed((np.arange(rows), np.arange(rows) ** 2), ("x", "y"), batch, epochs, seed)) == dealt


def test_each_epoch_has_an_order_of_its_own() -> None:
    def orders(seed: int | None) -> list[list[int]]:
        feed = Feed(np.arange(100), ("x",), 100 // 4, 3, seed)
        dealt = batches(feed)
        return [[row for e, _, (x,) in dealt if e == epoch for row in x] for epoch in range(3)]

    first = [*orders(1), *orders(2), *orders(None), *orders(None), list(range(100))]
    assert len({tuple(order) for order in first}) == len(first)


def test_each_row_comes_first_about_as_often() -> None:
    feed = Feed(np.arange(4), ("x",), 3, 2000, seed=0)
    firsts = np.bincount([x[0] for _, index, (x,) in batches(feed) if index == 0], minlength=4)
    # Binomial with n = 2000 and p = 1/4: five standard deviations are 97.
    assert np.abs(firsts - 500).max() < 97


def test_a_batch_of_all_rows_is_the_data_as_they_are() -> None:
    x = np.arange(6.0).reshape(3, 2)
    feed = Feed(x, ("x",), 10, 2, seed=0)
    assert batches(feed) == [(0, 0, (x.tolist(),)), (1, 0, (x.tolist(),))]
    assert feed.element_spec[1][0].shape == (3, 2)


@pytest.mark.parametrize(("rows", "batch"), [(6, 2), (6, 6), (7, 2)])
def test_a_look_at_a_few_has_the_batches_of_the_run(rows: int, batch: int) -> None:
    feed = Feed((np.arange(rows), np.arange(3 * rows).reshape(-1, 3)), ("xb", "yb"), batch, epochs=3, seed=5)
    soon = feed.start(soon=True)
    assert soon.element_spec == feed.element_spec
    few = [next(soon)[1] for _ in range(3 * -(-rows // batch))]
    for one, (_, _, parts) in zip(few, batches(feed), strict=True):
        assert tf.nest.map_structure(lambda part: part.numpy().tolist(), one) == parts


def test_the_size_of_a_batch_is_open_only_where_it_varies() -> None:
    def size(rows: int, batch: int | None) -> int | None:
        return Feed(np.zeros([rows, 2]), ("x",), batch, 1, 0).element_spec[1][0].shape[0]

    assert size(6, 3) == 3
    assert size(7, 3) is None
    assert size(2 * BATCH, None) == BATCH


def test_rows_of_all_kinds_of_arrays() -> None:
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    data = (
        frame,
        frame["a"],
        [5, 6],
        tf.constant([7.0, 8.0], tf.float64),
        tf.Variable([9.0, 10.0]),
        {"deep": [np.array([True, False]), np.array([1, 2], np.int8)]},
    )
    (element,) = Feed(data, ("f", "s", "l", "t", "v", "d"), 2, 1, 0).start()
    values = element[1]
    assert [part.dtype.name for part in values[:5]] == ["float32", "float32", "int64", "float64", "float32"]
    assert values[0].numpy().tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert values[4].numpy().tolist() == [9.0, 10.0]
    assert [part.dtype.name for part in values[5]["deep"]] == ["bool", "int8"]


@pytest.mark.parametrize("floats", ["float32", "float64", "float16"])
def test_floats_of_numpy_take_the_type_asked_for(floats: str) -> None:
    data = np.zeros(3, np.float64), np.zeros(3, np.float32), np.zeros(3, np.float16), np.zeros(3, np.int32)
    spec = Feed(data, ("a", "b", "c", "d"), 2, 1, 0, floats=floats).element_spec[1]
    assert [part.dtype.name for part in spec] == [floats, floats, "float16", "int32"]


def test_a_dict_is_bound_to_one_name() -> None:
    feed = Feed({"x": np.arange(3), "y": np.arange(3) ** 2}, ("batch",), 3, 1, 0)
    assert batches(feed) == [(0, 0, ({"x": [0, 1, 2], "y": [0, 1, 4]},))]


# -- what makes its own batches --------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        Loader(),
        generated,
        [(np.array(x), np.array(y)) for x, y in SQUARES],
        SQUARES,
        tf.data.Dataset.range(5).map(lambda x: (x, x * x)).batch(2),
    ],
    ids=["loader", "function", "arrays", "lists", "dataset"],
)
def test_batches_come_in_their_order_in_each_epoch(data: Any) -> None:
    feed = Feed(data, ("x", "y"), None, 2, 0)
    expected = [(epoch, index, SQUARES[index]) for epoch, index in places(2, 3)]
    assert batches(feed) == expected
    assert batches(feed) == expected, "a second run has the same"
    assert not feed.endless


@pytest.mark.parametrize("data", [(np.arange(4), np.arange(4)), Loader(), filtered()])
def test_one_name_is_bound_to_the_whole_batch(data: Any) -> None:
    pair = next(feed_values(Feed(data, ("pair",), *([4] if isinstance(data, tuple) else []))))
    assert len(pair) == 1
    x, y = pair[0]
    assert x.shape == y.shape


def feed_values(feed: Feed) -> Iterator[Any]:
    return (values for _, values in feed.start())


def test_a_py_dataset_is_told_of_its_epochs() -> None:
    data = Pairs()
    feed = Feed(data, ("x", "y"), None, 2, 0)
    assert (feed.steps_per_epoch, feed.total) == (3, 6)
    x = [values[0] for _, _, values in batches(feed)]
    assert x == [[0, 1], [2, 3], [4], [0, 10], [20, 30], [40]]
    assert data.told == ["begin", "end"] * 2
    assert feed.element_spec[1][1] == tf.TensorSpec([None, 1], tf.float32)


def test_how_many_batches_is_known_where_the_data_say_it() -> None:
    def known(data: Any) -> tuple[int | None, bool]:
        feed = Feed(data, ("x", "y"), None, 2)
        return feed.steps_per_epoch, feed.endless

    assert known(shuffled()) == (3, False)
    assert known(filtered()) == (None, False)
    assert known(shuffled().repeat()) == (None, True)
    assert known(Loader()) == (None, False)
    assert known(SQUARES) == (3, False)


def test_a_dataset_without_an_end_goes_on() -> None:
    feed = Feed(tf.data.Dataset.range(3).repeat(), ("x",), None, 1)
    taken = [int(values[0]) for _, values in zip(range(7), feed_values(feed), strict=False)]
    assert taken == [0, 1, 2, 0, 1, 2, 0]


def test_elements_of_a_dataset_may_have_any_structure() -> None:
    data = tf.data.Dataset.from_tensor_slices(({"a": [1, 2], "b": [3, 4]}, [0.5, 1.5])).batch(2)
    ((_, _, values),) = batches(Feed(data, ("d", "y")))
    assert values == ({"a": [1, 2], "b": [3, 4]}, [0.5, 1.5])
    alone = tf.data.Dataset.from_tensor_slices(([1, 2],)).batch(2)
    assert batches(Feed(alone, ("x",))) == [(0, 0, ([1, 2],))]


def test_the_users_shuffle_reshuffles_in_each_epoch() -> None:
    dealt = batches(Feed(shuffled(), ("x", "y"), None, 4))
    orders = [tuple(row for e, _, (x, _) in dealt if e == epoch for row in x) for epoch in range(4)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len(set(orders)) == 4
    data = shuffled()
    by_hand = [x.numpy().tolist() for _ in range(4) for x, _ in data]
    assert [x for _, _, (x, _) in dealt] == by_hand


# -- from any place on -----------------------------------------------------------------------------

REPEATABLE: dict[str, Callable[[], Any]] = {
    "arrays": lambda: (np.arange(7), np.arange(7) ** 2),
    "all rows": lambda: (np.arange(3), np.arange(3) ** 2),
    "shuffled": shuffled,
    "filtered": filtered,
    "py dataset": Pairs,
    "loader": Loader,
    "function": lambda: generated,
    "list": lambda: list(SQUARES),
    "generator": lambda: tf.data.Dataset.from_generator(
        generated, output_signature=tf.TensorSpec([2, None], tf.int64)
    ).map(lambda pair: (pair[0], pair[1])),
}


@pytest.mark.parametrize("kind", REPEATABLE)
def test_what_follows_is_the_same_from_any_batch_on(kind: str) -> None:
    def fresh() -> Feed:
        batch = 3 if isinstance(REPEATABLE[kind](), tuple) else None
        return Feed(REPEATABLE[kind](), ("x", "y"), batch, 2, seed=5)

    whole = batches(fresh())
    assert len(whole) >= 2
    for taken in range(len(whole) + 1):
        assert batches(fresh(), taken) == whole[taken:]


# -- in a compiled loop ----------------------------------------------------------------------------


@pytest.mark.parametrize(("jit", "kind"), covering([True, False], REPEATABLE))
def test_a_loop_in_a_graph_takes_every_batch(kind: str, jit: bool) -> None:
    data = REPEATABLE[kind]()
    feed = Feed(data, ("x", "y"), 3 if isinstance(data, tuple) else None, 3, seed=5)

    @tf.function(jit_compile=jit, autograph=False)
    def step(x: Any, y: Any) -> Any:
        return tf.reduce_sum(tf.cast(x, tf.float64) * tf.cast(tf.reshape(y, [-1]), tf.float64))

    @tf.function(autograph=False)
    def chunk(iterator: Any, most: Any) -> Any:
        def one(count: Any, more: Any, total: Any) -> Any:
            batch = iterator.get_next_as_optional()

            def taken() -> Any:
                _, values = batch.get_value()
                return count + 1, True, total + step(*values)

            return tf.cond(batch.has_value(), taken, lambda: (count, False, total))

        start = tf.constant(0), tf.constant(True), tf.constant(0, tf.float64)
        return tf.while_loop(lambda count, more, _: more & (count < most), one, start)

    def run() -> tuple[int, float]:
        iterator, steps, total, more = feed.start(), 0, 0.0, True
        while more:
            count, more, part = chunk(iterator, tf.constant(2))
            steps, total = steps + int(count), total + float(part)
        return steps, total

    values = [
        values for _, _, values in batches(Feed(REPEATABLE[kind](), ("x", "y"), feed_batch(data), 3, 5))
    ]
    expected = sum(float(np.dot(x, np.ravel(y))) for x, y in values)
    assert run() == (len(values), expected)
    if kind != "py dataset":  # which goes on with its scale
        assert run() == (len(values), expected)
    assert chunk.experimental_get_tracing_count() == 1


def feed_batch(data: Any) -> int | None:
    return 3 if isinstance(data, tuple) else None


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "names", "batch", "kind", "said"),
    [
        ((np.zeros(3), np.zeros(4)), "xy", 2, SourceError, r"train has arrays of 3 and 4 rows: give as many"),
        ((np.zeros(3),) * 3, "xy", 2, SourceError, r"train gives 3 values, and for names 2: x, y\."),
        (np.zeros((3, 2)), "xy", 2, SourceError, r"train is one array, and for names 2: x, y\."),
        ({"a": np.zeros(3)}, "xy", 2, SourceError, r"gives a dict with 'a'.*\"batch in train\""),
        ((np.zeros(3), 2.0), "xy", 2, SourceError, r"train has a number where an array of rows is needed"),
        (np.zeros((0, 2)), "x", 2, SourceError, r"train is empty: there is no batch"),
        ((), "x", 2, SourceError, r"train has a number|train is empty"),
        (np.array(["a", "b"]), "x", 2, SourceError, r"train has strings: turn them into numbers"),
        (pandas.Series(["a", None]), "x", 2, SourceError, r"turn them into numbers"),
        (tf.RaggedTensor.from_row_lengths([1, 2, 3], [1, 2]), "x", 2, SourceError, r"from_tensor_slices"),
        (tf.sparse.eye(3), "x", 2, SourceError, r"train has a SparseTensor, whose rows cannot be picked"),
        (filtered(), "xy", 8, LineError, r"train is a tf.data.Dataset, which makes .* train\.batch\(8\)"),
        (filtered(), "xyz", None, SourceError, r"train gives 2 values, and for names 3: x, y, z"),
        (tf.data.Dataset.range(3), "xy", None, SourceError, r"train gives one value in a batch"),
        (tf.data.Dataset.range(0), "x", None, SourceError, r"train is empty"),
        (Pairs(), "xy", 8, LineError, r"train is a PyDataset, which makes its own batches"),
        (Pairs(), "xyz", None, SourceError, r"train gives 2 values, and for names 3"),
        (Loader(), "xy", 8, LineError, r"train is a Loader, which makes its own batches"),
        (Loader(), "xyz", None, SourceError, r"train gives 2 values, and for names 3"),
        (generated(), "xy", None, SourceError, r"generator, which can be read only once: give a list"),
        (zip([1.0], [2.0], strict=True), "xy", None, SourceError, r"zip, which can be read only once"),
        (iter(filtered()), "xy", None, SourceError, r"can be read only once"),
        ([], "x", None, SourceError, r"train is empty"),
        ("train.csv", "x", None, SourceError, r"train is of type str, which has no batches"),
        (3.5, "x", None, SourceError, r"train is of type float, which has no batches"),
        (
            [(np.zeros(2), np.zeros(2)), (np.zeros(2, int), np.zeros(2))],
            "xy",
            None,
            SourceError,
            r"batch 1 of train has int64 of shape \(2,\), and those before have float32",
        ),
        ([(np.zeros(2), 1.0), (np.zeros(2), {"a": 1.0})], "xy", None, SourceError, r"built otherwise"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(
    data: Any, names: str, batch: int | None, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        Feed(data, tuple(names), batch, label="train")
    assert "\n" not in str(caught.value)


def test_what_the_users_python_raises_is_kept() -> None:
    def broken() -> Iterator[Any]:
        yield from Loader()
        raise KeyError("gone")

    feed = Feed(broken, ("x", "y"))
    with pytest.raises(tf.errors.OpError):
        batches(feed)
    assert isinstance(feed.failure, KeyError)


def test_a_later_batch_of_another_form_is_named() -> None:
    def widening() -> Iterator[Any]:
        for width in (2, 2, 3):
            yield np.zeros((4, width)), np.zeros(4)

    feed = Feed(widening, ("x", "y"), label="train")
    with pytest.raises(tf.errors.OpError):
        batches(feed)
    assert isinstance(feed.failure, SourceError)
    assert str(feed.failure).startswith("batch 2 of train has float32 of shape (4, 3), and those before")
    varying = Feed([(np.zeros((4, width)), np.zeros(4)) for width in (2, 2, 3)], ("x", "y"))
    assert len(batches(varying)) == 3
