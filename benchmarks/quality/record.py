"""Record everything once: range tests, the runs of searches, trainings.

Run: `python -m benchmarks.quality.record` (JAX). One file per cell (task and
optimizer) in `results/`, see `cells.py`; what is there is skipped, so it can be
stopped and taken up again. `--batch SIZE` records 500 constant steps with
batches of another size. `QUALITY_MNIST` names the MNIST file of three tasks.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import numpy as np

from benchmarks.quality.cells import RAMP
from benchmarks.quality.cells import RESULTS
from benchmarks.quality.cells import ROWS
from benchmarks.quality.cells import RUNS
from benchmarks.quality.cells import SHORT
from benchmarks.quality.cells import STEP
from benchmarks.quality.cells import TARGETS
from benchmarks.quality.cells import WHOLE
from benchmarks.quality.cells import Target
from benchmarks.quality.cells import Vector
from benchmarks.quality.loop import Trainer
from benchmarks.quality.optimizers import OPTIMIZERS
from benchmarks.quality.tasks import KERAS
from benchmarks.quality.tasks import LATER
from benchmarks.quality.tasks import TASKS
from keras_lrfinder.analysis.range_test import ramp_lrs
from keras_lrfinder.analysis.runs import SHARES

# Seeds of tests and searches, and other ones of the trainings that judge; of
# the longest trainings only two.
SEARCH, JUDGE, FEW_JUDGES = (0, 1), (2, 3, 4, 5, 6, 7), (2, 3)
# Decades of the grid below the best of a coarse first look.
BELOW = 2.5
SCOUT = 200


def rows(grid: Vector, target: Target) -> Vector:
    """One row of learning rates per peak."""
    schedule, steps = target
    return np.asarray(grid[:, None] * SHARES[schedule](steps))


def scout(trainer: Trainer) -> tuple[Vector, Vector]:
    """A range test's losses, and where to lay the grid."""
    ramp = np.pad(ramp_lrs(*RAMP), (0, SCOUT - RAMP[2]))
    middle = trainer.optimizer.center
    coarse = 10.0 ** np.linspace(middle - 3.0, middle + 3.0, ROWS - 1)
    table = np.concatenate([ramp[None], rows(coarse, ("constant", SCOUT))])
    losses, test = trainer.run(SEARCH, table, (SCOUT,), "test")
    before = trainer.before(SEARCH, ROWS, "test")[:, None]
    ends = np.fmin(test[:, 1:, 0], before).mean(0)
    low = round((np.log10(coarse[ends.argmin()]) - BELOW) / STEP) * STEP
    return losses[:, 0, : RAMP[2]], low + STEP * np.arange(ROWS)


def searched(
    trainer: Trainer, grid: Vector, wanted: Sequence[Target]
) -> dict[str, Vector]:
    """What searches read: see `cells.py`."""
    held = np.full((len(SEARCH), len(RUNS), ROWS), np.nan)
    tail, found = held.copy(), {}
    for schedule, steps in wanted:
        at = (steps,)
        if schedule == "constant":
            # The first steps of the longest are those of the shorter ones.
            at = tuple(n for n in (*SHORT, 2000) if n <= steps)
        table = rows(grid, (schedule, steps))
        losses, ends = trainer.run(SEARCH, table, at, "reserved")
        for i, run in enumerate(RUNS):
            if run[0] == schedule and run[1] in at:
                held[:, i] = lost(ends[..., at.index(run[1])])
                last = losses[..., run[1] - run[1] // 4 : run[1]]
                tail[:, i] = lost(last.mean(-1))
        if schedule == "constant":
            short = lost(ends[..., : len(SHORT)]).swapaxes(1, 2)
            found["short"] = packed(short, 11)
    return found | {"held": packed(held, 11), "tail": packed(tail, 8)}


def judged(
    trainer: Trainer, grid: Vector, wanted: Sequence[Target]
) -> dict[str, Vector]:
    """What trainings end with."""
    test = np.full((len(JUDGE), len(TARGETS), ROWS), np.nan)
    for target in wanted:
        seeds = JUDGE if target in WHOLE else FEW_JUDGES
        at = tuple(s for n, s in wanted if n == target[0] and s <= target[1])
        if target[0] != "constant":
            at = target[1:]
        elif target[1] == 500 and ("constant", 2000) in wanted:
            continue
        _, ends = trainer.run(seeds, rows(grid, target), at, "test")
        for steps, end in zip(at, np.moveaxis(ends, -1, 0)):
            if steps == target[1] or target in WHOLE:
                i = TARGETS.index((target[0], steps))
                test[: len(seeds), i] = lost(end)
    before = trainer.before(JUDGE, ROWS, "test")
    return {"test": packed(test, 11), "test_before": before}


def lost(values: Vector) -> Vector:
    """NaN is for what was not recorded."""
    return np.where(np.isnan(values), np.inf, values)


def packed(values: Vector, bits: int) -> Vector:
    """Keep so many bits of the mantissa: that packs much better."""
    mantissa, exponent = np.frexp(np.asarray(values, "float64"))
    mantissa = np.round(mantissa * 2.0**bits) / 2.0**bits
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ldexp(mantissa, exponent).astype("float32")


def cell(
    trainer: Trainer, wanted: Sequence[Target] = TARGETS
) -> dict[str, Vector]:
    """Everything that is recorded of one cell."""
    ramp, decades = scout(trainer)
    facts = [
        trainer.batch,
        trainer.steps_per_epoch,
        trainer.count,
        decades[0],
    ]
    grid = 10.0**decades
    own = [t for t in WHOLE if t in wanted]
    if ("constant", 2000) in own:
        own.remove(("constant", 500))
    return {
        "facts": np.array(facts),
        "ramp": ramp,
        "before": trainer.before(SEARCH, ROWS, "reserved"),
        **searched(trainer, grid, own),
        **judged(trainer, grid, wanted),
    }


def write(target: Path, arrays: dict[str, Vector]) -> None:
    """Write a file that is either whole or not there."""
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(file, **arrays)
    part.rename(target)


def main() -> None:
    """Record every cell that has no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [t.name for t in TASKS.values() if t.group not in (KERAS, LATER)]
    parser.add_argument("--tasks", nargs="*", default=names)
    parser.add_argument("--optimizers", nargs="*", default=list(OPTIMIZERS))
    parser.add_argument("--batch", type=int)
    parser.add_argument(
        "--longest", type=int, default=8000, help="steps of a training"
    )
    args = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    begin = time.perf_counter()
    for name in args.tasks:
        for optimizer in args.optimizers:
            size = f"@{args.batch}" if args.batch else ""
            target = RESULTS / f"{name}{size}-{optimizer}.npz"
            if target.exists():
                continue
            trainer = Trainer(TASKS[name], optimizer, args.batch)
            wanted = [t for t in TARGETS if t[1] <= args.longest]
            write(target, cell(trainer, TARGETS[:1] if args.batch else wanted))
            spent = time.perf_counter() - begin
            print(f"{target.stem} {spent:.0f} s", flush=True)


if __name__ == "__main__":
    main()
