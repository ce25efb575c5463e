"""Fit how the package's probes are read, on both benchmarks.

Run: `python -m benchmarks.outcome.probing`. Reads the recordings of the seen
families here and of `benchmarks/quality` (without the tasks measured later),
prints `READINGS` and the reach for `keras_lrfinder/analysis/probes.py`, and
writes `probing.json`: the readings by the family that took no part, `""` for
all. A family's name stands for both benchmarks.

The objective is the mean log excess loss over trainings plus the mean regret,
both benchmarks counting alike. `caution` and `few` are the same for all kinds
of optimizers; the others are chosen by a kind's own mean plus half that of
all.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.outcome import simulate
from benchmarks.outcome.fit import ASKED
from benchmarks.outcome.fit import FINE
from benchmarks.outcome.fit import POOL
from benchmarks.outcome.fit import TARGETS
from benchmarks.outcome.fit import learnable
from benchmarks.outcome.readings import CONSTANTS
from benchmarks.outcome.readings import Readings
from benchmarks.outcome.recording import Cell
from benchmarks.outcome.recording import Target
from benchmarks.outcome.recording import load
from benchmarks.quality import cells as quality
from benchmarks.quality import simulate as stored
from benchmarks.quality.tally import learnable as learnable_there
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.default_rule import default_lr
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.probes import Reading
from keras_lrfinder.analysis.schedule_factors import KINDS
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.suggestions import suggest

Vector = NDArray[np.float64]

TRUSTS = np.arange(0.2, 1.01, 0.1)
OFFSETS = np.arange(-0.6, 0.61, 0.05)
CAUTIONS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75)
# More is no better on families left out.
FEWS = (0.0, 0.15)
# Of 100 steps, there.
RAMP = 1


@dataclasses.dataclass(frozen=True)
class Told:
    """What is read off the probes, as of `probes.Levels`."""

    liked: float
    memorised: float
    most: float


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """What the probes of one test said, and what each LR ends with.

    Attributes:
        here: Whether it is of this benchmark, not of the other one.
        family, kind: Names.
        ramp: log10 of what the ramp suggests.
        few: As `few_batches` says.
        told: What the probes say.
        excess: By training, log excess at `FINE`; NaN: not recorded.
        regret: Regret at `FINE`, 500 constant steps.
        best: By training, log10 of the best LR of the grid.
    """

    here: bool
    family: str
    kind: str
    ramp: float
    few: float
    told: Told
    excess: dict[Target, Vector]
    regret: Vector
    best: dict[Target, float]


def case(here: bool, cell, seed: int, curve: Curve, answers) -> Case | None:
    """Runs the probes; None where they do not say anything."""
    first, seen = suggest(curve), landmarks(curve)
    if here:
        climb = simulate.climbed(cell, seed, curve)
    else:
        climb = stored.climbed(cell, seed, RAMP, first, "fresh")
    if seen is None or not climb.probes:
        return None
    levels = climb.levels
    if not levels.tell or not (first.lr or levels.outvote):
        return None
    lr = first.lr or default_lr(curve, seen)
    ramp, few = float(np.log10(lr)), few_batches(curve)
    told = Told(levels.liked, levels.memorised, levels.most)
    return Case(here, cell.family, climb.kind, ramp, few, told, *answers)


def answers_here(cell: Cell):
    """Excess, regret and best LR of a cell of this benchmark."""
    there = [t for t in ASKED if t in cell.targets()]
    excess = {t: np.array([cell.excess(10**x, t) for x in FINE]) for t in there}
    row, before = cell.row(TARGETS[0]), cell.arrays["test_before"].mean()
    share = (row - row.min()) / max(before - row.min(), 1e-12)
    ends = [cell.x[0] - 1, *cell.x, cell.x[-1] + 0.05]
    regret = np.interp(FINE, ends, [1.0, *share, 1.0])
    return excess, regret, {t: cell.best(t) for t in there}


def answers_there(cell: quality.Cell):
    """The same of a cell of `benchmarks/quality`."""
    excess, best = {}, {}
    for target in TARGETS[:2]:
        if cell.has(target.steps):
            excess[target] = np.array(
                [cell.excess(10**x, target.steps) for x in FINE]
            )
            best[target] = float(np.log10(cell.best_lr(target.steps)))
    regret = np.array([cell.regret(10**x) for x in FINE])
    return excess, regret, best


def cases() -> list[Case]:
    """All tests that take part."""
    found = []
    for cell in learnable(load(unseen=False)):
        answers = answers_here(cell)
        for seed in range(cell.seeds):
            found.append(case(True, cell, seed, cell.curve(seed), answers))
    others = [c for c in quality.load() if c.family != quality.LATER]
    for other in learnable_there(others, quality.SHORT):
        answers = answers_there(other)
        for seed in range(other.seeds):
            measured = stored.curve(other, seed, RAMP)
            found.append(case(False, other, seed, measured, answers))
    return [c for c in found if c is not None]


def answer(one: Case, reading: Reading) -> float:
    """log10 of the LR for 500 constant steps."""
    decades = reading.answer(one.told, one.ramp, one.few)
    return min(decades, one.told.most)


def cost(some: Sequence[Case], decades: Vector) -> Vector:
    """Mean log excess over the trainings, plus regret, of each case."""
    found = np.zeros(len(some))
    for i, one in enumerate(some):
        moved = [
            decades[i] + shift(one.kind, t.schedule, t.steps, one.few)
            for t in one.excess
        ]
        lost = [v[_place(x)] for v, x in zip(one.excess.values(), moved)]
        found[i] = np.mean(lost) + one.regret[_place(decades[i])]
    return found


def _place(decades: float) -> int:
    place = round((decades - FINE[0]) / 0.025)
    return min(max(place, 0), len(FINE) - 1)


def fit(some: Sequence[Case], table: Vector, grid) -> Readings:
    """The readings; `table` has the cost of each point of `grid`."""
    here = np.array([c.here for c in some])
    kinds = np.array([c.kind for c in some])

    def mean(part) -> Vector:
        both = [part & here, part & ~here]
        return np.mean([table[:, b].mean(1) for b in both if b.any()], axis=0)

    pooled = POOL * mean(np.ones(len(some), bool))
    totals = {k: mean(kinds == k) + pooled for k in KINDS}
    shared = list(itertools.product(CAUTIONS, FEWS))
    part = {s: [i for i, g in enumerate(grid) if g[2:] == s] for s in shared}
    best = min(
        shared, key=lambda s: sum(totals[k][part[s]].min() for k in KINDS)
    )
    found = {}
    for kind in KINDS:
        lowest = part[best][int(totals[kind][part[best]].argmin())]
        found[kind] = Reading(*(round(float(v), 2) for v in grid[lowest]))
    return found


def reach(some: Sequence[Case], found: dict[str, Readings]) -> float:
    """Half the range, in decades, that holds the best LR in 92 of 100.

    From readings that did not see the family; it leaves a little for the next
    tasks.
    """
    off = []
    for one in some:
        decades = answer(one, found[one.family][one.kind])
        for target, best in one.best.items():
            move = shift(one.kind, target.schedule, target.steps, one.few)
            off.append(abs(decades + move - best))
    return float(np.quantile(off, 0.92))


def main() -> None:
    """Fit, print and store."""
    some = cases()
    grid = list(itertools.product(TRUSTS, OFFSETS, CAUTIONS, FEWS))
    table = np.array(
        [
            cost(some, np.array([answer(c, Reading(*g)) for c in some]))
            for g in grid
        ]
    )
    families = np.array([c.family for c in some])
    found = {}
    for family in ("", *sorted(set(families))):
        kept = np.flatnonzero(families != family)
        found[family] = fit([some[i] for i in kept], table[:, kept], grid)
    for kind, reading in found[""].items():
        print(kind, reading)
    print("reach:", reach(some, found))
    CONSTANTS.write_text(
        json.dumps(
            {
                family: {k: dataclasses.astuple(r) for k, r in each.items()}
                for family, each in found.items()
            },
            indent=1,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
