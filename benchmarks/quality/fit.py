"""Fit the constants of the default rule.

Run: `python -m benchmarks.quality.fit`. Prints the constants for
`keras_lrfinder/analysis/default_rule.py`, and writes `constants.json`: those
fitted on everything, and for each family of tasks those fitted on all other
families, by which the score's "left out" rows choose. How probes are read is
fitted by `benchmarks/outcome/probing.py`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.cells import LATER
from benchmarks.quality.cells import SHORT
from benchmarks.quality.cells import Cell
from benchmarks.quality.cells import load
from benchmarks.quality.simulate import curve
from benchmarks.quality.tally import learnable
from keras_lrfinder.analysis.default_rule import ByOptimizer
from keras_lrfinder.analysis.default_rule import Constants
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.landmarks import landmarks

Vector = NDArray[np.float64]

CONSTANTS = Path(__file__).with_name("constants.json")
LONG = 2_000
LONG_WEIGHT = 1.0 / 3.0
FITTED_RAMPS = (1, 2, 3)
# AdamW and Lion take no part here, but in what is raised.
FITTED_OPTIMIZERS = ("sgd", "momentum", "adam", "rmsprop")
KINDS = ("sgd", "momentum", "adaptive")
MARGINS = np.array([0.5, 1.1, 1.0])
# Decades at which regrets are tabulated.
LOW, STEP, COUNT = -9.0, 0.01, 1_101
# What the constants are drawn towards, weakly: edges count in full.
START = np.array([-2.15, -2.72, -2.48, 0.5, 0.23, 0.8, 0.7])
PRIOR = np.array([0.0, 0.0, 0.0, 0.8, 0.3, 0.75, 0.5])
PULL = 0.003 * np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0])


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Everything the fit reads, one row per cell, seed and ramp.

    Attributes:
        kinds: Position in `KINDS`.
        families: Name of the family.
        tables: Regret at every hundredth of a decade.
        reads: The rule's terms: an offset per kind, edge (SGD, others),
            batches of an epoch, roughness.
        edges: log10(LR) of the edge.
    """

    kinds: NDArray[np.int64]
    families: NDArray[np.str_]
    tables: Vector
    reads: Vector
    edges: Vector

    def part(self, keep: NDArray[np.bool_]) -> Sample:
        """Only the rows to keep."""
        return Sample(
            *(getattr(self, f.name)[keep] for f in dataclasses.fields(self))
        )


def kind(cell: Cell) -> int:
    """Which constants a cell's optimizer has."""
    if cell.optimizer in KINDS:
        return KINDS.index(cell.optimizer)
    return KINDS.index("adaptive")


def table(cell: Cell) -> Vector:
    """Regret on the fine grid; a mean of both budgets where there are."""
    lrs = 10.0 ** (LOW + STEP * np.arange(COUNT))
    regrets = np.array([cell.regret(lr) for lr in lrs])
    if not cell.has(LONG):
        return regrets
    long = np.array([cell.regret(lr, LONG) for lr in lrs])
    return (1.0 - LONG_WEIGHT) * regrets + LONG_WEIGHT * long


def look_up(tables: Vector, decades: Vector) -> Vector:
    """The regret of each row at its LR, smoothed a little."""
    total = np.zeros(len(decades))
    for shift in (-0.15, 0.0, 0.15):
        where = np.round((decades + shift - LOW) / STEP).astype(int)
        where = np.clip(where, 0, COUNT - 1)
        total += tables[np.arange(len(tables)), where]
    return total / 3


def terms(cell: Cell, seed: int, ramp: int) -> tuple[list[float], float]:
    """The rule's terms for one curve, and the edge."""
    measured = curve(cell, seed, ramp)
    seen = landmarks(measured)
    which = kind(cell)
    assert seen is not None
    sgd = float(which < 2)
    offsets = [float(which == k) for k in range(3)]
    return [
        *offsets,
        seen.edge * sgd,
        seen.edge * (1.0 - sgd),
        -few_batches(measured),
        -seen.roughness * sgd,
    ], seen.edge


def sample(cells: Sequence[Cell], ramps: Sequence[int]) -> Sample:
    """Read all cells."""
    kinds, families, tables, reads, edges = [], [], [], [], []
    for cell in cells:
        regrets = table(cell)
        for ramp in ramps:
            for seed in range(cell.seeds):
                read, edge = terms(cell, seed, ramp)
                kinds.append(kind(cell))
                families.append(cell.family)
                tables.append(regrets)
                reads.append(read)
                edges.append(edge)
    return Sample(*map(np.array, (kinds, families, tables, reads, edges)))


def search(
    loss: Callable[[Vector], float],
    start: Vector,
    directions: Sequence[Vector],
) -> Vector:
    """Pattern search: steps along all directions, halved when none helps."""
    rng = np.random.default_rng(0)
    best, lowest, size = start.copy(), loss(start), 0.3
    while size > 0.01:
        better = False
        random = rng.normal(0.0, 0.7, (3 * len(start), len(start)))
        for direction in (*directions, *random):
            for sign in (1.0, -1.0):
                tried = best + sign * size * direction
                found = loss(tried)
                if found < lowest - 1e-6:
                    best, lowest, better = tried, found, True
        if not better:
            size /= 2
    return best


def fit_rule(rows: Sample, start: Vector = START) -> Vector:
    """The constants of the rule, by mean regret."""
    most = rows.edges - MARGINS[rows.kinds]

    def loss(w: Vector) -> float:
        decades = np.minimum(rows.reads @ w, most)
        pull = float(PULL @ (w - PRIOR) ** 2)
        return float(look_up(rows.tables, decades).mean()) + pull

    axes = np.eye(len(start))
    slides = []
    for j in range(3, len(start)):
        slide = axes[j].copy()
        for k in range(3):
            own = rows.kinds == k
            slide[k] -= rows.reads[own, j].mean() if own.any() else 0.0
        slides.append(slide)
    return search(loss, start, [*axes, *slides])


def calibration(w: Vector) -> ByOptimizer[Constants]:
    """The fitted vector as the package's constants."""
    sgd, momentum, adaptive, slope, soft, few, rough = np.round(w, 2).tolist()
    return ByOptimizer(
        Constants(sgd, slope, few, rough, float(MARGINS[0])),
        Constants(momentum, slope, few, rough, float(MARGINS[1])),
        Constants(adaptive, soft, few, 0.0, float(MARGINS[2])),
    )


def fit(cells: Sequence[Cell]) -> dict[str, dict]:
    """All constants: on everything (`""`), and without each family."""
    rows = sample(cells, FITTED_RAMPS)
    found = {}
    for family in ("", *sorted({c.family for c in cells})):
        constants = calibration(fit_rule(rows.part(rows.families != family)))
        found[family] = dataclasses.asdict(constants)
        print(family or "everything", constants, sep="\n  ")
    return found


def main() -> None:
    """Fit, print and store."""
    cells = [
        c
        for c in load()
        if c.optimizer in FITTED_OPTIMIZERS and c.family != LATER
    ]
    cells = learnable(cells, SHORT)
    CONSTANTS.write_text(json.dumps(fit(cells), indent=1) + "\n")


if __name__ == "__main__":
    main()
