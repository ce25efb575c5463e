"""Score everything on the recordings: one table, one picture.

Run: `python -m benchmarks.outcome.score` (`--unseen` for the families that
no constant saw, `--tuners` for the tuners as well, which takes
Optuna and KerasTuner).
"""

from __future__ import annotations

import argparse
import functools
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.outcome import fit
from benchmarks.outcome import readings
from benchmarks.outcome import simulate
from benchmarks.outcome import tuners
from benchmarks.outcome.recording import UNSEEN
from benchmarks.outcome.recording import Cell
from benchmarks.outcome.recording import Target
from benchmarks.outcome.recording import load
from benchmarks.quality.peers import PEERS
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.suggestions import Suggestion

Ask = Callable[[Cell, int, Target], "float | None"]
PICTURE = Path(__file__).with_name("outcome.png")
# Name, steps, and what is run.
OURS = (
    ("**search**", 1000, "search"),
    ("**ramp and probes**", 280, "probes"),
    ("**ramp**", 100, "ramp"),
)
# How many whole trainings, after ramp and probes.
WHOLE = (5, 4, 3, 2)
# Of these every search has its own trainings.
REHEARSED = fit.TARGETS[:7]
HEADER = (
    "| | steps | training | excess (95 %) | p90 | within 5 % | within 10 % "
    "| x3 and more | refused | time lost |\n"
    "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


@functools.cache
def suggested(cell: Cell, seed: int, runs: str, left_out: bool) -> Suggestion:
    """What the package says after a `"ramp"`, `"probes"` or a `"search"`.

    A family that is left out is judged by constants that never saw it; so are
    the unseen ones, which may have a namesake in the other benchmark.
    """
    other = left_out or cell.family in UNSEEN
    known = readings.left_out(cell.family if other else "")
    if runs == "ramp":
        return known.suggested(cell.curve(seed))
    if runs == "probes":
        return simulate.climbed(cell, seed, known).suggestion()
    used = _fitted(cell, left_out).search
    return simulate.searched(cell, seed, known, used).suggestion()


def _fitted(cell: Cell, left_out: bool) -> fit.Fitted:
    return fit.read()[cell.family if left_out else ""]


def moved(cell: Cell, seed: int, target: Target, left_out: bool) -> float:
    """Decades from what the package says to what it says of a training."""
    factors = _fitted(cell, left_out).factors
    few = few_batches(cell.curve(seed))
    return fit.moved(cell.kind, target, few, factors)


def ours(runs: str, left_out: bool) -> Ask:
    """The package, told schedule and length (`lr_for`)."""

    def ask(cell, seed, target):
        lr = suggested(cell, seed, runs, left_out).lr
        if lr is None:
            return None
        return lr * 10.0 ** moved(cell, seed, target, left_out)

    return ask


@functools.cache
def rehearsed(
    cell: Cell, seed: int, target: Target, most: int, left_out: bool
) -> Suggestion:
    """What the package says after so many whole trainings of a target."""
    other = left_out or cell.family in UNSEEN
    known = readings.left_out(cell.family if other else "")
    factors = _fitted(cell, left_out).factors
    given = cell, seed, target, most, known, factors
    return simulate.rehearsed(*given).suggestion()


def whole(most: int, left_out: bool) -> Ask:
    """The package, with whole trainings of the target itself."""

    def ask(cell, seed, target):
        return rehearsed(cell, seed, target, most, left_out).lr

    return ask


def another_seed(cell: Cell, seed: int, target: Target) -> float:
    """A whole grid search of 500 constant steps, with another seed."""
    held = cell.arrays["search_test"][seed, :, -1]
    held = np.where(np.isfinite(held), held, np.inf)
    return float(10.0 ** cell.x[held.argmin()])


@functools.cache
def tuned_by(name: str, cell: Cell, seed: int, total: int) -> float:
    """log10 of what a tuner chooses after `total` steps of constant runs."""
    return getattr(tuners, name)(cell, seed, total)


def grid_of_it(cell: Cell, seed: int, target: Target) -> float:
    """A whole grid search of the training itself, with another seed."""
    held = simulate.ends(cell, seed, target)
    return float(10.0 ** cell.x[held.argmin()])


def drawn_of_it(cell: Cell, seed: int, target: Target) -> float:
    """As many of these as after our probes, at learning rates drawn."""
    return 10.0 ** tuners.drawn(cell, seed, simulate.ends(cell, seed, target))


def contenders(left_out: bool, tuned: bool, target: Target):
    """Name, steps, and what to ask."""
    found: list[tuple[str, int, Ask]] = []
    if target in REHEARSED:
        for most in WHOLE:
            steps = OURS[1][1] + most * target.steps
            name = f"**{most} whole trainings**"
            found.append((name, steps, whole(most, left_out)))
        grid, drawn = 18 * target.steps, tuners.DRAWN * target.steps
        found.append(("grid of whole trainings", grid, grid_of_it))
        found.append(("random whole trainings", drawn, drawn_of_it))
    found += [(name, steps, ours(runs, left_out)) for name, steps, runs in OURS]
    for name, rule in PEERS.items():

        def ask(cell, seed, target, rule=rule):
            return rule(*cell.ramp(seed))

        found.append((name, 100, ask))
    found.append(("Keras's default", 0, lambda c, s, t: c.default_lr))
    found.append(("grid search, another seed", 9000, another_seed))
    if tuned:
        for total in tuners.TOTALS:
            for name in ("random_search", "hyperband", "tpe"):

                def ask(cell, seed, target, name=name, total=total):
                    return 10.0 ** tuned_by(name, cell, seed, total)

                found.append((name, total, ask))
    return found


def interval(values: np.ndarray, tasks: Sequence[str]) -> tuple[float, float]:
    """95 % bootstrap of the mean; whole tasks are drawn."""
    names, which = np.unique(tasks, return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)
    draws = np.random.default_rng(0).integers(
        0, len(names), (2_000, len(names))
    )
    means = sums[draws].sum(1) / counts[draws].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def measured(cells: Sequence[Cell], target: Target, ask: Ask):
    """Log excess, task, refusal and lost time of every cell and seed."""
    rows = []
    for cell in cells:
        if target not in cell.targets():
            continue
        for seed in range(cell.seeds):
            lr = ask(cell, seed, target)
            refused = lr is None or not (np.isfinite(lr) and lr > 0)
            lr = cell.default_lr if refused else lr
            lost = np.nan
            if target.schedule == "constant":
                lost = cell.lost_time(lr, target)
            rows.append((cell.excess(lr, target), cell.task, refused, lost))
    return rows


def line(name: str, steps: int, target: Target, rows) -> str:
    """A line of the table."""
    values = np.array([r[0] for r in rows])
    low, high = np.exp(interval(values, [r[1] for r in rows]))
    refused = np.mean([r[2] for r in rows])
    lost = np.array([r[3] for r in rows])
    late = "" if np.isnan(lost).all() else f"{np.nanmean(lost):.0%}"
    return (
        f"| {name} | {steps} | {target} | x{np.exp(values.mean()):.3f} "
        f"({low:.3f} to {high:.3f}) | x{np.exp(np.quantile(values, 0.9)):.2f} "
        f"| {np.mean(values <= np.log(1.05)):.0%} "
        f"| {np.mean(values <= np.log(1.1)):.0%} "
        f"| {np.mean(values >= np.log(3.0)):.1%} | {refused:.1%} | {late} |"
    )


def told(cells: Sequence[Cell], runs: str, left_out: bool):
    """What is said of each test, for each training: suggestion, moved, best."""
    for cell, seed in ((c, s) for c in cells for s in range(c.seeds)):
        said = suggested(cell, seed, runs, left_out)
        for target in fit.ASKED:
            by = moved(cell, seed, target, left_out)
            yield said, by, cell.best(target)


def told_whole(cells: Sequence[Cell], most: int, left_out: bool):
    """The same after so many whole trainings."""
    for cell, seed in ((c, s) for c in cells for s in range(c.seeds)):
        for target in (t for t in REHEARSED if t in cell.targets()):
            said = rehearsed(cell, seed, target, most, left_out)
            yield said, 0.0, cell.best(target)


def confidence(cells: Sequence[Cell], left_out: bool) -> str:
    """How often the range holds the best LR, by confidence."""
    lines = [
        "| | confidence | share | holds the best LR | factor, high to low |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    asked = [
        (f"**{n} whole trainings**", told_whole(cells, n, left_out))
        for n in WHOLE
    ]
    asked += [(name, told(cells, runs, left_out)) for name, _, runs in OURS]
    for name, said in asked:
        found = []
        for suggestion, by, best in said:
            if suggestion.lr is not None:
                low, high = np.log10([suggestion.low, suggestion.high]) + by
                holds = low <= best <= high
                found.append((suggestion.confidence, holds, high - low))
        for level in ("high", "low"):
            part = [f for f in found if f[0] == level]
            if part:
                _, holds, wide = (np.array(v) for v in zip(*part))
                lines.append(
                    f"| {name} | {level} | {len(part) / len(found):.0%} | "
                    f"{holds.mean():.0%} of {len(part)} | "
                    f"{10 ** wide.mean():.0f} |"
                )
    return "\n".join(lines)


def draw(rows: list[tuple[str, str, float, float, float]]) -> None:
    """Excess loss with its interval, by contender."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kept = [r for r in rows if r[1] == "constant 500"]
    kept.sort(key=lambda r: -r[2])
    figure, axes = plt.subplots(figsize=(9, 0.25 * len(kept) + 1))
    for i, (name, _, mean, low, high) in enumerate(kept):
        color = "C0" if "**" in name else "0.5"
        axes.plot([low, high], [i, i], color=color)
        axes.plot(mean, i, "o", color=color)
    axes.set_yticks(range(len(kept)), [r[0].replace("*", "") for r in kept])
    axes.set_xscale("log")
    ticks = [1, 1.2, 1.5, 2, 3, 5]
    axes.set_xticks(ticks, [f"x{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_xlabel("excess loss after 500 constant steps")
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    """Print the tables, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unseen", action="store_true")
    parser.add_argument("--tuners", action="store_true")
    parser.add_argument("--leave-out", metavar="TASK", nargs="*", default=[])
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    everything = load(unseen=args.unseen)
    cells = fit.learnable(everything)
    cells = [c for c in cells if c.task not in args.leave_out]
    print(f"{len(cells)} of {len(everything)} cells, unseen: {args.unseen}\n")
    print(HEADER)
    drawn = []
    left_out = not args.unseen
    targets = [t for t in fit.TARGETS if any(t in c.targets() for c in cells)]
    for target in targets:
        for name, steps, ask in contenders(left_out, args.tuners, target):
            rows = measured(cells, target, ask)
            print(line(name, steps, target, rows), flush=True)
            values = np.array([r[0] for r in rows])
            ends = np.exp(interval(values, [r[1] for r in rows]))
            label = f"{name}, {steps:,} steps"
            drawn.append(
                (label, str(target), float(np.exp(values.mean())), *ends)
            )
    if not args.unseen:
        print("\nConstants that saw the family:\n\n" + HEADER)
        for target in targets:
            for name, steps, runs in OURS:
                ask = ours(runs, False)
                print(line(name, steps, target, measured(cells, target, ask)))
    print("\nBy optimizer, ramp and probes, constant 500 and all four:\n")
    for optimizer in sorted({c.optimizer for c in cells}):
        part = [c for c in cells if c.optimizer == optimizer]
        ask = ours("probes", left_out)
        each = [
            np.mean([r[0] for r in measured(part, t, ask)]) for t in fit.ASKED
        ]
        print(
            f"- {optimizer}: x{np.exp(each[0]):.3f}, "
            f"x{np.exp(np.mean(each)):.3f}"
        )
    print("\n" + confidence(cells, left_out))
    if args.unseen and not args.leave_out:
        draw(drawn)


if __name__ == "__main__":
    main()
