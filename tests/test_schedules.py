"""One-cycle and triangular learning rates: formula, fits, saved models."""

import doctest
import json
import math
import re

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder.analysis.runs import SHARES
from keras_lrfinder.schedules import SCHEDULES
from keras_lrfinder.schedules import Cosine
from keras_lrfinder.schedules import OneCycle
from keras_lrfinder.schedules import Triangular
from keras_lrfinder.schedules import one_cycle
from keras_lrfinder.schedules import triangular

# Float32 carries 6e-8; the worst case met on any backend is 3e-7.
RTOL = 1e-6


def one_cycle_lr(step, total, top, tail, lrs, anneal):
    """The definition, in float64 and with the textbook cosine."""
    initial, peak, final = lrs
    last = total - 1
    step = min(max(step, 0), last)
    if step <= top:
        start, end, a, b = 0, top, initial, peak
    elif step <= last - tail:
        start, end, a, b = top, last - tail, peak, initial if tail else final
    else:
        start, end, a, b = last - tail, last, initial, final
    if start == end:
        return b
    progress = (step - start) / (end - start)
    if anneal == "cosine":
        return b + (a - b) * (1 + math.cos(math.pi * progress)) / 2
    return a + (b - a) * progress


def triangular_lr(step, base, peak, size):
    """Smith's formula with cycles counted from 1, in float64."""
    cycle = math.floor(1 + step / (2 * size))
    x = abs(step / size - 2 * cycle + 1)
    return base + (peak - base) * max(0, 1 - x)


def lrs_of(schedule, steps):
    """The schedule's values, as the optimizer asks: with a variable."""
    count = keras.Variable(0, dtype="int32", trainable=False)
    lrs = []
    for step in steps:
        count.assign(step)
        lrs.append(float(schedule(count)))
    return lrs


class Weights(keras.callbacks.Callback):
    """The weight, zero at first, after every batch, in float64."""

    values = (0.0,)

    def on_train_batch_end(self, batch, logs=None):
        weight = float(self.model.get_weights()[0][0, 0])
        self.values = (*self.values, weight)


def lrs_used(model, batches):
    """Trains one sample a batch; returns the LR that each step moved by."""
    weights = Weights()
    data = tiny.ones(batches)
    model.fit(*data, batch_size=1, verbose=0, callbacks=[weights])
    return -np.diff(weights.values)


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize(
    ("total", "warmup", "final", "top", "tail"),
    [
        (21, 0.3, 0.0, 6, 0),
        (21, 0.45, 0.1, 9, 2),
        (12, 0.0, 0.0, 0, 0),
        (7, 0.0, 0.5, 0, 3),
        (2, 0.3, 0.0, 0, 0),
        (3, 0.5, 0.0, 1, 0),
        (2, 0.1, 0.8, 0, 0),
    ],
)
def test_one_cycle_is_its_formula(total, warmup, final, top, tail, anneal):
    """Every step, five past the end and one before 0 are the definition's."""
    parts = {"warmup_fraction": warmup, "final_fraction": final}
    parts |= {"initial_lr": 0.01, "final_lr": 1e-7, "anneal": anneal}
    schedule = OneCycle(0.3, total, **parts)
    steps = range(-1, total + 5)
    expected = [
        one_cycle_lr(step, total, top, tail, (0.01, 0.3, 1e-7), anneal)
        for step in steps
    ]

    np.testing.assert_allclose(lrs_of(schedule, steps), expected, rtol=RTOL)


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_one_cycle_meets_its_knots(anneal):
    """First, peak, last LR and any later one are the arguments in float32."""
    schedule = OneCycle(0.3, 101, initial_lr=0.07, final_lr=3e-9, anneal=anneal)
    expected = np.float32([0.07, 0.3, 3e-9, 3e-9, 3e-9])
    lrs = lrs_of(schedule, [0, 30, 100, 101, 10**9])
    np.testing.assert_array_max_ulp(np.float32(lrs), expected, maxulp=1)


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
@pytest.mark.parametrize("total", [20_000_001, 2**30 - 1])
def test_one_cycle_counts_beyond_float32(total, anneal):
    """The last steps of a training of millions of steps are still exact."""
    schedule = OneCycle(0.3, total, final_lr=0.0, anneal=anneal)
    top = round(0.3 * (total - 1))
    steps = [top - 1, top, total - 4, total - 3, total - 2, total - 1]
    left = [(total - 1 - step) / (total - 1 - top) for step in steps[2:]]
    if anneal == "cosine":
        left = [math.sin(math.pi / 2 * part) ** 2 for part in left]
    expected = [0.3, 0.3] + [0.3 * part for part in left]
    np.testing.assert_allclose(lrs_of(schedule, steps), expected, rtol=RTOL)


@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_one_cycle_rises_exactly_from_zero(anneal):
    """The first steps of a long warm-up from 0 are exact, relatively."""
    ends = {"initial_lr": 0.0, "final_lr": 0.0}
    schedule = OneCycle(0.3, 1_000_001, **ends, anneal=anneal)
    done = np.array([1, 2, 3]) / 300_000
    if anneal == "cosine":
        done = np.sin(np.pi / 2 * done) ** 2
    np.testing.assert_allclose(
        lrs_of(schedule, [1, 2, 3]), 0.3 * done, rtol=RTOL
    )


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("base", [0.0, 0.001])
def test_triangular_is_its_formula(size, base):
    """Four cycles and more are Smith's formula."""
    steps = range(9 * size)
    expected = [triangular_lr(n, base, 0.006, size) for n in steps]
    lrs = lrs_of(Triangular(base, 0.006, size), steps)
    np.testing.assert_allclose(lrs, expected, rtol=RTOL, atol=1e-12)


@pytest.mark.parametrize("begin", [0, 7, 20_000_001])
@pytest.mark.parametrize("total", [1, 2, 3, 10, 101])
@pytest.mark.parametrize("name", SCHEDULES)
def test_what_is_tried_is_what_is_trained(name, total, begin):
    """From any step on it is the path of the runs, and then stays."""
    schedule = SCHEDULES[name](0.3, total, begin)
    path = 0.3 * SHARES[name](total)
    steps = range(begin, begin + total + 3)
    expected = np.append(path, [path[-1]] * 3)
    np.testing.assert_allclose(lrs_of(schedule, steps), expected, rtol=RTOL)


def test_before_it_begins_a_schedule_has_its_first_value():
    """An optimizer that is set back does not leave the path."""
    for make in SCHEDULES.values():
        schedule = make(0.3, 40, 100)
        assert lrs_of(schedule, [3]) == lrs_of(schedule, [100])


def test_triangular_counts_beyond_float32():
    """Neighbouring steps past 2**24 have the LRs of their cycle's place."""
    start = 8 * 10_000_000
    lrs = lrs_of(Triangular(0.0, 1.0, 4), range(start, start + 8))
    expected = [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]
    np.testing.assert_allclose(lrs, expected, rtol=RTOL)


@pytest.mark.parametrize("step", [7, 7.0, np.int64(7)])
def test_any_number_is_a_step(step):
    """Python and numpy numbers give what the optimizer's variable gives."""
    schedule = OneCycle(0.3, 21)
    assert float(schedule(step)) == lrs_of(schedule, [7])[0]


@pytest.mark.parametrize("floatx", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize(
    "schedule",
    [OneCycle(0.3, 10_001), Cosine(0.3, 10_001), Triangular(0.0, 0.3, 5000)],
    ids=["one_cycle", "cosine", "triangular"],
)
def test_floatx_costs_no_accuracy(schedule, floatx):
    """Steps are counted exactly where Keras computes in half precision."""
    expected = lrs_of(schedule, [2999])
    keras.config.set_floatx(floatx)
    try:
        lrs = lrs_of(schedule, [2999])
    finally:
        keras.config.set_floatx("float32")
    np.testing.assert_allclose(lrs, expected, rtol=RTOL)


EXAMPLES = {
    "one_cycle": OneCycle(0.3, 8, initial_lr=0.02, final_lr=0.001, begin=1),
    "three_phases": OneCycle(
        0.3, 8, warmup_fraction=0.4, final_fraction=0.2, anneal="linear"
    ),
    "cosine": Cosine(0.3, 8, begin=2),
    "triangular": Triangular(0.01, 0.3, 2, total_steps=8),
}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"run_eagerly": True}, id="eager"),
        pytest.param({"jit_compile": False}, id="graph"),
        # torch.compile: right as well, but half a minute for each model.
        pytest.param(
            {"jit_compile": True},
            id="jit",
            marks=pytest.mark.backend("tensorflow", "jax"),
        ),
    ],
)
@pytest.mark.parametrize("name", EXAMPLES)
def test_each_step_trains_with_its_lr(name, how):
    """Eager, traced or jitted, SGD moves by the LR, also past the end."""
    schedule = EXAMPLES[name]
    model = tiny.unit_gradient_model(schedule, **how)
    used = lrs_used(model, 10)
    np.testing.assert_allclose(used, lrs_of(schedule, range(10)), atol=3e-7)


@pytest.mark.parametrize("name", EXAMPLES)
def test_config_is_json_and_makes_the_same_schedule(name):
    """Keras finds the class by its registered name, without custom_objects."""
    schedule = EXAMPLES[name]
    saved = json.dumps(keras.optimizers.schedules.serialize(schedule))
    again = keras.optimizers.schedules.deserialize(json.loads(saved))
    assert json.loads(saved)["registered_name"].startswith("keras_lrfinder>")
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()


GIVEN = {
    OneCycle: {"max_lr": 1, "total_steps": 9},
    Triangular: {"base_lr": 0, "max_lr": 1, "step_size": 5},
    Cosine: {"max_lr": 1, "total_steps": 5},
}


@pytest.mark.parametrize(
    ("kind", "wrong", "message"),
    [
        (OneCycle, {"max_lr": -1}, "`max_lr` must be positive. Received: max"),
        (OneCycle, {"max_lr": math.inf}, "`max_lr` must be finite."),
        (OneCycle, {"total_steps": 1}, "`total_steps` must be between 2 and"),
        (OneCycle, {"total_steps": 2**40}, "`total_steps` must be between 2"),
        (
            OneCycle,
            {"initial_lr": 2},
            "`initial_lr` must be between 0 and `max_lr`. Received: "
            "initial_lr=2, max_lr=1.0",
        ),
        (OneCycle, {"final_lr": -1}, "`final_lr` must be between"),
        (
            OneCycle,
            {"warmup_fraction": 1},
            "`warmup_fraction` must be at least 0 and below 1.",
        ),
        (
            OneCycle,
            {"warmup_fraction": 0.6, "final_fraction": 0.4},
            "their sum must be below 1. Received: warmup_fraction=0.6",
        ),
        (OneCycle, {"anneal": "cos"}, "`anneal` must be one of 'cosine', 'lin"),
        (Triangular, {"max_lr": 0}, "`max_lr` must be positive."),
        (
            Triangular,
            {"base_lr": 1},
            "`base_lr` must be at least 0 and below `max_lr`. Received: "
            "base_lr=1, max_lr=1",
        ),
        (Triangular, {"step_size": 0}, "`step_size` must be between 1 and"),
        (Triangular, {"total_steps": 0}, "`total_steps` must be"),
        (Cosine, {"max_lr": 0}, "`max_lr` must be positive."),
        (Cosine, {"begin": -1}, "`begin` must be between 0 and"),
    ],
)
def test_what_is_out_of_range_is_refused(kind, wrong, message):
    """The error names the argument, what must hold, and what came."""
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(**GIVEN[kind] | wrong)


@pytest.mark.parametrize("module", [one_cycle, triangular])
def test_docstring_examples_run(module):
    """The examples in the modules print what they say."""
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0
