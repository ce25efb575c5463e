"""A recommender of keras-rs."""

import keras
import numpy as np
import pytest

from field.same import same_as_untested

keras_rs = pytest.importorskip("keras_rs")
# What brings TensorFlow is tried on it.
pytestmark = pytest.mark.backend("tensorflow")


class Retrieval(keras.Model):
    """Two towers; the other items of a batch are what was not chosen."""

    def __init__(self):
        super().__init__()
        self.users = keras.layers.Embedding(20, 8)
        self.items = keras.layers.Embedding(30, 8)
        self.retrieval = keras_rs.layers.BruteForceRetrieval(k=3)

    def build(self, input_shape):
        """The index of all items is part of the model."""
        self.users.build((None,))
        self.items.build((None,))
        self.retrieval.candidate_embeddings = self.items.embeddings
        self.retrieval.build(input_shape)
        super().build(input_shape)

    def call(self, user, training=False):
        """Embeds users; outside training also looks up the best items."""
        found = {"user": self.users(user)}
        if not training:
            found["best"] = self.retrieval(found["user"])
        return found

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        """Every user's own item against those of the others."""
        items = keras.ops.transpose(self.items(y))
        scores = keras.ops.matmul(y_pred["user"], items)
        own = keras.ops.arange(keras.ops.shape(scores)[0])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return loss(own, scores)


def chosen():
    """Which of twenty users took which of thirty items."""
    users = np.random.default_rng(0).integers(0, 20, 64)
    return users, (users + users % 7) % 30


def test_retrieval_with_adagrad():
    """Gradients of rows; the index sees the tables come back."""

    def build():
        model = Retrieval()
        model.compile(keras.optimizers.Adagrad(0.1))
        return model

    for finder in same_as_untested(build, chosen, batch_size=16):
        assert finder.curve.losses[0] == pytest.approx(np.log(16), rel=0.3)
