"""Excess loss on `benchmarks/quality`, whose tables show regret.

Run: `python -m benchmarks.outcome.elsewhere`.
"""

from __future__ import annotations

import numpy as np

from benchmarks.quality import ours
from benchmarks.quality.cells import LATER
from benchmarks.quality.cells import SHORT
from benchmarks.quality.cells import Cell
from benchmarks.quality.cells import load
from benchmarks.quality.peers import PEERS
from benchmarks.quality.tally import learnable

# The ramp of 100 steps.
RAMP = 1


def contenders():
    """Name, and what to ask for a learning rate."""

    def probed(cell: Cell, seed: int):
        return ours.probed(cell, seed, RAMP, ours.left_out, "fresh")[0].lr

    def ramp(cell: Cell, seed: int):
        return ours.suggested(cell, seed, RAMP, ours.left_out).lr

    found = {"**ramp and probes**": probed, "**ramp**": ramp}
    for name, rule in PEERS.items():

        def ask(cell: Cell, seed: int, rule=rule):
            return rule(*cell.losses(seed, RAMP))

        found[name] = ask
    return found


def main() -> None:
    """Print one table."""
    cells = learnable(load(), SHORT)
    print("| cells | | excess | within 5 % | mean regret | half lost |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for later in (False, True):
        part = [c for c in cells if (c.family == LATER) == later]
        which = "seen by no constant" if later else "family left out"
        for name, ask in contenders().items():
            lrs = [(c, ask(c, s)) for c in part for s in range(c.seeds)]
            # A refusal is charged Keras's default.
            used = [
                (c, lr if lr and np.isfinite(lr) else c.default_lr)
                for c, lr in lrs
            ]
            lost = np.array([c.excess(lr) for c, lr in used])
            regret = np.array([c.regret(lr) for c, lr in used])
            print(
                f"| {len(part)}, {which} | {name} | "
                f"x{np.exp(lost.mean()):.3f} "
                f"| {np.mean(lost <= np.log(1.05)):.0%} "
                f"| {regret.mean():.3f} | {np.mean(regret >= 0.5):.1%} |"
            )


if __name__ == "__main__":
    main()
