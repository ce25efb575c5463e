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
from benchmarks.outcome.recording import LONGEST
from benchmarks.outcome.recording import RAMPS
from benchmarks.outcome.recording import RESULTS
from benchmarks.outcome.recording import SHORT
from benchmarks.outcome.tasks import TASKS
from benchmarks.outcome.tasks import Task
from keras_lrfinder.analysis.runs import SHARES
from keras_lrfinder.analysis.runs import constant

# Seeds of tests and searches, and other ones of the trainings that judge.
SEARCH, JUDGE, MORE_JUDGES = (0, 1), (2, 3), (4, 5, 6, 7)
ROWS = 18
# Decades of the grid below and above the best of a coarse first look.
BELOW, ABOVE = 2.5, 1.75
STEP = 0.25
SCOUT = 200
KEPT = 400
FIRST = [("constant", 2000), ("one_cycle", 500), ("cosine", 500)]
SHORTEST = [("constant", 500)]
MORE = [("one_cycle", 2000), ("triangular", 500), ("cosine", 2000)]
# Searches of networks with batch normalisation, judged as the package does.
NORMS = "renewed"
# Runs of a longer search: its trials, and whole trainings.
TRIALS = "searches"
WHOLE = [
    *FIRST,
    ("triangular", 500),
    ("one_cycle", 2000),
    ("cosine", 2000),
    ("one_cycle", 240),
    ("cosine", 240),
    ("triangular", 240),
]
# What was recorded later, each in a file of its own: seeds and trainings.
PARTS = {
    "more": (JUDGE, MORE),
    "longest": (JUDGE, [(name, 8000) for name, _ in FIRST]),
    "again": (MORE_JUDGES, FIRST + MORE),
    "triangular": (JUDGE, [("triangular", 2000)]),
}


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
            rows(coarse, constant(SCOUT)),
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
    trainer: Trainer,
    grid: np.ndarray,
    seeds: Sequence[int],
    wanted: Sequence[tuple[str, int]],
) -> dict[str, np.ndarray]:
    """Whole trainings of the judging seeds, by schedule and length."""
    found = {}
    for name, steps in wanted:
        table = rows(grid, SHARES[name](steps))
        at = LONGEST if name == "constant" else (steps,)
        at = tuple(n for n in at if n <= steps)
        run = trainer.run(seeds, table, at, 0)
        found[f"{name}_{steps}"] = packed(run.test)
    return found


def cell(
    task: Task,
    optimizer: str,
    batch: int | None = None,
    judge: Sequence[int] = JUDGE,
    wanted: Sequence[tuple[str, int]] = FIRST,
) -> dict[str, np.ndarray]:
    """Everything that is recorded of one cell."""
    trainer = Trainer(task, optimizer, batch)
    grid, found = scout(trainer)
    table = rows(grid, constant(500))
    run = trainer.run(SEARCH, table, SHORT, KEPT)
    found |= {"losses": packed(run.losses, 8)}
    found |= {"reserved": packed(run.reserved), "search_test": packed(run.test)}
    found |= trainings(trainer, grid, judge, wanted)
    return {
        "grid": grid,
        "test_before": trainer.initial(judge, ROWS)[1],
        "search_before": trainer.initial(SEARCH, ROWS)[1],
        "steps_per_epoch": np.array(trainer.steps_per_epoch),
        "batch": np.array(trainer.batch),
        "samples": np.array(trainer.count),
        **found,
    }


def renewed(trainer: Trainer, grid: np.ndarray) -> dict[str, np.ndarray]:
    """What searches read, as the package does: with statistics taken anew.

    Nothing of a network that has no statistics.
    """
    if not trainer.problem.init(0)[1]:
        return {}
    table = rows(grid, constant(500))
    run = trainer.run(SEARCH, table, SHORT, 0, renew=True)
    before = trainer.initial(SEARCH, ROWS, renew=True)[0]
    return {"renewed": packed(run.reserved), "renewed_before": before}


def searches(trainer: Trainer, grid: np.ndarray) -> dict[str, np.ndarray]:
    """What a search reads of whole trainings, and of schedules made short.

    At their end (of constant ones at `LONGEST`) the held-out loss, as the
    package judges it, and the mean loss of the last quarter of the steps.
    """
    found = {}
    renew = bool(trainer.problem.init(0)[1])
    for name, steps in WHOLE:
        table = rows(grid, SHARES[name](steps))
        at = LONGEST if name == "constant" else (steps,)
        at = tuple(n for n in at if n <= steps)
        run = trainer.run(SEARCH, table, at, steps, renew=renew)
        tails = [run.losses[..., n - max(n // 4, 1) : n].mean(-1) for n in at]
        found[f"search_{name}_{steps}"] = packed(run.reserved)
        found[f"search_tail_{name}_{steps}"] = packed(np.stack(tails, -1))
    return found


def part_of(trainer: Trainer, grid: np.ndarray, part: str):
    """More trainings of a cell that was recorded before."""
    if part == NORMS:
        return renewed(trainer, grid)
    if part == TRIALS:
        return searches(trainer, grid)
    seeds, wanted = PARTS[part]
    before = trainer.initial(seeds, ROWS)[1]
    return {"test_before": before} | trainings(trainer, grid, seeds, wanted)


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
    parser.add_argument(
        "--part", choices=[*PARTS, NORMS, TRIALS], help="what came later"
    )
    parser.add_argument("--batch", type=int, help="only 500 constant steps")
    args = parser.parse_args()
    if args.batch:
        args.results = args.results / f"batch_{args.batch}"
    args.results.mkdir(exist_ok=True)
    tasks = {t.name: t for t in TASKS}
    wanted = [(tasks[t], o) for t in args.tasks for o in args.optimizers]
    begin = time.perf_counter()
    for number, (task, optimizer) in enumerate(wanted, 1):
        first = args.results / f"{task.name}-{optimizer}.npz"
        target = first.with_suffix(f".{args.part}.npz") if args.part else first
        if target.exists() or (args.part and not first.exists()):
            continue
        if args.part:
            grid = np.load(first)["grid"]
            trainer = Trainer(task, optimizer, args.batch)
            arrays = part_of(trainer, grid, args.part)
            if not arrays:
                continue
            write(target, arrays)
        elif args.batch:
            judge = JUDGE + MORE_JUDGES
            write(target, cell(task, optimizer, args.batch, judge, SHORTEST))
        else:
            write(target, cell(task, optimizer))
        spent = time.perf_counter() - begin
        print(f"{number}/{len(wanted)} {target.stem} {spent:.0f} s", flush=True)


if __name__ == "__main__":
    main()
