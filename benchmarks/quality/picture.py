"""The picture of the score: regret of each contender, and how it spreads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.quality.tally import Row


def draw(rows: Sequence[Row], target: Path) -> None:
    """Write one line per contender: mean, 95 % interval, p90."""
    from matplotlib.figure import Figure

    shown = sorted(
        (r for r in rows if r.name != "oracle"), key=lambda r: -r.mean
    )
    figure = Figure(figsize=(8, 0.3 * len(shown) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for height, found in enumerate(shown):
        mine = "keras_lrfinder" in found.name
        colour = "tab:blue" if mine else "0.45"
        axes.plot(
            [found.low, found.high], [height] * 2, colour, lw=4, alpha=0.4
        )
        axes.plot(found.mean, height, "o", color=colour)
        axes.plot(found.p90, height, "|", color=colour, ms=10)
    axes.set_yticks(
        np.arange(len(shown)), [r.name.replace("*", "") for r in shown]
    )
    axes.set_xlim(0, 1)
    axes.set_xlabel(
        "regret: 0 as good as the best of a grid, 1 as bad as not training\n"
        "dot: mean, bar: its 95 % interval over tasks, tick: p90"
    )
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(target, dpi=110)
