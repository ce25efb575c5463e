"""Whatever the data are, each step has its own loss, across epochs too.

Every test is a real fit against the NumPy loop of `reference.py`. Sixty rows
in batches of eight are seven and a half batches an epoch, so that twenty
steps run over two epoch ends and two ragged batches.
"""

import keras
import numpy as np
import pytest
import reference

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find

SIZE = 8


def expected(net, source, steps=reference.STEPS):
    lrs = reference.ramp(reference.STEPS)[:steps]
    losses, _ = reference.train(net.get_weights(), source, lrs)
    return losses


def find(net, *args, **kwargs):
    kwargs = {**reference.RAMP, "probe": False, **kwargs}
    return lr_find(net, *args, **kwargs)


def assert_measured(finder, losses):
    curve = finder.curve
    lrs = reference.ramp(reference.STEPS)[: len(losses)]
    np.testing.assert_allclose(curve.lrs, lrs, rtol=1e-12)
    np.testing.assert_allclose(curve.losses, losses, rtol=1e-5)


@pytest.fixture
def xy():
    return reference.data()


def model_for(kind, xy):
    """Returns the network; Keras drops a batch of a queue in a first fit.

    On JAX and PyTorch the first fit takes one batch to build by, and with
    workers the epoch goes on with the second one.
    """
    net = reference.kept()
    if getattr(kind(*xy)["x"], "workers", 1) > 1:
        net.train_on_batch(*xy)
    return net


class Counted:
    """A source of batches that counts how many were taken."""

    def __init__(self, x, y, limit=None):
        self.x, self.y, self.limit = x, y, limit
        self.taken = 0

    def generator(self):
        for x, y, _ in reference.batches(self.x, self.y, SIZE):
            if self.taken == self.limit:
                return
            self.taken += 1
            yield x, y


class Sequence(keras.utils.PyDataset):
    """The same batches as a PyDataset."""

    def __init__(self, x, y, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y = x, y

    def __len__(self):
        return -(-len(self.x) // SIZE)

    def __getitem__(self, index):
        part = slice(index * SIZE, (index + 1) * SIZE)
        return self.x[part], self.y[part]


def as_tensors(x, y):
    x, y = map(keras.ops.convert_to_tensor, (x, y))
    return {"x": x, "y": y, "batch_size": SIZE}


def as_tf_data(x, y):
    import tensorflow as tf

    return {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(SIZE)}


def as_unknown_tf_data(x, y):
    dataset = as_tf_data(x, y)["x"]
    return {"x": dataset.filter(lambda *batch: True)}


def as_endless_tf_data(x, y):
    return {"x": as_tf_data(x, y)["x"].repeat()}


def as_data_loader(x, y):
    import torch

    dataset = torch.utils.data.TensorDataset(*map(torch.tensor, (x, y)))
    return {"x": torch.utils.data.DataLoader(dataset, batch_size=SIZE)}


tensorflow = pytest.mark.backend("tensorflow")
torch = pytest.mark.backend("torch")

KINDS = [
    pytest.param(lambda x, y: {"x": x, "y": y, "batch_size": SIZE}, id="numpy"),
    pytest.param(as_tensors, id="tensors"),
    pytest.param(lambda x, y: {"x": Sequence(x, y)}, id="pydataset"),
    pytest.param(
        lambda x, y: {"x": Sequence(x, y, workers=2, max_queue_size=4)},
        id="pydataset_with_workers",
    ),
    pytest.param(as_tf_data, id="tf_data", marks=tensorflow),
    pytest.param(as_unknown_tf_data, id="tf_data_unknown", marks=tensorflow),
    pytest.param(as_endless_tf_data, id="tf_data_endless", marks=tensorflow),
    pytest.param(as_data_loader, id="data_loader", marks=torch),
]


@pytest.mark.parametrize("kind", KINDS)
def test_lr_find_takes_every_kind_of_data(kind, xy):
    """The curve has no jump where one epoch ends and the next begins."""
    net = model_for(kind, xy)
    losses = expected(net, reference.batches(*xy, SIZE))
    finder = find(net, **kind(*xy), shuffle=False)
    assert_measured(finder, losses)
    assert finder.curve.stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize("kind", KINDS)
def test_the_callback_takes_every_kind_of_data(kind, xy):
    """In the user's own fit of three epochs the curve is the same."""
    net = model_for(kind, xy)
    losses = expected(net, reference.batches(*xy, SIZE))
    finder = LRFinder(**reference.RAMP)
    net.fit(**kind(*xy), shuffle=False, epochs=3, verbose=0, callbacks=[finder])
    assert_measured(finder, losses)


def test_the_callback_takes_all_of_the_fit_without_steps(xy):
    """Without `steps` the ramp ends with the last batch of the last epoch."""
    x, y = xy
    net = reference.kept()
    source = reference.batches(x, y, SIZE)
    losses, _ = reference.train(net.get_weights(), source, reference.ramp(24))
    finder = LRFinder(**reference.RAMP | {"steps": None})
    net.fit(
        x,
        y,
        batch_size=SIZE,
        shuffle=False,
        epochs=3,
        verbose=0,
        callbacks=[finder],
    )
    reference.assert_measured(finder.curve, losses)


def test_lr_find_takes_no_more_from_a_generator_than_it_trains_on(xy):
    """Every batch that was taken from a generator has a step."""
    net = reference.kept()
    losses = expected(net, reference.batches(*xy, SIZE))
    source = Counted(*xy)
    finder = find(net, source.generator())
    assert_measured(finder, losses)
    assert source.taken == reference.STEPS


def test_a_generator_loses_little_where_the_test_ends_early(xy):
    """A test that stops in the middle has read ahead by a few batches."""
    x, y = xy
    source = Counted(np.where(np.arange(60)[:, None] < 40, x, np.nan), y)
    finder = find(reference.kept(), source.generator())
    assert finder.curve.stop_reason is StopReason.NOT_FINITE
    assert len(finder.curve) == 6
    assert 6 <= source.taken <= 9


@pytest.mark.parametrize("steps_per_epoch", [None, 4], ids=["none", "four"])
def test_lr_find_stops_where_a_generator_ends(steps_per_epoch, xy):
    """Data that run out before the last step end the test, not the run."""
    net = reference.kept()
    losses = expected(net, reference.batches(*xy, SIZE), 5)
    source = Counted(*xy, limit=5)
    finder = find(net, source.generator(), steps_per_epoch=steps_per_epoch)
    assert_measured(finder, losses)
    assert finder.curve.stop_reason is StopReason.OUT_OF_DATA


@pytest.mark.parametrize("steps_per_epoch", [None, 20], ids=["none", "twenty"])
def test_the_callback_takes_a_generator(steps_per_epoch, xy):
    """With or without `steps_per_epoch`, the generator's batches are used."""
    net = reference.kept()
    losses = expected(net, reference.batches(*xy, SIZE))
    finder = LRFinder(**reference.RAMP)
    net.fit(
        Counted(*xy, limit=20).generator(),
        steps_per_epoch=steps_per_epoch,
        verbose=0,
        callbacks=[finder],
    )
    assert_measured(finder, losses)
    assert finder.curve.stop_reason is StopReason.COMPLETED


def test_the_callback_says_that_the_data_ran_out(xy):
    """A fit that is shorter than the ramp ends as out of data."""
    net = reference.kept()
    losses = expected(net, reference.batches(*xy, SIZE), 5)
    finder = LRFinder(**reference.RAMP)
    net.fit(
        Counted(*xy, limit=5).generator(),
        steps_per_epoch=9,
        verbose=0,
        callbacks=[finder],
    )
    assert_measured(finder, losses)
    assert finder.curve.stop_reason is StopReason.OUT_OF_DATA


@pytest.mark.parametrize("way", ["arrays", "pydataset"])
def test_inputs_and_outputs_may_be_dictionaries(way, xy):
    """Named inputs and named targets are trained on as they belong."""
    x, y = xy
    net = reference.two_headed()
    parts = [
        expected(net.parts[0], reference.batches(x, y, SIZE)),
        expected(net.parts[1], reference.batches(-x, 2 * y, SIZE)),
    ]
    named = {"u": x, "v": -x}, {"p": y, "q": 2 * y}
    if way == "arrays":
        data = {"x": named[0], "y": named[1], "batch_size": SIZE}
    else:
        data = {"x": DictSequence(*named)}
    finder = find(net, **data, shuffle=False)
    assert_measured(finder, np.sum(parts, axis=0))


class DictSequence(Sequence):
    """The same for dictionaries of arrays."""

    def __len__(self):
        return -(-len(self.x["u"]) // SIZE)

    def __getitem__(self, index):
        part = slice(index * SIZE, (index + 1) * SIZE)
        return tuple(
            {name: v[part] for name, v in group.items()}
            for group in (self.x, self.y)
        )


class Named(keras.Model):
    """A model of named inputs that has no weights before its first batch."""

    def __init__(self):
        super().__init__()
        self.body = reference.layers()

    def call(self, inputs):
        value = inputs["left"] + inputs["right"]
        for layer in self.body:
            value = layer(value)
        return value


def test_the_callback_builds_a_model_of_named_inputs(xy):
    """A model without weights gets them from a dictionary as well."""
    x, y = xy
    twin = reference.model()  # same seeds, same weights
    losses = expected(twin, reference.batches(x, y, SIZE))
    net = Named()
    net.compile(keras.optimizers.SGD(0.01), loss="mse")
    finder = LRFinder(**reference.RAMP)
    net.fit(
        {"left": 0.25 * x, "right": 0.75 * x},
        y,
        batch_size=SIZE,
        shuffle=False,
        epochs=3,
        verbose=0,
        callbacks=[finder],
    )
    assert_measured(finder, losses)
    # TensorFlow had not given it any before the fit: they are gone again.
    net({"left": 0.25 * x, "right": 0.75 * x})
    assert_same_bits(net.get_weights(), twin.get_weights())


def assert_same_bits(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sample_weights_count(xy):
    """The loss recorded is the weighted one."""
    x, y = xy
    weight = np.linspace(0.1, 3.0, len(x)).astype("float32")
    net = reference.kept()
    losses = expected(net, reference.batches(x, y, SIZE, weight))
    finder = find(
        net, x, y, sample_weight=weight, batch_size=SIZE, shuffle=False
    )
    assert_measured(finder, losses)


def test_class_weights_count(xy):
    """The loss recorded has each class weighted."""
    x, _ = xy
    y = (x.sum(axis=1, keepdims=True) > 0).astype("float32")
    weight = np.where(y > 0, 3.0, 0.5).ravel()
    net = reference.kept()
    losses = expected(net, reference.batches(x, y, SIZE, weight))
    finder = find(
        net,
        x,
        y.astype("int32"),
        class_weight={0: 0.5, 1: 3.0},
        batch_size=SIZE,
        shuffle=False,
    )
    assert_measured(finder, losses)


class Validations(keras.callbacks.Callback):
    """Counts the validations of a fit."""

    count = 0

    def on_test_begin(self, logs=None):
        self.count += 1


def test_lr_find_neither_trains_on_nor_evaluates_the_split(xy):
    """`validation_split` holds the last rows out, and nothing more."""
    x, y = xy
    net = reference.kept()
    losses = expected(net, reference.batches(x[:45], y[:45], SIZE))
    seen = Validations()
    finder = find(
        net,
        x,
        y,
        validation_split=0.25,
        batch_size=SIZE,
        shuffle=False,
        callbacks=[seen],
    )
    assert_measured(finder, losses)
    assert seen.count == 0


def test_lr_find_does_not_evaluate_validation_data(xy):
    """The ramp is run without any validation."""
    x, y = xy
    net = reference.kept()
    losses = expected(net, reference.batches(x, y, SIZE))
    seen = Validations()
    finder = find(
        net,
        x,
        y,
        validation_data=(x[:9], y[:9]),
        batch_size=SIZE,
        shuffle=False,
        callbacks=[seen],
    )
    assert_measured(finder, losses)
    assert seen.count == 0


def test_validation_in_the_users_fit_does_not_disturb_the_curve(xy):
    """A validation at each epoch end leaves the training loss alone."""
    x, y = xy
    net = reference.kept()
    losses = expected(net, reference.batches(x, y, SIZE))
    finder = LRFinder(**reference.RAMP)
    net.fit(
        x,
        y,
        validation_data=(x[:9], y[:9]),
        batch_size=SIZE,
        shuffle=False,
        epochs=3,
        verbose=0,
        callbacks=[finder],
    )
    assert_measured(finder, losses)


def test_steps_per_epoch_goes_on_through_the_data(xy):
    """Epochs shorter than the data neither skip nor repeat a batch."""
    net = reference.kept()
    losses = expected(net, reference.batches(*xy, SIZE))
    finder = find(net, *xy, batch_size=SIZE, shuffle=False, steps_per_epoch=3)
    assert_measured(finder, losses)


@pytest.mark.parametrize("name", ["epochs", "initial_epoch"])
def test_lr_find_refuses_to_be_told_its_length_twice(name, xy):
    """`steps` decides how long the test is."""
    with pytest.raises(ValueError, match=f"`{name}` must not be given"):
        find(reference.kept(), *xy, **{name: 2})
