"""What `lr_find` reads of the data of a `fit`: bounded, again, and apart.

No model trains here. Every sample is its own number, so that what was read
can be told from what it holds.
"""

import itertools

import keras
import numpy as np
import pytest

from keras_lrfinder.training import data_reader
from keras_lrfinder.training.fit_data import FitData

SIZE, RUN = 4, 10
tensorflow = pytest.mark.backend("tensorflow")
jax = pytest.mark.backend("jax")
torch = pytest.mark.backend("torch")


def columns(rows):
    x = np.arange(1, rows + 1, dtype="float32")[:, None] * np.ones(3, "float32")
    return x, np.arange(rows, dtype="int32")


class Counted:
    """Batches of samples, and how many were taken."""

    def __init__(self, rows, times=1):
        self.xy, self.times, self.taken = columns(rows), times, 0

    def __iter__(self):
        x, y = self.xy
        for _ in range(self.times) if self.times else itertools.count():
            for i in range(0, len(x), SIZE):
                self.taken += 1
                yield x[i : i + SIZE], y[i : i + SIZE]

    def generator(self):
        yield from self


class Items(keras.utils.PyDataset):
    """The same as a PyDataset, without an end where `endless`."""

    def __init__(self, rows, endless=False, **kwargs):
        super().__init__(**kwargs)
        self.xy, self.endless, self.taken = columns(rows), endless, 0

    @property
    def num_batches(self):
        return None if self.endless else -(-len(self.xy[0]) // SIZE)

    def __getitem__(self, index):
        self.taken += 1
        begin = index * SIZE % len(self.xy[0])
        return tuple(a[begin : begin + SIZE] for a in self.xy)


def arrays(rows):
    x, y = columns(rows)
    return {"x": x, "y": y, "batch_size": SIZE}


def tensors(rows):
    x, y = map(keras.ops.convert_to_tensor, columns(rows))
    return {"x": x, "y": y, "batch_size": SIZE}


def nested(rows):
    x, y = columns(rows)
    inputs = {"a": x, "b": [x, (x,)]}
    return {"x": inputs, "y": y, "batch_size": SIZE}


def lists(rows):
    x, y = columns(rows)
    return {"x": [str(v) for v in x[:, 0]], "y": list(y), "batch_size": SIZE}


def pandas(rows):
    pd = pytest.importorskip("pandas")
    x, y = columns(rows)
    return {"x": pd.DataFrame(x), "y": pd.Series(y), "batch_size": SIZE}


def csr(rows):
    sparse = pytest.importorskip("scipy.sparse")
    x, y = columns(rows)
    return {"x": sparse.csr_matrix(x), "y": y, "batch_size": SIZE}


def coo(rows):
    return {**csr(rows), "x": csr(rows)["x"].tocoo()}


def ragged(rows):
    import tensorflow as tf

    x, y = columns(rows)
    parts = [list(row[: 1 + i % 3]) for i, row in enumerate(x)]
    return {"x": tf.ragged.constant(parts), "y": y, "batch_size": SIZE}


def tf_sparse(rows):
    import tensorflow as tf

    x, y = columns(rows)
    return {"x": tf.sparse.from_dense(x), "y": y, "batch_size": SIZE}


def bcoo(rows):
    from jax.experimental import sparse

    x, y = columns(rows)
    return {"x": sparse.BCOO.fromdense(x), "y": y, "batch_size": SIZE}


def tf_data(rows):
    import tensorflow as tf

    return {"x": tf.data.Dataset.from_tensor_slices(columns(rows)).batch(SIZE)}


def tf_data_unknown(rows):
    return {"x": tf_data(rows)["x"].filter(lambda *batch: True)}


def tf_data_shuffled(rows):
    return {"x": tf_data(rows)["x"].unbatch().shuffle(rows).batch(SIZE)}


def tf_data_endless(rows):
    return {"x": tf_data(rows)["x"].repeat()}


def loader(rows):
    import torch
    from torch.utils.data import DataLoader
    from torch.utils.data import TensorDataset

    class OfMyOwn(DataLoader):
        """A subclass, of another module."""

    dataset = TensorDataset(*map(torch.tensor, columns(rows)))
    return {"x": OfMyOwn(dataset, batch_size=SIZE, shuffle=True)}


KINDS = [
    arrays,
    tensors,
    nested,
    lists,
    pandas,
    csr,
    coo,
    pytest.param(ragged, marks=tensorflow),
    pytest.param(tf_sparse, marks=tensorflow),
    pytest.param(bcoo, marks=jax),
    pytest.param(tf_data, marks=tensorflow),
    pytest.param(tf_data_unknown, marks=tensorflow),
    pytest.param(tf_data_shuffled, marks=tensorflow),
    pytest.param(tf_data_endless, marks=tensorflow),
    pytest.param(loader, marks=torch),
    lambda rows: {"x": Items(rows)},
    lambda rows: {"x": Items(rows, endless=True)},
    lambda rows: {"x": Items(rows, workers=2)},
    lambda rows: {"x": Counted(rows).generator()},
    lambda rows: {"x": Counted(rows, times=None).generator()},
]
NAMES = [getattr(getattr(k, "values", [k])[0], "__name__", "") for k in KINDS]
NAMES[-5:] = [
    "items",
    "items_endless",
    "items_workers",
    "generator",
    "generator_endless",
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=NAMES)


def numbers(leaf):
    """The numbers of the samples of a column, whatever its kind."""
    if isinstance(leaf, list):
        return [int(float(v)) for v in leaf]
    if isinstance(leaf, dict):
        parts = [numbers(leaf["a"]), *map(numbers, leaf["b"])]
        assert all(part == parts[0] for part in parts)
        return parts[0]
    if isinstance(leaf, tuple):
        return numbers(leaf[0])
    if hasattr(leaf, "dense_shape"):
        import tensorflow as tf

        leaf = tf.sparse.to_dense(leaf)
    for dense in ("toarray", "to_tensor", "todense"):
        if hasattr(leaf, dense):
            leaf = getattr(leaf, dense)()
            break
    return np.asarray(leaf).reshape(len(leaf), -1)[:, 0].astype(int).tolist()


def seen(named):
    """All samples, in order, of arguments of `fit` or `evaluate`."""
    x = named["x"]
    if hasattr(x, "element_spec") or type(x).__name__ == "DataLoader":
        batches = list(x)
    elif isinstance(x, keras.utils.PyDataset):
        batches = [x[i] for i in range(len(x))]
    else:
        batches = [(x, named["y"])]
    found = []
    for x, y in batches:
        # Rows of `x` and of `y` belong together.
        assert numbers(x) == [int(label) + 1 for label in np.asarray(y)]
        found += numbers(x)
    return found


def used_up(data, steps):
    """Takes what a fit of so many steps would take."""
    named = data.for_fit(steps)
    if hasattr(named["x"], "send"):
        for _ in named["x"]:
            pass
    return named


def replayed(given, steps=RUN, run=RUN):
    data = FitData(given)
    data.keep(run + 16)
    used_up(data, steps)
    return data.replay(run)


@kinds
def test_a_run_has_its_steps_and_starts_alike(kind):
    """Read twice, the batches of a probe are the same."""
    replay = replayed(kind(100))
    first, second = seen(replay.train), seen(replay.train)
    assert first == second
    assert len(first) == RUN * SIZE


@kinds
def test_few_samples_are_gone_through_again(kind):
    """A run of 10 batches on 24 samples is one epoch, too."""
    replay = replayed(kind(24))
    met = seen(replay.train)
    assert len(met) == RUN * SIZE
    assert replay.samples == len(set(met))
    again = [n for n in set(met) if met.count(n) > 1]
    assert replay.repeated == len(again) > 0


@kinds
def test_no_sample_is_met_again_where_there_are_enough(kind):
    """Of 400 samples a run of 10 batches meets each once, or never."""
    replay = replayed(kind(400), steps=3 * RUN)
    assert replay.repeated == 0
    assert replay.samples == RUN * SIZE


@kinds
@pytest.mark.parametrize("rows", [24, 100])
def test_held_out_samples_are_not_trained_on(kind, rows):
    """Also where the data begin again, so that each sample comes often."""
    replay = replayed(kind(rows))
    held_out = seen(replay.held_out)
    assert held_out
    assert set(held_out).isdisjoint(seen(replay.train))
    assert len(held_out) == replay.rows_held_out
    assert replay.source == "reserved samples"


@kinds
def test_samples_trained_on_are_named(kind):
    """About as many as there are held out, to be judged alike."""
    replay = replayed(kind(100))
    trained_on = seen(replay.trained_on)
    assert set(trained_on) <= set(seen(replay.train))
    assert len(trained_on) >= min(replay.rows_held_out, 20)


@kinds
def test_inputs_of_some_batches_are_given(kind):
    """Those of the first batches that a probe trains on, in their order."""
    replay = replayed(kind(100))
    inputs = [n for x in replay.inputs(3) for n in numbers(x)]
    assert inputs == seen(replay.train)[: 3 * SIZE]


@pytest.mark.parametrize("endless", [False, True])
def test_a_generator_gives_no_more_than_the_ramp_takes(endless):
    """Neither ramp nor replay takes a batch beyond."""
    source = Counted(100, times=None if endless else 1)
    replay = replayed({"x": source.generator()}, steps=7)
    assert source.taken == 7
    assert len(seen(replay.train)) == RUN * SIZE


@kinds
def test_validation_data_are_read_bounded(kind):
    """At most 2,048 rows, of whatever kind, and the same each time."""
    given = kind(2100)
    y = given.pop("y", None)
    data = given["x"] if y is None else (given["x"], y)
    given = {**arrays(100), "validation_data": data}
    replay = replayed(given)
    first = seen(replay.held_out)
    assert 0 < len(first) <= 2048
    assert seen(replay.held_out) == first
    assert replay.source == "validation data"
    assert replay.rows_held_out == len(first)


@kinds
def test_validation_steps_and_batch_size_count(kind):
    """Five batches are five batches, arrays or not."""
    given = kind(3000)
    y = given.pop("y", None)
    data = given["x"] if y is None else (given["x"], y)
    given = {**arrays(100), "validation_data": data}
    replay = replayed(
        {**given, "validation_steps": 5, "validation_batch_size": SIZE}
    )
    assert len(seen(replay.held_out)) == 5 * SIZE


@pytest.mark.parametrize("make", [Items, Counted])
def test_of_long_validation_data_only_a_part_is_read(make):
    """2,048 rows in batches of 4 are 512 batches, read once."""
    source = make(9000)
    data = source if make is Items else source.generator()
    replay = replayed({**arrays(100), "validation_data": data})
    seen(replay.held_out)
    seen(replay.held_out)
    assert source.taken == 512


@pytest.mark.parametrize("split", [0.25, 0.5])
def test_the_split_is_that_of_fit(split):
    """The last samples are held out, the first ones trained on."""
    for kind in (arrays, lists, csr, pandas):
        replay = replayed({**kind(40), "validation_split": split})
        first_held_out = round(40 * (1 - split)) + 1
        assert min(seen(replay.held_out)) == first_held_out
        assert max(seen(replay.train)) < first_held_out


@pytest.mark.parametrize("split", [1.5, -0.1, 0.99])
def test_an_impossible_split_is_refused(split):
    """It must be between 0 and 1, and leave samples on both sides."""
    with pytest.raises(ValueError, match="`validation_split` must"):
        FitData({**arrays(20), "validation_split": split})


def test_batches_are_as_long_as_those_of_fit():
    """Without `batch_size`, Keras divides the data by `steps_per_epoch`."""
    x, y = columns(100)
    replay = replayed({"x": x, "y": y, "steps_per_epoch": 10}, run=5)
    assert len(seen(replay.train)) == 5 * 10


@kinds
def test_nothing_is_read_before_it_is_asked_for(kind):
    """Making the object takes no batch and no random number."""
    given = kind(100)
    state = np.random.get_state()[1].tolist()
    FitData(given)
    assert np.random.get_state()[1].tolist() == state
    assert getattr(given.get("x"), "taken", 0) == 0


@pytest.mark.parametrize(
    "kind",
    [
        arrays,
        lists,
        csr,
        pytest.param(tf_data, marks=tensorflow),
        lambda rows: {"x": Items(rows)},
    ],
    ids=["arrays", "lists", "csr", "tf_data", "items"],
)
def test_no_samples_are_an_error_at_once(kind):
    """Where the length is known without reading."""
    with pytest.raises(ValueError, match="`x` must have samples"):
        FitData(kind(0))


def test_what_cannot_be_read_twice_says_why(monkeypatch):
    """A generator whose batches are too large for memory."""
    monkeypatch.setattr(data_reader, "MOST_BYTES", 100)
    data = FitData({"x": Items(100)})
    assert data.replay(RUN) is None
    assert "more than" in data.why_not
    assert "memory" in data.why_not


@pytest.mark.parametrize("kind", ["items", "generator"])
def test_of_a_long_run_as_much_is_kept_as_fits(monkeypatch, kind):
    """It goes through that several times; a generator is kept alike."""
    items = Items(200 * SIZE)
    size = sum(a[:SIZE].nbytes for a in items.xy)
    monkeypatch.setattr(data_reader, "MOST_BYTES", 90 * size)
    batches = (items[i] for i in range(200))
    given = items if kind == "items" else batches
    replay = replayed({"x": given}, steps=100, run=240)
    assert replay.samples >= 60 * SIZE
    assert replay.samples + replay.rows_held_out <= 90 * SIZE
    assert replay.repeated


def test_what_only_fit_can_read_says_so():
    """A data adapter of the user's own is trained on and not probed."""
    data = FitData({"x": object()})
    assert data.for_fit(3)["epochs"] == 3
    assert data.replay(RUN) is None
    assert "only `fit`" in data.why_not


@pytest.mark.parametrize("rows", [1, 3])
def test_too_few_samples_have_none_held_out(rows):
    """They are all trained on, and the reason is given."""
    replay = replayed(arrays(rows))
    assert replay.held_out is None
    assert replay.trained_on is None
    assert "too few" in replay.why_not


NAN_KINDS = [
    arrays,
    tensors,
    nested,
    pandas,
    csr,
    pytest.param(tf_data, marks=tensorflow),
    pytest.param(loader, marks=torch),
    lambda rows: {"x": Items(rows)},
    lambda rows: {"x": Counted(rows).generator()},
]


@pytest.mark.parametrize("kind", NAN_KINDS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_nan_and_infinity_are_found(kind, wrong, monkeypatch):
    """By the name of the argument that has them."""
    whole = columns

    def spoilt(rows):
        x, y = whole(rows)
        x[7] = wrong
        return x, y

    data = FitData(kind(40))
    used_up(data, RUN)
    assert data.not_finite() == {}
    monkeypatch.setitem(globals(), "columns", spoilt)
    data = FitData(kind(40))
    data.keep(RUN)
    used_up(data, RUN)
    assert data.not_finite() == {"x": "NaN" if wrong != wrong else "infinity"}
