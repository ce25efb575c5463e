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
from benchmarks.outcome import probing
from benchmarks.outcome import readings
from benchmarks.outcome import simulate
from benchmarks.outcome import tuners
from benchmarks.outcome.ours import answered
from benchmarks.outcome.recording import UNSEEN
from benchmarks.outcome.recording import Cell
from benchmarks.outcome.recording import Target
from benchmarks.outcome.recording import load
from benchmarks.outcome.simulate import PLANS
from benchmarks.quality.peers import PEERS
from benchmarks.quality.simulate import decided
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest

Ask = Callable[[Cell, int, Target], "float | None"]
PICTURE = Path(__file__).with_name("outcome.png")
HEADER = (
    "| | steps | training | excess (95 %) | p90 | within 5 % | within 10 % "
    "| x3 and more | refused | time lost |\n"
    "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def ours(plan: str, constants, left_out: bool) -> Ask:
    """The new search."""

    def ask(cell, seed, target):
        found = constants[cell.family if left_out else ""]
        one = answered(cell, seed, PLANS[plan], target, found)
        return 10.0**one.decades

    return ask


def _family(cell: Cell, left_out: bool) -> str:
    """Whose constants of the probes are to be taken.

    Those that no constant saw may have a namesake in the other benchmark.
    """
    known = cell.family in readings.read()
    return cell.family if known and (left_out or cell.family in UNSEEN) else ""


@functools.cache
def suggested(cell: Cell, seed: int, probed: bool, family: str) -> Suggestion:
    """What the package says by default, with constants of probes by family."""
    curve = cell.curve(seed)
    first = suggest(curve)
    if not probed:
        return first
    runs = probing.probes(cell, seed, curve, first)
    return decided(curve, first, runs, readings.read()[family])


def today(probed: bool, constants, left_out: bool) -> Ask:
    """The package by default, told schedule and length (`lr_for`)."""

    def ask(cell, seed, target):
        family = _family(cell, left_out)
        lr = suggested(cell, seed, probed, family).lr
        if lr is None:
            return None
        factors = constants[cell.family if left_out else ""].factors
        given = few_batches(cell.curve(seed)), factors
        kind = simulate.kind(cell)
        decades = shift(kind, target.schedule, target.steps, *given)
        decades -= shift(kind, "constant", MIDDLE_STEPS, *given)
        return lr * 10.0**decades

    return ask


def another_seed(cell: Cell, seed: int, target: Target) -> float:
    """A whole grid search of 500 constant steps, with another seed."""
    held = cell.arrays["search_test"][seed, :, -1]
    held = np.where(np.isfinite(held), held, np.inf)
    return float(10.0 ** cell.x[held.argmin()])


def contenders(constants, left_out: bool, tuned: bool):
    """Name, steps, and what to ask."""
    found: list[tuple[str, int, Ask]] = [
        ("**search, budget 2,400**", 2260, ours("2400", constants, left_out)),
        ("**search, budget 1,200**", 1060, ours("1200", constants, left_out)),
        ("ramp, for 500 steps", 100, ours("ramp", constants, left_out)),
        ("**ramp and probes**", 280, today(True, constants, left_out)),
        ("**ramp**", 100, today(False, constants, left_out)),
    ]
    for name, rule in PEERS.items():

        def ask(cell, seed, target, rule=rule):
            return rule(*cell.ramp(seed))

        found.append((name, 100, ask))
    found.append(("Keras's default", 0, lambda c, s, t: c.default_lr))
    found.append(("grid search, another seed", 9000, another_seed))
    if tuned:
        for total in tuners.TOTALS:
            for name in ("random_search", "hyperband", "tpe"):
                rule = functools.cache(getattr(tuners, name))

                def ask(cell, seed, target, rule=rule, total=total):
                    return 10.0 ** rule(cell, seed, total)

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


def confidence(cells: Sequence[Cell], constants, left_out: bool) -> str:
    """How often the interval holds the best LR, by confidence."""
    lines = [
        "| search | confidence | share | holds the best LR | factor, high "
        "to low |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, plan in PLANS.items():
        if name == "300":
            continue
        found = []
        for cell in cells:
            used = constants[cell.family if left_out else ""]
            for target in fit.TARGETS[:4]:
                for seed in range(cell.seeds):
                    one = answered(cell, seed, plan, target, used)
                    wide = used.search.reach[name][0 if one.sure else 1]
                    off = abs(one.decades - cell.best(target))
                    found.append((one.sure, off <= wide + 1e-9, wide))
        table = np.array(found, float)
        for said, title in ((1, "high"), (0, "low")):
            part = table[table[:, 0] == said]
            if len(part):
                lines.append(
                    f"| {name} | {title} | {len(part) / len(table):.0%} | "
                    f"{part[:, 1].mean():.0%} | "
                    f"{10 ** (2 * part[:, 2].mean()):.0f} |"
                )
    return "\n".join(lines)


def confidence_today(cells: Sequence[Cell]) -> str:
    """How often the package's own interval holds the best constant LR."""
    target = Target("constant", 500)
    lines = [
        "| today | confidence | share | holds the best LR | factor, high to "
        "low |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for probed, name in ((False, "ramp"), (True, "ramp and probes")):
        found = [
            (said, cell.best(target))
            for cell in cells
            for seed in range(cell.seeds)
            if (said := suggested(cell, seed, probed, _family(cell, True))).lr
        ]
        for level in ("high", "low"):
            part = [(s, best) for s, best in found if s.confidence == level]
            ends = np.log10([[s.low, s.high] for s, _ in part])
            best = np.array([best for _, best in part])
            inside = (ends[:, 0] <= best) & (best <= ends[:, 1])
            wide = np.diff(ends, axis=1).mean()
            lines.append(
                f"| {name} | {level} | {len(part) / len(found):.0%} | "
                f"{inside.mean():.0%} of {len(part)} | {10**wide:.0f} |"
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
    constants = fit.read()
    print(f"{len(cells)} of {len(everything)} cells, unseen: {args.unseen}\n")
    print(HEADER)
    drawn = []
    left_out = not args.unseen
    asked = contenders(constants, left_out, args.tuners)
    for target in fit.TARGETS:
        for name, steps, ask in asked:
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
        for target in fit.TARGETS:
            for name, steps, ask in contenders(constants, False, False)[:5]:
                print(line(name, steps, target, measured(cells, target, ask)))
    print("\nBy optimizer, ramp and probes, constant 500 and all four:\n")
    for optimizer in sorted({c.optimizer for c in cells}):
        part = [c for c in cells if c.optimizer == optimizer]
        ask = today(True, constants, left_out)
        each = [
            np.mean([r[0] for r in measured(part, t, ask)])
            for t in fit.TARGETS[:4]
        ]
        print(
            f"- {optimizer}: x{np.exp(each[0]):.3f}, "
            f"x{np.exp(np.mean(each)):.3f}"
        )
    print("\n" + confidence(cells, constants, left_out))
    print("\n" + confidence_today(cells))
    if args.unseen and not args.leave_out:
        draw(drawn)


if __name__ == "__main__":
    main()
