"""Models whose layers and losses do more than map inputs to outputs."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from field.same import same_as_untested


def images(n=48, size=8):
    """Random pictures and class numbers."""
    rng = np.random.default_rng(0)
    return (
        rng.random((n, size, size, 3), "float32"),
        rng.integers(0, 3, n).astype("int32"),
    )


def rows(n=64, width=6):
    """Rows that a linear layer can tell apart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, width)).astype("float32")
    return x, (x[:, 0] > 0).astype("float32")[:, None]


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
    model = keras.Model(inputs, layers.Dense(6)(z))
    model.compile("adam", "mse")
    return model


def test_variational_autoencoder():
    """The stream of its noise goes on where it was."""
    x, _ = rows()
    same_as_untested(autoencoder, lambda: (x, x))


def siamese():
    """One tower for two inputs, a distance, a contrastive loss."""
    tower = keras.Sequential([layers.Dense(4, "tanh"), layers.Dense(2)])
    a, b = keras.Input((6,)), keras.Input((6,))
    distance = ops.sqrt(
        ops.sum((tower(a) - tower(b)) ** 2, -1, keepdims=True) + 1e-6
    )

    def loss(y, d):
        return ops.mean(y * d**2 + (1 - y) * ops.maximum(1 - d, 0) ** 2)

    model = keras.Model([a, b], distance)
    model.compile(keras.optimizers.RMSprop(), loss)
    return model


@pytest.mark.thorough_on("tensorflow")
def test_siamese_network():
    """Shared layers come back once and whole."""
    x, y = rows()
    same_as_untested(siamese, lambda: ([x, x[::-1]], y))


class Endpoint(layers.Layer):
    """Takes the targets as an input and adds the loss itself."""

    def call(self, logits, targets):
        """Returns the probabilities."""
        loss = keras.losses.binary_crossentropy(
            targets, logits, from_logits=True
        )
        self.add_loss(ops.mean(loss))
        return ops.sigmoid(logits)


def endpoint():
    """A model that is compiled without a loss."""
    inputs, targets = keras.Input((6,)), keras.Input((1,))
    out = Endpoint()(layers.Dense(1)(inputs), targets)
    model = keras.Model({"x": inputs, "y": targets}, out)
    model.compile("sgd")
    return model


@pytest.mark.thorough_on("tensorflow")
def test_endpoint_layer():
    """A loss that a layer adds, and no targets."""
    x, y = rows()
    same_as_untested(endpoint, lambda: ({"x": x, "y": y},))


class Distiller(keras.Model):
    """Learns what a frozen teacher says."""

    def __init__(self):
        super().__init__()
        self.teacher = keras.Sequential(
            [layers.Dense(8, "relu"), layers.BatchNormalization()]
        )
        self.teacher.trainable = False
        self.student = keras.Sequential([layers.Dense(8)])

    def call(self, x):
        """What the student says, whose distance to the teacher counts."""
        said = self.student(x)
        wanted = ops.stop_gradient(self.teacher(x, training=False))
        self.add_loss(ops.mean((wanted - said) ** 2))
        return said


def distiller():
    """Compiled without a loss, which it adds."""
    model = Distiller()
    model.compile(keras.optimizers.Lion(1e-3))
    return model


@pytest.mark.thorough_on("tensorflow")
def test_distillation():
    """A frozen teacher within the model, and a loss of its own."""
    x, _ = rows()
    same_as_untested(distiller, lambda: (x,))


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


def contrast():
    """Compiled with weights decayed."""
    model = Contrast()
    model.compile(keras.optimizers.AdamW(1e-3))
    return model


def test_contrastive_learning_with_a_queue():
    """Variables that the forward pass assigns come back."""
    x, _ = rows()
    same_as_untested(contrast, lambda: (x,))


def speech():
    """A recurrent net with CTC."""
    model = keras.Sequential(
        [keras.Input((12, 6)), layers.GRU(8, return_sequences=True)]
    )
    model.add(layers.Dense(5))
    loss = getattr(keras.losses, "CTC", None)
    if loss is None:
        pytest.skip("this Keras has no CTC")
    model.compile(keras.optimizers.Adam(clipnorm=1.0), loss())
    return model


def test_ctc():
    """A loss over alignments, with clipped gradients."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 12, 6)).astype("float32")
    y = rng.integers(1, 5, (32, 3)).astype("int32")
    same_as_untested(speech, lambda: (x, y), batch_size=8)


@pytest.mark.keras("3.5")
def test_gradient_accumulation_with_averaged_weights():
    """Accumulators and averages are slots like others."""
    x, y = rows()

    def build():
        model = keras.Sequential([layers.Dense(4, "relu"), layers.Dense(1)])
        optimizer = keras.optimizers.SGD(
            0.01,
            momentum=0.9,
            nesterov=True,
            gradient_accumulation_steps=2,
            # On JAX the second fit of Keras itself fails with these.
            use_ema=keras.backend.backend() != "jax",
        )
        model.compile(optimizer, "mse", metrics=["mae"])
        return model

    same_as_untested(build, lambda: (x, y), batch_size=4)


@pytest.mark.backend("torch")
def test_network_of_pytorch():
    """Wrapped whole, with buffers and noise that Keras knows nothing of."""
    import torch

    x, y = images()

    def build():
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
        model = keras.Sequential(
            [keras.Input((3, 8, 8)), wrapped, layers.Softmax()]
        )
        model.compile("adam", "sparse_categorical_crossentropy")
        return model

    same_as_untested(build, lambda: (x.transpose(0, 3, 1, 2), y), batch_size=8)


@pytest.mark.parametrize(
    "name", ["MobileNetV3Small", "EfficientNetB0", "ResNet50"]
)
@pytest.mark.parametrize("unfrozen", [False, True], ids=["head", "whole"])
@pytest.mark.thorough
def test_applications(name, unfrozen):
    """A frozen base of Keras's with a new head; then all of it."""
    x, y = images(32, 32)

    def build():
        base = getattr(keras.applications, name)(
            include_top=False,
            weights=None,
            input_shape=(32, 32, 3),
            pooling="avg",
        )
        base.trainable = False
        model = keras.Sequential([base, layers.Dense(3, "softmax")])
        loss = "sparse_categorical_crossentropy"
        model.compile("adam", loss)
        if unfrozen:
            model.fit(x, y, batch_size=8, verbose=0)
            base.trainable = True
            model.compile(keras.optimizers.Adam(1e-5), loss)
        return model

    same_as_untested(build, lambda: (x, y), batch_size=8)


@pytest.mark.thorough_on("tensorflow", "jax")
def test_application_unfrozen(ways):
    """All of MobileNet, with BatchNormalization, at another policy."""
    x, y = images(32, 32)

    def build():
        base = keras.applications.MobileNetV2(
            include_top=False,
            weights=None,
            alpha=0.35,
            input_shape=(32, 32, 3),
            pooling="avg",
        )
        model = keras.Sequential([base, layers.Dense(3, "softmax")])
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        return model

    same_as_untested(build, lambda: (x, y), ways, batch_size=8)


@pytest.mark.thorough_on("tensorflow")
def test_augmentation_within_the_model():
    """Random layers of Keras's, whose seeds are state."""
    x, y = images()

    def build():
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.RandomFlip(seed=1),
                layers.GaussianNoise(0.1, seed=2),
                layers.SpatialDropout2D(0.2, seed=3),
                layers.Conv2D(4, 3),
                layers.GroupNormalization(2),
                layers.GlobalAveragePooling2D(),
                layers.Dense(3, "softmax"),
            ]
        )
        model.compile("adamax", "sparse_categorical_crossentropy")
        return model

    same_as_untested(build, lambda: (x, y), batch_size=8)
