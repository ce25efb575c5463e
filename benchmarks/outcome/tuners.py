"""What a careful user does instead: tuners over the LR, on recordings.

A trial trains from scratch at a constant learning rate drawn from a range of
1e-6 to 10 (SGD: 1e-5 to 100), for so many steps, and is judged by the
held-out loss that the search is judged by. The total of steps is fixed.
Trials outside the recorded grid count as not having learnt.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.outcome.recording import SHORT
from benchmarks.outcome.recording import Cell

TOTALS = (300, 1200, 2400)
RANGE = (-6.0, 1.0)


def reached(cell: Cell, seed: int, x: float, steps: int) -> float:
    """Held-out loss after `steps` steps at 10**x."""
    before = float(cell.arrays["reserved_before"][seed])
    row = cell.arrays["reserved"][seed, :, SHORT.index(steps)]
    row = np.where(row < before, row, before)
    lower, upper = cell.x[0] - 1, cell.x[-1] + 0.05
    return float(np.interp(x, [lower, *cell.x, upper], [before, *row, before]))


def _generator(cell: Cell, seed: int, *more: object) -> np.random.Generator:
    return np.random.default_rng([*repr((cell.name, more)).encode(), seed])


def random_search(cell: Cell, seed: int, total: int, each: int = 60) -> float:
    """Log-uniform draws, all of them trained alike; the best one wins."""
    rng = _generator(cell, seed, "random", total)
    each = each if total < 1_000 else 160
    draws = rng.uniform(*RANGE, max(total // each, 1))
    return float(min(draws, key=lambda x: reached(cell, seed, x, each)))


def hyperband(cell: Cell, seed: int, total: int) -> float:
    """One bracket after the other, each thinned out by three."""
    rng = _generator(cell, seed, "hyperband", total)
    rungs = (20, 60, 160) if total < 1_000 else (40, 120, 320)
    spent, best = 0, (math.inf, RANGE[0])
    bracket = 0
    while True:
        start = bracket % 2
        draws = list(rng.uniform(*RANGE, (9, 4)[start]))
        done = 0
        for rung in rungs[start:]:
            cost = len(draws) * (rung - done)
            if spent + cost > total:
                return best[1]
            spent, done = spent + cost, rung
            draws.sort(key=lambda x: reached(cell, seed, x, rung))
            # A longer trial is trusted more than a shorter one.
            score = (-rung, reached(cell, seed, draws[0], rung))
            best = (
                min(best, (score, draws[0]))
                if best[0] != math.inf
                else (
                    score,
                    draws[0],
                )
            )
            draws = draws[: max(len(draws) // 3, 1)]
        bracket += 1


def tpe(cell: Cell, seed: int, total: int) -> float:
    """Optuna's TPE with its median pruner; needs Optuna."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    most = 60 if total < 1_000 else 160
    checks = [s for s in SHORT if 20 <= s <= most]
    spent = 0
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=4),
        pruner=optuna.pruners.MedianPruner(3, 0),
    )
    while spent + checks[0] <= total:
        trial = study.ask()
        x = math.log10(trial.suggest_float("lr", 1e-6, 10.0, log=True))
        done = 0
        for check in checks:
            if spent + check - done > total:
                break
            spent, done = spent + check - done, check
            value = reached(cell, seed, x, check)
            trial.report(value, check)
            if trial.should_prune():
                break
        study.tell(trial, value if done else math.inf)
    return math.log10(study.best_params["lr"])
