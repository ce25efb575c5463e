"""Models whose layers and losses do more than map inputs to outputs."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from field.same import compiled
from field.same import images
from field.same import rows
from field.same import same_as_untested


def labels():
    """Rows, and which of two classes they are of."""
    x, y = rows(64)
    return x, (y > 0).astype("float32")


def alone():
    """Rows, and nothing that is to be said of them."""
    return rows(64)[:1]


class Sampling(layers.Layer):
    """Draws from the posterior of a variational autoencoder, adds its KL."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, inputs):
        """Reparametrised sample."""
        mean, log_var = ops.split(inputs, 2, axis=-1)
        kl = -0.5 * ops.mean(1 + log_var - mean**2 - ops.exp(log_var))
        self.add_loss(1e-2 * kl)
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        return mean + ops.exp(0.5 * log_var) * noise


def autoencoder():
    """A variational autoencoder."""
    inputs = keras.Input((6,))
    z = Sampling()(layers.Dense(4)(inputs))
    return compiled(keras.Model(inputs, layers.Dense(6)(z)), "adam")


class Contrast(keras.Model):
    """Momentum contrast: a queue of keys is state that a step moves."""

    def __init__(self):
        super().__init__()
        self.encoder = layers.Dense(4)
        self.queue = self.add_weight(
            shape=(16, 4), initializer="random_normal", trainable=False
        )
        self.pointer = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False
        )

    def call(self, x, training=False):
        """Encodes, and keeps the codes while it trains."""
        codes = self.encoder(x)
        if training:
            keys = ops.stop_gradient(codes[:4])
            self.queue.assign(ops.concatenate([self.queue[4:], keys]))
            self.pointer.assign((self.pointer + 4) % 16)
        return codes

    def compute_loss(self, x=None, y=None, y_pred=None, *_, **__):
        """Codes are to be unlike those in the queue, and of length one."""
        like = ops.matmul(y_pred, ops.transpose(self.queue))
        size = ops.sum(y_pred**2, -1)
        return ops.mean(ops.logsumexp(like, -1)) + ops.mean((size - 1) ** 2)


def speech():
    """A recurrent net with CTC, a loss over alignments, clipped gradients."""
    if not hasattr(keras.losses, "CTC"):
        pytest.skip("this Keras has no CTC")
    parts = [layers.GRU(8, return_sequences=True), layers.Dense(5)]
    clipped = keras.optimizers.Adam(clipnorm=1.0)
    loss = keras.losses.CTC()
    return compiled([keras.Input((12, 6)), *parts], clipped, loss)


def spoken():
    """Sequences, and the shorter ones that they say."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 12, 6)).astype("float32")
    return x, rng.integers(1, 5, (32, 3)).astype("int32")


def averaged():
    """Accumulators and averages, which are slots like others."""
    optimizer = keras.optimizers.SGD(
        0.01,
        momentum=0.9,
        nesterov=True,
        gradient_accumulation_steps=2,
        # On JAX the second fit of Keras itself fails with these.
        use_ema=keras.backend.backend() != "jax",
    )
    return compiled([layers.Dense(1)], optimizer, metrics=["mae"])


def of_pytorch():
    """Wrapped whole, with buffers and noise that Keras knows nothing of."""
    import torch

    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.2),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
    )
    wrapped = layers.TorchModuleWrapper(net, output_shape=(None, 3))
    parts = [keras.Input((3, 8, 8)), wrapped, layers.Softmax()]
    return compiled(parts, "adam", CLASSES)


def channels_first():
    """Pictures as PyTorch has them."""
    x, y = images()
    return x.transpose(0, 3, 1, 2), y


def augmented():
    """Random layers of Keras's, whose seeds are state."""
    parts = [
        keras.Input((8, 8, 3)),
        layers.RandomFlip(seed=1),
        layers.GaussianNoise(0.1, seed=2),
        layers.SpatialDropout2D(0.2, seed=3),
        layers.Conv2D(4, 3),
        layers.GroupNormalization(2),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, "softmax"),
    ]
    return compiled(parts, "adamax", CLASSES)


CLASSES = "sparse_categorical_crossentropy"
REST = pytest.mark.thorough_on("tensorflow")
ON_TORCH = pytest.mark.thorough_on("tensorflow", "jax")
MODELS = [
    pytest.param(autoencoder, lambda: alone() * 2, id="autoencoder"),
    pytest.param(
        lambda: compiled(Contrast(), keras.optimizers.AdamW(1e-3), None),
        alone,
        id="contrast",
    ),
    pytest.param(speech, spoken, id="CTC"),
    pytest.param(
        averaged, labels, marks=[REST, pytest.mark.keras("3.5")], id="averaged"
    ),
    pytest.param(
        of_pytorch,
        channels_first,
        marks=pytest.mark.backend("torch"),
        id="PyTorch",
    ),
    pytest.param(augmented, images, marks=ON_TORCH, id="augmented"),
]


@pytest.mark.parametrize(("build", "data"), MODELS)
def test_what_is_more_than_a_map_comes_back(build, data):
    """Streams of noise, queues, losses that layers add, buffers."""
    same_as_untested(build, data, batch_size=8)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("MobileNetV2", marks=ON_TORCH),
        pytest.param("EfficientNetB0", marks=pytest.mark.thorough),
        pytest.param("ResNet50", marks=pytest.mark.thorough),
    ],
)
def test_applications(name, ways):
    """A base of Keras's, unfrozen after its new head has been trained."""

    def build():
        size = {"input_shape": (32, 32, 3), "pooling": "avg"}
        kind = getattr(keras.applications, name)
        base = kind(include_top=False, weights=None, **size)
        base.trainable = False
        model = compiled([base, layers.Dense(3, "softmax")], "adam", CLASSES)
        model.fit(*images(32, 32), batch_size=8, verbose=0)
        base.trainable = True
        return compiled(model, keras.optimizers.SGD(0.01, 0.9), CLASSES)

    same_as_untested(build, lambda: images(32, 32), ways, batch_size=8)
