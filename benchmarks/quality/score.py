"""Score every rule on the stored measurements.

Run: `python -m benchmarks.quality.score`. Prints the tables of this folder's
README and writes `regret.png`. Takes about a minute; nothing is trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality.cells import LATER
from benchmarks.quality.cells import RESULTS
from benchmarks.quality.cells import SHORT
from benchmarks.quality.cells import Cell
from benchmarks.quality.cells import load
from benchmarks.quality.contenders import Contender
from benchmarks.quality.contenders import baselines
from benchmarks.quality.contenders import peers
from benchmarks.quality.fit import LONG
from benchmarks.quality.honesty import report
from benchmarks.quality.ours import by_probes
from benchmarks.quality.ours import by_ramp
from benchmarks.quality.ours import left_out
from benchmarks.quality.ours import other_rules
from benchmarks.quality.ours import shipped
from benchmarks.quality.picture import draw
from benchmarks.quality.tally import Row
from benchmarks.quality.tally import learnable
from benchmarks.quality.tally import markdown
from benchmarks.quality.tally import row

PICTURE = Path(__file__).with_name("regret.png")
RAMP = 1
MAIN = ("sgd", "momentum", "adam")
BEST_PEERS = ("raw minimum / 10", "fastai valley")


def ours() -> list[Contender]:
    """The package's default rule, alone and with probes."""
    return [
        by_ramp("**keras_lrfinder**, ramp", RAMP, shipped),
        by_ramp("keras_lrfinder, ramp, family left out", RAMP, left_out),
        by_probes("**keras_lrfinder**, ramp and probes", RAMP, shipped),
        by_probes(
            "keras_lrfinder, ramp and probes, family left out", RAMP, left_out
        ),
    ]


def more() -> list[Contender]:
    """The package under other circumstances."""
    return [
        by_ramp("ramp of 50 steps", 0, shipped),
        by_ramp("ramp of 200 steps", 2, shipped),
        by_ramp("ramp of 300 steps", 3, shipped),
        by_probes("probes judged by validation data", RAMP, shipped, "held"),
        by_probes("probes without held-out samples", RAMP, shipped, "none"),
        *other_rules(RAMP),
    ]


def ranked(
    cells: Sequence[Cell], budget: int, contenders: Sequence[Contender]
) -> list[Row]:
    """Rows of all contenders on the cells trained that long."""
    kept = learnable(cells, budget)
    return [row(c, kept, budget) for c in contenders]


def by_part(parts: dict[str, list[Cell]], budget: int) -> str:
    """Mean regret of a few contenders on parts of the benchmark."""
    chosen = [*ours(), *(p for p in peers(RAMP) if p.name in BEST_PEERS)]
    lines = [
        "| | cells | " + " | ".join(c.name for c in chosen) + " |",
        "| --- | ---: |" + " ---: |" * len(chosen),
    ]
    for name, part in parts.items():
        kept = learnable(part, budget)
        if kept:
            means = [row(c, kept, budget).mean for c in chosen]
            found = " | ".join(f"{m:.3f}" for m in means)
            lines.append(f"| {name} | {len(kept)} | {found} |")
    return "\n".join(lines)


def parts(cells: Sequence[Cell], key: str) -> dict[str, list[Cell]]:
    """The cells by optimizer or by family."""
    names = sorted({getattr(c, key) for c in cells})
    return {n: [c for c in cells if getattr(c, key) == n] for n in names}


def main() -> None:
    """Print all tables, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    args = parser.parse_args()
    everything = load(args.results)
    cells = [c for c in everything if c.family != LATER]
    core = [c for c in cells if c.optimizer in MAIN]
    for budget in (SHORT, LONG):
        kept = learnable(core, budget)
        everyone = [*ours(), *peers(RAMP), *baselines(kept, budget)]
        rows = ranked(core, budget, everyone)
        print(f"\n### {budget} steps, {len(kept)} cells\n")
        print(markdown(rows))
        if budget == SHORT:
            dropped = sorted({c.name for c in core} - {c.name for c in kept})
            print("\nNot counted, too little to learn:", ", ".join(dropped))
            draw(rows, args.picture)
    unseen = learnable([c for c in everything if c.family == LATER], SHORT)
    if unseen:
        seen_by_none = [c for c in ours() if "left out" not in c.name]
        pool = [*learnable(core, SHORT), *unseen]
        seen_by_none += [*peers(RAMP), *baselines(pool)]
        print(f"\n### Tasks measured later, {len(unseen)} cells\n")
        print(markdown(ranked(unseen, SHORT, seen_by_none)))
    print(f"\n### More of keras_lrfinder, {SHORT} steps\n")
    print(markdown(ranked(core, SHORT, more())))
    print("\n### Peers on a ramp of 300 steps\n")
    print(markdown(ranked(core, SHORT, peers(3))))
    for key, which in (("optimizer", cells), ("family", core)):
        print(f"\n### Mean regret by {key}, {SHORT} steps\n")
        print(by_part(parts(which, key), SHORT))
    print("\n### Honesty\n")
    print(report(learnable([*cells, *unseen], SHORT), RAMP))


if __name__ == "__main__":
    main()
