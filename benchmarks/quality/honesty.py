"""Does a suggestion keep what it says? Intervals, confidence, invariance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.quality.cells import RAMPS
from benchmarks.quality.cells import Cell
from benchmarks.quality.ours import probed
from benchmarks.quality.ours import shipped
from benchmarks.quality.ours import suggested
from keras_lrfinder.analysis.suggestions import Suggestion

GOOD = 0.05
Found = list[tuple[Cell, Suggestion]]


def holds(cell: Cell, suggestion: Suggestion) -> bool:
    """Whether a learning rate within 5 % lies in the interval."""
    if suggestion.lr is None:
        return False
    ends = np.log10([suggestion.low, suggestion.high])
    return any(cell.regret(10.0**x) <= GOOD for x in np.linspace(*ends, 15))


def holds_best(cell: Cell, suggestion: Suggestion) -> bool:
    """Whether the best learning rate of the grid lies in the interval."""
    if suggestion.lr is None:
        return False
    return suggestion.low <= cell.best_lr() <= suggestion.high


def confidence(found: Found) -> list[str]:
    """A line of the table for each level of confidence."""
    lines = []
    for level in ("high", "low", "none"):
        part = [(c, s) for c, s in found if s.confidence == level]
        if not part:
            continue
        regrets = np.array([c.regret(s.lr or c.default_lr) for c, s in part])
        kept = np.mean([holds(c, s) for c, s in part])
        best = np.mean([holds_best(c, s) for c, s in part])
        wide = np.mean([s.high / s.low for _, s in part if s.lr] or [np.nan])
        lines.append(
            f"{level} | {len(part) / len(found):.0%} | {regrets.mean():.3f} "
            f"| {np.mean(regrets <= GOOD):.0%} | {kept:.0%} | {best:.0%} "
            f"| {wide:.0f}"
        )
    return lines


def moves(cells: Sequence[Cell], ramp: int, other: int) -> str:
    """By which factor the suggestion moves when the ramp is another one."""
    factors = []
    for cell in cells:
        for seed in range(cell.seeds):
            pair = [suggested(cell, seed, r, shipped).lr for r in (ramp, other)]
            if None not in pair:
                factors.append(max(pair) / min(pair))
    low, high = np.quantile(factors, [0.5, 0.9])
    start, end, steps = RAMPS[other]
    return f"| {start:g} to {end:g}, {steps} steps | {low:.2f} | {high:.2f} |"


def report(cells: Sequence[Cell], ramp: int) -> str:
    """Both tables in markdown."""
    tests = [(c, s) for c in cells for s in range(c.seeds)]
    ramps = [(c, suggested(c, s, ramp, shipped)) for c, s in tests]
    runs = [(c, probed(c, s, ramp, shipped, "fresh")[0]) for c, s in tests]
    lines = [
        "| | confidence | share | mean regret | within 5 % | interval holds "
        "an LR within 5 % | holds the best LR | high / low |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in (("ramp", ramps), ("ramp and probes", runs)):
        lines += [f"| {name} | {line} |" for line in confidence(found)]
    lines += [
        "",
        "Against 1e-07 to 10, 100 steps, the suggestion moves by a factor:",
        "",
        "| ramp | median | nine of ten below |",
        "| --- | ---: | ---: |",
    ]
    others = [r for r in range(len(RAMPS)) if r != ramp]
    lines += [moves(cells, ramp, other) for other in others]
    return "\n".join(lines)
