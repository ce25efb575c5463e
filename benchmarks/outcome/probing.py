"""Fit how ramps and the probes after them are read, on both benchmarks.

Run: `python -m benchmarks.outcome.probing`. Reads the recordings of the seen
families here and of `benchmarks/quality` (without the tasks measured later),
prints `RAISED` for `keras_lrfinder/analysis/default_rule.py`, `READINGS` and
the range for `keras_lrfinder/analysis/probes.py`, and writes `probing.json`:
all of it by the family that took no part, `""` for all: where probes begin, and
what schedule and length add (`constants.json`, as `fit.py` left it), never saw
it either. A family's name stands for both benchmarks.

The objective is the mean log excess loss over trainings plus the mean regret,
both benchmarks counting alike. `caution` and `few` are the same for all kinds
of optimizers; the others are chosen by a kind's own mean plus half that of
all. Ramps are raised first; the probes begin at what they then say.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from numpy.typing import NDArray

from benchmarks.outcome import fit as fitted
from benchmarks.outcome import simulate
from benchmarks.outcome.fit import ASKED
from benchmarks.outcome.fit import FINE
from benchmarks.outcome.fit import POOL
from benchmarks.outcome.fit import TARGETS
from benchmarks.outcome.fit import learnable
from benchmarks.outcome.readings import CONSTANTS
from benchmarks.outcome.readings import Known
from benchmarks.outcome.readings import rule_without
from benchmarks.outcome.recording import Cell
from benchmarks.outcome.recording import Target
from benchmarks.outcome.recording import load
from benchmarks.quality import cells as quality
from benchmarks.quality import simulate as stored
from benchmarks.quality.tally import learnable as learnable_there
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.default_rule import ByOptimizer
from keras_lrfinder.analysis.default_rule import Constants
from keras_lrfinder.analysis.default_rule import Raised
from keras_lrfinder.analysis.default_rule import default_lr
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.probes import Reading
from keras_lrfinder.analysis.schedule_factors import KINDS
from keras_lrfinder.analysis.schedule_factors import Factors
from keras_lrfinder.analysis.schedule_factors import shift

Vector = NDArray[np.float64]

RAISES = np.arange(-0.8, 1.01, 0.05)
FEWER = (0.0, 0.15, 0.3, 0.45, 0.6)
TRUSTS = np.arange(0.0, 1.01, 0.1)
OFFSETS = np.arange(-0.6, 0.61, 0.05)
CAUTIONS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75)
FEWS = (0.0, 0.15, 0.3, 0.45, 0.6)
HIGHER = [
    Raised(dict.fromkeys(KINDS, float(decades)), few)
    for few in FEWER
    for decades in RAISES
]
SPACING = float(FINE[1] - FINE[0])
# Of 100 steps, there.
RAMP = 1


@dataclasses.dataclass(frozen=True)
class Told:
    """What is read off the probes, as of `probe_levels.Levels`."""

    liked: float
    memorised: float
    most: float


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """What ramp and probes of a test said, and what each LR ends with.

    Attributes:
        here: Whether it is of this benchmark, not of the other one.
        family, kind: Names.
        curve, seen: The ramp, and its landmarks.
        ramp: log10 of what it suggests.
        few: As `few_batches` says.
        told: What the probes say; None: nothing.
        excess: By recorded training, log excess at `FINE`.
        regret: Regret at `FINE`, 500 constant steps.
        best: By training, log10 of the best LR of the grid.
        factors: What schedule and length do.
    """

    here: bool
    family: str
    kind: str
    curve: Curve
    seen: Landmarks
    ramp: float
    few: float
    told: Told | None
    excess: dict[Target, Vector]
    regret: Vector
    best: dict[Target, float]
    factors: Factors

    def moved(self, target: Target) -> float:
        """Decades from 500 constant steps to a training."""
        given = target.schedule, target.steps, self.few
        return shift(self.kind, *given, self.factors)

    @functools.cached_property
    def cost(self) -> Vector:
        """Mean log excess over the trainings, plus regret, at `FINE`."""
        lost = []
        for target, excess in self.excess.items():
            moved = FINE + self.moved(target)
            lost.append(np.interp(moved, FINE, excess))
        return np.mean(lost, axis=0) + self.regret

    def higher(self, rule: ByOptimizer[Constants]) -> Vector:
        """log10 of what a rule suggests, raised by each of `HIGHER`."""
        lrs = [default_lr(self.curve, self.seen, rule, r) for r in HIGHER]
        return np.log10(lrs)


def case(
    here: bool, cell, seed: int, known: Known, answers, factors: Factors
) -> Case | None:
    """Runs the probes after a ramp; None where there were none."""
    if here:
        curve = cell.curve(seed)
        climb = simulate.climbed(cell, seed, known)
    else:
        curve = stored.curve(cell, seed, RAMP)
        climb = stored.climbed(cell, seed, RAMP, "fresh", known)
    seen = landmarks(curve)
    if seen is None or not climb.probes:
        return None
    first = known.suggested(curve)
    lr = first.lr or default_lr(curve, seen, known.rule, known.raised)
    few, told = few_batches(curve), None
    levels = climb.levels
    if levels.tell and (first.lr or levels.outvote):
        told = Told(levels.liked, levels.memorised, levels.most)
    return Case(
        here,
        cell.family,
        climb.kind,
        curve,
        seen,
        float(np.log10(lr)),
        few,
        told,
        *answers,
        factors,
    )


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


def cases(known: Known, factors: Factors) -> list[Case]:
    """All tests that take part; the probes begin at what `known` says."""
    found = []
    for cell in learnable(load(unseen=False)):
        answers = answers_here(cell)
        for seed in range(cell.seeds):
            found.append(case(True, cell, seed, known, answers, factors))
    others = [c for c in quality.load() if c.family != quality.LATER]
    for other in learnable_there(others, quality.SHORT):
        answers = answers_there(other)
        for seed in range(other.seeds):
            found.append(case(False, other, seed, known, answers, factors))
    return [c for c in found if c is not None]


def answers(some: Sequence[Case], grid: Vector) -> Vector:
    """log10 of the LR for 500 constant steps, large batches not counted.

    By each row of `grid`, the fields of a `Reading`, and by case.
    """
    told = [c.told for c in some if c.told is not None]
    liked, memorised, most = (
        np.array([getattr(t, name) for t in told])
        for name in ("liked", "memorised", "most")
    )
    ramp, few = (
        np.array([getattr(c, n) for c in some]) for n in ("ramp", "few")
    )
    trust, offset, caution, less = grid.T[..., None]
    decades = trust * liked + (1.0 - trust) * ramp + offset
    decades = decades - caution * np.minimum(1.0, 2.0 * memorised) - less * few
    return np.minimum(decades, most)


def cost(some: Sequence[Case], decades: Vector) -> Vector:
    """What each case loses at log10(LR) `decades` for 500 constant steps."""
    places = np.round((decades - FINE[0]) / SPACING).astype(int)
    places = np.clip(places, 0, len(FINE) - 1)
    return np.array([c.cost[p] for c, p in zip(some, places)])


def by_kind(some: Sequence[Case], table: Vector) -> dict[str, Vector]:
    """What each row of `table`, its costs, costs a kind: as said above."""
    here = np.array([c.here for c in some])
    kinds = np.array([c.kind for c in some])

    def mean(part) -> Vector:
        both = [part & here, part & ~here]
        return np.mean([table[:, b].mean(1) for b in both if b.any()], axis=0)

    pooled = POOL * mean(np.ones(len(some), bool))
    return {k: mean(kinds == k) + pooled for k in KINDS}


def raised(some: Sequence[Case], table: Vector) -> Raised:
    """How much is best; `table` has the cost of each of `HIGHER`."""
    totals = by_kind(some, table)
    # By what is less where data are few, and by kind.
    rows = {k: totals[k].reshape(len(FEWER), len(RAISES)) for k in KINDS}
    best = int(np.argmin(sum(rows[k].min(1) for k in KINDS)))
    kinds = {k: round(float(RAISES[rows[k][best].argmin()]), 2) for k in KINDS}
    return Raised(kinds, FEWER[best])


def fit(some: Sequence[Case], table: Vector, grid) -> dict[str, Reading]:
    """The readings; `table` has the cost of each point of `grid`."""
    totals = by_kind(some, table)
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


def each(some: Sequence[Case], table, chosen) -> dict:
    """What `chosen` finds without each family, and without none (`""`).

    `table`: from a family to the costs, by what is chosen and case.
    """
    families = np.array([c.family for c in some])
    found = {}
    for family in ("", *sorted(set(families))):
        kept = np.flatnonzero(families != family)
        found[family] = chosen([some[i] for i in kept], table(family)[:, kept])
    return found


def raises() -> dict[str, Raised]:
    """By how much ramps are raised; of a rule that did not see the family."""
    some = cases(Known(), factors(""))

    @functools.cache
    def costs(rule: ByOptimizer[Constants]) -> Vector:
        decades = np.array([c.higher(rule) for c in some]).T
        return np.array([cost(some, row) for row in decades])

    return each(some, lambda family: costs(rule_without(family)), raised)


def factors(family: str) -> Factors:
    """What schedule and length do, fitted without the family."""
    known = fitted.read()
    return known.get(family, known[""]).factors


def without(family: str, higher: Raised) -> tuple[dict[str, Reading], list]:
    """Readings that never saw the family, and how far off they are on it.

    The second is how far the best LR lies above the answer, in decades, by
    test and training.
    """
    known = Known(higher, rule=rule_without(family))
    some = [c for c in cases(known, factors(family)) if c.told]
    kept = [c for c in some if c.family != family]
    grid = list(itertools.product(TRUSTS, OFFSETS, CAUTIONS, FEWS))
    decades = answers(kept, np.array(grid))
    found = fit(kept, np.array([cost(kept, row) for row in decades]), grid)
    off = []
    for one in (c for c in some if c.family == family):
        reading = dataclasses.astuple(found[one.kind])
        [[decade]] = answers([one], np.array([reading]))
        off += [b - decade - one.moved(t) for t, b in one.best.items()]
    return found, off


def main() -> None:
    """Fit, print and store."""
    higher = raises()
    print("raised:", higher[""])
    with ProcessPoolExecutor() as pool:
        each_one = pool.map(without, higher, higher.values())
        found = dict(zip(higher, each_one))
    for kind, reading in found[""][0].items():
        print(kind, reading)
    off = [d for _, some in found.values() for d in some]
    print(
        "the best LR is off by:", np.quantile(off, [0.025, 0.05, 0.95, 0.975])
    )
    stored = {
        family: {
            "raised": dataclasses.asdict(higher[family]),
            "readings": {k: dataclasses.astuple(r) for k, r in one.items()},
        }
        for family, (one, _) in found.items()
    }
    CONSTANTS.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
