"""Probes read whatever `fit` takes, and never without a bound."""

import itertools

import keras
import numpy as np
import pytest
import reference
import tiny

from keras_lrfinder import lr_find

SIZE = 8
RAMP = {"start_lr": 1e-4, "end_lr": 30.0, "steps": 30, "verbose": 0}


@pytest.fixture
def xy():
    return reference.data(rows=200)


def find(net, *args, **kwargs):
    return lr_find(net, *args, **{**RAMP, **kwargs})


class Items(keras.utils.PyDataset):
    """Batches by their index; counts how many were made."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.taken = x, y, 0

    def __len__(self):
        return len(self.x) // SIZE

    def __getitem__(self, index):
        self.taken += 1
        rows = slice(index * SIZE, (index + 1) * SIZE)
        return self.x[rows], self.y[rows]


class Generated:
    """The same from a generator, which may have no end."""

    def __init__(self, x, y, endless=False):
        self.x, self.y, self.endless, self.taken = x, y, endless, 0

    def batches(self):
        for _ in itertools.count() if self.endless else range(1):
            for i in range(0, len(self.x), SIZE):
                self.taken += 1
                # What never ends is a failure and not a test that hangs.
                assert self.taken < 3000, "read without a bound"
                yield self.x[i : i + SIZE], self.y[i : i + SIZE]


def test_the_first_batch_of_a_pydataset_is_trained_on(xy):
    """A probe starts with it, where nothing has to be held out."""
    x, y = xy
    net = reference.kept()
    expected = net.evaluate(x[:SIZE], y[:SIZE], verbose=0)
    finder = find(net, Items(x, y), validation_data=(x[:40], y[:40]))
    assert finder.probes[0].losses[0] == pytest.approx(expected, rel=1e-4)


def test_a_pydataset_may_have_one_batch(xy):
    """It is gone through again and again."""
    x, y = xy
    finder = find(reference.kept(), Items(x[:SIZE], y[:SIZE]))
    assert len(finder.probes[0].losses) == 60


class Texts(keras.Model):
    """Takes lists of strings and of labels, as tasks of KerasHub do."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, numbers):
        return self.dense(numbers)

    @staticmethod
    def numbers(x, y):
        assert all(isinstance(text, str) for text in x)
        counts = [[text.count(c) for c in "abc"] for text in x]
        y = np.array(y, "float32")[:, None]
        return np.array(counts, "float32"), y

    def fit(self, x, y, validation_data=None, **kwargs):
        if validation_data is not None:
            validation_data = self.numbers(*validation_data)
        return super().fit(
            *self.numbers(x, y), validation_data=validation_data, **kwargs
        )

    def evaluate(self, x, y=None, **kwargs):
        if isinstance(x, list):
            x, y = self.numbers(x, y)
        return super().evaluate(x, y, **kwargs)


def texts(rows):
    rng = np.random.default_rng(1)
    x = ["".join(rng.choice(list("abc"), size=6)) for _ in range(rows)]
    return x, [text.count("a") - text.count("b") for text in x]


@pytest.mark.parametrize(
    "more",
    [{}, {"validation_split": 0.2}, {"validation_data": texts(30)}],
    ids=["reserved", "split", "validation"],
)
def test_lists_of_strings_and_labels_are_probed(more):
    """A model whose own `fit` takes them gets lists, and nothing else."""
    net = Texts()
    net.compile("sgd", "mse")
    finder = find(net, *texts(200), batch_size=SIZE, **more)
    assert finder.probes
    assert all(p.held_out < p.held_out_before for p in finder.probes[:1])


@pytest.mark.parametrize("kind", ["csr_matrix", "coo_matrix", "csr_array"])
def test_sparse_matrices_are_probed(kind):
    """A bag of words as SciPy has it."""
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(1)
    x = np.zeros((200, 20), "float32")
    for row in x:  # so many words each, or JAX would compile every batch
        row[rng.choice(20, size=4, replace=False)] = 1.0
    y = x @ rng.normal(size=(20, 1)).astype("float32")
    backend = keras.backend.backend()
    net = keras.Sequential(
        [
            keras.Input((20,), sparse=backend != "torch"),
            keras.layers.Dense(1, kernel_initializer="zeros"),
        ]
    )
    net.compile("sgd", "mse")
    finder = find(net, getattr(sparse, kind)(x), y, batch_size=SIZE)
    assert finder.probes[0].held_out < finder.probes[0].held_out_before


@pytest.mark.thorough_on("tensorflow")
def test_of_a_long_validation_pydataset_2048_rows_are_read():
    """Once, for all probes."""
    source = Items(*reference.data(rows=9000))
    finder = find(
        reference.kept(),
        *reference.data(rows=200),
        batch_size=SIZE,
        validation_data=source,
    )
    assert finder.probes[0].source == "validation data"
    assert source.taken <= 2048 / SIZE + 2


@pytest.mark.backend("torch")
def test_of_a_long_validation_data_loader_2048_rows_are_read():
    """Once, for all probes."""
    from torch.utils.data import DataLoader
    from torch.utils.data import Dataset

    x, y = reference.data(rows=9000)
    taken = []

    class Rows(Dataset):
        def __len__(self):
            return len(x)

        def __getitem__(self, index):
            taken.append(index)
            return x[index], y[index]

    find(
        reference.kept(),
        *reference.data(rows=200),
        batch_size=SIZE,
        validation_data=DataLoader(Rows(), batch_size=SIZE),
    )
    assert len(taken) <= 2048 + 2 * SIZE


def test_validation_steps_end_an_endless_generator(xy):
    """Keras documents the call: five batches and no more."""
    source = Generated(*xy, endless=True)
    finder = find(
        reference.kept(),
        *xy,
        batch_size=SIZE,
        validation_data=source.batches(),
        validation_steps=5,
    )
    assert source.taken <= 5
    assert finder.probes[0].source == "validation data"
    assert finder.probes[0].held_out is not None


@pytest.mark.thorough_on("tensorflow")
def test_an_endless_validation_generator_ends_by_itself(xy):
    """Without `validation_steps` it is read for 2,048 rows."""
    source = Generated(*xy, endless=True)
    find(
        reference.kept(),
        *xy,
        batch_size=SIZE,
        validation_data=source.batches(),
    )
    assert source.taken <= 2048 / SIZE


@pytest.mark.thorough_on("tensorflow")
def test_a_finite_validation_generator_is_not_consumed_whole(xy):
    """It judges every probe, from the batches that were read first."""
    source = Generated(*reference.data(rows=9000))
    finder = find(
        reference.kept(),
        *xy,
        batch_size=SIZE,
        validation_data=source.batches(),
    )
    assert source.taken <= 2048 / SIZE
    assert all(p.held_out is not None for p in finder.probes)
    assert "no held-out samples" not in finder.suggestion.reason


def test_validation_steps_and_batch_size_say_what_judges(xy):
    """Two batches of four are the first eight rows, as in `fit`."""
    net = reference.kept()
    x, y = reference.data(rows=50, seed=5)
    expected = net.evaluate(x[:8], y[:8], verbose=0)
    finder = find(
        net,
        *xy,
        batch_size=SIZE,
        validation_data=(x, y),
        validation_steps=2,
        validation_batch_size=4,
    )
    found = finder.probes[0].held_out_before
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.backend("tensorflow")
def test_held_out_samples_of_repeated_data_are_not_trained_on(xy):
    """A probe's batches begin again, and still lack what judges it."""
    import tensorflow as tf

    x = np.repeat(np.eye(40, dtype="float32"), 1, axis=0)
    y = np.random.default_rng(0).choice([-1.0, 1.0], size=(40, 1))
    data = tf.data.Dataset.from_tensor_slices((x, y.astype("float32")))
    net = keras.Sequential(
        [
            keras.Input((40,)),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros"),
        ]
    )
    # One weight for each sample: nothing learnt of one tells of another.
    net.compile("sgd", "mse")
    finder = find(net, data.repeat().batch(SIZE))
    assert finder.probes
    for probe in finder.probes:
        assert probe.held_out == pytest.approx(1.0)


def test_empty_arrays_are_an_error_at_once():
    """Nothing is trained or built to find out."""
    net = tiny.compiled(tiny.deferred())
    x, y = tiny.data()
    with pytest.raises(ValueError, match="`x` must have samples"):
        find(net, x[:0], y[:0])
    assert not net.built


@pytest.mark.parametrize(
    ("more", "words"),
    [({"rule": "valley"}, "valley"), ({"restore": False}, "restore=False")],
)
def test_probes_that_were_left_out_are_mentioned(more, words, xy):
    """`probe=True` with another rule, or without a way back, runs none."""
    finder = find(reference.kept(), *xy, batch_size=SIZE, probe=True, **more)
    assert finder.probes == ()
    assert "not probed" in finder.suggestion.reason
    assert words in finder.suggestion.reason


class TimeIsUpError(Exception):
    """What a signal handler of the user's raises, wherever it is."""


class Alarmed(keras.Sequential):
    """Its second evaluation is interrupted after a batch."""

    evaluations = 0

    def make_test_function(self, force=False):
        super().make_test_function(force)
        function = self.test_function
        self.evaluations += 1
        if self.evaluations < 2:
            return
        self.test_function = None

        def interrupted(*args):
            function(*args)
            raise TimeIsUpError

        self.test_function = interrupted


def test_what_others_raise_in_an_evaluation_comes_through(xy):
    """It is no model that cannot evaluate; and the model is put back."""
    net = Alarmed([keras.Input((3,)), *reference.layers()])
    net.compile(keras.optimizers.SGD(0.01), "mse")
    before = tiny.state(net)
    with pytest.raises(TimeIsUpError):
        find(net, *xy, batch_size=SIZE)
    weights = {k: v for k, v in before.items() if k.startswith("weights")}
    after = tiny.state(net)
    assert not tiny.differences(weights, {k: after[k] for k in weights})
    net.fit(*xy, batch_size=SIZE, verbose=0)
