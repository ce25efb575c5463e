"""How far large batches move the best learning rate: `large_batches`.

Run: `python -m benchmarks.outcome.batches`. Ramp and probes on cells that were
recorded with batches of 16, 64 and 512 samples (`record --batch 64`), after 500
constant steps: by how many decades the answer is off on average, by which
factor in the median, and the mean excess loss at it and so many decades above
it. `no law` answers as if all batches had 32 samples. Families are left out of
the constants.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.outcome import readings
from benchmarks.outcome import simulate
from benchmarks.outcome.recording import RESULTS
from benchmarks.outcome.recording import Cell
from benchmarks.outcome.recording import Target
from benchmarks.outcome.recording import load
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.default_rule import large_batches

SIZES = (16, 64, 512)
TARGET = Target("constant", 500)
ABOVE = (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def answer(cell: Cell, seed: int) -> float | None:
    """log10 of what ramp and probes say of 500 constant steps."""
    known = readings.left_out(cell.family)
    said = simulate.climbed(cell, seed, known).suggestion()
    if said.lr is None:
        return None
    return float(np.log10(said.lr_for(TARGET.schedule, TARGET.steps)))


def as_small(cell: Cell) -> Cell:
    """The cell as one of batches of 32, with as long an epoch."""
    curve = cell.curve(0)
    epoch = 10.0 ** (2.0 - few_batches(curve))
    small = {"batch": np.array(32), "steps_per_epoch": np.array(round(epoch))}
    return dataclasses.replace(cell, arrays=cell.arrays | small)


def every(results: Path) -> list[Cell]:
    """All cells there, seen and unseen."""
    return [*load(results, unseen=False), *load(results, unseen=True)]


def line(name: str, cells: Sequence[Cell], asked: Sequence[Cell]) -> str:
    """A line of the table: `asked` answers for `cells`."""
    rows: list[NDArray[np.float64]] = []
    off = []
    for cell, told in zip(cells, asked):
        for seed in range(cell.seeds):
            decades = answer(told, seed)
            if decades is None:
                decades = float(np.log10(cell.default_lr))
            off.append(decades - cell.best(TARGET))
            rows.append(
                np.array(
                    [cell.excess(10 ** (decades + a), TARGET) for a in ABOVE]
                )
            )
    means = np.exp(np.mean(rows, axis=0))
    cut = 10.0 ** np.median(np.abs(off))
    return (
        f"| {name} | {len(rows)} | {np.mean(off):+.2f} | {cut:.2f} | "
        + " | ".join(f"x{m:.3f}" for m in means)
        + " |"
    )


def main() -> None:
    """Print the table, with and without the task that rules every mean."""
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    print(
        "| batch | tests | off, decades | median factor | "
        + " | ".join(f"{a:+.1f}" for a in ABOVE)
        + " |\n|"
        + " --- |" * (4 + len(ABOVE))
    )
    for title, left_out in ((", no physics", ("physics",)), ("", ())):
        for size in SIZES:
            cells = every(RESULTS / f"batch_{size}")
            part = [c for c in cells if c.task not in left_out]
            print(line(f"{size}{title}", part, part), flush=True)
            if large_batches(cells[0].curve(0)):
                small = [as_small(c) for c in part]
                print(line(f"{size}, no law{title}", part, small), flush=True)


if __name__ == "__main__":
    main()
