"""Measure what the score needs, once: oracle, range tests, probes.

Run: `python -m benchmarks.quality.record` (JAX backend). One file per cell
(task and optimizer) is written to `results/`; a cell whose file is there is
skipped, so the run can be stopped and taken up again.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
)

import numpy as np

from benchmarks.quality.cells import RAMPS
from benchmarks.quality.cells import RESULTS
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.tasks import Task
from benchmarks.quality.training import OPTIMIZERS
from benchmarks.quality.training import Trainer

GRID = 10.0 ** (np.arange(-22, 5) / 4)
ORACLE_SEEDS = (100, 101, 102)
TEST_SEEDS = (0, 1, 2)
ORACLE_PART = 100
PROBE_STEPS, PROBE_PART = 100, 10
# Of the training losses so many are kept; the held-out ones all are.
KEPT_STEPS = 60
# One part in 4,000 for what is compared closely, one in 250 for the rest.
BITS = {"probe_losses": 8}
MOST_STEPS = max(steps for *_, steps in RAMPS)


def grid(task: Task, optimizer: str) -> np.ndarray:
    """The oracle's learning rates: four per decade, 6.5 decades."""
    shifted = optimizer in ("sgd", "momentum")
    return GRID * 10.0 ** (task.shift if shifted else 0.0)


def ramp(start: float, end: float, steps: int) -> np.ndarray:
    """The range test's learning rates; after its end 0, up to one length."""
    lrs = start * (end / start) ** (np.arange(steps) / (steps - 1))
    return np.pad(lrs, (0, MOST_STEPS - steps))


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Keep `bits` of the mantissa: that packs much better."""
    mantissa, exponent = np.frexp(values.astype("float64"))
    mantissa = np.round(mantissa * 2.0**bits) / 2.0**bits
    with np.errstate(over="ignore"):
        return np.ldexp(mantissa, exponent).astype("float32")


def oracle(trainer: Trainer, lrs: np.ndarray) -> dict[str, np.ndarray]:
    """Held-out loss after every 100 steps at each constant LR."""
    steps = trainer.task.steps
    held, initial = [], []
    for seed in ORACLE_SEEDS:
        trainer.seed(seed)
        initial.append(trainer.initial())
        rows = np.repeat(lrs[:, None], steps, axis=1)
        held.append(trainer.run(rows, steps // ORACLE_PART).held)
    return {"oracle_held": np.array(held), "oracle_initial": np.array(initial)}


def ramps(trainer: Trainer) -> dict[str, np.ndarray]:
    """Losses of the whole ramps; nothing stops them."""
    rows = np.array([ramp(*r) for r in RAMPS])
    losses = []
    for seed in TEST_SEEDS:
        trainer.seed(seed)
        losses.append(trainer.run(rows, 1, evaluate=False).losses)
    return {"ramp_losses": np.array(losses)}


def probes(trainer: Trainer, lrs: np.ndarray) -> dict[str, np.ndarray]:
    """Short runs at each constant LR, with two kinds of unseen samples."""
    runs, initial = [], []
    for seed in TEST_SEEDS:
        trainer.seed(seed, reserve=True)
        initial.append(trainer.initial())
        rows = np.repeat(lrs[:, None], PROBE_STEPS, axis=1)
        runs.append(trainer.run(rows, PROBE_STEPS // PROBE_PART))
    return {
        "probe_losses": np.array([r.losses[:, :KEPT_STEPS] for r in runs]),
        "probe_fresh": np.array([r.fresh for r in runs]),
        "probe_held": np.array([r.held for r in runs]),
        "probe_initial": np.array(initial),
    }


def cell(task: Task, optimizer: str) -> dict[str, np.ndarray]:
    """Everything that is recorded of one cell."""
    trainer = Trainer(task, optimizer)
    lrs = grid(task, optimizer)
    found = {**ramps(trainer), **probes(trainer, lrs), **oracle(trainer, lrs)}
    default = float(OPTIMIZERS[optimizer]().learning_rate)
    return {
        "grid": lrs,
        "default_lr": np.array(default),
        "steps_per_epoch": np.array(trainer.steps_per_epoch()),
        **{name: rounded(v, BITS.get(name, 12)) for name, v in found.items()},
    }


def main() -> None:
    """Measure every cell that has no file yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=[t.name for t in TASKS])
    parser.add_argument("--optimizers", nargs="*", default=list(OPTIMIZERS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.results.mkdir(exist_ok=True)
    wanted = [(t, o) for o in args.optimizers for t in TASKS]
    wanted = [(t, o) for t, o in wanted if t.name in args.tasks]
    for number, (task, optimizer) in enumerate(wanted, 1):
        target = args.results / f"{task.name}-{optimizer}.npz"
        if target.exists():
            continue
        begin = time.perf_counter()
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.savez_compressed(file, **cell(task, optimizer))
        part.rename(target)
        spent = time.perf_counter() - begin
        print(f"{number}/{len(wanted)} {target.stem} {spent:.0f} s", flush=True)


if __name__ == "__main__":
    main()
