"""A small version of the benchmark of suggestions, on its stored results."""

import dataclasses
import importlib.util

import numpy as np
import pytest

from benchmarks.quality import cells as stored
from benchmarks.quality.contenders import baselines
from benchmarks.quality.contenders import peers
from benchmarks.quality.honesty import report
from benchmarks.quality.ours import by_probes
from benchmarks.quality.ours import by_ramp
from benchmarks.quality.ours import left_out
from benchmarks.quality.ours import shipped
from benchmarks.quality.peers import PEERS
from benchmarks.quality.peers import corrected
from benchmarks.quality.peers import seeded
from benchmarks.quality.picture import draw
from benchmarks.quality.tally import interval
from benchmarks.quality.tally import learnable
from benchmarks.quality.tally import markdown
from benchmarks.quality.tally import row

TASKS = ("breast_cancer", "digits_mlp", "diabetes", "text_bag")
RAMP = 1


@pytest.fixture(scope="module")
def everything():
    return [c for c in stored.load() if c.family != stored.LATER]


@pytest.fixture(scope="module")
def later():
    return [c for c in stored.load() if c.family == stored.LATER]


@pytest.fixture(scope="module")
def some(everything):
    chosen = ("sgd", "momentum", "adam")
    return [c for c in everything if c.task in TASKS and c.optimizer in chosen]


def test_enough_was_measured(everything):
    """Tasks, optimizers, LRs per decade and seeds that were promised."""
    by_task = {c.task: c.family for c in everything}
    assert len(by_task) >= 10
    assert len(set(by_task.values())) >= 10
    assert {"sgd", "momentum", "adam", "lion"} <= {
        c.optimizer for c in everything
    }
    for cell in everything:
        assert np.allclose(np.diff(np.log10(cell.grid)), 0.25)
        assert len(cell.oracle_held) >= 2
        assert cell.seeds >= 3


def test_regret_is_zero_at_the_oracle_and_one_far_away(some):
    """The two ends of the scale, and what lies between grid points."""
    for cell in some:
        assert cell.regret(cell.best_lr()) == 0
        assert cell.regret(1e-12) == cell.regret(1e3) == 1
        left, right = cell.grid[10:12]
        pair = cell.regrets()[10:12]
        between = cell.regret(np.sqrt(left * right))
        assert between == pytest.approx(pair.mean())


def test_lost_runs_count_as_not_trained(some):
    """NaN, infinite and worse than at the start are all regret 1."""
    cell = some[0]
    held = cell.oracle_held.copy()
    held[:, 0], held[:, 1], held[:, 2] = np.nan, np.inf, 1e9
    broken = dataclasses.replace(cell, oracle_held=held)
    assert np.allclose(broken.regrets()[:3], 1)


def test_oracle_is_best_and_default_rule_beats_all_peers(some):
    """On four tasks, as on all of them."""
    kept = learnable(some, stored.SHORT)
    rows = {
        c.name: row(c, kept)
        for c in [
            by_ramp("ramp", RAMP, shipped),
            by_probes("probes", RAMP, shipped),
            *peers(RAMP),
            *baselines(kept),
        ]
    }
    assert rows["oracle"].mean == 0
    assert rows["ramp"].mean <= 0.08
    assert rows["probes"].mean <= 0.05
    assert rows["probes"].lost == 0
    best_peer = min(rows[name].mean for name in PEERS)
    assert rows["ramp"].mean < best_peer
    table = markdown(list(rows.values()))
    assert all(name in table for name in rows)


def test_promises_on_the_whole_benchmark(everything):
    """What README says of the three optimizers that everybody uses."""
    main = [c for c in everything if c.optimizer in ("sgd", "momentum", "adam")]
    kept = learnable(main, stored.SHORT)
    ramp = row(by_ramp("ramp", RAMP, shipped), kept)
    assert ramp.mean <= 0.05
    assert ramp.lost <= 0.01
    assert ramp.refused == 0
    probes = row(by_probes("probes", RAMP, shipped), kept)
    assert probes.mean <= 0.04
    assert probes.lost <= 0.015
    assert probes.steps <= 300


def test_promises_on_tasks_that_no_constant_saw(later):
    """The same, with some slack, on what was measured afterwards."""
    kept = learnable(later, stored.SHORT)
    best_peer = min(row(c, kept).mean for c in peers(RAMP))
    for contender in (
        by_ramp("ramp", RAMP, shipped),
        by_probes("probes", RAMP, shipped),
    ):
        found = row(contender, kept)
        assert found.mean <= 0.06
        assert found.mean < best_peer


def test_left_out_constants_are_others(everything):
    """Each family is judged by constants that never saw it."""
    found = {c.family: left_out(c) for c in everything}
    assert set(found) == set(stored.FAMILIES.values()) - {stored.LATER}
    for which in ("raised", "readings", "rule"):
        others = {repr(getattr(each, which)) for each in found.values()}
        assert len(others) >= len(found) / 3
        own = repr(getattr(shipped(everything[0]), which))
        for family in ("text", "regression"):
            assert own != repr(getattr(found[family], which))


def test_refusals_cost_the_default_lr(some):
    """A refusal is charged what Keras's default would have cost."""
    nothing = dataclasses.replace(peers(RAMP)[0], answer=lambda c, s: None)
    default = dataclasses.replace(nothing, answer=lambda c, s: c.default_lr)
    refused, used = row(nothing, some), row(default, some)
    assert refused.mean == used.mean
    assert (refused.refused, used.refused) == (1, 0)


def test_interval_is_over_tasks():
    """Many cells of one task are one draw, not many."""
    regrets = np.repeat([0.0, 1.0], 50)
    tasks = np.repeat(["a", "b"], 50)
    assert interval(regrets, tasks) == (0.0, 1.0)


def test_honesty_report(some):
    """Both tables are made."""
    text = report(some[:3], RAMP)
    assert "| ramp and probes |" in text
    assert "1e-09 to 10" in text


def test_picture(some, tmp_path):
    """The picture is written."""
    rows = [row(c, some) for c in peers(RAMP)[:3]]
    draw(rows, tmp_path / "regret.png")
    assert (tmp_path / "regret.png").stat().st_size > 1_000


def test_averages_of_the_peers():
    """Against the definitions: constants stay, weights decay."""
    ones = np.ones(20)
    assert np.allclose(corrected(ones), 1)
    assert np.allclose(seeded(ones), 1)
    assert corrected(ones, ahead=2)[0] == pytest.approx(0.505, abs=1e-3)
    impulse = np.eye(1, 20)[0]
    assert seeded(impulse)[3] == pytest.approx(0.95**3)


def parabola():
    """A smooth bowl with its bottom at 1e-2."""
    lrs = np.geomspace(1e-7, 10, 200)
    return lrs, 1 + (np.log10(lrs) + 2) ** 2 / 10


@pytest.mark.parametrize("name", sorted(PEERS))
def test_peers_answer_on_a_bowl(name):
    """Every rule finds something on a perfect curve, inside of it."""
    lr = PEERS[name](*parabola())
    assert lr is not None
    assert 1e-8 <= lr <= 10


@pytest.mark.parametrize("name", sorted(PEERS))
def test_peers_survive_nan(name):
    """NaN from the second step on is an answer or None, no exception."""
    lrs, losses = parabola()
    losses[1:] = np.nan
    lr = PEERS[name](lrs, losses)
    assert lr is None or lr > 0


def test_raw_minimum_is_a_tenth():
    """The rule by hand."""
    assert PEERS["raw minimum / 10"](*parabola()) == pytest.approx(
        1e-3, rel=0.1
    )


@pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn"
)
def test_tasks_and_stored_cells_agree(everything):
    """Every stored cell has its task, of the same family and batches."""
    from benchmarks.quality import tasks

    known = {t.name: t for t in tasks.TASKS}
    assert {n: t.family for n, t in known.items()} == stored.FAMILIES
    for cell in everything:
        if cell.task.startswith(("byte", "text")):
            continue  # These depend on Python's own sources.
        task = known[cell.task]
        data = task.data()
        assert len(data.x) // task.batch == cell.steps_per_epoch
