"""After a range test, training goes on as if there had been none.

Of each kind of model, each way into a test and each end of one: all that the
model reaches is as it was, bit for bit, and the next fit is the one that it
would have been, down to the random numbers. Nothing is seeded in between.
"""

import functools
import gc
import itertools
import tracemalloc

import keras
import pytest
import tiny
from models import ALL
from models import KINDS
from models import classifier
from models import named
from tiny import WAYS
from tiny import changed
from tiny import contents
from tiny import decay
from tiny import draws
from tiny import find
from tiny import in_callback

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import snapshot


def normal(way, model):
    """To its end, in company that draws random numbers."""
    way(model, callbacks=[tiny.Draws()])


def exception(way, model):
    """By an exception of another callback."""
    with pytest.raises(RuntimeError, match="on purpose"):
        way(model, callbacks=[tiny.Raises(4)])


def ctrl_c(way, model):
    """By the user."""
    with pytest.raises(KeyboardInterrupt):
        way(
            model, callbacks=[tiny.Draws(), tiny.Raises(3, KeyboardInterrupt())]
        )


def refused(way, model):
    """By this package: what is monitored is not logged."""
    wrong = {"monitor": "losss"}
    if way is tiny.in_snapshot:
        wrong = {"verify": "yes"}
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        way(model, **wrong)


ENDS = {
    "normal": normal,
    "exception": exception,
    "ctrl-c": ctrl_c,
    "refused": refused,
}


def cases():
    """Each way and end for the plain models; of the others some."""
    kinds = {name: places for name, (_, places) in KINDS.items()}
    thorough = []
    for number, (kind, places) in enumerate(kinds.items()):
        for turn, (way, end) in enumerate(itertools.product(WAYS, ENDS)):
            marks = [] if places == ALL else [pytest.mark.backend(*places)]
            of_some = (turn - number) % 12 in (0, 5) or end == "normal"
            if kind not in ("plain", "fitted-schedule") and not of_some:
                marks.append(pytest.mark.thorough)
            thorough.append(pytest.param(way, kind, end, marks=marks))
    return thorough


def run(kind, before, draw=True):
    """All that a fit leaves after `before`, and what is drawn next."""
    tiny.start()
    model = KINDS[kind][0]()
    before(model)
    after = draws() if draw else None
    history = tiny.fit(model)
    names = keras.layers.Dense(1).name, keras.optimizers.Adam().name
    return tiny.state(model), history, after, draws(), names


@functools.cache
def plain_run(kind, draw=True):
    """The same without a range test."""
    return run(kind, lambda model: None, draw)


@pytest.mark.parametrize(("way", "kind", "end"), cases())
def test_training_goes_on_as_if_untested(way, kind, end):
    """State, History and random numbers, whatever the model, way and end."""

    def before(model):
        state = contents(model)
        variables = [*model.variables, *model.optimizer.variables]
        numbers = [tiny.host(v).tobytes() for v in variables]
        ENDS[end](WAYS[way], model)
        assert [tiny.host(v).tobytes() for v in variables] == numbers
        # A fit of the user's sets attributes, such as its History.
        assert way == "callback" or changed(state, contents(model)) == []

    if kind == "several" and not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("Keras has none")
    # A first fit draws before its callbacks can put anything back.
    draw = way != "callback"
    plain, tested = plain_run(kind, draw), run(kind, before, draw)
    assert tiny.differences(plain[0], tested[0]) == []
    assert tested[1:] == plain[1:]


@pytest.mark.parametrize("name", tiny.OPTIMIZERS)
def test_every_optimizer_trains_on_as_if_untested(name):
    """Its slots are those of one that has never trained."""

    def trained(before):
        tiny.start()
        model = tiny.compiled(None, named(name)())
        if name == "ScheduleFreeAdamW":
            # Built lazily, inside the first step, Keras's own starts from
            # other slots on TensorFlow than built before.
            model.optimizer.build(model.trainable_variables)
        before(model)
        return tiny.fit(model), tiny.state(model)

    (history, plain), (after, tested) = trained(lambda m: None), trained(find)
    assert tiny.differences(plain, tested) == []
    assert history == after


def twice(model):
    """Two range tests in a row."""
    find(model)
    in_callback(model)


def diverges(model):
    """A range test whose loss and weights end as NaN."""
    finder = find(model, start_lr=1.0, end_lr=1e38, stop_factor=2.0)
    reasons = (StopReason.DIVERGED, StopReason.NOT_FINITE)
    assert finder.curve.stop_reason in reasons


def probes(model):
    """Ramp and probes."""
    assert find(model, rows=200, probe=True, steps=20).runs


def killed_by_data(model):
    """A range test that an exception of the data ends."""

    def batches():
        x, y = tiny.data()
        for i in range(4):
            yield x[i : i + 4], y[i : i + 4]
        raise OSError("disk on fire")

    # TensorFlow makes an error of its own from it.
    with pytest.raises(Exception, match="disk on fire"):
        find(model, x=batches(), y=None, batch_size=None)


def forgotten(model):
    """A finder whose fit was cut off; its next one has to tidy up."""
    finder = LRFinder(stop_factor=None, verbose=0)
    killed = [finder, tiny.Raises(4, KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        tiny.fit(model, callbacks=killed)
    with pytest.warns(UserWarning, match="interrupted"):
        tiny.fit(model, callbacks=[finder])


def kills(model):
    """Killed at every step in turn."""
    for step in range(tiny.STEPS):
        with pytest.raises(RuntimeError, match="on purpose"):
            find(model, callbacks=[tiny.Raises(step)])


@pytest.mark.parametrize("kind", ["plain", "fitted-schedule"])
@pytest.mark.parametrize(
    "before", [twice, diverges, probes, killed_by_data, forgotten, kills]
)
def test_other_ends_leave_no_trace_either(before, kind):
    """Nothing adds up, and nothing is left, however the range test ends."""
    plain, tested = plain_run(kind, False), run(kind, before, False)
    assert tiny.differences(plain[0], tested[0]) == []
    assert tested[1:] == plain[1:]


HOOKS = ["on_train_begin", "on_epoch_begin", "on_train_batch_begin"]
HOOKS += ["on_train_batch_end", "on_epoch_end", "on_train_end"]


@functools.cache
def shared():
    """One trained model for all that must not change it."""
    return KINDS["fitted-schedule"][0]()


@pytest.mark.parametrize("way", [find, in_callback])
def test_model_comes_back_whichever_hook_is_killed(way):
    """An exception in any hook of another callback leaves no trace."""
    model = shared()
    state = contents(model)

    def fail(*args, **kwargs):
        raise RuntimeError("killed on purpose")

    for hook in HOOKS:
        kills = keras.callbacks.LambdaCallback(**{hook: fail})
        with pytest.raises(RuntimeError, match="on purpose"):
            way(model, callbacks=[kills])
        found = changed(state, contents(model))
        # What a fit of the user's sets by itself.
        of_fit = (".history", "_torch_params")
        assert [
            path for path in found if not any(n in path for n in of_fit)
        ] == [], hook


# Refused, with nothing changed.

REFUSED = [
    ({"start_lr": 0.0}, "`start_lr` must"),
    ({"start_lr": 1.0, "end_lr": 0.1}, "must be below `end_lr`"),
    ({"steps": 1}, "`steps` must"),
    ({"ramp": "cosine"}, "`ramp` must"),
    ({"stop_factor": 1.0}, "`stop_factor` must"),
    ({"rule": "best"}, "`rule` must"),
    ({"optimizer": "adam"}, "`optimizer` must"),
    ({"optimizer": 0.1}, "`optimizer` must"),
    ({"optimizer": []}, "`optimizer` must name at least one"),
    ({"monitor": "losss"}, "`monitor` must"),
    ({"batchsize": 4}, "batchsize"),
    ({"max_lr": 1.0}, "max_lr"),
    ({"x": None}, "`x` must be the data"),
    ({"probe": "no"}, "`probe` must be True or False"),
    ({"restore": "x"}, "`restore` must be True or False"),
    ({"verbose": "2"}, "`verbose` must be True or False"),
    ({"plot_dir": 3}, "`plot_dir` must be the path"),
    ({"callbacks": [3]}, "`callbacks` must be Keras callbacks"),
    ({"validation": 3}, "`validation` must"),
    ({"validation": ([1.0],)}, "Received: a tuple of 1"),
]


@pytest.mark.parametrize(("wrong", "words"), REFUSED)
def test_bad_argument_is_refused_and_changes_nothing(wrong, words):
    """A clear error names it; model and generators are what they were."""
    model = shared()
    tiny.start()
    expected = draws()
    tiny.start()
    state = contents(model)
    with pytest.raises((TypeError, ValueError), match=words):
        find(model, **wrong)
    assert changed(state, contents(model)) == []
    assert draws() == expected


@pytest.mark.parametrize("way", [find, in_callback])
def test_model_without_anything_to_train_is_refused(way):
    """At once, and in these words."""
    model = tiny.compiled()
    for layer in model.layers:
        layer.trainable = False
    losses = tiny.Losses()
    with pytest.raises(ValueError, match="must have trainable weights"):
        way(tiny.compiled(model), callbacks=[losses])
    assert losses.values == []


# Kept on purpose.


@pytest.mark.parametrize("end", [normal, exception])
@pytest.mark.parametrize("rate", [0.01, decay])
@pytest.mark.parametrize("way", [find, in_callback])
def test_restore_false_keeps_the_weights_alone(rate, way, end):
    """The trained weights stay; the own learning rate comes back."""
    model = tiny.compiled(None, named("Adam", rate)())
    weights, held = tiny.host(model.weights[0]), model.optimizer._learning_rate
    number = None if rate is decay else tiny.host(held)
    end(functools.partial(way, restore=False), model)
    assert (tiny.host(model.weights[0]) != weights).any()
    assert model.optimizer._learning_rate is held
    assert number is None or tiny.host(held) == number
    assert not {"fit", "evaluate", "save"} & set(vars(model))


# Memory.


class Memory(keras.callbacks.Callback):
    """What Python and NumPy have allocated at the end of the last batch."""

    def on_train_batch_end(self, batch, logs=None):
        self.traced = tracemalloc.get_traced_memory()[0]


@pytest.fixture
def wide():
    """Makes a trained model of a few megabytes; says how many bytes it has.

    What Python and NumPy allocate from then on is counted.
    """

    def make():
        tracemalloc.stop()  # a trace would take seconds
        dense = keras.layers.Dense
        model = classifier(dense(600), dense(600), optimizer="adam")
        tiny.fit(model, epochs=1)
        tracemalloc.start()
        return model, sum(v.nbytes for v in tiny.state(model).values())

    yield make
    tracemalloc.stop()


@pytest.mark.parametrize("way", WAYS)
def test_copy_is_of_one_size_with_the_model(way, wide):
    """No more than one times model and optimizer."""
    memory, used = Memory(), []
    # What else allocates in a long process is no copy: the lower of two.
    for _ in range(2):
        model, size = wide()
        WAYS[way](model, callbacks=[memory])
        used.append(memory.traced / size)
    assert min(used) < 1.3


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", WAYS)
def test_no_copy_of_the_state_remains(way, end, wide):
    """Whatever the end: nothing adds up."""
    model, size = wide()
    for _ in range(3):
        ENDS[end](WAYS[way], model)
    gc.collect()
    # TensorFlow and JAX take what is assigned for a variable's new memory where
    # its address suits them; then it is the model's. Three copies would be 3.
    most = 0.2 if keras.backend.backend() == "torch" else 1.6
    assert tracemalloc.get_traced_memory()[0] < most * size


def test_empty_slots_need_no_memory(wide):
    """A fresh optimizer's slots are held as one number each."""
    model, _ = wide()
    model = tiny.compiled(model, "adam")
    model.optimizer.build(model.trainable_variables)
    base = tracemalloc.get_traced_memory()[0]
    with snapshot(model):
        held = tracemalloc.get_traced_memory()[0] - base
    assert held < 1.2 * sum(w.nbytes for w in model.get_weights())
