"""The event file, read back by TensorFlow and by TensorBoard themselves."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_lrfinder import RangeTest
from keras_lrfinder import suggest
from keras_lrfinder.pictures.tensorboard import write_curve


def a_curve():
    test = RangeTest(1e-4, 1.0, steps=60)
    for loss in [2.0] * 20 + list(np.linspace(2, 0.5, 30)) + [0.5] * 9:
        test.record(loss)
    test.record(np.nan)
    return test.curve


def read(path):
    """Returns tag to {step: simple value or image}, as TensorFlow reads."""
    tf = pytest.importorskip("tensorflow")
    found = {}
    # TensorFlow's reader compares every checksum.
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            found.setdefault(value.tag, {})[event.step] = getattr(value, kind)
    return found


@pytest.mark.parametrize(
    ("tag", "series"), [("loss", "losses"), ("learning_rate", "lrs")]
)
def test_every_step_is_a_scalar(tmp_path, tag, series):
    """The file holds each loss and each learning rate at its step."""
    curve = a_curve()

    found = read(write_curve(curve, None, tmp_path))[f"lr_finder/{tag}"]

    expected = getattr(curve, series).astype("float32")
    assert sorted(found) == list(range(60))
    np.testing.assert_array_equal(expected, [found[i] for i in range(60)])


def test_steps_without_a_smoothed_loss_are_left_out(tmp_path):
    """TensorBoard would draw a NaN that means nothing."""
    found = read(write_curve(a_curve(), None, tmp_path))

    assert sorted(found["lr_finder/smoothed_loss"]) == list(range(59))


def test_the_picture_can_be_opened(tmp_path):
    """The image is a PNG of the size that the event says."""
    curve = a_curve()

    file = write_curve(curve, suggest(curve), tmp_path / "new" / "folder")

    image = read(file)["lr_finder/curve"][0]
    opened = Image.open(io.BytesIO(image.encoded_image_string))
    assert (image.width, image.height) == opened.size == (800, 450)


def test_two_calls_write_two_files(tmp_path):
    """A second range test does not overwrite the first."""
    write_curve(a_curve(), None, tmp_path)
    write_curve(a_curve(), None, tmp_path)

    assert len(list(tmp_path.iterdir())) == 2


def test_tensorboard_itself_reads_the_file(tmp_path):
    """TensorBoard's own loader finds the scalars and the picture."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing import event_accumulator

    write_curve(a_curve(), None, tmp_path)

    events = event_accumulator.EventAccumulator(str(tmp_path)).Reload()
    tags = events.Tags()
    assert "lr_finder/curve" in tags["images"] + tags["tensors"]
    assert "lr_finder/loss" in tags["scalars"] + tags["tensors"]


@pytest.mark.backend("tensorflow")
def test_keras_tensorboard_in_the_same_fit_has_both(tmp_path):
    """With `update_freq="batch"` Keras writes loss and learning rate."""
    pytest.importorskip("tensorboard")
    import keras
    import tiny

    from keras_lrfinder import LRFinder

    model = tiny.functional()
    model.compile("sgd", "sparse_categorical_crossentropy")
    board = keras.callbacks.TensorBoard(str(tmp_path), update_freq="batch")
    finder = LRFinder(verbose=0)
    model.fit(
        *tiny.data(),
        batch_size=4,
        epochs=3,
        verbose=0,
        callbacks=[finder, board],
    )

    tags = set()
    for file in tmp_path.glob("train/events*"):
        tags |= set(read(file))
    assert {"batch_loss", "batch_learning_rate"} <= tags


def test_finder_writes_its_own_run(tmp_path):
    """`save_tensorboard` writes the curve of the finished test."""
    import tiny

    from keras_lrfinder import LRFinder

    model = tiny.functional()
    model.compile("sgd", "sparse_categorical_crossentropy")
    finder = LRFinder(verbose=0)
    model.fit(
        *tiny.data(), batch_size=4, epochs=3, verbose=0, callbacks=[finder]
    )

    found = read(finder.save_tensorboard(tmp_path))["lr_finder/loss"]

    assert len(found) == len(finder.curve)
