"""From answers to figures: one `Row` of the table per contender."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.cells import SHORT
from benchmarks.quality.cells import Cell
from benchmarks.quality.contenders import Contender

Vector = NDArray[np.float64]

# A cell in which even the best LR takes off less than this share of the loss
# says nothing about learning rates.
LEAST_FALL = 0.1


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """How good a contender's answers are.

    Attributes:
        name: The contender.
        regrets: One per cell and seed; a refusal has that of the default LR.
        tasks: The task of each.
        mean, low, high: Mean regret, with a 95 % interval over tasks.
        p90: What nine of ten regrets stay below.
        close: Share of regrets of at most 0.05.
        lost: Share of regrets of at least 0.5.
        distance: Median distance to the oracle in decades.
        refused: Share of refusals.
        steps: Mean training steps spent.
    """

    name: str
    regrets: Vector
    tasks: NDArray[np.str_]
    mean: float
    low: float
    high: float
    p90: float
    close: float
    lost: float
    distance: float
    refused: float
    steps: float


def learnable(cells: Sequence[Cell], budget: int) -> list[Cell]:
    """The cells whose oracle was trained that long, and learnt something."""
    return [c for c in cells if c.has(budget) and c.fall(budget) >= LEAST_FALL]


def interval(regrets: Vector, tasks: NDArray[np.str_]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean; whole tasks are drawn."""
    names, which = np.unique(tasks, return_inverse=True)
    sums, counts = np.bincount(which, regrets), np.bincount(which)
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(names), (2_000, len(names)))
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def row(
    contender: Contender, cells: Sequence[Cell], budget: int = SHORT
) -> Row:
    """Score one contender on all cells and seeds."""
    regrets, distances, tasks, steps, refused = [], [], [], [], []
    for cell in cells:
        for seed in range(cell.seeds):
            lr = contender.answer(cell, seed)
            bad = lr is None or not (np.isfinite(lr) and lr > 0)
            used = cell.default_lr if bad else float(lr)
            refused.append(bad)
            regrets.append(cell.regret(used, budget))
            distances.append(abs(np.log10(used / cell.best_lr(budget))))
            tasks.append(cell.task)
            steps.append(contender.steps(cell, seed))
    found, named = np.array(regrets), np.array(tasks)
    low, high = interval(found, named)
    return Row(
        contender.name,
        found,
        named,
        mean=float(found.mean()),
        low=low,
        high=high,
        p90=float(np.quantile(found, 0.9)),
        close=float(np.mean(found <= 0.05)),
        lost=float(np.mean(found >= 0.5)),
        distance=float(np.median(distances)),
        refused=float(np.mean(refused)),
        steps=float(np.mean(steps)),
    )


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a markdown table, lowest mean regret first."""
    lines = [
        "| rule | steps | mean regret (95 %) | p90 | within 5 % | >= 0.5 "
        "| median decades off | refused |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r.name} | {r.steps:.0f} | {r.mean:.3f} ({r.low:.3f} to "
        f"{r.high:.3f}) | {r.p90:.2f} | {r.close:.0%} | {r.lost:.1%} "
        f"| {r.distance:.2f} | {r.refused:.0%} |"
        for r in sorted(rows, key=lambda r: r.mean)
    ]
    return "\n".join(lines)
