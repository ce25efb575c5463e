"""Fit every constant of the search, once per family left out.

Run: `python -m benchmarks.outcome.fit`. Reads the recordings of the seen
families only, and writes `constants.json`: constants by the family that took
no part, `""` for those that saw all seen families.

The objective is the mean log excess loss. A kind of optimizer has few tasks,
so each of its constants is chosen by its own mean plus half that of all.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.outcome import simulate
from benchmarks.outcome.ours import Fitted
from benchmarks.outcome.ours import answered
from benchmarks.outcome.recording import RAMPS
from benchmarks.outcome.recording import Cell
from benchmarks.outcome.recording import Target
from benchmarks.outcome.recording import load
from keras_lrfinder.analysis.default_rule import default_lr
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.schedule_factors import KINDS
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
)
FINE = np.arange(-9.0, 3.01, 0.025)
POOL = 0.5
# Not less: where a landscape lies elsewhere, the answer must follow it.
WEIGHTS = np.arange(0.4, 1.01, 0.1)
OFFSETS = np.arange(-2.0, 1.3, 0.05)
NEARLY = 0.005
LEAST_FALL = np.log(1 / 0.9)


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
        kind, few = simulate.kind(cell), few_batches(cell.curve(0))
        found += [Case(cell, s, kind, few, rows) for s in range(cell.seeds)]
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


def centre(case: Case, ramp: int) -> float:
    """log10 of the LR that the default rule reads off the ramp."""
    which = RAMPS.index(ramp)
    seen = simulate.seen(case.cell, case.seed, which)
    curve = case.cell.curve(case.seed, which)
    return float(np.log10(default_lr(curve, seen)))


def centres(some: Sequence[Case], kinds: Vector) -> dict[str, float]:
    """By kind: decades on the default rule that are best at 500 steps."""
    middle = np.array([centre(c, 100) for c in some])
    tables = by_kind(some, middle[:, None], BASE, kinds)
    return {
        kind: round(float(OFFSETS[row.ravel().argmin()]), 2)
        for kind, row in tables.items()
    }


def fit(some: Sequence[Case]) -> Fitted:
    """All constants from these cases."""
    kinds = np.array([c.kind for c in some])
    offsets = centres(some, kinds)
    mixed = {}
    for plan in simulate.TRIED:
        ramp = simulate.ramp_of(plan)
        middle = np.array([centre(c, ramp) + offsets[c.kind] for c in some])
        found = np.array(
            [
                simulate.run(c.cell, c.seed, plan, m).reading
                for c, m in zip(some, middle)
            ]
        )
        weights = WEIGHTS if plan.rungs else WEIGHTS[-1:]
        mixed[plan.name] = found[:, None] * weights + middle[:, None] * (
            1.0 - weights
        )
    factors = _factors(some, kinds, mixed["300"])
    read = {
        plan.name: _readings(some, kinds, mixed[plan.name], factors)
        for plan in simulate.TRIED
    }
    return Fitted(Constants(offsets, read, {}), factors)


def _factors(some, kinds, mixed):
    """By kind and target the best offset, less that of 500 constant steps.

    Both on the cells that have the target, and not few batches.
    """
    factors = {kind: {} for kind in KINDS}
    for target in TARGETS[1:]:
        there = np.array([target in c.excess and not c.few for c in some])
        part = [c for c, has in zip(some, there) if has]
        best = [
            by_kind(part, mixed[there], t, kinds[there]) for t in (target, BASE)
        ]
        for kind in KINDS:
            # The weight hardly matters here: the middle one.
            rows = [table[kind] for table in best]
            at, base = (_bottom(r[len(r) // 2]) for r in rows)
            factors[kind][str(target)] = round(float(at - base), 2)
    return factors


def _bottom(row: Vector) -> float:
    """The middle of the offsets that are as good as the best one."""
    return float(OFFSETS[row <= row.min() + NEARLY].mean())


def _readings(some, kinds, mixed, factors):
    """By kind the weight and offset that are best over all targets."""
    total = dict.fromkeys(KINDS, 0.0)
    for target in TARGETS[:4]:
        move = np.array(
            [
                shift(c.kind, target.schedule, target.steps, c.few, factors)
                for c in some
            ]
        )
        tables = by_kind(some, mixed + move[:, None], target, kinds)
        total = {k: total[k] + tables[k] for k in KINDS}
    found = {}
    for kind, row in total.items():
        i, j = np.unravel_index(row.argmin(), row.shape)
        weight = WEIGHTS[i] if len(row) > 1 else 1.0
        found[kind] = (round(float(weight), 2), round(float(OFFSETS[j]), 3))
    return found


def reach(
    some: Sequence[Case], constants: dict[str, Fitted]
) -> dict[str, tuple[float, float]]:
    """Half-widths that hold the best LR in 92 % of all, 96 % of the sure.

    From answers whose constants did not see the case's family; the numbers
    leave a little for the next tasks.
    """
    found = {}
    for plan in simulate.TRIED:
        rows = []
        for case in some:
            used = constants[case.cell.family]
            for target in TARGETS[:4]:
                one = answered(case.cell, case.seed, plan, target, used)
                off = abs(one.decades - case.cell.best(target))
                rows.append((off, one.sure))
        off, sure = np.array(rows).T
        shares = ((sure == 1, 0.96), (sure == 0, 0.92))
        found[plan.name] = tuple(
            round(float(np.quantile(off[part], share)) + 0.01, 2)
            for part, share in shares
        )
    return found


def read(path: Path = CONSTANTS) -> dict[str, Fitted]:
    """The stored constants, by the family left out."""
    stored = json.loads(path.read_text())
    return {
        name: Fitted(
            Constants(
                centre=found["search"]["centre"],
                reading={
                    p: {k: tuple(v) for k, v in row.items()}
                    for p, row in found["search"]["reading"].items()
                },
                reach={
                    k: tuple(v) for k, v in found["search"]["reach"].items()
                },
            ),
            found["factors"],
        )
        for name, found in stored.items()
    }


def main() -> None:
    """Fit on the seen families and write the constants."""
    everything = cases(load(unseen=False))
    families = sorted({c.cell.family for c in everything})
    found = {}
    for family in ("", *families):
        kept = [c for c in everything if c.cell.family != family]
        found[family] = fit(kept)
        print("fitted without", family or "none", flush=True)
    wide = reach(everything, found)
    found = {
        name: dataclasses.asdict(
            Fitted(dataclasses.replace(c.search, reach=wide), c.factors)
        )
        for name, c in found.items()
    }
    CONSTANTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
