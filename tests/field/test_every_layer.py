"""Every layer of Keras: a fit after a range test is the one without.

What Keras exports and is in no list here fails a test, so a new Keras shows
what is new. `tests/test_restore.py` has every optimizer.
"""

import keras
import numpy as np
import pytest
from keras import layers

from field.same import compiled
from field.same import ramp_alone
from field.same import same_as_untested

ROWS = 32
# Layers with their arguments, by the shape of a sample.
PLAIN = {
    (6,): """
        ActivityRegularization(1e-3); Activation('tanh'); AlphaDropout(0.3);
        BatchNormalization(); Dense(4); Dropout(0.3); ELU();
        EinsumDense('ab,bc->ac', output_shape=4); Flatten();
        GaussianDropout(0.3); GaussianNoise(0.3); GroupNormalization(2);
        Identity(); Lambda(lambda x: 2 * x); LayerNormalization(); LeakyReLU();
        Normalization(mean=[0.1] * 6, variance=[2.0] * 6); PReLU();
        RMSNormalization(); ReLU(); RepeatVector(2); Rescaling(2.0);
        Reshape((3, 2)); ReversibleEmbedding(6, 6); Softmax();
        SpectralNormalization(L.Dense(4)); UnitNormalization()
    """,
    (6, 4): """
        AdaptiveAveragePooling1D(2); AdaptiveMaxPooling1D(2);
        AveragePooling1D(2); Bidirectional(L.LSTM(3, recurrent_dropout=0.2));
        Conv1D(3, 2); Conv1DTranspose(3, 2); Cropping1D(); DepthwiseConv1D(2);
        GRU(3, dropout=0.2); GlobalAveragePooling1D(); GlobalMaxPooling1D();
        LSTM(3); Masking(); MaxPooling1D(); Permute((2, 1));
        RNN(L.StackedRNNCells([L.GRUCell(3), L.LSTMCell(2)]));
        SeparableConv1D(3, 2); SimpleRNN(3); SpatialDropout1D(0.3);
        TimeDistributed(L.Dense(3)); UpSampling1D(); ZeroPadding1D()
    """,
    (6, 6, 3): """
        AdaptiveAveragePooling2D(2); AdaptiveMaxPooling2D(2);
        AugMix(value_range=(0.0, 1.0)); AutoContrast(); AveragePooling2D(2);
        CenterCrop(4, 4); ContrastLimitedAdaptiveHistogramEqualization();
        Conv2D(2, 3); Conv2DTranspose(2, 3); Cropping2D(); DepthwiseConv2D(2);
        Equalization(); GlobalAveragePooling2D(); GlobalMaxPooling2D();
        MaxPooling2D(); Pipeline([L.RandomFlip(), L.RandomInvert()]);
        RandAugment(value_range=(0.0, 1.0)); RandomBrightness(0.2);
        RandomColorDegeneration(0.5);
        RandomColorJitter((0.0, 1.0), 0.1, 0.1, 0.1, 0.1); RandomContrast(0.2);
        RandomCrop(6, 6); RandomElasticTransform(); RandomErasing();
        RandomFlip(); RandomGaussianBlur(); RandomGrayscale(); RandomHue(0.2);
        RandomInvert(); RandomPerspective(); RandomPosterization(4);
        RandomRotation(0.2); RandomSaturation(0.2); RandomSharpness(0.2);
        RandomShear(0.2, 0.2); RandomTranslation(0.2, 0.2); RandomZoom(0.2);
        Resizing(4, 4); SeparableConv2D(2, 2); Solarization();
        SpatialDropout2D(0.3); UpSampling2D(); ZeroPadding2D()
    """,
    (4, 4, 4, 2): """
        AdaptiveAveragePooling3D(2); AdaptiveMaxPooling3D(2);
        AveragePooling3D(2); Conv3D(2, 2); Conv3DTranspose(2, 2); Cropping3D();
        GlobalAveragePooling3D(); GlobalMaxPooling3D(); MaxPooling3D();
        SpatialDropout3D(0.3); UpSampling3D(); ZeroPadding3D();
        ConvLSTM2D(2, 2)
    """,
    (3, 5, 2): "ConvLSTM1D(2, 2)",
    (2, 3, 3, 3, 2): "ConvLSTM3D(2, 2)",
}
OF_TWO = {
    (6,): """
        Add(); Average(); Concatenate(); Dot(1); Maximum(); Minimum();
        Multiply(); Subtract()
    """,
    (6, 4): """
        AdditiveAttention(); Attention(dropout=0.2);
        GroupQueryAttention(2, 4, 2); MultiHeadAttention(2, 2, dropout=0.2)
    """,
}
# No part of what is trained: they make numbers of raw data.
OF_DATA = """
    CategoryEncoding; Discretization; HashedCrossing; Hashing; IntegerLookup;
    MelSpectrogram; STFTSpectrogram; StringLookup; TextVectorization
"""
# Bases, parts and wrappers of what is above; tried in tests of their own.
# CutMix and MixUp want labels beside the images.
ELSEWHERE = """
    CutMix; Embedding; FlaxLayer; GRUCell; InputLayer; JaxLayer; LSTMCell;
    Layer; MaxNumBoundingBoxes; MixUp; SimpleRNNCell; StackedRNNCells;
    TFSMLayer; TorchModuleWrapper; Wrapper
"""


def each(texts):
    """What a list has, one by one."""
    return [text.strip() for text in texts.split(";")]


def made(text):
    """The layer, or a skip where this Keras has none of that name."""
    name = text.split("(")[0]
    if not hasattr(layers, name):
        pytest.skip(f"this Keras has no {name}")
    return eval(f"L.{text}", {"L": layers})


def samples(shape):
    """Random samples and what is to be told of them."""
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, *shape), "float32")
    return x, x.reshape(ROWS, -1)[:, :1]


def ends_the_same(build, shape):
    """Runs the claim on few steps."""
    same_as_untested(build, lambda: samples(shape), [ramp_alone], batch_size=8)


# Ten times as long as any other.
SLOW = ("AugMix(value_range=(0.0, 1.0))", "RandAugment(value_range=(0.0, 1.0))")
SOME = ["BatchNormalization()", "GRU(3, dropout=0.2)", "RandomRotation(0.2)"]


def marks_of(text):
    """Which backends try it, and which without --thorough."""
    if text.startswith("RandomElasticTransform"):
        # Keras 3.15's own fit fails on JAX: the layer asks for values there.
        where = pytest.mark.backend("torch", "tensorflow")
        return [where, pytest.mark.thorough_on("tensorflow")]
    if text in SLOW:
        return pytest.mark.thorough
    if text in SOME:
        return []
    return pytest.mark.thorough_on("tensorflow", "jax")


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        pytest.param(shape, text, id=text.split("(")[0], marks=marks_of(text))
        for shape, texts in PLAIN.items()
        for text in each(texts)
    ],
)
@pytest.mark.filterwarnings("ignore:Layer 'flatten")  # after Masking
def test_a_layer(shape, text):
    """One layer between the input and a linear head."""

    def build():
        head = [layers.Flatten(), layers.Dense(1)]
        return compiled([keras.Input(shape), made(text), *head])

    ends_the_same(build, shape)


@pytest.mark.thorough_on("tensorflow", "jax")
@pytest.mark.parametrize(
    ("shape", "text"),
    [(shape, text) for shape in OF_TWO for text in each(OF_TWO[shape])],
)
def test_a_layer_of_two_tensors(shape, text):
    """They are merged; or queries and keys."""

    def build():
        inputs = keras.Input(shape)
        both = [layers.Dense(4)(inputs), layers.Dense(4)(inputs)]
        apart = text.startswith(("GroupQuery", "MultiHead"))
        out = made(text)(*both) if apart else made(text)(both)
        out = layers.Dense(1)(layers.Flatten()(out))
        return compiled(keras.Model(inputs, out))

    ends_the_same(build, shape)


def test_an_embedding():
    """Integers in."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 9, (ROWS, 5)), rng.random((ROWS, 1))

    def build():
        net = [keras.Input((5,), dtype="int32"), layers.Embedding(9, 3)]
        return compiled([*net, layers.LSTM(3), layers.Dense(1)])

    same_as_untested(build, lambda: (x, y), batch_size=8)


def test_no_layer_is_left_out():
    """What Keras exports is tried above, or listed with its reason."""
    known = [*PLAIN.values(), *OF_TWO.values(), OF_DATA, ELSEWHERE]
    tried = {text.split("(")[0] for texts in known for text in each(texts)}
    exported = set()
    for name, kind in vars(layers).items():
        is_layer = isinstance(kind, type) and issubclass(kind, layers.Layer)
        # Old names and other spellings of the same class.
        if is_layer and kind.__name__ == name:
            exported.add(name)
    assert exported - tried == set()
