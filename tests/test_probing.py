"""Probes: short runs after the ramp, on record, and without a trace."""

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import lr_find
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.training import data_reader

ROWS, SIZE = 200, 8


@pytest.fixture(scope="module")
def xy():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ROWS, 4)).astype("float32")
    y = x @ rng.normal(size=(4, 1)) + 0.1 * rng.normal(size=(ROWS, 1))
    return x, y.astype("float32")


def model(optimizer="sgd", built=True):
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    if built:
        layers.insert(0, keras.Input((4,)))
    net = keras.Sequential(layers)
    net.compile(optimizer, "mse")
    return net


def kept():
    """`model()` as new, but traced for all tests of a process."""
    return tiny.as_new(model)


def values(net):
    everything = [*net.variables, *net.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(v)) for v in everything]


def find(net, *args, **kwargs):
    return lr_find(net, *args, **{"start_lr": 1e-6, "verbose": 0, **kwargs})


class Counter(keras.callbacks.Callback):
    """Counts the training steps of the ramp."""

    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1


def test_a_fit_after_probes_is_bit_for_bit_the_fit_without(xy):
    """Weights, slots and History of the next fit know nothing of probes."""
    keras.utils.set_random_seed(1)
    plain = model()
    expected = plain.fit(*xy, batch_size=SIZE, epochs=2, verbose=0).history
    keras.utils.set_random_seed(1)
    probed = model()
    assert find(probed, *xy, batch_size=SIZE).probes
    history = probed.fit(*xy, batch_size=SIZE, epochs=2, verbose=0).history
    assert history == expected
    for a, b in zip(values(plain), values(probed)):
        np.testing.assert_array_equal(a, b)


def test_a_deferred_model_is_probed_from_its_first_weights(xy):
    """Probes start where the ramp started, also before there were weights."""
    keras.utils.set_random_seed(1)
    plain = model(built=False)
    expected = plain.fit(*xy, batch_size=SIZE, verbose=0).history
    keras.utils.set_random_seed(1)
    probed = model(built=False)
    assert find(probed, *xy, batch_size=SIZE).probes
    assert probed.fit(*xy, batch_size=SIZE, verbose=0).history == expected


@pytest.fixture(scope="module")
def probed(xy):
    """What a range test with probes found, and the model's seed."""
    keras.utils.set_random_seed(1)
    return find(model(), *xy, batch_size=SIZE)


def test_all_probes_start_from_the_same_loss_on_the_same_batch(probed):
    """The first loss is measured before any update: it is the same in all."""
    probes = probed.probes
    assert len(probes) > 1
    assert len({float(p.losses[0]) for p in probes}) == 1
    assert len({p.held_out_before for p in probes}) == 1


def test_ramp_and_probes_take_at_most_300_steps(probed):
    """The default cost is bounded: 100 steps of ramp, 200 of probes."""
    steps = sum(len(p.losses) for p in probed.probes)
    assert steps > 0
    assert len(probed.curve) + steps <= 300


def test_without_probes_only_the_ramp_trains(xy):
    """`probe=False` leaves no probe and the rule's own suggestion."""
    finder = find(model(), *xy, batch_size=SIZE, probe=False)
    assert finder.probes == ()
    assert finder.suggestion.lr is not None


def test_a_probe_records_the_losses_of_training_at_its_learning_rate(xy):
    """SGD from the same weights on a full batch gives the same losses."""
    x, y = xy
    net = model(keras.optimizers.SGD(0.01))
    start = net.get_weights()
    held_out = (x[:SIZE], y[:SIZE])
    finder = find(
        net, x, y, batch_size=ROWS, validation_data=held_out, steps=40
    )
    probe = finder.probes[0]
    twin = model(keras.optimizers.SGD(probe.lr))
    twin.set_weights(start)
    losses = []
    for _ in probe.losses:
        twin.reset_metrics()  # older Keras goes on with the mean
        losses.append(np.ravel(twin.train_on_batch(x, y))[0])
    np.testing.assert_allclose(probe.losses, losses, rtol=1e-4)


def test_validation_data_judge_the_probes(xy):
    """The held-out loss is that of the user's validation data."""
    x, y = xy
    net = kept()
    expected = net.evaluate(x[:40], y[:40], verbose=0)
    finder = find(
        net, x[40:], y[40:], batch_size=SIZE, validation_data=(x[:40], y[:40])
    )
    for probe in finder.probes:
        assert probe.source == "validation data"
        assert probe.held_out_before == pytest.approx(expected, rel=1e-5)


def test_reserved_samples_judge_the_probes_where_nothing_else_can(probed):
    """Without validation data a part of the samples is kept out of them."""
    for probe in probed.probes:
        assert probe.source == "reserved samples"
        assert probe.held_out is not None


class Items(keras.utils.PyDataset):
    """Batches by their index."""

    def __init__(self, x, y):
        super().__init__()
        self._x, self._y = x, y

    def __len__(self):
        return len(self._x) // SIZE

    def __getitem__(self, index):
        rows = slice(index * SIZE, (index + 1) * SIZE)
        return self._x[rows], self._y[rows]


def test_a_dataset_of_indexed_batches_is_probed(xy):
    """A `PyDataset` is read again, batch by batch."""
    assert len(find(kept(), Items(*xy)).probes) > 1


@pytest.mark.backend("tensorflow")
def test_a_tensorflow_dataset_is_probed(xy):
    """A part of a `tf.data.Dataset` is cached and read again."""
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(xy).shuffle(ROWS).batch(SIZE)
    probes = find(kept(), data).probes
    assert len({float(p.losses[0]) for p in probes}) == 1


@pytest.mark.backend("torch")
def test_a_data_loader_is_probed(xy):
    """Batches of a PyTorch `DataLoader` are kept and read again."""
    import torch

    data = torch.utils.data.TensorDataset(*map(torch.tensor, xy))
    loader = torch.utils.data.DataLoader(data, batch_size=SIZE, shuffle=True)
    probes = find(kept(), loader).probes
    assert len({float(p.losses[0]) for p in probes}) == 1


def test_probes_take_no_more_from_a_generator_than_the_ramp(xy):
    """They train on the batches that the ramp has used."""
    x, y = xy
    taken = 0

    def batches():
        nonlocal taken
        while True:
            rows = np.arange(taken * SIZE, (taken + 1) * SIZE) % ROWS
            taken += 1
            yield x[rows], y[rows]

    finder = find(kept(), batches())
    assert finder.probes
    assert taken <= 100


def test_gradient_accumulation_is_probed_in_updates(xy):
    """A probe's step is an update there as well."""
    net = model(keras.optimizers.SGD(gradient_accumulation_steps=2))
    finder = find(net, *xy, batch_size=SIZE)
    assert len(finder.probes[0].losses) == PROBE_STEPS


def test_ctrl_c_within_a_probe_puts_the_model_back(xy):
    """The exception goes on, the model is what it was."""
    net = kept()
    before = values(net)
    evaluate, calls = net.evaluate, []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*args, **kwargs)

    net.evaluate = interrupted
    with pytest.raises(KeyboardInterrupt):
        find(net, *xy, batch_size=SIZE)
    for a, b in zip(before, values(net)):
        np.testing.assert_array_equal(a, b)


def test_a_rule_that_was_asked_for_keeps_its_answer(xy):
    """Probes correct the default rule only."""
    finder = find(kept(), *xy, batch_size=SIZE, rule="valley")
    assert finder.probes == ()
    assert finder.suggestion.rule == "valley"


def test_a_schedule_is_traced_once_for_ramp_and_probes(xy):
    """One session holds the learning rate, so nothing is compiled anew."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    net = model(keras.optimizers.SGD(schedule))
    traces = []
    train_step = net.train_step

    def traced(*args, **kwargs):
        traces.append(1)
        return train_step(*args, **kwargs)

    net.train_step = traced
    find(net, *xy, batch_size=SIZE, probe=False)
    of_ramp = len(traces)
    net.train_function = None
    find(net, *xy, batch_size=SIZE)
    if keras.backend.backend() != "torch":
        # One more is for the ragged last batch.
        assert len(traces) - of_ramp <= of_ramp + 1


def test_a_model_that_cannot_evaluate_is_probed_all_the_same(xy):
    """What it loses is the check on held-out samples."""

    class Blind(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            return self.dense(x)

        def test_step(self, *args):
            raise NotImplementedError("no evaluation here")

    net = Blind()
    net.compile("sgd", "mse")
    finder = find(net, *xy, batch_size=SIZE)
    assert finder.probes
    assert all(p.held_out is None for p in finder.probes)


def test_probes_leave_the_test_s_own_curve_alone(xy, probed):
    """The curve is the ramp's, whatever ran after it."""
    keras.utils.set_random_seed(1)
    alone = find(model(), *xy, batch_size=SIZE, probe=False).curve
    np.testing.assert_array_equal(alone.losses, probed.curve.losses)


def test_restore_false_keeps_what_the_ramp_trained(xy):
    """Probes need the state before the ramp, so there are none."""
    net = model()
    before = values(net)
    finder = find(net, *xy, batch_size=SIZE, restore=False)
    assert finder.probes == ()
    assert any(not np.array_equal(a, b) for a, b in zip(before, values(net)))


def test_data_that_cannot_be_read_twice_are_said_not_to_be_probed(
    xy, monkeypatch
):
    """A generator too large to be kept leaves the ramp's suggestion."""
    x, y = xy
    monkeypatch.setattr(data_reader, "MOST_BYTES", 2**20)

    def huge():
        # Twenty batches of this size, what the ramp takes, are more than that.
        wide = np.broadcast_to(x[:, :1], (ROWS, 200))
        while True:
            yield {"x": x, "unused": wide}, y

    inputs = {
        "x": keras.Input((4,), name="x"),
        "unused": keras.Input((200,), name="unused"),
    }
    hidden = keras.layers.Dense(8, activation="relu")(inputs["x"])
    used = keras.ops.mean(inputs["unused"], axis=1, keepdims=True)
    net = keras.Model(inputs, keras.layers.Dense(1)(hidden) + 0.0 * used)
    net.compile("sgd", "mse")
    finder = find(net, huge(), steps=20, start_lr=1e-4)
    assert finder.probes == ()
    assert "not probed" in finder.suggestion.reason


def test_a_weight_that_was_nan_before_says_nothing_of_a_probe(xy):
    """Only what becomes so in a probe counts as blown up."""

    class Hiding(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, x):
            return x + 0.0 * keras.ops.where(self.scale > 0, 1.0, 2.0)

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1), Hiding()])
    net.compile("sgd", "mse")
    net.layers[-1].scale.assign(np.nan)
    probes = find(net, *xy, batch_size=SIZE).probes
    assert probes
    assert all(np.isfinite(p.losses).all() for p in probes)


def test_apply_refuses_a_model_without_the_optimizer_that_was_tested(xy):
    """Another model's optimizer is not set in its stead."""
    tested, other = model("sgd"), model("sgd")
    finder = find(
        tested, *xy, batch_size=SIZE, probe=False, optimizer=tested.optimizer
    )
    with pytest.raises(ValueError, match="must hold the optimizer"):
        finder.apply(other)
