"""The posterior against its formula, written out; and its file of constants."""

import copy
import json
import math
import pathlib
import re

import numpy as np
import pytest
from landscape import START
from landscape import ramp
from landscape import trainer

import keras_lrfinder
from keras_lrfinder import Plan
from keras_lrfinder import search
from keras_lrfinder import suggest
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.posterior import CONSTANTS

PACKAGE = pathlib.Path(keras_lrfinder.__file__).parent


def numbers(value):
    """Every number in nested dictionaries."""
    if isinstance(value, dict):
        return [n for each in value.values() for n in numbers(each)]
    return [value]


def test_constants_are_few_and_in_one_file():
    """At most thirty; of those with three decimals none stands in the code."""
    found = numbers(json.loads((PACKAGE / "constants.json").read_text()))
    assert all(isinstance(n, (int, float)) for n in found)
    assert len(found) <= 30
    text = "".join(p.read_text("utf-8") for p in PACKAGE.rglob("*.py"))
    written = {float(n) for n in re.findall(r"\d+\.\d+", text)}
    fitted = {abs(n) for n in found}
    assert not {n for n in fitted & written if round(n, 2) != n}


def moved(kind, few, schedule, steps):
    """Decades from 500 constant steps to a training."""
    c = CONSTANTS
    steps = min(max(steps, 60), 8000)
    length = steps
    if steps < 1000:
        length = 1000 * (steps / 1000) ** max(0, 1 - few)
    if length <= 500:
        slope = c["shorter"][kind]
    elif schedule == "constant":
        slope = c["constant"][kind]
    else:
        slope = c["scheduled"]
    more = max(0, math.log10(length / 1000))
    return (
        c["height"].get(schedule, 0)
        + slope * math.log10(length / 500)
        - c["few_length"] * few * more
    )


def literal(curve, kind, schedule, steps, probes=(), whole=()):
    """The answer of the formula: mean, and both ends of the range.

    `kind` is Adam's or plain SGD's; `probes` and `whole` are pairs of log10(LR)
    and held-out loss.
    """
    c, seen = CONSTANTS, landmarks(curve)
    few = max(0, 2 - math.log10(curve.steps_per_epoch))
    name = "adam" if kind == "adaptive" else kind
    rough = seen.roughness * c["rough"].get(kind, 0)
    mean = c["offset"][name] + c["edge"][kind] * seen.edge - c["few"] * few
    mean = min(mean - rough, seen.edge - c["margin"][kind])
    by = moved(kind, few, schedule, steps)
    mean += by
    by -= moved(kind, 0, "constant", 60)
    grid = [0.06 * i for i in range(-50, 51)]

    def lost(runs, x):
        at, held = zip(*sorted(runs))
        above = [min(math.log(h / min(held)), 1.0) for h in held]
        return float(np.interp(x, at, above))

    def short(i):
        fall = math.log(START / min(h for _, h in probes))
        told = lost(probes, mean + grid[i] - by)
        return math.exp(-c["weight"] * told / math.sqrt(fall))

    def blurred(i):
        near = [math.exp(-0.5 * ((grid[i] - g) / c["tau"]) ** 2) for g in grid]
        return sum(short(j) * n for j, n in enumerate(near)) / sum(near)

    p = []
    for i, g in enumerate(grid):
        each = math.exp(-0.5 * (g / c["sigma"][kind]) ** 2)
        if probes:
            each *= blurred(i)
        if whole:
            each *= math.exp(-c["weight"] * lost(whole, mean + g))
        p.append(each)
    total = sum(p)
    answer = sum(w * (mean + g) for w, g in zip(p, grid)) / total
    spread = sum(w * (mean + g - answer) ** 2 for w, g in zip(p, grid)) / total
    wide = 2 * math.hypot(c["least_spread"], c["spread"] * math.sqrt(spread))
    return answer, answer - wide, answer + wide


TRAININGS = [
    ("constant", 500),
    ("constant", 2000),
    ("cosine", 300),
    ("one_cycle", 8000),
    ("triangular", 20_000),
]


def of(found):
    """log10 of the three numbers of a suggestion."""
    return np.log10([found.lr, found.low, found.high])


@pytest.mark.parametrize(("schedule", "steps"), TRAININGS)
@pytest.mark.parametrize("epoch", [500, 25])
@pytest.mark.parametrize("kind", ["sgd", "adaptive"])
def test_a_ramp_alone_is_the_prior(kind, epoch, schedule, steps):
    """As the formula has it, for every training."""
    optimizer = "sgd" if kind == "sgd" else "adam"
    curve = ramp(noise=0.03, optimizer=optimizer, steps_per_epoch=epoch)
    found = suggest(curve, schedule=schedule, total_steps=steps)
    expected = literal(curve, kind, schedule, steps)
    np.testing.assert_allclose(of(found), expected, atol=1e-9)


@pytest.mark.parametrize(("schedule", "steps"), TRAININGS[:3])
@pytest.mark.parametrize("trainings", [0, 3])
@pytest.mark.parametrize("kind", ["sgd", "adaptive"])
def test_runs_are_evidence_by_the_formula(kind, trainings, schedule, steps):
    """Probes, and whole trainings; what is memorised moves nothing."""
    optimizer = "sgd" if kind == "sgd" else "adam"
    curve = ramp(noise=0.03, optimizer=optimizer, steps_per_epoch=50)
    plan = Plan(schedule, steps, 3, trainings, held_out=4, again=2)
    train = trainer(-2.0, memorised=0.25)
    runs, found = search(curve, train, plan)
    ends = [(math.log10(r.lr), r.held_out_loss) for r in runs]
    expected = literal(curve, kind, schedule, steps, ends[:3], ends[3:])
    np.testing.assert_allclose(of(found), expected, atol=1e-9)


@pytest.mark.parametrize("name", ["adam", "adagrad", "nadam"])
def test_an_optimizer_may_have_constants_of_its_own(name):
    """They are handed in; what has none takes those of its next of kin."""
    other, nothing = copy.deepcopy(CONSTANTS), Plan(probes=0)
    other["offset"][name] = other["offset"]["adam"] - 0.3
    curve = ramp(optimizer=name)
    _, kin = search(curve, trainer(), nothing)
    _, own = search(curve, trainer(), nothing, constants=other)
    assert kin.lr == search(ramp(), trainer(), nothing)[1].lr
    assert own.lr / kin.lr == pytest.approx(10**-0.3)


def test_momentum_is_interpolated():
    """Half of momentum's lengthening of a step has half of the change."""
    lrs = []
    for momentum in (0.0, 1 - 10**-0.5, 0.9):
        curve = ramp(optimizer="sgd", hyperparameters={"momentum": momentum})
        # Without the distance from the edge, which may be what counts.
        free = CONSTANTS | {"margin": {}}
        plan = Plan(total_steps=500, probes=0)
        lrs.append(search(curve, trainer(), plan, constants=free)[1].lr)
    none, half, full = np.log10(lrs)
    assert none - full > 0.5
    assert half == pytest.approx((none + full) / 2)
