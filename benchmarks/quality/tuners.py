"""What a careful user does instead: tuners over the LR, on recordings.

KerasTuner's RandomSearch and Hyperband, and Optuna's TPE with pruning. A trial
trains from scratch at a constant learning rate drawn from a range of 1e-6 to
10, and is judged by the held-out loss that the search is judged by. The total
of steps is fixed. Trials outside the recorded grid count as not having learnt.
"""

from __future__ import annotations

import contextlib
import functools
import math
import tempfile
import zlib
from collections.abc import Callable

import numpy as np

from benchmarks.quality.cells import SHORT
from benchmarks.quality.cells import Cell

TOTALS = (300, 1200, 2400)


def reached(cell: Cell, seed: int, x: float, steps: int) -> float:
    """Held-out loss after `steps` steps at 10**x."""
    before = float(cell.arrays["before"][seed])
    row = cell.arrays["short"][seed, SHORT.index(steps)]
    row = np.where(row < before, row, before)
    lower, upper = cell.x[0] - 1, cell.x[-1] + 0.05
    return float(np.interp(x, [lower, *cell.x, upper], [before, *row, before]))


@functools.cache
def random_search(cell: Cell, seed: int, total: int) -> float:
    """KerasTuner's RandomSearch: trials of one length, the best one wins."""
    import keras_tuner

    each = 60 if total < 1_000 else 160
    oracle = keras_tuner.oracles.RandomSearchOracle(
        max_trials=total // each, **_asked(cell, seed)
    )

    def run(x, hp):
        return reached(cell, seed, x, each), each

    return _best(oracle, run, total)


@functools.cache
def hyperband(cell: Cell, seed: int, total: int) -> float:
    """KerasTuner's Hyperband, 8 of its epochs at most, until steps run out."""
    import keras_tuner

    unit = 20 if total < 1_000 else 40
    oracle = keras_tuner.oracles.HyperbandOracle(
        max_epochs=8,
        factor=3,
        hyperband_iterations=99,
        **_asked(cell, seed),
    )

    def run(x, hp):
        # From where the trial stopped that is promoted.
        done, until = hp["tuner/initial_epoch"], hp["tuner/epochs"]
        return reached(cell, seed, x, until * unit), (until - done) * unit

    return _best(oracle, run, total)


def _seed(cell: Cell, seed: int) -> int:
    """Another one for each cell; never zero, which is none to KerasTuner."""
    return zlib.crc32(f"{cell.name} {seed}".encode()) % 2**31 + 1


def _asked(cell: Cell, seed: int) -> dict:
    """What both oracles of KerasTuner's get."""
    import keras_tuner

    space = keras_tuner.HyperParameters()
    space.Float("lr", 1e-6, 10.0, sampling="log")
    objective = keras_tuner.Objective("val_loss", "min")
    return {
        "objective": objective,
        "seed": _seed(cell, seed),
        "hyperparameters": space,
    }


def _best(oracle, run: Callable, total: int) -> float:
    """log10 of the LR that KerasTuner's search ends with.

    `run` returns the loss of a trial and the steps that it took; the search is
    over where the next one would take more than `total` in all.
    """
    import keras_tuner
    from keras_tuner.engine import base_tuner

    class Spent(keras_tuner.errors.FatalError):
        """No steps are left for this trial."""

    class Recorded(base_tuner.BaseTuner):
        spent = 0

        def run_trial(self, trial, *args, **kwargs):
            values = trial.hyperparameters.values
            loss, steps = run(math.log10(values["lr"]), values)
            if self.spent + steps > total:
                raise Spent
            self.spent += steps
            return loss

    with tempfile.TemporaryDirectory() as folder:
        tuner = Recorded(oracle, directory=folder)
        with contextlib.suppress(Spent):
            tuner.search(verbose=0)
        return math.log10(tuner.get_best_hyperparameters()[0]["lr"])


@functools.cache
def tpe(cell: Cell, seed: int, total: int) -> float:
    """Optuna's TPE with its median pruner; needs Optuna."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    most = 60 if total < 1_000 else 160
    checks = [s for s in SHORT if 20 <= s <= most]
    spent = 0
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(
            seed=_seed(cell, seed), n_startup_trials=4
        ),
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


TUNERS = {
    "KerasTuner's RandomSearch": random_search,
    "KerasTuner's Hyperband": hyperband,
    "Optuna's TPE": tpe,
}
