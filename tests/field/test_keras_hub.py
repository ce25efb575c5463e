"""Models of keras-hub, randomly initialised: nothing is downloaded."""

import keras
import numpy as np
import pytest

from field.same import images
from field.same import same_as_untested

keras_hub = pytest.importorskip("keras_hub")
models = keras_hub.models
# What brings TensorFlow is tried on it.
pytestmark = pytest.mark.backend("tensorflow")

WORDS = ["the", "a", "quick", "lazy", "good", "bad", "film"]
TEXTS = ["the quick good film", "a bad lazy film"] * 16


def texts():
    """Python strings in a list, and which of two classes they are of."""
    return TEXTS, np.array([1, 0] * 16)


def compiled(model, optimizer, **metrics):
    """The model, compiled for classes."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **metrics)
    return model


def bert():
    """A BERT of two layers."""
    return models.BertBackbone(
        vocabulary_size=5 + len(WORDS),
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        intermediate_dim=32,
        max_sequence_length=8,
    )


def classifier(backbone):
    """A classifier of texts, with its preprocessor."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = models.BertTokenizer(special + WORDS, lowercase=True)
    preprocessor = models.BertTextClassifierPreprocessor(
        tokenizer, sequence_length=8
    )
    model = models.BertTextClassifier(
        backbone, num_classes=2, preprocessor=preprocessor
    )
    return compiled(model, keras.optimizers.AdamW(1e-3), metrics=["accuracy"])


def test_bert_with_low_rank_adapters_on_lists_of_strings(ways):
    """The preprocessor is part of `fit`; only the adapters are trained."""

    def build():
        backbone = bert()
        backbone.enable_lora(2)
        return classifier(backbone)

    same_as_untested(build, texts, ways, batch_size=8)


def test_gpt2_learns_to_go_on(ways):
    """A causal language model, with targets and weights from its inputs."""

    def build():
        letters = sorted(set("".join(TEXTS)) - {" "})
        names = [*letters, "Ġ", "th", "<|endoftext|>"]
        tokenizer = models.GPT2Tokenizer(
            {c: i for i, c in enumerate(names)}, ["t h"]
        )
        preprocessor = models.GPT2CausalLMPreprocessor(
            tokenizer, sequence_length=8
        )
        backbone = models.GPT2Backbone(len(names), 1, 2, 8, 16)
        model = models.GPT2CausalLM(backbone, preprocessor=preprocessor)
        adam = keras.optimizers.Adam(1e-3)
        return compiled(model, adam, weighted_metrics=["accuracy"])

    # Each new fit or evaluation traces its tokenizer for seconds.
    same_as_untested(build, lambda: (TEXTS,), ways, batch_size=8)


def test_vision_transformer():
    """A classifier of images."""

    def build():
        backbone = models.ViTBackbone(
            image_shape=(16, 16, 3),
            patch_size=8,
            num_layers=1,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=16,
        )
        model = models.ViTImageClassifier(backbone=backbone, num_classes=3)
        return compiled(model, keras.optimizers.Adam(1e-3))

    same_as_untested(build, lambda: images(32, 16), batch_size=8)
