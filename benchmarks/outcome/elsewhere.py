"""The short search, with the constants from here, on `benchmarks/quality`.

Run: `python -m benchmarks.outcome.elsewhere`. Its tasks took no part in the
search's constants; the probes' and the ramp's constants were fitted on all
but those measured later. Training losses are kept for 60 steps there.
"""

from __future__ import annotations

import numpy as np

from benchmarks.outcome import fit
from benchmarks.outcome import simulate
from benchmarks.quality import ours
from benchmarks.quality.cells import LATER
from benchmarks.quality.cells import SHORT
from benchmarks.quality.cells import Cell
from benchmarks.quality.cells import load
from benchmarks.quality.simulate import curve
from benchmarks.quality.simulate import nearest
from benchmarks.quality.tally import learnable
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.schedule_factors import kind_of
from keras_lrfinder.analysis.search import Trial
from keras_lrfinder.analysis.search import answer
from keras_lrfinder.analysis.search import centre_of
from keras_lrfinder.analysis.search import next_trials
from keras_lrfinder.analysis.search import reading

RAMP, KEPT = 1, 60
PLAN = simulate.PLANS["300"]


def trial(cell: Cell, seed: int, lr: float, until: int) -> Trial:
    """The recorded run at the grid LR nearest to `lr`, by step `until`."""
    place, end = nearest(cell, lr), min(until, KEPT)
    tail = cell.probe_losses[seed, place, end - max(end // 4, 10) : end]
    held = cell.probe_fresh[seed, place, until // 10 - 1]
    return Trial(float(cell.grid[place]), until, tail.mean(), float(held))


def searched(cell: Cell, seed: int) -> float:
    """The LR that the short search tells for 500 constant steps."""
    constants = fit.read()[""].search
    momentum = 0.9 if cell.optimizer == "momentum" else 0.0
    name = "sgd" if cell.optimizer == "momentum" else cell.optimizer
    kind, _ = kind_of(name, momentum)
    measured = curve(cell, seed, RAMP)
    centre = centre_of(measured, landmarks(measured), kind, constants)
    before, trials = float(cell.probe_fresh[seed, 0, 0]), []
    while todo := next_trials(PLAN, centre, trials, before):
        found = [trial(cell, seed, *each) for each in todo]
        trials += {t.lr: t for t in found}.values()
    found = reading(PLAN, centre, trials, before)
    return 10.0 ** answer(kind, PLAN.name, centre, found, constants)


def probed(cell: Cell, seed: int) -> float:
    """What ramp and probes tell; a refusal is charged Keras's default."""
    found = ours.probed(cell, seed, RAMP, ours.shipped, "fresh")[0]
    return found.lr or cell.default_lr


def excess(cell: Cell, lr: float) -> float:
    """Log of the loss at `lr` over that of the grid's best, as in `score`."""
    row, initial = cell.row(SHORT), cell.oracle_initial.mean()
    if row.min() <= 0.0:
        losses = np.log1p((row - row.min()) / (initial - row.min()))
        worst = np.log(2.0)
    else:
        losses, worst = np.log(row / row.min()), np.log(initial / row.min())
    x = np.log10(cell.grid)
    return float(
        np.interp(
            np.log10(lr),
            [x[0] - 1, *x, x[-1] + 0.05],
            [worst, *losses, worst],
        )
    )


def main() -> None:
    """Print one table."""
    cells = learnable(load(), SHORT)
    print("| cells | | excess | within 5 % | mean regret | half lost |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for later in (False, True):
        part = [c for c in cells if (c.family == LATER) == later]
        for name, ask in (("short search", searched), ("probes", probed)):
            lrs = [(c, ask(c, s)) for c in part for s in range(c.seeds)]
            lost = np.array([excess(c, lr) for c, lr in lrs])
            regret = np.array([c.regret(lr) for c, lr in lrs])
            print(
                f"| {len(part)}{', seen by no constant' if later else ''} "
                f"| {name} | x{np.exp(lost.mean()):.3f} "
                f"| {np.mean(lost <= np.log(1.05)):.0%} "
                f"| {regret.mean():.3f} | {np.mean(regret >= 0.5):.1%} |"
            )


if __name__ == "__main__":
    main()
