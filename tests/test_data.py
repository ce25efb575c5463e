"""What `lr_find` reads of the data of a `fit`: bounded, again, and apart.

Every sample is its own number, so that what was read can be told from what it
holds; it is read by a fit of Keras's own.
"""

import itertools
import types

import keras
import kinds
import numpy as np
import pytest
from kinds import SIZE
from kinds import arrays
from kinds import of_kinds

from keras_lrfinder.training import data as data_module
from keras_lrfinder.training.data import FitData
from keras_lrfinder.training.data import UnreadableError

RUN = 10
all_kinds = of_kinds(*kinds.ROWS, *kinds.BATCHES)


class Keeper(keras.Model):
    """Keeps what a fit gives it."""

    def __init__(self):
        super().__init__()
        self.built, self.kept = True, []
        self.compile(run_eagerly=True)

    def train_step(self, *args):
        data = args[-1]
        self.kept.append(data)
        logs = {"loss": keras.ops.zeros(())}
        return logs if len(args) == 1 else (logs, args[0])


def batches(named):
    """The numbers of the samples of each batch of a fit."""
    keeper = Keeper()
    keeper.fit(**named, verbose=0)
    found = []
    for data in keeper.kept:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        # Rows of `x` and of `y` belong together.
        assert numbers(x) == numbers(y)
        found.append(numbers(x))
    return found


def numbers(leaf):
    """The numbers of the samples of a column, whatever its kind."""
    if isinstance(leaf, dict):
        parts = [numbers(leaf["a"]), *map(numbers, leaf["b"])]
        assert all(part == parts[0] for part in parts)
        return parts[0]
    if isinstance(leaf, (list, tuple)):
        return numbers(leaf[0])
    if hasattr(leaf, "dense_shape"):
        import tensorflow as tf

        leaf = tf.sparse.to_dense(leaf)
    for dense in ("to_tensor", "todense", "numpy"):
        if hasattr(leaf, dense):
            leaf = getattr(leaf, dense)()
    leaf = np.asarray(leaf)
    return leaf.reshape(len(leaf), -1)[:, 0].astype(int).tolist()


def use_up(data, steps):
    """Takes from a generator what a ramp of so many steps would take."""
    x = data.ramp(steps)["x"]
    if isinstance(x, types.GeneratorType):
        list(x)


def replayed(given, steps=RUN, ramp=2 * RUN, **kwargs):
    data = FitData(given)
    use_up(data, ramp)
    return data.replay(steps, **kwargs)


def run_of(replay, steps=RUN):
    """The batches of a run: trained on, held out, trained on before."""
    run = kinds.run_of(replay, steps)
    found = batches(replay.fit_data(run))
    end = len(found) - run.again
    begin = end - run.held_out
    return found[:begin], found[begin:end], found[end:]


def flat(of_batches):
    return list(itertools.chain(*of_batches))


@all_kinds
@pytest.mark.parametrize("rows", [24, 101], ids=["few", "many"])
def test_a_run_meets_what_every_run_meets(kind, rows):
    """Whole batches; those held out apart; the first ones again."""
    replay = replayed(kind(rows))
    trained, held_out, again = run_of(replay)
    assert run_of(replay) == (trained, held_out, again)
    assert run_of(replay, steps=0) == ([], held_out, again)
    assert len(trained) == RUN
    assert len(held_out) == replay.held_out > 0
    assert {len(b) for b in trained + held_out} == {SIZE}
    assert set(flat(held_out)).isdisjoint(flat(trained))
    assert again == trained[: replay.again]
    comes_again = len(set(flat(trained))) < len(flat(trained))
    assert bool(replay.again) == comes_again
    if comes_again:
        once = flat(trained[: replay.epoch])
        assert len(set(once)) == len(once)
        assert set(trained[replay.epoch]) & set(once)


@of_kinds(*kinds.ROWS)
def test_rows_are_in_an_order_of_their_own_in_each_epoch(kind):
    """As in a fit that shuffles; `shuffle=False` keeps the data's own."""
    replay = replayed(kind(24))
    trained, _, _ = run_of(replay)
    epoch = replay.epoch
    first, second = flat(trained[:epoch]), flat(trained[epoch : 2 * epoch])
    assert first != sorted(first)
    assert second != sorted(second)
    assert first != second
    trained, held_out, _ = run_of(replayed({**kind(22), "shuffle": False}))
    assert flat(trained[:4]) == flat(trained[4:8]) == list(range(1, 17))
    assert held_out == [[17, 18, 19, 20]]


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_fit_shuffles_the_batches_of_a_pydataset(shuffle):
    """And a run so, too."""
    replay = replayed({**kinds.items(80), "shuffle": shuffle}, 32)
    trained, held_out, _ = run_of(replay, 32)
    firsts = [b[0] for b in trained]
    assert (firsts[:16] == sorted(firsts[:16])) != shuffle
    assert (firsts[:16] == firsts[16:]) != shuffle
    assert set(flat(held_out)).isdisjoint(flat(trained))


@all_kinds
@pytest.mark.parametrize("same", [True, False], ids=["same", "arrays"])
def test_validation_data_judge_in_place_of_kept_ones(kind, same):
    """Of any kind that can be put beside the training's, and bounded."""
    given = kind(2100)
    y = given.pop("y", None)
    data = given["x"] if y is None else (given["x"], y)
    training = kind(100) if same else arrays(100)
    data = FitData({**training, "validation_data": data})
    use_up(data, 30)
    replay = data.replay(RUN)
    _, held_out, _ = run_of(replay)
    dense = [*kinds.BATCHES, arrays, kinds.tensors, kinds.h5]
    if kind is kinds.ragged or not (same or kind in dense):
        assert max(flat(held_out)) <= 100
        return
    assert len(held_out) == replay.held_out == 60
    assert max(flat(held_out)) > 100
    assert run_of(data.replay(RUN))[1] == held_out
    if not same:
        assert len(set(flat(run_of(data.replay(25), 25)[0]))) == 100


def test_validation_data_are_no_part_of_an_epoch():
    """Which is as long as the data of the training."""
    given = {**kinds.items(400), "validation_data": kinds.Items(400)}
    replay = FitData(given).replay(60)
    assert (replay.epoch, replay.held_out, replay.again) == (100, 60, 0)


def test_validation_steps_and_batch_size_count():
    """Five batches are five batches, arrays or not."""
    for data in (kinds.columns(3000), kinds.Items(3000)):
        given = {**arrays(100), "validation_data": data}
        given["validation_batch_size"] = SIZE
        replay = replayed({**given, "validation_steps": 5})
        assert sorted(flat(run_of(replay)[1])) == list(range(1, 5 * SIZE + 1))


@pytest.mark.parametrize("generator", [False, True])
def test_of_long_validation_data_only_a_part_is_read(generator):
    """2,048 rows in batches of 4 are 512 batches, read once for all runs."""
    source = kinds.Items(9000)
    given = source.generator() if generator else source
    data = FitData({**arrays(100), "validation_data": given})
    assert run_of(data.replay(RUN)) == run_of(data.replay(RUN))
    assert source.taken == 512


def test_validation_data_may_be_few_or_without_weights():
    """For less than a batch some of the training data judge."""
    few = kinds.columns(SIZE - 1)
    replay = replayed({**arrays(100), "validation_data": few})
    assert run_of(replay) == run_of(replayed(arrays(100)))
    given = {**arrays(100), "sample_weight": np.full(100, 2.0)}
    replay = replayed({**given, "validation_data": kinds.columns(8)})
    assert sorted(flat(run_of(replay)[1])) == list(range(1, 9))


@pytest.mark.parametrize("split", [0.25, 0.5])
@of_kinds(arrays, kinds.pandas, kinds.h5, kinds.csr)
def test_the_split_is_that_of_fit(kind, split):
    """The last samples are held out, the first ones trained on."""
    data = FitData({**kind(40), "validation_split": split})
    trained, held_out, _ = run_of(data.replay(RUN))
    kept = round(40 * (1 - split))
    assert sorted(set(flat(trained))) == list(range(1, kept + 1))
    assert set(flat(held_out)).isdisjoint(flat(trained))
    assert data.batches == round(10 * (1 - split))


@pytest.mark.parametrize("split", [1.5, -0.1, 0.99, 0.5])
def test_an_impossible_split_is_refused(split):
    """It must be between 0 and 1, leave some on both sides, and have rows."""
    given = kinds.items(20) if split == 0.5 else arrays(20)
    with pytest.raises(ValueError, match="`validation_split` must go with"):
        FitData({**given, "validation_split": split})


@of_kinds(arrays, kinds.csr, kinds.tf_data, kinds.items)
def test_no_samples_are_an_error_at_once(kind):
    """Where the length is known without reading."""
    with pytest.raises(ValueError, match="`x` must have samples"):
        FitData(kind(0))


@all_kinds
def test_making_it_reads_nothing_and_changes_nothing(kind):
    """Not a batch, a random number, or the dictionary that it is given."""
    given = {**kind(100), "callbacks": [], "shuffle": False}
    before, state = dict(given), np.random.get_state()[1].tolist()
    data = FitData(given)
    assert list(map(id, given.values())) == list(map(id, before.values()))
    assert np.random.get_state()[1].tolist() == state
    assert getattr(given["x"], "taken", 0) == 0
    assert data.rest == {"callbacks": []}


def test_an_epoch_has_as_many_batches_as_in_fit():
    """As far as it is known."""
    steps = {"batch_size": None, "steps_per_epoch": 7}
    assert FitData(arrays(101)).batches == 26
    assert FitData({**arrays(101), "batch_size": None}).batches == 4
    assert FitData({**arrays(100), **steps}).batches == 7
    assert FitData({**kinds.items(101), **steps}).batches == 7
    assert FitData(kinds.items(101)).batches == 26
    assert FitData(kinds.items_endless(101)).batches is None
    assert FitData(kinds.generator(101)).batches is None


@pytest.mark.parametrize("times", [1, None])
def test_a_generator_gives_no_more_than_the_ramp_takes(times):
    """Neither ramp nor replay takes a batch beyond."""
    source = kinds.Items(100)
    replay = replayed({"x": source.generator(times)}, ramp=7)
    assert len(run_of(replay)[0]) == RUN
    assert source.taken == 7


def test_batches_are_kept_as_they_were():
    """Though a generator writes each into the arrays of the one before."""

    def generator(x, y):
        for y[:] in range(20):
            x[:] = y[:, None]
            yield x, y

    trained, _, _ = run_of(replayed({"x": generator(*kinds.columns(4))}))
    assert flat(trained[:5]) == np.repeat(range(5), 4).tolist()


def test_what_cannot_be_kept_says_why(monkeypatch):
    """In words that end a sentence."""
    monkeypatch.setattr(data_module, "MOST_BYTES", 100)
    for kind in (kinds.items, kinds.generator):
        with pytest.raises(UnreadableError, match="only 1 of its batches"):
            replayed(kind(100))
    with pytest.raises(UnreadableError, match="only `fit` can read"):
        replayed({"x": object()})


def test_of_a_long_run_as_much_is_kept_as_fits(monkeypatch):
    """It goes through that several times, and is not what a training is."""
    monkeypatch.setattr(data_module, "MOST_BYTES", 90 * 64)  # 64 a batch
    for data in (kinds.items(400 * SIZE), kinds.generator(400 * SIZE)):
        replay = replayed(data, steps=240, ramp=100)
        trained, held_out, _ = run_of(replay, 240)
        assert len({b[0] for b in trained + held_out}) == 90
        assert not replay.enough(240)
        assert replay.enough(60)
        assert replay.again


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_too_few_samples_have_none_held_out(rows):
    """They are all trained on, and the reason is given."""
    replay = replayed(arrays(rows))
    trained, held_out, _ = run_of(replay)
    assert held_out == []
    assert set(flat(trained)) == set(range(1, rows + 1))
    are = "sample is" if rows == 1 else "samples are"
    assert replay.why_not.startswith(f"{rows} {are} too few")


def test_batches_are_counted_in_updates():
    """Where gradients are accumulated, three batches make a step."""
    replay = replayed(arrays(100), steps=5, per_update=3)
    data = replay.fit_data(kinds.run_of(replay, 5))
    assert len(batches(data)) == 5 * 3 + replay.held_out
    assert replay.epoch == 20 // 3


def test_class_weights_are_weights_of_samples():
    """Those of arrays; a class without one counts once."""
    _, y = kinds.columns(100)
    for classes in (y % 3, keras.utils.to_categorical(y % 3)):
        given = {**arrays(100), "y": classes, "class_weight": {0: 0.5, 1: 3}}
        keeper, replay = Keeper(), replayed(given)
        keeper.fit(**replay.fit_data(kinds.run_of(replay, RUN)), verbose=0)
        for x, _, weight in keeper.kept:
            expected = np.array([0.5, 3, 1])[np.array(numbers(x)) % 3]
            assert (
                keras.ops.convert_to_numpy(weight).tolist() == expected.tolist()
            )


def test_lists_stay_lists_and_tables_tables():
    """A `fit` of the model's own takes strings, and Keras's does not."""
    x, y = [str(i) for i in range(100)], list(range(100))
    given = {"x": x, "y": y, "batch_size": SIZE}
    for more in ({}, {"validation_data": (["-1"] * 8, [-1] * 8)}):
        replay = FitData({**given, **more}).replay(RUN)
        data = replay.fit_data(kinds.run_of(replay, RUN))
        assert list(map(int, data["x"])) == data["y"]
        assert data["x"].count("-1") == 8 * bool(more)
    given, few = kinds.pandas(100), kinds.pandas(8)
    given["validation_data"] = few["x"], few["y"]
    replay = FitData(given, as_given=True).replay(RUN)
    data = replay.fit_data(kinds.run_of(replay, RUN))
    assert type(data["x"]) is type(given["x"])
    assert data["batch_size"] == SIZE


@all_kinds
@pytest.mark.parametrize("wrong", [None, np.nan, np.inf])
def test_nan_and_infinity_are_found(kind, wrong, monkeypatch):
    """By the name of the argument that has them, kept or read once more."""
    x, y = kinds.columns(40)
    x[7] = 8 if wrong is None else wrong
    monkeypatch.setattr(kinds, "columns", lambda rows: (x, y))
    data = FitData(kind(40))
    use_up(data, RUN)
    expected = {None: {}, np.inf: {"x": "infinity"}}.get(wrong, {"x": "NaN"})
    assert data.not_finite() == expected
    data.replay(RUN)
    assert data.not_finite() == expected
