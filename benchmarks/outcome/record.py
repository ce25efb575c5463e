"""Record everything once: range tests, short runs, whole trainings.

Run: `python -m benchmarks.outcome.record` (JAX). One file per cell (task and
optimizer) in `results/`; what is there is skipped, so it can be stopped and
taken up again. `OUTCOME_MNIST` names the MNIST file for two of the tasks.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np

from benchmarks.outcome import paths
from benchmarks.outcome.loop import Trainer
from benchmarks.outcome.optimizers import OPTIMIZERS
from benchmarks.outcome.tasks import TASKS
from benchmarks.outcome.tasks import Task

RESULTS = Path(__file__).with_name("results")
# Seeds of tests and searches, and other ones of the trainings that judge.
SEARCH, JUDGE = (0, 1), (2, 3)
ROWS = 18
RAMPS = (100, 60)
# Decades of the grid below and above the best of a coarse first look.
BELOW, ABOVE = 2.5, 1.75
STEP = 0.25
SCOUT = 200
SHORT = (10, 20, 40, 60, 80, 120, 160, 240, 320, 400, 500)
LONG = (*SHORT, 700, 1000, 1400, 2000)
KEPT = 400
FIRST = [("constant", 2000), ("one_cycle", 500), ("cosine", 500)]
MORE = [("one_cycle", 2000), ("triangular", 500), ("cosine", 2000)]


def rows(lrs: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """One row of learning rates per peak."""
    return np.asarray(lrs)[:, None] * shape[None]


def scout(trainer: Trainer) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Both range tests, and where to lay the grid."""
    middle = trainer.optimizer.center
    coarse = 10.0 ** np.linspace(middle - 3.0, middle + 3.0, ROWS - len(RAMPS))
    table = np.concatenate(
        [
            [paths.ramp(n, SCOUT) for n in RAMPS],
            rows(coarse, paths.constant(SCOUT)),
        ]
    )
    run = trainer.run(SEARCH, table, (SCOUT,), SCOUT)
    reserved, test = trainer.initial(SEARCH, ROWS)
    held = run.test[:, len(RAMPS) :, 0]
    held = np.where(held < test[:, None], held, test[:, None]).mean(0)
    best = np.log10(coarse[held.argmin()])
    low = np.round((best - BELOW) / STEP) * STEP
    grid = 10.0 ** (low + STEP * np.arange(ROWS))
    losses = run.losses[:, : len(RAMPS), : max(RAMPS)]
    return grid, {"ramps": losses, "reserved_before": reserved}


def packed(values: np.ndarray, bits: int = 11) -> np.ndarray:
    """Keep so many bits of the mantissa: that packs much better."""
    mantissa, exponent = np.frexp(np.asarray(values, "float64"))
    mantissa = np.round(mantissa * 2.0**bits) / 2.0**bits
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ldexp(mantissa, exponent).astype("float32")


def trainings(
    trainer: Trainer, grid: np.ndarray, wanted: Sequence[tuple[str, int]]
) -> dict[str, np.ndarray]:
    """Whole trainings of the judging seeds, by schedule and length."""
    found = {}
    for name, steps in wanted:
        table = rows(grid, paths.SCHEDULES[name](steps))
        at = LONG if name == "constant" else (steps,)
        run = trainer.run(JUDGE, table, at, 0)
        found[f"{name}_{steps}"] = packed(run.test)
    return found


def cell(task: Task, optimizer: str) -> dict[str, np.ndarray]:
    """Everything that is recorded of one cell."""
    trainer = Trainer(task, optimizer)
    grid, found = scout(trainer)
    table = rows(grid, paths.constant(500))
    run = trainer.run(SEARCH, table, SHORT, KEPT)
    found |= {"losses": packed(run.losses, 8)}
    found |= {"reserved": packed(run.reserved), "search_test": packed(run.test)}
    found |= trainings(trainer, grid, FIRST)
    return {
        "grid": grid,
        "test_before": trainer.initial(JUDGE, ROWS)[1],
        "search_before": trainer.initial(SEARCH, ROWS)[1],
        "steps_per_epoch": np.array(trainer.steps_per_epoch),
        "batch": np.array(trainer.batch),
        "samples": np.array(trainer.count),
        **found,
    }


def more(task: Task, optimizer: str, grid: np.ndarray):
    """Longer schedules of a cell that was recorded before."""
    return trainings(Trainer(task, optimizer), grid, MORE)


def write(target: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a file that is either whole or not there."""
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    part.rename(target)


def main() -> None:
    """Record every cell that has no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=[t.name for t in TASKS])
    parser.add_argument("--optimizers", nargs="*", default=list(OPTIMIZERS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--more", action="store_true", help="longer schedules")
    args = parser.parse_args()
    args.results.mkdir(exist_ok=True)
    tasks = {t.name: t for t in TASKS}
    wanted = [(tasks[t], o) for t in args.tasks for o in args.optimizers]
    begin = time.perf_counter()
    for number, (task, optimizer) in enumerate(wanted, 1):
        first = args.results / f"{task.name}-{optimizer}.npz"
        target = first.with_suffix(".more.npz") if args.more else first
        if target.exists() or (args.more and not first.exists()):
            continue
        if args.more:
            write(target, more(task, optimizer, np.load(first)["grid"]))
        else:
            write(target, cell(task, optimizer))
        spent = time.perf_counter() - begin
        print(f"{number}/{len(wanted)} {target.stem} {spent:.0f} s", flush=True)


if __name__ == "__main__":
    main()
