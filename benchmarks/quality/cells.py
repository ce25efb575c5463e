"""The stored measurements: one `Cell` per task and optimizer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.analysis.range_test import ramp_lrs

Vector = NDArray[np.float64]

RESULTS = Path(__file__).with_name("results")
SHORT = 500
PART = 100
# Start, end and steps of the recorded ramps, in the order of the files.
RAMPS = (
    (1e-7, 10.0, 50),
    (1e-7, 10.0, 100),
    (1e-7, 10.0, 200),
    (1e-7, 10.0, 300),
    (1e-9, 10.0, 100),
    (1e-9, 10.0, 125),
    (1e-7, 1.0, 100),
    (1e-5, 10.0, 100),
)
# Tasks that were measured once the constants were fixed.
LATER = "later"
FAMILIES = {
    "digits_mlp": "digits",
    "digits_raw": "digits",
    "digits_deep": "digits",
    "digits_noisy": "noise",
    "clusters": "noise",
    "digits_small": "small",
    "diabetes_small": "small",
    "breast_cancer": "tabular",
    "wine": "tabular",
    "wine_raw": "tabular",
    "diabetes": "regression",
    "friedman": "regression",
    "friedman_absolute": "regression",
    "friedman_gaussian": "regression",
    "mnist_mlp": "image",
    "mnist_residual": "image",
    "mnist_cnn_norm": "image",
    "mnist_cnn": "image",
    "mnist_autoencoder": "reconstruction",
    "mnist_rare": "imbalance",
    "text_pool": "text",
    "text_convolution": "text",
    "text_larger": "text",
    "text_bag": "text",
    "finetune_head": "finetuning",
    "finetune_whole": "finetuning",
    "finetune_shifted": "finetuning",
    "wave_lstm": "sequence",
    "byte_gru": "bytes",
    "byte_transformer": "bytes",
    "iris": "later",
    "moons": "later",
    "linear_targets": "later",
    "digits_cnn": "later",
    "digits_autoencoder": "later",
    "digits_normed": "later",
    "mnist_softmax": "later",
    "mnist_rows": "later",
    "text_gru": "later",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """What was measured of one task with one optimizer.

    Attributes:
        task, optimizer, family: Names.
        grid: Learning rates of the oracle and of the probes.
        default_lr: Keras's default.
        steps_per_epoch: Batches of one pass.
        oracle_held: Held-out loss, (seed, LR, 100 steps each).
        oracle_initial: Held-out loss before training, (seed,).
        ramp_losses: Batch losses, (seed, ramp, step).
        probe_losses: Batch losses at constant LR, (seed, LR, step).
        probe_fresh: Loss on reserved training samples, (seed, LR, 10 steps).
        probe_held: Held-out loss, (seed, LR, 10 steps).
        probe_initial: Held-out loss before training, (seed,).
    """

    task: str
    optimizer: str
    family: str
    grid: Vector
    default_lr: float
    steps_per_epoch: int
    oracle_held: Vector
    oracle_initial: Vector
    ramp_losses: Vector
    probe_losses: Vector
    probe_fresh: Vector
    probe_held: Vector
    probe_initial: Vector

    @property
    def name(self) -> str:
        """Task and optimizer."""
        return f"{self.task}-{self.optimizer}"

    @property
    def seeds(self) -> int:
        """How many range tests of each kind were recorded."""
        return len(self.ramp_losses)

    def has(self, steps: int) -> bool:
        """Whether the oracle was trained for `steps` steps."""
        return self.oracle_held.shape[2] * PART >= steps

    def row(self, steps: int = SHORT) -> Vector:
        """Mean held-out loss of each grid LR after `steps` steps.

        What is not finite, or worse than not training, counts as the loss
        before training.
        """
        held = self.oracle_held[:, :, steps // PART - 1]
        initial = self.oracle_initial[:, None]
        return np.where(held < initial, held, initial).mean(axis=0)

    def regrets(self, steps: int = SHORT) -> Vector:
        """Regret of each grid LR: 0 is the best one, 1 is not training."""
        row = self.row(steps)
        initial = self.oracle_initial.mean()
        return (row - row.min()) / max(initial - row.min(), 1e-12)

    def regret(self, lr: float, steps: int = SHORT) -> float:
        """Regret of any LR: the grid's, linear in log LR in between.

        A decade below the grid and just above it, an LR counts as not
        training.
        """
        x = np.log10(self.grid)
        return float(
            np.interp(
                np.log10(lr),
                [x[0] - 1, *x, x[-1] + 0.01],
                [1.0, *self.regrets(steps), 1.0],
            )
        )

    def excess(self, lr: float, steps: int = SHORT) -> float:
        """Log of the loss at any LR over that of the grid's best.

        Where losses may be zero or negative, of their difference over the
        best LR's fall. As `regret` beside the grid.
        """
        row, initial = self.row(steps), self.oracle_initial.mean()
        if row.min() <= 0.0:
            losses = np.log1p((row - row.min()) / (initial - row.min()))
            worst = np.log(2.0)
        else:
            losses = np.log(row / row.min())
            worst = np.log(initial / row.min())
        x = np.log10(self.grid)
        ends = [x[0] - 1, *x, x[-1] + 0.05]
        return float(np.interp(np.log10(lr), ends, [worst, *losses, worst]))

    def fall(self, steps: int = SHORT) -> float:
        """How much of the loss the best LR takes off, as a share."""
        initial = self.oracle_initial.mean()
        return float((initial - self.row(steps).min()) / abs(initial))

    def best_lr(self, steps: int = SHORT) -> float:
        """The oracle's learning rate."""
        return float(self.grid[self.row(steps).argmin()])

    def losses(self, seed: int, ramp: int) -> tuple[Vector, Vector]:
        """Learning rates and raw losses of a whole ramp; nothing stopped."""
        start, end, steps = RAMPS[ramp]
        lrs = ramp_lrs(start, end, steps)
        return lrs, self.ramp_losses[seed, ramp, :steps]

    def curve(self, seed: int, ramp: int) -> Curve:
        """The curve as a range test with the usual stop leaves it."""
        start, end, steps = RAMPS[ramp]
        settings = {"momentum": 0.9} if self.optimizer == "momentum" else {}
        name = "sgd" if self.optimizer == "momentum" else self.optimizer
        test = RangeTest(
            start, end, steps, optimizer=name, hyperparameters=settings
        )
        for loss in self.ramp_losses[seed, ramp, :steps].tolist():
            if not test.record(loss):
                break
        return dataclasses.replace(
            test.curve, steps_per_epoch=int(self.steps_per_epoch)
        )


def load(results: Path = RESULTS) -> list[Cell]:
    """Every cell whose measurements are stored, by name."""
    return [_read(path) for path in sorted(results.glob("*.npz"))]


def _read(path: Path) -> Cell:
    task, optimizer = path.stem.split("-")
    with np.load(path) as file:
        values = {name: file[name].astype("float64") for name in file.files}
    for name in ("default_lr", "steps_per_epoch"):
        values[name] = values[name].item()
    return Cell(task, optimizer, FAMILIES[task], **values)
