"""What was recorded, read back: `Cell`, and what each LR ends with.

A file of `results/` is a cell: a task with an optimizer (`NAME@SIZE` where its
batches have another size than usual). Its arrays, with `x` for the grid's
learning rates (18, a quarter of a decade apart), NaN for what was not recorded
and infinity for what was lost:

- `facts`: batch (0: not known), batches and samples of an epoch, log10 of the
  lowest LR
- `ramp`: batch losses of a range test, (seed, step)
- `before`: of the searching seeds, held-out loss before training, (seed,)
- `held`, `tail`: of their runs (`RUNS`) the held-out loss at the end, judged as
  the package judges, and the mean loss of the last quarter, (seed, run, x)
- `short`: their held-out loss after `SHORT` steps at one LR, (seed, length, x)
- `test_before`, `test`: of other seeds, on other samples, in inference mode:
  what trainings (`TARGETS`) end with, (seed,) and (seed, training, x)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.tasks import SEEN
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.tasks import Task
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.analysis.range_test import ramp_lrs

Vector = NDArray[np.float64]
Target = tuple[str, int]

RESULTS = Path(__file__).with_name("results")
RAMP = (1e-7, 10.0, 100)
ROWS, STEP = 18, 0.25
SHORT = (10, 20, 40, 60, 80, 120, 160, 240, 320, 400, 500)
# Trainings that are judged; a search has its own of the first seven.
TARGETS: tuple[Target, ...] = (
    ("constant", 500),
    ("constant", 2000),
    ("one_cycle", 500),
    ("cosine", 500),
    ("triangular", 500),
    ("one_cycle", 2000),
    ("cosine", 2000),
    ("constant", 8000),
    ("one_cycle", 8000),
    ("cosine", 8000),
    ("triangular", 2000),
)
WHOLE = TARGETS[:7]
RUNS: tuple[Target, ...] = (("constant", 60), *WHOLE)
# A cell whose best LR takes off less than this says nothing.
LEAST_FALL = np.log(1 / 0.9)
# Keras's class, settings and default learning rate, by name.
OPTIMIZERS = {
    "sgd": ("SGD", {}, 0.01),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}, 0.01),
    "momentum": ("SGD", {"momentum": 0.9}, 0.01),
    "adam": ("Adam", {}, 1e-3),
    "adamw": ("AdamW", {}, 1e-3),
    "rmsprop": ("RMSprop", {}, 1e-3),
    "lion": ("Lion", {}, 1e-3),
    "muon": ("Muon", {}, 1e-3),
    "adafactor": ("Adafactor", {}, 1e-3),
}


def named(target: Target) -> str:
    """A training in words."""
    return f"{target[0]} {target[1]}"


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """A task with an optimizer, and what was recorded of it.

    Attributes:
        task: The task, as registered.
        optimizer: Name.
        arrays: As above.
    """

    task: Task
    optimizer: str
    arrays: dict[str, Vector]

    @property
    def name(self) -> str:
        """Task, batch size and optimizer."""
        return f"{self.task.name}@{self.batch}-{self.optimizer}"

    @property
    def batch(self) -> int:
        """Samples of a batch."""
        return int(self.arrays["facts"][0])

    @property
    def seeds(self) -> int:
        """How many seeds were searched with."""
        return len(self.arrays["ramp"])

    @property
    def default_lr(self) -> float:
        """Keras's default, which a refusal is charged."""
        return OPTIMIZERS[self.optimizer][2]

    @functools.cached_property
    def x(self) -> Vector:
        """log10 of the grid's learning rates."""
        count = self.arrays["test"].shape[-1]
        return self.arrays["facts"][3] + STEP * np.arange(count)

    @functools.cached_property
    def targets(self) -> list[Target]:
        """The trainings that were recorded."""
        there = ~np.isnan(self.arrays["test"]).all((0, 2))
        return [t for t, has in zip(TARGETS, there) if has]

    @functools.cached_property
    def runs(self) -> list[Target]:
        """The runs that a search has."""
        there = ~np.isnan(self.arrays["held"]).all((0, 2))
        return [t for t, has in zip(RUNS, there) if has]

    @functools.cache  # noqa: B019  (recordings live as long as the process)
    def row(self, target: Target) -> Vector:
        """Mean loss that each grid LR ends with, over the judging seeds.

        What is not finite, or worse than not training, counts as the loss
        before training.
        """
        test = self.arrays["test"][:, TARGETS.index(target)]
        # Of long trainings fewer seeds were recorded: the others are NaN.
        count = int((~np.isnan(test)).any(1).sum())
        before = self.arrays["test_before"][:count, None]
        return np.asarray(np.fmin(test[:count], before).mean(0))

    @functools.cache  # noqa: B019  (recordings live as long as the process)
    def excesses(self, target: Target) -> Vector:
        """Log of each grid LR's loss over that of the best, then of none."""
        row = self.row(target)
        row = np.append(row, self.arrays["test_before"].mean())
        least = row[:-1].min()
        if self.task.signed or least <= 0.0:
            return np.log1p((row - least) / max(row[-1] - least, 1e-9))
        return np.asarray(np.log(row / least))

    def excess(self, lr: float | Vector, target: Target) -> Vector:
        """Log excess of any LR: linear in log(LR) between grid points.

        A decade below the grid, and just above it, an LR counts as not
        training.
        """
        *ends, worst = self.excesses(target)
        x = [self.x[0] - 1, *self.x, self.x[-1] + 0.05]
        return np.interp(np.log10(lr), x, [worst, *ends, worst])

    def regret(self, lr: float, target: Target) -> float:
        """The share of the best LR's fall that `lr` does not reach."""
        row, before = self.row(target), self.arrays["test_before"].mean()
        share = (row - row.min()) / max(before - row.min(), 1e-12)
        x = [self.x[0] - 1, *self.x, self.x[-1] + 0.05]
        return float(np.interp(np.log10(lr), x, [1.0, *share, 1.0]))

    def best(self, target: Target) -> float:
        """log10 of the grid's best LR."""
        return float(self.x[self.excesses(target)[:-1].argmin()])

    @property
    def can_learn(self) -> bool:
        """Whether the best LR takes off at least a tenth of the loss."""
        return bool(self.excesses(self.targets[0])[-1] >= LEAST_FALL)

    def ramp(self, seed: int) -> tuple[Vector, Vector]:
        """Learning rates and raw losses of a whole ramp; nothing stopped."""
        return ramp_lrs(*RAMP), self.arrays["ramp"][seed]

    @functools.cache  # noqa: B019  (recordings live as long as the process)
    def curve(self, seed: int) -> Curve:
        """The curve as a range test with the usual stop leaves it."""
        kind, settings, _ = OPTIMIZERS[self.optimizer]
        test = RangeTest(
            *RAMP, optimizer=kind.lower(), hyperparameters=settings
        )
        for loss in self.arrays["ramp"][seed].tolist():
            if not test.record(loss):
                break
        return dataclasses.replace(
            test.curve,
            steps_per_epoch=int(self.arrays["facts"][1]),
            batch_size=self.batch or None,
        )

    @functools.cache  # noqa: B019  (recordings live as long as the process)
    def seen(self, seed: int) -> Landmarks | None:
        """The landmarks of that curve."""
        return landmarks(self.curve(seed))


def load(groups: Sequence[str] = (SEEN,), *, sizes: bool = False) -> list[Cell]:
    """Every recorded cell of these groups, by name.

    Args:
        groups: As of tasks.
        sizes: Whether to load those of other batch sizes in their place.
    """
    cells = []
    for path in sorted(RESULTS.glob("*.npz")):
        name, optimizer = path.stem.split("-")
        name, _, size = name.partition("@")
        if bool(size) != sizes or TASKS[name].group not in groups:
            continue
        with np.load(path) as file:
            arrays = {k: file[k].astype("float64") for k in file.files}
        cells.append(Cell(TASKS[name], optimizer, arrays))
    return cells
