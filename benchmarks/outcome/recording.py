"""What was recorded, read back: `Cell`, and what each LR ends with."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.outcome.optimizers import OPTIMIZERS
from benchmarks.outcome.paths import RAMP
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.analysis.range_test import ramp_lrs
from keras_lrfinder.analysis.schedule_factors import kind_of

Vector = NDArray[np.float64]

RESULTS = Path(__file__).with_name("results")
RAMPS = (100, 60)
SHORT = (10, 20, 40, 60, 80, 120, 160, 240, 320, 400, 500)
LONGEST = (*SHORT, 700, 1000, 1400, 2000, 2800, 4000, 5600, 8000)
# What `record` wrote later: more trainings and readings, and more seeds of the
# judge.
LATER = (".more", ".longest", ".renewed", ".triangular", ".searches")
SEEDS = ".again"
# Losses that may be zero or negative: compared by difference, not by ratio.
SIGNED = ("density",)
# Families of the tasks, by the name of their kin in `benchmarks/quality` where
# they have any, and those that no constant saw.
FAMILIES = {
    "mlp_digits": "digits",
    "softmax_digits": "digits",
    "fourier": "fourier",
    "contrastive": "contrastive",
    "tabular": "tabular",
    "language": "bytes",
    "density": "density",
    "cnn_norm": "image",
    "residual": "residual",
    "finetuning": "finetuning",
    "transformer": "transformer",
    "taught": "teaching",
    "forecast": "sequence",
    "ratings": "recommender",
    "friedman": "regression",
    "variational": "reconstruction",
    "reviews": "text",
    "deep": "deep",
    "rare": "imbalance",
    "robust": "robust",
    "physics": "physics",
    "denoising": "denoising",
    "graph": "graph",
    "noisy_digits": "noise",
    "vision": "vision",
}
UNSEEN = ("physics", "denoising", "graph", "noise", "vision")


@dataclasses.dataclass(frozen=True)
class Target:
    """The training that follows: its schedule and its length."""

    schedule: str
    steps: int

    def __str__(self) -> str:
        return f"{self.schedule} {self.steps}"


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """What was recorded of one task with one optimizer.

    Attributes:
        task, optimizer: Names.
        arrays: As `record` wrote them.
    """

    task: str
    optimizer: str
    arrays: dict[str, Vector]

    @property
    def family(self) -> str:
        """The task's family."""
        return FAMILIES[self.task]

    @property
    def name(self) -> str:
        """Task and optimizer."""
        return f"{self.task}-{self.optimizer}"

    @property
    def kind(self) -> str:
        """The kind of the optimizer."""
        name, settings = OPTIMIZERS[self.optimizer].keras
        return kind_of(name, settings.get("momentum", 0.0))[0]

    @property
    def seeds(self) -> int:
        """How many seeds were searched with."""
        return len(self.arrays["ramps"])

    @functools.cached_property
    def held_out(self) -> tuple[Vector, Vector]:
        """What the package reads of short runs, and before them.

        Arrays of shape (seed, grid LR, evaluation), at `SHORT`, and (seed,).
        Moving statistics are taken anew for it.
        """
        name = "renewed" if "renewed" in self.arrays else "reserved"
        return self.arrays[name], self.arrays[f"{name}_before"]

    @functools.cached_property
    def x(self) -> Vector:
        """log10 of the grid's learning rates."""
        return np.log10(self.arrays["grid"])

    @property
    def default_lr(self) -> float:
        """Keras's default, which a refusal is charged."""
        return OPTIMIZERS[self.optimizer].default

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass."""
        return int(self.arrays["steps_per_epoch"])

    def targets(self) -> list[Target]:
        """The trainings that were recorded."""
        found = [Target("constant", 500)]
        for key in self.arrays:
            schedule, _, steps = key.rpartition("_")
            if schedule in ("constant", "cosine", "one_cycle", "triangular"):
                found.append(Target(schedule, int(steps)))
        return found

    def path(self, target: Target) -> tuple[Vector, Vector]:
        """Held-out losses of a training, and before it.

        Arrays of shape (seed, grid LR, evaluation) and (seed,). The last
        evaluation is at the end; of constant training they are at `LONGEST`.
        """
        if target.schedule == "constant":
            until = LONGEST.index(target.steps) + 1
            name = next(
                name
                for steps in (500, 2000, 8000)
                if (name := f"constant_{steps}") in self.arrays
                and steps >= target.steps
            )
            test = self.arrays[name][..., :until]
        else:
            test = self.arrays[f"{target.schedule}_{target.steps}"]
        return test, self.arrays["test_before"][: len(test)]

    def tried(self, target: Target, seed: int) -> Vector:
        """What a search's own training of a target ends with.

        Array of shape (grid LR, 2): held-out loss as the package judges it,
        and mean training loss of the last quarter.
        """
        name = f"{target.schedule}_{target.steps}"
        held, tail = (
            self.arrays[f"search_{part}{name}"][seed, :, -1]
            for part in ("", "tail_")
        )
        return np.stack([held, tail], axis=-1)

    def row(self, target: Target) -> Vector:
        """Mean loss that each grid LR ends with, over the judging seeds.

        What is not finite, or worse than not training, counts as the loss
        before training.
        """
        test, before = self.path(target)
        capped = np.fmin(test[..., -1], before[:, None])
        return capped.mean(0)

    @functools.cache  # noqa: B019  (recordings live as long as the process)
    def excesses(self, target: Target) -> Vector:
        """Log of each grid LR's loss over that of the best."""
        row = self.row(target)
        if self.task in SIGNED:
            fall = self.arrays["test_before"].mean() - row.min()
            return np.log1p((row - row.min()) / max(fall, 1e-9))
        return np.log(row / row.min())

    @functools.cache  # noqa: B019  (recordings live as long as the process)
    def worst(self, target: Target) -> float:
        """Log excess of not training."""
        before = self.arrays["test_before"].mean()
        row = self.row(target)
        if self.task in SIGNED:
            return float(np.log(2.0))
        return float(np.log(before / row.min()))

    def excess(self, lr: float, target: Target) -> float:
        """Log excess of any LR: linear in log(LR) between grid points.

        A decade below the grid, and just above it, an LR counts as not
        training.
        """
        worst = self.worst(target)
        return float(
            np.interp(
                np.log10(lr),
                [self.x[0] - 1, *self.x, self.x[-1] + 0.05],
                [worst, *self.excesses(target), worst],
            )
        )

    def best(self, target: Target) -> float:
        """log10 of the grid's best LR."""
        return float(self.x[self.excesses(target).argmin()])

    def lost_time(self, lr: float, target: Target) -> float:
        """Share of its steps that the best LR would have saved.

        The best LR's run reaches the loss that `lr` ends with after some of
        its steps; the rest is the time lost. Constant LR only.
        """
        best = int(self.excesses(target).argmin())
        test, before = self.path(target)
        path = np.array([before, *test[:, best].T])
        path = np.fmin(path, before[None]).mean(1)
        row = self.row(target)
        ends = np.interp(
            np.log10(lr), self.x, row, before.mean(), before.mean()
        )
        path = np.minimum.accumulate(path)
        steps = np.array([0, *LONGEST[: len(path) - 1]], float)
        reached = np.interp(-ends, -path, steps)
        return float(1.0 - reached / target.steps)

    def ramp(self, seed: int) -> tuple[Vector, Vector]:
        """Learning rates and raw losses of a whole ramp; nothing stopped."""
        steps = RAMPS[0]
        losses = self.arrays["ramps"][seed, 0, :steps]
        return ramp_lrs(*RAMP, steps), losses.astype("float64")

    @functools.cache  # noqa: B019  (recordings live as long as the process)
    def curve(self, seed: int) -> Curve:
        """The curve as a range test with the usual stop leaves it."""
        steps = RAMPS[0]
        kind, settings = OPTIMIZERS[self.optimizer].keras
        test = RangeTest(
            *RAMP, steps, optimizer=kind.lower(), hyperparameters=settings
        )
        for loss in self.arrays["ramps"][seed, 0, :steps].tolist():
            if not test.record(loss):
                break
        return dataclasses.replace(
            test.curve,
            steps_per_epoch=self.steps_per_epoch,
            batch_size=int(self.arrays["batch"]),
        )


def load(results: Path = RESULTS, *, unseen: bool) -> list[Cell]:
    """Every recorded cell of the seen, or of the unseen, families."""
    cells = []
    for path in sorted(results.glob("*.npz")):
        if "." in path.stem:
            continue
        task, optimizer = path.stem.split("-")
        if (FAMILIES[task] in UNSEEN) != unseen:
            continue
        arrays = _arrays(path)
        for part in LATER:
            later = path.with_suffix(f"{part}.npz")
            if later.exists():
                arrays = {**_arrays(later), **arrays}
        again = path.with_suffix(f"{SEEDS}.npz")
        if again.exists():
            arrays |= {
                name: np.concatenate([arrays[name], more])
                for name, more in _arrays(again).items()
                if name in arrays
            }
        cells.append(Cell(task, optimizer, arrays))
    return cells


def _arrays(path: Path) -> dict[str, Vector]:
    with np.load(path) as file:
        return {name: file[name].astype("float64") for name in file.files}
