"""The event file, read back by TensorBoard itself."""

import io
import sys

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from keras_lrfinder import Curve
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
    """Returns tag to {step: value or image}, checksums compared."""
    events = EventAccumulator(str(path), {"scalars": 0, "images": 0}).Reload()
    found = {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }
    images = {
        tag: {event.step: event for event in events.Images(tag)}
        for tag in events.Tags()["images"]
    }
    return found | images


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


def test_a_directory_is_read_as_one_run(tmp_path):
    """What `tensorboard --logdir` shows: all four series, and no other."""
    write_curve(a_curve(), None, tmp_path)

    assert set(read(tmp_path)) == {
        f"lr_finder/{name}"
        for name in ("loss", "smoothed_loss", "learning_rate", "curve")
    }


def test_what_float32_cannot_hold_is_infinite(tmp_path):
    """The format has no more digits; a huge loss is no error."""
    curve = Curve([1.0, 2.0], [1e300, -1e300])

    found = read(write_curve(curve, None, tmp_path))["lr_finder/loss"]

    assert found == {0: np.inf, 1: -np.inf}


def test_without_tensorboardx_the_error_names_the_extra(tmp_path, monkeypatch):
    """An ImportError with the way out, and nothing written."""
    monkeypatch.setitem(sys.modules, "tensorboardX", None)

    with pytest.raises(ImportError, match=r"keras_lrfinder\[tensorboard\]"):
        write_curve(a_curve(), None, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.backend("tensorflow")
def test_keras_tensorboard_in_the_same_fit_has_both(tmp_path):
    """With `update_freq="batch"` Keras writes loss and learning rate."""
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

    events = EventAccumulator(str(tmp_path / "train")).Reload()
    assert {"batch_loss", "batch_learning_rate"} <= set(
        events.Tags()["tensors"]
    )


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
