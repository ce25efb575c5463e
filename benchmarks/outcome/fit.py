"""Fit the search's constants, and those of schedules and lengths.

Run: `python -m benchmarks.outcome.fit`. Reads the recordings of the seen
families only, and writes `constants.json`: constants by the family that took
no part, `""` for those that saw all seen families. The probes before a search
are read by `probing.json`, with the same family left out.

The objective is the mean log excess loss. A kind of optimizer has few tasks,
so each of its constants is chosen by its own mean plus half that of all; how
much trials are trusted, and what they memorise counts, is the same for all
kinds.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.outcome import readings
from benchmarks.outcome import simulate
from benchmarks.outcome.recording import Cell
from benchmarks.outcome.recording import Target
from benchmarks.outcome.recording import load
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.schedule_factors import KINDS
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS
from keras_lrfinder.analysis.schedule_factors import Factors
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.search import Constants

Vector = NDArray[np.float64]
CONSTANTS = Path(__file__).with_name("constants.json")
BASE = Target("constant", 500)
TARGETS = (
    BASE,
    Target("constant", 2000),
    Target("one_cycle", 500),
    Target("cosine", 500),
    Target("triangular", 500),
    Target("one_cycle", 2000),
    Target("cosine", 2000),
    Target("constant", 8000),
    Target("one_cycle", 8000),
    Target("cosine", 8000),
    Target("triangular", 2000),
)
ASKED = TARGETS[:4]
FINE = np.arange(-9.0, 3.01, 0.025)
POOL = 0.5
TRUSTS = np.arange(0.0, 1.01, 0.1)
CAUTIONS = np.arange(0.0, 1.81, 0.15)
OFFSETS = np.arange(-1.0, 1.3, 0.05)
NEARLY = 0.005
LEAST_FALL = np.log(1 / 0.9)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The search's constants, and those of schedules and lengths."""

    search: Constants
    factors: Factors


def learnable(cells: Sequence[Cell]) -> list[Cell]:
    """The cells whose best LR takes off at least a tenth of the loss."""
    return [c for c in cells if c.worst(BASE) >= LEAST_FALL]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A cell and a seed: kind, family, and what each LR ends with."""

    cell: Cell
    seed: int
    kind: str
    few: float
    excess: dict[Target, Vector]

    def at(self, target: Target, x: Vector) -> Vector:
        """Log excess at log10(LR) `x`."""
        place = np.round((x - FINE[0]) / 0.025).astype(int)
        return self.excess[target][np.clip(place, 0, len(FINE) - 1)]


def cases(cells: Sequence[Cell]) -> list[Case]:
    """All seeds of all cells that can be learnt."""
    found = []
    for cell in learnable(cells):
        there = [t for t in TARGETS if t in cell.targets()]
        rows = {
            t: np.array([cell.excess(10.0**x, t) for x in FINE]) for t in there
        }
        few = few_batches(cell.curve(0))
        found += [
            Case(cell, s, cell.kind, few, rows) for s in range(cell.seeds)
        ]
    return found


def table(
    some: Sequence[Case], target: Target, x: Vector, steps: Vector
) -> Vector:
    """Mean log excess of the cases at their `x` plus each of `steps`."""
    rows = [
        c.at(target, x[i][..., None] + steps)
        for i, c in enumerate(some)
        if target in c.excess
    ]
    return np.mean(rows, axis=0)


def by_kind(some: Sequence[Case], x: Vector, target: Target, kinds: Vector):
    """Per kind its own table plus half that of all."""
    pooled = POOL * table(some, target, x, OFFSETS)
    tables = {}
    for kind in KINDS:
        own = np.flatnonzero(kinds == kind)
        part = [some[i] for i in own]
        tables[kind] = table(part, target, x[own], OFFSETS) + pooled
    return tables


def fit(some: Sequence[Case], family: str) -> Fitted:
    """All constants from these cases, of which none is of `family`."""
    known = readings.left_out(family)
    done = [simulate.searched(c.cell, c.seed, known) for c in some]
    # Without trials the probes said that all is lost; some learn nothing.
    tried = [
        i
        for i, search in enumerate(done)
        if search.levels and search.levels.tell
    ]
    part, done = [some[i] for i in tried], [done[i] for i in tried]
    kinds = np.array([c.kind for c in part])
    centre = np.array([s.centre for s in done])
    liked = np.array([s.levels.liked for s in done])
    memorised = np.array([s.levels.memorised for s in done])
    factors = _factors(part, kinds, centre)
    told = centre, liked, memorised
    return Fitted(_read(part, kinds, told, factors), factors)


def _factors(some, kinds, centre):
    """By kind and target the best offset, less that of 500 constant steps.

    Both on the cells that have the target, and not few batches. A longer
    training of the same schedule never wants more: what says so is noise.
    """
    factors = {kind: {} for kind in KINDS}
    for target in TARGETS[1:]:
        there = np.array([target in c.excess and not c.few for c in some])
        part = [c for c, has in zip(some, there) if has]
        tables = [
            by_kind(part, centre[there], t, kinds[there])
            for t in (target, BASE)
        ]
        for kind in KINDS:
            at, base = (_bottom(table[kind]) for table in tables)
            shorter = [
                factors[kind].get(f"{target.schedule} {steps}", np.inf)
                for steps in (500, 2000)
                if steps < target.steps
            ]
            if target.schedule == "constant":
                shorter.append(0.0)
            lowest = min([at - base, *shorter])
            factors[kind][str(target)] = round(float(lowest), 2)
    return factors


def _bottom(row: Vector) -> float:
    """The middle of the offsets that are as good as the best one."""
    return float(OFFSETS[row <= row.min() + NEARLY].mean())


def _read(some, kinds, told, factors) -> Constants:
    """Trust and caution that are best over all, and by kind the offset."""
    centre, liked, memorised = (v[:, None, None] for v in told)
    mixed = centre + TRUSTS[:, None] * (liked - centre)
    mixed = mixed - CAUTIONS * np.minimum(1.0, 2.0 * memorised)
    total = dict.fromkeys(KINDS, 0.0)
    for target in TARGETS:
        move = np.array(
            [
                shift(c.kind, target.schedule, target.steps, c.few, factors)
                for c in some
            ]
        )
        tables = by_kind(some, mixed + move[:, None, None], target, kinds)
        total = {k: total[k] + tables[k] for k in KINDS}
    shares = {k: np.mean(kinds == k) for k in KINDS}
    lowest = sum(shares[k] * total[k].min(-1) for k in KINDS)
    best = np.unravel_index(lowest.argmin(), lowest.shape)
    offsets = {k: OFFSETS[total[k][best].argmin()] for k in KINDS}
    return Constants(
        round(float(TRUSTS[best[0]]), 2),
        {kind: round(float(offset), 2) for kind, offset in offsets.items()},
        round(float(CAUTIONS[best[1]]), 2),
        0.0,
    )


def reach(some: Sequence[Case], found: dict[str, Fitted]) -> float:
    """Half the range, in decades, that holds the best LR in 94 of 100.

    From answers whose constants did not see the case's family; the numbers
    leave a little for the next tasks.
    """
    off = []
    for case in some:
        family, used = case.cell.family, found[case.cell.family]
        search = simulate.searched(
            case.cell, case.seed, readings.left_out(family), used.search
        )
        said = search.suggestion()
        if said.lr is None:
            continue
        for target in ASKED:
            move = moved(case.kind, target, case.few, used.factors)
            off.append(np.log10(said.lr) + move - case.cell.best(target))
    return round(float(np.quantile(np.abs(off), 0.94)) + 0.01, 2)


def moved(kind: str, target: Target, few: float, factors: Factors) -> float:
    """Decades from an answer that knows no length to that for a target."""
    given = few, factors
    decades = shift(kind, target.schedule, target.steps, *given)
    # An answer that knows no length has the package's own middle of it.
    return decades - shift(kind, "constant", MIDDLE_STEPS)


@functools.cache
def read(path: Path = CONSTANTS) -> dict[str, Fitted]:
    """The stored constants, by the family left out."""
    return {
        name: Fitted(Constants(**found["search"]), found["factors"])
        for name, found in json.loads(path.read_text()).items()
    }


def main() -> None:
    """Fit on the seen families and write the constants."""
    everything = cases(load(unseen=False))
    families = sorted({c.cell.family for c in everything})
    found = {}
    for family in ("", *families):
        kept = [c for c in everything if c.cell.family != family]
        found[family] = fit(kept, family)
        print("fitted without", family or "none", flush=True)
    wide, stored = reach(everything, found), {}
    for family, one in found.items():
        search = dataclasses.replace(one.search, reach=wide)
        stored[family] = dataclasses.asdict(Fitted(search, one.factors))
    CONSTANTS.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
