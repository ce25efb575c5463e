"""The benchmark of suggestions, on what is stored: its fit, figures, words."""

import functools
import json
import re

import keras
import numpy as np
import pytest

from benchmarks.quality import cells as stored
from benchmarks.quality import score
from benchmarks.quality import simulate
from benchmarks.quality.cells import TARGETS
from benchmarks.quality.cells import WHOLE
from benchmarks.quality.peers import PEERS
from benchmarks.quality.tasks import KERAS
from benchmarks.quality.tasks import SEEN
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.tasks import UNSEEN
from keras_lrfinder.analysis import posterior as package

# The fit is written in JAX, and what is stored needs no backend.
pytestmark = pytest.mark.backend("jax")
BASE = TARGETS[0]
RECORDED = [name for name in stored.OPTIMIZERS if name != "momentum"]
README = stored.RESULTS.with_name("README.md")


@functools.cache
def seen():
    """The cells that are fitted on, and can be learnt."""
    return [c for c in stored.load([SEEN]) if c.can_learn]


@functools.cache
def some(every=40):
    """A few of all."""
    everything = stored.load([SEEN, KERAS, UNSEEN])
    return [c for c in everything if c.can_learn][::every]


def test_every_file_is_a_cell_of_a_task():
    """Names are registered, grids have four LRs per decade, in 8 MB."""
    assert {c.task.name for c in seen()} <= set(TASKS)
    assert len({c.task.family for c in seen()}) >= 19
    files = stored.RESULTS.glob("*.npz")
    assert sum(f.stat().st_size for f in files) <= 8e6
    for cell in some():
        assert np.allclose(np.diff(cell.x), 0.25)
        assert BASE in cell.targets


def test_excess_is_nothing_at_the_best_and_all_far_away():
    """Both ends of the scale, and what lies between grid points."""
    for cell in some():
        best, all_ = 10.0 ** cell.best(BASE), cell.excesses(BASE)
        assert cell.excess(best, BASE) == cell.regret(best, BASE) == 0
        assert cell.excess(1e-12, BASE) == cell.excess(1e6, BASE) == all_[-1]
        middle = 10.0 ** (cell.x[3:5].mean())
        assert cell.excess(middle, BASE) == pytest.approx(all_[3:5].mean())


def test_lost_runs_count_as_not_trained():
    """Infinite and worse than at the start are the loss at the start."""
    cell = some()[0]
    arrays = dict(cell.arrays, test=cell.arrays["test"].copy())
    arrays["test"][:, 0, 0], arrays["test"][:, 0, 1] = np.inf, 1e30
    broken = stored.Cell(cell.task, cell.optimizer, arrays)
    assert np.allclose(broken.row(BASE)[:2], arrays["test_before"].mean())


def test_runs_are_read_where_they_were_recorded():
    """The package's own search gets what the nearest recorded run gave."""
    cell = next(c for c in seen() if c.name == "mlp_digits@32-adam")
    target = ("one_cycle", 500)
    runs, said = simulate.searched(cell, 0, target, trainings=3)
    assert (said.schedule, said.total_steps) == target
    assert sum(r.steps == 60 for r in runs) == 3
    for run in runs[3:]:
        place = np.flatnonzero(np.isclose(cell.x, np.log10(run.lr)))
        which = stored.RUNS.index(target)
        held = cell.arrays["held"][0, which, place]
        assert run.held_out_loss == pytest.approx(float(held[0]))


def test_each_family_is_left_out_once():
    """With constants of the same shape, most of them others."""

    def shape(node):
        return isinstance(node, dict) and {k: shape(node[k]) for k in node}

    without = json.loads(simulate.LEFT_OUT.read_text("utf-8"))
    assert {c.task.family for c in seen()} <= set(without)
    for each in without.values():
        assert shape(each) == shape(package.CONSTANTS)
    others = [each != package.CONSTANTS for each in without.values()]
    assert np.mean(others) > 0.8


def test_formula_of_the_fit_is_that_of_the_package():
    """Answers by JAX are the package's own, to 1e-9."""
    from benchmarks.quality import fit

    known = dict(package.CONSTANTS)
    p = fit.parameters(known)
    cells = {c.name: c for c in some(150)}
    short, long = fit.gathered(list(cells.values()), known, [BASE, WHOLE[3]])
    for stage, rows in enumerate((short, short, long)):
        row = fit.arrays(fit.stack(rows))
        found, _ = fit.answer(p, row, stage, package.GRID)
        for x, test in zip(found, rows):
            asked = cells[test["cell"]], test["seed"], test["asked"]
            runs = {"probes": 3 * (stage > 0), "trainings": test["most"]}
            told = simulate.searched(*asked, **runs)[1].lr
            if told is not None:
                assert float(x) == pytest.approx(np.log10(told), abs=1e-9)


def test_constants_are_what_the_fit_writes():
    """As rounded, and where the objective is low."""
    from benchmarks.quality import fit

    known = dict(package.CONSTANTS)
    p = fit.parameters(known)
    again = fit.constants(p, (known["spread"], known["least_spread"]))
    assert again == known
    # On a fifth of the tests: a third of a decade off is worse, either way.
    short, _ = fit.gathered(seen()[::5], known, [BASE, WHOLE[3]])
    data = fit.data_of([(fit.stack(short), 1.0)])
    here = float(fit.objective(p, data))
    for by in (-0.33, 0.33):
        off = p | {"offset": p["offset"] + by}
        assert float(fit.objective(off, data)) > here


@pytest.mark.parametrize("name", ["**ramp**", "fastai valley"])
def test_readme_says_what_score_prints(name):
    """A row of the table, from the recordings."""
    results = []
    for target in TARGETS:
        for who in score.contenders(target, False):
            if who.name == name:
                results += score.measured(seen(), who.ask, [target])
                found = who
    text = README.read_text("utf-8")
    first = text.index(f"| {name} |")
    assert text[first:].splitlines()[0] == score.line(found, results)


def test_telling_the_length_ends_no_worse():
    """Of more steps, and where an epoch has few: see the README."""
    table = list(score.told_or_not(seen()[::5]))[1:]
    for row in table:
        told, untold = (float(v) for v in re.findall(r"x(\d\.\d+)", row))
        assert told <= untold


def test_peers_answer_on_a_bowl():
    """Every rule finds something on a perfect curve, and survives NaN."""
    lrs = np.geomspace(1e-7, 10, 200)
    losses = 1 + (np.log10(lrs) + 2) ** 2 / 10
    for rule in PEERS.values():
        assert 1e-8 <= rule(lrs, losses) <= 10
        broken = np.append(losses[:1], np.full(199, np.nan))
        assert (rule(lrs, broken) or 1.0) > 0
    assert PEERS["raw minimum / 10"](lrs, losses) == pytest.approx(1e-3, 0.1)


def keras_optimizer(name, **more):
    """Keras's own optimizer of that name, or a skip where there is none."""
    kind, arguments, _ = stored.OPTIMIZERS[name]
    made = getattr(keras.optimizers, kind, None)
    if made is None:
        pytest.skip(f"this Keras has no {kind}")
    return made(**arguments, **more)


@pytest.mark.parametrize("name", RECORDED)
def test_optimizer_ends_with_the_weights_of_keras(name):
    """Twenty steps of the same gradients end where Keras's own end."""
    import jax

    from benchmarks.quality import optimizers

    rng = np.random.default_rng(0)

    def drawn():
        # All that Muon treats unlike.
        shapes = {"embedding": (6, 4), "kernel": (12, 5), "bias": (5,)}
        return {
            n: rng.normal(size=s).astype("float32") for n, s in shapes.items()
        }

    params = drawn()
    variables = [keras.Variable(v, name=n) for n, v in params.items()]
    theirs = keras_optimizer(name, learning_rate=0.03)
    ours = optimizers.OPTIMIZERS[name]
    slots, update = ours.init(params), jax.jit(ours.update)
    for step in range(20):
        grads = drawn()
        theirs.apply(list(grads.values()), variables)
        params, slots = update(params, grads, slots, step, 0.03)
    for variable in variables:
        expected = keras.ops.convert_to_numpy(variable)
        size = np.abs(expected).max()
        found = params[variable.name]
        np.testing.assert_allclose(found, expected, atol=1e-4 * size)


@pytest.mark.parametrize("name", stored.OPTIMIZERS)
def test_default_learning_rate_is_that_of_keras(name):
    """What a refusal is charged is Keras's default."""
    rate = keras_optimizer(name).learning_rate
    expected = float(keras.ops.convert_to_numpy(rate))
    assert stored.OPTIMIZERS[name][2] == pytest.approx(expected)
