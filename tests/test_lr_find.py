"""`lr_find`: what its runs measure, what they take, what they leave behind."""

import itertools
import re

import keras
import numpy as np
import pytest
import reference
import tiny

from keras_lrfinder import lr_find

ROWS, SIZE = 200, 8
STEPS = 60  # of a probe


@pytest.fixture(scope="module")
def xy():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ROWS, 4)).astype("float32")
    y = x @ rng.normal(size=(4, 1)) + 0.1 * rng.normal(size=(ROWS, 1))
    return x, y.astype("float32")


def model(optimizer="sgd", layers=None, **kwargs):
    """A net with one hidden layer, or with these."""
    if layers is None:
        layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(1)]
    net = keras.Sequential([keras.Input((4,)), *layers])
    net.compile(optimizer, "mse", **kwargs)
    return net


def kept():
    """`model()` as new, but traced for all tests of a process."""
    return tiny.as_new(model)


def find(net, *args, **kwargs):
    given = {"start_lr": 1e-6, "batch_size": SIZE, "verbose": 0, **kwargs}
    return lr_find(net, *args, **given)


def values(net):
    everything = [*net.variables, *net.optimizer.variables]
    return [tiny.host(variable) for variable in everything]


@pytest.fixture(scope="module")
def found(xy):
    """What a test with three probes found."""
    keras.utils.set_random_seed(1)
    return find(model(), *xy)


def test_ramp_and_three_probes_train_for_280_steps(found):
    """The default cost; the first loss, before any update, is one in all."""
    assert len(found.curve) <= 100
    assert [run.steps for run in found.runs] == [STEPS] * 3
    assert len({float(run.losses[0]) for run in found.runs}) == 1


def test_probes_leave_the_test_s_own_curve_alone(xy, found):
    """The curve is the ramp's, whatever ran after it."""
    keras.utils.set_random_seed(1)
    alone = find(model(), *xy, probe=False)
    np.testing.assert_array_equal(alone.curve.losses, found.curve.losses)
    assert alone.runs == ()


def twin_of(run, start, x, y, make):
    """Trains another model as a run says, on one batch, by Keras alone."""
    twin = make()
    twin.set_weights(start)
    losses = []
    for lr in run.lrs[: run.steps]:
        twin.optimizer.learning_rate = lr
        twin.reset_metrics()  # older Keras goes on with the mean
        losses.append(np.ravel(twin.train_on_batch(x, y))[0])
    return twin, losses


@pytest.mark.parametrize(
    "make",
    [
        lambda: model(keras.optimizers.SGD(0.01)),
        lambda: model(keras.optimizers.SGD(0.01, momentum=0.9)),
        lambda: model(keras.optimizers.Adam(0.01)),
    ],
    ids=["sgd", "momentum", "adam"],
)
def test_a_probe_trains_at_its_rate_and_is_judged_where_it_ended(make, xy):
    """Its losses are a twin's; those held out are of weights that stand still.

    The velocity of momentum has the learning rate in it, and would move on.
    """
    x, y = xy
    train, held_out = (x[:160], y[:160]), (x[-40:], y[-40:])
    net = make()
    start = net.get_weights()
    four = tuple(np.repeat(part, 4, 0) for part in held_out)
    given = {"batch_size": 160, "validation_data": four, "steps": 40}

    runs = find(net, *train, **given).runs

    run = min(runs, key=lambda run: run.lr)
    twin, losses = twin_of(run, start, *train, make)
    np.testing.assert_allclose(run.losses[: run.steps], losses, rtol=1e-3)
    expected = twin.evaluate(*held_out, verbose=0)
    assert run.held_out == 1
    assert run.held_out_loss == pytest.approx(expected, rel=1e-3)


def test_what_is_held_out_is_judged_as_the_training_step_sees_it(xy):
    """With BatchNormalization, by the statistics of the batch itself."""

    def make():
        norm = keras.layers.BatchNormalization(momentum=0.99)
        layers = [norm, keras.layers.Dense(1)]
        return model(keras.optimizers.SGD(0.01), layers)

    x, y = 5 * xy[0] + 3, xy[1]
    net = make()
    start = net.get_weights()
    given = {"batch_size": 100, "validation_data": (x[100:], y[100:])}

    runs = find(net, x[:100], y[:100], **given).runs

    run = min(runs, key=lambda run: run.lr)
    twin, _ = twin_of(run, start, x[:100], y[:100], make)
    seen = tiny.host(twin(x[100:], training=True))
    expected = np.mean((seen - y[100:]) ** 2)
    assert run.held_out_loss == pytest.approx(expected, rel=1e-3)
    as_inference = twin.evaluate(x[100:], y[100:], verbose=0)
    assert as_inference != pytest.approx(expected, rel=1e-2)


class Interrupted(keras.Sequential):
    """Ctrl-C comes within its fit number `at`."""

    at, fits = 0, 0

    def fit(self, *args, callbacks=(), **kwargs):
        self.fits += 1
        if self.fits == self.at:
            callbacks = [*callbacks, tiny.Raises(5, KeyboardInterrupt())]
        return super().fit(*args, callbacks=callbacks, **kwargs)


@pytest.mark.parametrize("at", [1, 2, 4, 6])
def test_ctrl_c_anywhere_puts_the_model_back(at, xy):
    """In the ramp, when judging, in a probe, in a whole training."""
    net = Interrupted([keras.Input((4,)), keras.layers.Dense(1)])
    net.compile("sgd", "mse")
    net.at = at
    before = values(net)

    with pytest.raises(KeyboardInterrupt):
        find(net, *xy, trainings=2, total_steps=40)

    assert net.fits == at or net.fits == 0  # the count is put back, too
    for a, b in zip(before, values(net)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"rule": "valley"}, "Not probed.* own answer"),
        ({"restore": False}, "Not probed.* restore=False"),
    ],
)
def test_what_is_not_probed_says_why(given, why, xy):
    """Runs correct the package's own rule, from the state before the ramp."""
    result = find(model(), *xy, **given)
    assert result.runs == ()
    assert re.search(why, result.suggestion.reason)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(({"trainings": n}, "`trainings`") for n in (1, 6, -1, 2.5, "3")),
        ({"epochs": 2, "total_steps": 50}, "`epochs` must be left out"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"total_steps": 0}, "`total_steps` must be at least 1"),
        ({"schedule": "cosin"}, "`schedule` must be one of"),
        ({"initial_epoch": 3}, "`initial_epoch` must not be given"),
        ({"monitor": "val_loss"}, "`monitor` must be logged.*`validation="),
        ({"validation": (1,)}, "`validation` must be"),
        ({"batch_size": "32"}, "`batch_size` must be an integer"),
        ({"y": None}, "`y` must be given"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_words(given, said, xy):
    """Each names the argument, what must hold and what came."""
    x, y = xy
    with pytest.raises((TypeError, ValueError), match=said):
        find(kept(), **{"x": x, "y": y, **given})


def test_epochs_are_the_steps_that_fit_would_make(xy):
    """Ragged batches count."""
    found = find(kept(), *xy, batch_size=64, epochs=3, probe=False)
    assert found.suggestion.total_steps == 3 * 4


def test_a_training_longer_than_what_was_kept_is_not_tried(xy):
    """Again and again on a hundred batches it would be another training."""
    x, y = (part[:SIZE] for part in xy)
    source = ((x, y) for _ in itertools.count())
    given = {"batch_size": None, "total_steps": 500, "trainings": 3}
    result = find(kept(), source, **given)
    assert result.suggestion.reason.startswith("No whole training was tried")
    assert {run.steps for run in result.runs} == {STEPS}


def test_a_weight_that_was_nan_before_says_nothing_of_a_run(xy):
    """Only what becomes so in a run counts as blown up."""

    class Hiding(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, x):
            return x + 0.0 * keras.ops.where(self.scale > 0, 1.0, 2.0)

    net = model(layers=[keras.layers.Dense(1), Hiding()])
    net.layers[-1].scale.assign(np.nan)
    runs = find(net, *xy).runs
    assert runs
    assert not any(run.blew_up for run in runs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: model(
            keras.optimizers.SGD(
                keras.optimizers.schedules.ExponentialDecay(0.01, 100, 1.0)
            )
        ),
        lambda: model(run_eagerly=True),
        lambda: model(metrics=["mae"]),
        pytest.param(
            lambda: model(steps_per_execution=4),
            marks=pytest.mark.backend("tensorflow", "jax"),
        ),
    ],
    ids=["schedule", "eager", "metrics", "executions"],
)
def test_runs_are_made_however_the_model_is_compiled(make, xy):
    """Ramp and runs share the model, and give it back."""
    net = make()
    before = net.get_weights()
    assert find(net, *xy, steps=40).runs
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


# --- A fixed sample, judged after each step ----------------------------------


def expected_on(net, x, y, sample, per_update):
    """Returns the loss of the sample after each step of the ramp."""
    source = reference.batches(x, y, 8)
    weights, losses = net.get_weights(), []
    for lr in reference.ramp():
        _, weights = reference.train(weights, source, [lr], per_update)
        losses.append(reference.gradients(weights, *sample)[0])
    return losses


@pytest.mark.parametrize("per_update", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_sample_is_judged_after_each_update(per_update, weighted):
    """Step `i` has the loss of the sample after the update with rate `i`."""
    steps = None if per_update == 1 else per_update
    net = reference.model(
        keras.optimizers.SGD(0.01, gradient_accumulation_steps=steps)
    )
    sample = reference.data(rows=17, seed=5)
    if weighted:
        sample = (*sample, np.linspace(0.0, 2.0, 17).astype("float32"))
    x, y = reference.data()
    losses = expected_on(net, x, y, sample, per_update)

    given = {"batch_size": 8, "shuffle": False, "probe": False}
    given |= {"validation": sample, **reference.RAMP}
    reference.assert_measured(lr_find(net, x, y, **given).curve, losses)
