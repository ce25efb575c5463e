"""What probes tell: of layers that train otherwise than they judge, of NaN.

Each model here is one of a pair that trains alike, or learns something that
is known, so that the right reading is known as well.
"""

import keras
import numpy as np
import pytest

from keras_lrfinder import lr_find

SIZE = 32


def classes(rows, features=16, seed=0):
    """Ten classes that a small net learns, from inputs off centre."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features))
    hidden = np.tanh(x @ rng.normal(size=(features, 24)))
    y = (hidden @ rng.normal(size=(24, 10))).argmax(axis=1)
    return (5.0 * x + 3.0).astype("float32"), y.astype("int32")


def classifier(*hidden, optimizer="adam"):
    net = keras.Sequential(
        [
            keras.Input((16,)),
            *hidden,
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    net.compile(optimizer, "sparse_categorical_crossentropy")
    return net


def normalized(momentum):
    """A net of which only the moving statistics know the momentum."""
    keras.utils.set_random_seed(1)
    hidden = []
    for _ in range(3):
        hidden += [
            keras.layers.Dense(32, use_bias=False),
            keras.layers.BatchNormalization(momentum=momentum),
            keras.layers.ReLU(),
        ]
    return classifier(*hidden)


def find(net, x, y, **kwargs):
    return lr_find(net, x, y, batch_size=SIZE, verbose=0, **kwargs)


@pytest.fixture(scope="module")
def by_momentum():
    x, y = classes(10_000)
    return {m: find(normalized(m), x, y) for m in (0.99, 0.9, 0.5)}


@pytest.mark.thorough_on("tensorflow")
def test_momentum_of_normalization_does_not_move_the_answer(by_momentum):
    """Three models that train identically get the same learning rate."""
    lrs = [finder.suggestion.lr for finder in by_momentum.values()]
    assert max(lrs) < 1.2 * min(lrs)


@pytest.mark.thorough_on("tensorflow")
def test_held_out_losses_do_not_lag(by_momentum):
    """What the best probe learnt is seen with statistics of its own."""
    for finder in by_momentum.values():
        best = min(finder.probes, key=lambda p: np.mean(p.losses[-15:]))
        learnt = best.held_out_before - np.mean(best.losses[-15:])
        held = best.held_out_before - best.held_out
        assert held > 0.7 * learnt


@pytest.mark.thorough_on("tensorflow")
def test_what_is_seen_once_is_not_memorised(by_momentum):
    """Sixty batches of 32 from 10,000 samples meet none of them twice."""
    for finder in by_momentum.values():
        assert "memorised" not in finder.suggestion.reason


@pytest.mark.parametrize("rate", [0.0, 0.6])
def test_dropout_does_not_hide_memorising(rate):
    """Random labels are memorised, however noisy training makes the loss."""
    keras.utils.set_random_seed(1)
    x, _ = classes(400)
    y = np.random.default_rng(2).integers(0, 10, len(x))
    hidden = [
        keras.layers.Dense(512, activation="relu"),
        keras.layers.Dropout(rate),
    ]
    reason = find(classifier(*hidden), x / 5.0, y).suggestion.reason
    assert "memorised" in reason or "did not improve" in reason


def test_class_weights_are_not_taken_for_memorising():
    """They change the training loss, and not what is held out."""
    keras.utils.set_random_seed(1)
    x, y = classes(10_000)
    net = classifier(keras.layers.Dense(32, activation="relu"))
    weights = dict.fromkeys(range(10), 0.1)
    reason = find(net, x / 5.0, y, class_weight=weights).suggestion.reason
    assert "memorised" not in reason


class Blind(keras.Model):
    """Trains, and cannot be evaluated."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(32, activation="relu")
        self.last = keras.layers.Dense(10, activation="softmax")

    def call(self, x):
        return self.last(self.hidden(x))

    def test_step(self, *args):
        raise NotImplementedError("no evaluation here")


def blind(optimizer):
    keras.utils.set_random_seed(1)
    net = Blind()
    net.compile(optimizer, "sparse_categorical_crossentropy")
    x, y = classes(4000)
    finder = find(net, x / 5.0, y)
    assert finder.probes
    return finder


def test_a_model_that_cannot_evaluate_is_not_sure():
    """Nothing was held out against its probes."""
    assert blind("sgd").suggestion.confidence == "low"


def test_training_losses_of_probes_are_read():
    """The answer lies nearer to what trained best than the ramp's.

    Adagrad's best learning rate is far above what a ramp suggests.
    """
    finder = blind("adagrad")
    best = min(finder.probes, key=lambda p: np.mean(p.losses[-15:]))
    ramp = finder.probes[0].lr
    assert best.lr != ramp
    found = abs(np.log10(finder.suggestion.lr / best.lr))
    assert found < 0.9 * abs(np.log10(ramp / best.lr))


class Below(keras.constraints.Constraint):
    """NaN for a weight that is too large."""

    def __init__(self, most):
        self.most = most

    def __call__(self, weight):
        weight = keras.ops.convert_to_tensor(weight)
        nan = keras.ops.full_like(weight, np.nan)
        return keras.ops.where(keras.ops.abs(weight) < self.most, weight, nan)


class Fragile(keras.layers.Layer):
    """Its weight is NaN after a large step, which its output never shows."""

    def __init__(self, most):
        super().__init__()
        self.most = most

    def build(self, shape):
        self.inner = self.add_weight(
            shape=(), initializer="zeros", constraint=Below(self.most)
        )

    def call(self, x):
        # Value 0 and slope 1: the weight moves with the learning rate.
        inner = keras.ops.convert_to_tensor(self.inner)
        inner = keras.ops.where(keras.ops.isnan(inner), 0.0, inner)
        return x + inner - keras.ops.stop_gradient(inner)


def test_one_hidden_nan_leaves_the_other_probes_alone():
    """Only the probes that have it count as blown up."""
    keras.utils.set_random_seed(1)
    x, y = classes(4000)
    net = classifier(
        keras.layers.Dense(32, activation="relu"), Fragile(most=0.5)
    )
    finder = find(net, x / 5.0, y)
    blown = [not np.isfinite(p.losses[-1]) for p in finder.probes]
    assert any(blown)
    assert not all(blown)
    assert finder.suggestion.lr is not None, finder.suggestion.reason
    assert {len(p.losses) for p in finder.probes} == {60}


def test_where_nothing_moves_higher_rates_are_tried():
    """Adagrad on embeddings wants a thousand times what others do."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 20_000, size=(4000, 20))
    worth = rng.normal(size=20_000)
    y = (worth[tokens].mean(axis=1) > 0).astype("float32")[:, None]
    net = keras.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Embedding(20_000, 16),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    net.compile("adagrad", "binary_crossentropy")
    finder = find(net, tokens, y)
    assert max(p.lr for p in finder.probes) > 100 * finder.probes[0].lr
