"""Draw the README's picture: what each contender's answer ends with.

Run: `python -m benchmarks.quality.picture`. Excess loss over all trainings of
the seen families, each left out, with its 95 % interval over families.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality import score
from benchmarks.quality.cells import load

PICTURE = Path(__file__).with_name("excess.png")
Row = tuple[str, float, float, float]


def rows() -> list[Row]:
    """Name, mean and both ends of the interval, the highest first."""
    cells = [c for c in load() if c.can_learn]
    found = [
        (
            f"{who.name}, {who.steps} steps",
            *np.exp([score.mean(own), *score.interval(own)]).tolist(),
        )
        for who, own in score.everyone(cells)
    ]
    return sorted(found, key=lambda row: -row[1])


def draw(found: Sequence[Row], target: Path) -> None:
    """Write one line per contender."""
    from matplotlib.figure import Figure

    size = (8, 0.3 * len(found) + 1)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    for height, (name, middle, low, high) in enumerate(found):
        colour = "tab:blue" if "*" in name else "0.45"
        axes.plot([low, high], [height] * 2, colour, lw=4, alpha=0.4)
        axes.plot(middle, height, "o", color=colour)
    axes.set_yticks(range(len(found)), [r[0].replace("*", "") for r in found])
    axes.set_xscale("log")
    ticks = [1, 1.2, 1.5, 2, 3, 5]
    axes.set_xticks(ticks, [f"x{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("loss at the end over that of the grid's best LR")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(target, dpi=110)


def main() -> None:
    """Draw it."""
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    draw(rows(), PICTURE)


if __name__ == "__main__":
    main()
