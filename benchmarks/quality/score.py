"""Score everything on the recordings: the tables of the README.

Run: `python -m benchmarks.quality.score` (`--groups unseen` and so on for other
tasks than the seen ones, `--tuners` for the tuners, which takes Optuna and
KerasTuner). Nothing is trained. Every family is judged by constants that were
fitted without it and its kin.

Excess loss is the held-out loss at the end over that of the grid's best LR; a
refusal counts as Keras's default. Means are geometric, first over the tests of
a training, then over trainings; intervals are bootstrapped over families.
"""

from __future__ import annotations

import argparse
import functools
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.quality import simulate
from benchmarks.quality import tuners
from benchmarks.quality.cells import RUNS
from benchmarks.quality.cells import TARGETS
from benchmarks.quality.cells import WHOLE
from benchmarks.quality.cells import Cell
from benchmarks.quality.cells import Target
from benchmarks.quality.cells import Vector
from benchmarks.quality.cells import load
from benchmarks.quality.cells import named
from benchmarks.quality.peers import PEERS
from benchmarks.quality.tasks import SEEN
from keras_lrfinder.analysis.suggestions import RULES
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest

Ask = Callable[[Cell, int, Target], "float | None"]


class Contender(NamedTuple):
    """Who answers: name, steps in words, and for which LR to ask.

    `tries`: whether it makes the training itself.
    """

    name: str
    steps: str
    ask: Ask
    tries: bool = False


class Result(NamedTuple):
    """What a contender's answer costs in a test."""

    cell: Cell
    target: Target
    excess: float
    regret: float
    refused: bool


@functools.cache
def said(
    cell: Cell, seed: int, target: Target, probes: int, trainings: int
) -> Suggestion:
    """What the package says, with constants that never saw the family."""
    return simulate.searched(
        cell,
        seed,
        target,
        probes=probes,
        trainings=trainings,
        constants=simulate.left_out(cell.task.family),
    )[1]


def ours(probes: int, trainings: int = 0) -> Ask:
    """The package, told schedule and length."""

    def ask(cell: Cell, seed: int, target: Target) -> float | None:
        return said(cell, seed, target, probes, trainings).lr

    return ask


RAMP, PROBES = ours(0), ours(3)


def ends(cell: Cell, seed: int, target: Target) -> Vector:
    """Held-out loss that a searching seed's own trainings end with, by LR."""
    before = cell.arrays["before"][seed]
    return np.fmin(cell.arrays["held"][seed, RUNS.index(target)], before)


def grid(cell: Cell, seed: int, target: Target) -> float:
    """All trainings of the grid, with another seed than the judge's."""
    return float(10.0 ** cell.x[ends(cell, seed, target).argmin()])


def contenders(target: Target, tuned: bool) -> Iterator[Contender]:
    """Everyone who answers for a training."""
    if target in WHOLE:
        for most in (5, 4, 3, 2):
            name = f"**{most} whole trainings**"
            yield Contender(name, f"280 + {most} T", ours(3, most), True)
        yield Contender("grid of whole trainings", "18 T", grid, True)
    yield Contender("**ramp and probes**", "280", PROBES)
    yield Contender("**ramp**", "100", RAMP)
    if tuned:
        for total in tuners.TOTALS:
            for name, run in tuners.TUNERS.items():

                def ask(cell, seed, target, run=run, total=total):
                    return 10.0 ** run(cell, seed, total)

                yield Contender(name, f"{total:,}", ask)
    for name, rule in PEERS.items():

        def by_rule(cell, seed, target, rule=rule):
            return rule(*cell.ramp(seed))

        yield Contender(name, "100", by_rule)
    yield Contender("Keras's default", "0", lambda c, s, t: c.default_lr)


def measured(
    cells: Sequence[Cell], ask: Ask, targets: Sequence[Target] = TARGETS
) -> list[Result]:
    """What every answer costs."""
    found = []
    for cell in cells:
        for target in (t for t in targets if t in cell.targets):
            for seed in range(cell.seeds):
                lr = ask(cell, seed, target)
                refused = lr is None or not (np.isfinite(lr) and lr > 0)
                lr = cell.default_lr if refused or lr is None else lr
                costs = cell.excess(lr, target), cell.regret(lr, target)
                found.append(Result(cell, target, *map(float, costs), refused))
    return found


def mean(results: Sequence[Result]) -> float:
    """Mean log excess: every training counts alike."""
    by_target: dict[Target, list[float]] = {}
    for each in results:
        by_target.setdefault(each.target, []).append(each.excess)
    return float(np.mean([np.mean(v) for v in by_target.values()]))


def interval(results: Sequence[Result]) -> tuple[float, float]:
    """95 % bootstrap of the mean; whole families are drawn."""
    names = sorted({r.cell.task.family for r in results})
    targets = sorted({r.target for r in results})
    sums = np.zeros((len(names), len(targets)))
    counts = np.zeros_like(sums)
    for each in results:
        place = (
            names.index(each.cell.task.family),
            targets.index(each.target),
        )
        sums[place] += each.excess
        counts[place] += 1
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(names), (2_000, len(names)))
    means = sums[drawn].sum(1) / np.maximum(counts[drawn].sum(1), 1)
    low, high = np.quantile(means.mean(1), [0.025, 0.975])
    return float(low), float(high)


def line(who: Contender, results: Sequence[Result]) -> str:
    """A row of the table."""
    excess = np.array([r.excess for r in results])
    low, high = np.exp(interval(results))
    by_target = []
    for target in TARGETS:
        part = [r.excess for r in results if r.target == target]
        by_target.append(f"{np.exp(np.mean(part)):.3f}" if part else "")
    return (
        f"| {who.name} | {who.steps} | x{np.exp(mean(results)):.3f} "
        f"({low:.2f} to {high:.2f}) | x{np.exp(np.quantile(excess, 0.9)):.2f} "
        f"| {np.mean(excess <= np.log(1.05)):.0%} "
        f"| {np.mean(excess >= np.log(3.0)):.1%} "
        f"| {np.mean([r.refused for r in results]):.1%} "
        f"| {np.mean([r.regret for r in results]):.3f} | "
        + " | ".join(by_target)
        + " |"
    )


def header() -> str:
    """The first two rows of the table."""
    names = [
        "",
        "steps",
        "excess (95 %)",
        "p90",
        "within 5 %",
        "x3",
        "refused",
        "regret",
        *map(named, TARGETS),
    ]
    return f"| {' | '.join(names)} |\n|{' --- |' * len(names)}"


def everyone(
    cells: Sequence[Cell], tuned: bool = False
) -> list[tuple[Contender, list[Result]]]:
    """All contenders, and what their answers cost."""
    found: dict[str, tuple[Contender, list[Result]]] = {}
    for target in TARGETS:
        for who in contenders(target, tuned):
            part = [c for c in cells if not who.tries or target in c.runs]
            own = measured(part, who.ask, [target])
            key = f"{who.name} {who.steps}"
            found.setdefault(key, (who, []))[1].extend(own)
    return [(who, results) for who, results in found.values() if results]


def table(cells: Sequence[Cell], tuned: bool = False) -> Iterator[str]:
    """The rows of the table."""
    yield header()
    for who, results in everyone(cells, tuned):
        yield line(who, results)


def by_optimizer(cells: Sequence[Cell]) -> Iterator[str]:
    """Mean excess by optimizer."""
    names = sorted({c.optimizer for c in cells})
    yield f"| | {' | '.join(names)} |\n|{' --- |' * (len(names) + 1)}"
    for name, ask in (("ramp and probes", PROBES), ("ramp", RAMP)):
        means = []
        for optimizer in names:
            part = [c for c in cells if c.optimizer == optimizer]
            means.append(f"x{np.exp(mean(measured(part, ask))):.3f}")
        yield f"| {name} | {' | '.join(means)} |"


def ranges(cells: Sequence[Cell]) -> Iterator[str]:
    """How often the range holds the best LR, by confidence."""
    yield (
        "| | of all | width | high: share | of high | width |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    kinds = [(0, 0), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5)]
    for probes, most in kinds:
        found = []
        for cell in cells:
            for target in cell.targets:
                if most and (target not in WHOLE or target not in cell.runs):
                    continue
                for seed in range(cell.seeds):
                    told = said(cell, seed, target, probes, most)
                    if told.low is None or told.high is None:
                        continue
                    low, high = np.log10([told.low, told.high])
                    holds = low - 1e-9 <= cell.best(target) <= high + 1e-9
                    found.append((holds, high - low, told.confidence == "high"))
        if not found:
            continue
        holds, wide, sure = (np.array(v) for v in zip(*found))
        name = f"{most} whole trainings" if most else "ramp and probes"
        name = name if probes else "ramp"
        yield (
            f"| {name} | {holds.mean():.1%} | x{10 ** wide.mean():.0f} | "
            f"{sure.mean():.0%} | {holds[sure].mean():.1%} | "
            f"x{10 ** wide[sure].mean():.0f} |"
        )


def told_or_not(cells: Sequence[Cell]) -> Iterator[str]:
    """What it costs not to say how long the training is."""

    def untold(cell: Cell, seed: int, target: Target) -> float | None:
        return said(cell, seed, (target[0], 1000), 3, 0).lr

    yield (
        "| an epoch has | cells | length said | not said |\n"
        "| --- | --- | --- | --- |"
    )
    for few in (False, True):
        part = [c for c in cells if (c.arrays["facts"][1] < 100) == few]
        if part:
            means = [np.exp(mean(measured(part, a))) for a in (PROBES, untold)]
            name = "fewer than 100 steps" if few else "100 steps and more"
            yield (
                f"| {name} | {len(part)} | x{means[0]:.3f} | x{means[1]:.3f} |"
            )


def own_rules(cells: Sequence[Cell]) -> Iterator[str]:
    """The package's other rules, which read the ramp alone."""
    yield header()
    for name in (rule for rule in RULES if rule != "default"):

        def ask(cell, seed, target, name=name):
            return suggest(cell.curve(seed), name).lr

        yield line(Contender(name, "100", ask), measured(cells, ask))


def between_seeds(cells: Sequence[Cell]) -> Iterator[str]:
    """By what factor the answer moves with the seed of the search."""
    yield "| between two seeds | median | p90 |\n| --- | --- | --- |"
    for name, probes in (("ramp", 0), ("ramp and probes", 3)):
        moves = []
        for cell in cells:
            for target in cell.targets:
                lrs = [said(cell, s, target, probes, 0).lr for s in (0, 1)]
                if None not in lrs:
                    moves.append(abs(np.subtract(*np.log10(lrs))))
        factors = 10.0 ** np.quantile(moves, [0.5, 0.9])
        yield f"| {name} | x{factors[0]:.2f} | x{factors[1]:.2f} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", nargs="*", default=[SEEN])
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="TASK")
    parser.add_argument("--tuners", action="store_true")
    parser.add_argument("--sizes", action="store_true", help="of batches")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    cells = [
        c
        for c in load(args.groups, sizes=args.sizes)
        if c.can_learn and c.task.name not in args.leave_out
    ]
    families = {c.task.family for c in cells}
    print(f"{len(cells)} cells of {len(families)} families\n")
    for part in (
        table(cells, args.tuners),
        by_optimizer(cells),
        ranges(cells),
        told_or_not(cells),
        own_rules(cells),
        between_seeds(cells),
    ):
        for row in part:
            print(row, flush=True)
        print()


if __name__ == "__main__":
    main()
