"""What a finished test offers: `apply` in real fits, and its outcome."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import Curve
from keras_lrfinder import OneCycle
from keras_lrfinder import StopReason
from keras_lrfinder import Suggestion
from keras_lrfinder.analysis.runs import SHARES
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.training.learning_rate import apply_learning_rate
from keras_lrfinder.training.result import Result
from keras_lrfinder.training.result import finish

BATCHES = 5  # of an epoch
LR = 0.25
# So far below that the mean absolute error has a gradient of 1, too.
DATA = np.ones((BATCHES, 1), "float32"), np.full((BATCHES, 1), -99.0)
TOLERANCE = 2e-6  # that of a weight in float32
CURVE = Curve(
    lrs=[1e-3, 1e-2, 1e-1, 1.0],
    losses=[2.0, 1.5, 1.0, 9.0],
    stop_reason=StopReason.DIVERGED,
    steps=6,
    optimizer="sgd",
    batch_size=1,
)
RUNS = [
    Run(0.1, 3, held_out=1).ended([2.0, 1.5, 1.0, 1.2]),
    Run(1.0, 3, held_out=1).ended([2.0, np.inf]),
    Run(0.4, 1200, "one_cycle", held_out=1).ended(np.linspace(2, 0.5, 1201)),
]


NONE = Suggestion.refused("default", "It never fell.")


def result(model, *training, runs=RUNS, found=None, **kwargs):
    """What `lr_find` would have returned for that model, and training."""
    seen = "high", "default", "Seen.", *(training or ("constant", None))
    found = found or Suggestion(LR, 0.1, 0.5, *seen, kind="sgd")
    kwargs = {"steps_per_epoch": BATCHES, **kwargs}
    return Result(CURVE, found, runs, model=model, **kwargs)


class Weights(keras.callbacks.Callback):
    """By how much each batch moved the weight."""

    def __init__(self, stops_after=None):
        super().__init__()
        self.stops_after, self.moves = stops_after, []

    def on_train_begin(self, logs=None):
        self.weight = self.model.get_weights()[0].item()

    def on_train_batch_end(self, batch, logs=None):
        before, self.weight = self.weight, self.model.get_weights()[0].item()
        self.moves.append(before - self.weight)
        if len(self.moves) == self.stops_after:
            raise KeyboardInterrupt


def lrs_used(model, epochs=1, stops_after=None, **kwargs):
    """Trains epochs; returns by how much each batch moved the weight."""
    weights = Weights(stops_after)
    kwargs = {"batch_size": 1, "verbose": 0, "callbacks": [weights], **kwargs}
    try:
        model.fit(*DATA, epochs=epochs, **kwargs)
    except KeyboardInterrupt:
        assert stops_after is not None
    return np.array(weights.moves)


def assert_follows(lrs, schedule, peak, total):
    """Each step was made with the LR of the path, the last one to the end."""
    path = peak * SHARES[schedule](total)
    more = [path[-1]] * (len(lrs) - total)
    np.testing.assert_allclose(lrs, [*path[: len(lrs)], *more], atol=TOLERANCE)


def halving():
    return keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)


def always_half():
    return 0.5


HELD = {
    "number": lambda: 0.5,
    "schedule": halving,
    "function": lambda: always_half,
}


# What is trained with.


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("schedule", SHARES)
def test_next_fit_follows_the_path(schedule, held, trained):
    """From its first step to its last, whatever was held before, and on."""
    model = tiny.unit_gradient_model(HELD[held]())
    if trained:
        lrs_used(model)
    assert result(model, schedule, 10).apply() == LR
    assert_follows(lrs_used(model, epochs=3), schedule, LR, 10)


def test_what_is_applied_is_a_schedule_of_keras():
    """Which the user sees, and may replace by another of any kind."""
    model = tiny.unit_gradient_model(0.5)
    result(model, "one_cycle", 10).apply()
    config = model.optimizer.get_config()["learning_rate"]
    held = keras.optimizers.schedules.deserialize(config)
    model.optimizer.learning_rate = halving()
    assert held.get_config() == OneCycle(LR, 10).get_config()
    np.testing.assert_allclose(lrs_used(model)[:2], [0.5, 0.25], atol=TOLERANCE)


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
def test_it_may_be_applied_again_and_again(trained):
    """Each time the path begins anew; and a number can take its place."""
    model = tiny.unit_gradient_model(0.5)
    given = result(model)
    for schedule in ("one_cycle", "cosine", "one_cycle", "triangular"):
        peak = given.apply(schedule=schedule, epochs=2)
        if trained:
            assert_follows(lrs_used(model, 2), schedule, peak, 10)
    given.apply()
    given.apply(epochs=1)

    peak = given.suggestion.lr_for("constant", BATCHES)
    np.testing.assert_allclose(lrs_used(model), [peak] * 5, rtol=1e-5)


def test_interrupted_training_leaves_nothing_to_put_back():
    """After Ctrl-C a fit goes on; `apply` begins anew, or sets a number."""
    model = tiny.unit_gradient_model(0.5)
    given = result(model, "one_cycle", 10)
    path = LR * SHARES["one_cycle"](10)

    given.apply()
    lrs_used(model, 2, stops_after=3)
    went_on = lrs_used(model)
    given.apply()
    assert_follows(lrs_used(model, 2, stops_after=3), "one_cycle", LR, 10)
    given.apply()
    assert_follows(lrs_used(model, 2), "one_cycle", LR, 10)
    number = given.apply(schedule="constant")

    # On JAX the interrupted step may count or not.
    assert min(np.abs(went_on - path[i : i + 5]).max() for i in (2, 3)) < 1e-6
    np.testing.assert_allclose(lrs_used(model), [number] * 5, atol=TOLERANCE)


@pytest.mark.filterwarnings("error:the cycle")
def test_a_training_that_is_resumed_has_the_whole_path():
    """`initial_epoch=3, epochs=5` are the two epochs that were said."""
    model = tiny.unit_gradient_model(0.5)
    result(model, "cosine", None).apply(epochs=2)
    lrs = lrs_used(model, 5, initial_epoch=3)
    assert len(lrs) == 10
    assert lrs[-1] < 0.1 * lrs.max()


def test_optimizers_that_accumulate_count_batches(capsys):
    """Each update has the LR that the path has at its last batch."""
    model = tiny.unit_gradient_model(
        keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    )
    lrs_used(model)
    lrs_used(model)

    given = result(model)
    peak = given.apply(schedule="one_cycle", epochs=2)

    assert peak == given.suggestion.lr_for("one_cycle", 5)
    assert "over 10 batches: call fit with epochs=2" in capsys.readouterr().out
    # The first batch of an update moves nothing.
    moved = lrs_used(model, 2)
    expected = peak * SHARES["one_cycle"](10) * np.tile([0, 1], 5)
    np.testing.assert_allclose(moved, expected, atol=TOLERANCE)


def test_loss_scaling_passes_it_on():
    """An optimizer that scales the loss hands it to its inner one."""
    inner = keras.optimizers.SGD(0.5)
    model = tiny.unit_gradient_model(
        keras.optimizers.LossScaleOptimizer(inner, initial_scale=1.0)
    )
    result(model, "cosine", 10).apply()
    assert_follows(lrs_used(model, 2), "cosine", LR, 10)


# What is written afterwards.


@pytest.mark.parametrize("held", ["number", "schedule"])
@pytest.mark.parametrize("schedule", SHARES)
def test_model_is_saved_and_loaded_with_it(schedule, held, tmp_path):
    """A `.keras` file, also one of ModelCheckpoint, goes on in mid-path."""
    path = tmp_path / "model.keras"
    model = tiny.unit_gradient_model(HELD[held]())
    model.compile(model.optimizer, "mae")  # by name, so that it loads
    result(model, schedule, 10).apply()
    lrs_used(model, callbacks=[keras.callbacks.ModelCheckpoint(path)])

    loaded = keras.saving.load_model(path)

    expected = LR * SHARES[schedule](10)[5:]
    np.testing.assert_allclose(lrs_used(loaded), expected, atol=TOLERANCE)
    assert int(tiny.host(loaded.optimizer.iterations)) == 10


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("held", ["number", "schedule"])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_checkpoint_and_export_work_after_it(schedule, held, tmp_path):
    """TensorFlow can still checkpoint and export the model."""
    import tensorflow as tf

    model = tiny.unit_gradient_model(HELD[held]())
    lrs_used(model)
    result(model, schedule, 10).apply()
    lrs_used(model)

    parts = {"model": model, "optimizer": model.optimizer}
    saved = tf.train.Checkpoint(**parts).save(str(tmp_path / "checkpoint"))
    before = model.get_weights()[0]
    lrs_used(model)
    tf.train.Checkpoint(**parts).restore(saved).assert_consumed()

    assert model.get_weights()[0] == before
    assert int(tiny.host(model.optimizer.iterations)) == 10
    model.export(str(tmp_path / "exported"))


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
def test_a_checkpoint_fits_a_model_compiled_with_it(trained, tmp_path):
    """Each variable of the optimizer has the place that it has there."""
    import tensorflow as tf

    path = OneCycle(LR, 10)
    model, fresh = (
        tiny.unit_gradient_model(keras.optimizers.Adam(lr)) for lr in (LR, path)
    )
    lrs_used(fresh)
    if trained:
        lrs_used(model)
    apply_learning_rate(model, [model.optimizer], path)
    lrs_used(model)
    saved = tf.train.Checkpoint(model.optimizer).save(str(tmp_path / "saved"))

    restored = tf.train.Checkpoint(fresh.optimizer).restore(saved)

    restored.assert_existing_objects_matched()


# What is asked for, and what is said.


def test_another_training_has_its_own_learning_rate():
    """That of `lr_for`; none where the same is asked for."""
    model = tiny.unit_gradient_model(0.5)
    given = result(model, "one_cycle", 500)
    assert given.apply() == given.lr == LR
    assert given.apply(epochs=100) == LR
    assert given.apply(schedule="one_cycle", total_steps=500) == LR
    assert given.apply(schedule="constant") == given.suggestion.lr_for()
    longer = given.apply(schedule="cosine", total_steps=5000)
    assert longer == given.suggestion.lr_for("cosine", 5000)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "SGD's learning rate is now 2.5e-01: call fit"),
        ({"total_steps": 2500}, ": call fit with epochs=500 and batch_size=1"),
        (
            {"schedule": "cosine", "total_steps": 1000},
            "over 1,000 steps: call fit with epochs=200 and batch_size=1",
        ),
        (
            {"schedule": "cosine", "total_steps": 2501},
            "over 2,501 steps: call fit for 2,501 steps",
        ),
    ],
)
def test_one_line_says_what_was_set_and_what_to_call(asked, said, capsys):
    """And nothing without `verbose`."""
    model = tiny.unit_gradient_model(0.5)
    result(model).apply(**asked)
    out = capsys.readouterr().out
    result(model, verbose=0).apply(**asked)
    assert out.count("\n") == 1
    assert out.strip().endswith(said)
    assert capsys.readouterr().out == ""


def test_the_line_names_what_it_replaced(capsys):
    """The schedule that is gone."""
    result(tiny.unit_gradient_model(halving())).apply()
    assert "2.5e-01, in place of ExponentialDecay: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kwargs", "asked", "said"),
    [
        ({}, {"schedule": "cosine"}, "`epochs` or `total_steps` must be"),
        ({"steps_per_epoch": None}, {"epochs": 2}, "`total_steps` must be"),
        ({}, {"epochs": 2, "total_steps": 9}, "`epochs` must be left out"),
        ({}, {"epochs": 0}, "`epochs` must be at least 1"),
        ({}, {"schedule": "cos"}, "`schedule` must be one of"),
        ({"found": NONE}, {}, "It never fell"),
    ],
)
def test_what_cannot_be_set_changes_nothing(kwargs, asked, said):
    """The error says what is missing; without a learning rate, why."""
    model = tiny.unit_gradient_model(0.5)
    given = result(model, **kwargs)

    with pytest.raises(ValueError, match=said):
        given.apply(**asked)

    if kwargs.get("found") is NONE:
        for use in (lambda: given.lr, lambda: float(given)):
            with pytest.raises(ValueError, match=said):
                use()
    assert lrs_used(model)[0] == 0.5


def test_models_and_optimizers_of_another_kind_are_refused():
    """A learning rate says nothing of another kind."""
    model, other = tiny.unit_gradient_model(0.5), keras.optimizers.SGD()
    given = result(model)
    with pytest.raises(TypeError, match="`model` must be a keras"):
        given.apply("model")
    with pytest.raises(ValueError, match=r"(?s)that was tested, sgd.*: adam"):
        given.apply(tiny.compiled(optimizer="adam"))
    with pytest.raises(ValueError, match="must hold the optimizer"):
        result(model, optimizer=other).apply()


def test_another_model_leaves_the_tested_one_alone():
    """Given a model, `apply` sets that one."""
    model, other = (tiny.unit_gradient_model(0.5) for _ in range(2))
    result(model).apply(other)
    assert (lrs_used(model)[0], lrs_used(other)[0]) == (0.5, LR)


# The outcome itself.


def test_runs_are_printed_as_a_table():
    """In a notebook, too; without any it is said."""
    given = result(None).runs
    rows = [row.split() for row in str(given).splitlines()[1:]]
    assert [row[0] for row in rows] == ["probe", "probe", "training"]
    assert repr(given) == str(given)
    assert "blew up</td>" in given._repr_html_()
    assert str(result(None, runs=()).runs) == "no run after the ramp"


def test_to_dict_is_plain():
    """Numbers and strings, which any JSON takes."""
    given = result(None, "one_cycle", 1200).to_dict()
    assert json.loads(json.dumps(given, allow_nan=False)) == given
    assert (given["lr"], given["schedule"]) == (LR, "one_cycle")
    assert (given["batch_size"], given["runs"]) == (1, 3)
    kinds = {type(value) for value in given.values()}
    assert kinds <= {float, int, str, type(None)}


@pytest.mark.parametrize(
    "way", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))]
)
def test_an_outcome_is_copied_without_the_model(way):
    """With all that it found; it can be applied to a model that is given."""
    model = tiny.unit_gradient_model(0.5)
    given = result(model, optimizer=model.optimizer)

    back = way(given)

    assert back.curve == given.curve
    assert back.suggestion == given.suggestion
    assert str(back.runs) == str(given.runs)
    with pytest.raises(TypeError, match="`model` must be"):
        back.apply()
    assert back.apply(model) == LR


def test_print_says_that_nothing_was_trained():
    """Unless it was."""
    assert "nothing of the test stays" in str(result(None))
    assert "nothing of the test stays" not in str(result(None, restored=False))
    assert "2.5e-01" in repr(result(None))
    assert "2.5e-01" in result(None)._repr_html_()


def test_a_picture_that_cannot_be_written_loses_nothing(tmp_path, capsys):
    """It is a warning, and the verdict is still said."""
    (tmp_path / "file").touch()
    given = result(None, plot_dir=tmp_path / "file" / "folder")
    with pytest.warns(UserWarning, match=r"no picture .*Error: .*file"):
        finish(given, CURVE, given.suggestion)
    assert "2.5e-01" in capsys.readouterr().out


def test_pictures_go_into_the_home_directory(tmp_path, monkeypatch):
    """`~` is that, and no folder of that name."""
    monkeypatch.setenv("HOME", str(tmp_path))
    given = result(None, verbose=0, plot_dir="~/plots")
    finish(given, CURVE, given.suggestion)
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"loss.jpg", "smooth_loss.jpg"}
