"""A run: a path of learning rates, and the losses that it gave.

What follows the ramp are runs, each from the restored state and on the same
batches: probes (short, one learning rate) and whole trainings. After the last
step come batches at a learning rate of zero, whose losses judge what was
learnt: first some that the run has not trained on, then some that it has.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.arguments import vector

Vector = NDArray[np.float64]

# The share of its steps in which cosine warms up.
_WARMUP = 0.05
# What falls by less than this share of the loss has not moved.
_MOVED = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A path of learning rates, from the restored state; then its losses.

    Attributes:
        lr: Float, its learning rate; of a schedule the peak.
        steps: Integer >= 0, how many steps it trains: updates.
        schedule: String, a name in `SHARES`.
        held_out: Integer, how many steps at zero follow, on batches that it
            has not trained on.
        again: Integer, how many follow, on the first that it has trained on.
        losses: Array, the loss of each step of `lrs`, as far as it came. None:
            the run is still to be made.

    Example:
    >>> run = Run(1e-3, 4, held_out=2)
    >>> run.lrs.tolist()
    [0.001, 0.001, 0.001, 0.001, 0.0, 0.0]
    >>> run.ended([2.0, 1.5, 1.2, 1.0, 1.0, 1.5]).final_loss
    1.25
    """

    lr: float
    steps: int
    schedule: str = "constant"
    held_out: int = 0
    again: int = 0
    losses: Vector | None = dataclasses.field(default=None, repr=False)

    @property
    def lrs(self) -> Vector:
        """The learning rate of each step, zeros at the end."""
        path = self.lr * SHARES[self.schedule](self.steps)
        return np.append(path, np.zeros(self.held_out + self.again))

    def ended(self, losses: ArrayLike) -> Run:
        """Returns the run with what was measured.

        Args:
            losses: The loss of each step of `lrs`. Fewer: it ended early, or
                nothing was held out. NaN: it blew up.
        """
        measured = vector("losses", losses)
        if len(measured) > len(self.lrs):
            raise ValueError(
                "`losses` must have at most one entry for each step of the "
                f"run. Received: {len(measured)} of {len(self.lrs)}"
            )
        return dataclasses.replace(self, losses=measured)

    @property
    def tail(self) -> float | None:
        """The mean training loss of the last quarter of the steps."""
        losses = () if self.losses is None else self.losses[: self.steps]
        last = losses[-max(len(losses) // 4, 1) :]
        return float(np.mean(last)) if len(last) else None

    @property
    def held_out_loss(self) -> float | None:
        """The mean loss on batches that it has not trained on."""
        return self._mean(self.steps, self.held_out)

    @property
    def again_loss(self) -> float | None:
        """The mean loss, afterwards, on batches that it has trained on."""
        return self._mean(self.steps + self.held_out, self.again)

    @property
    def blew_up(self) -> bool | None:
        """Whether a loss was not finite."""
        if self.losses is None:
            return None
        return not bool(np.isfinite(self.losses).all())

    @property
    def final_loss(self) -> float | None:
        """The held-out loss, else the tail; NaN where the run blew up."""
        held_out = math.nan if self.blew_up else self.held_out_loss
        return self.tail if held_out is None else held_out

    def _mean(self, begin: int, count: int) -> float | None:
        if self.losses is None or not count:
            return None
        part = self.losses[begin : begin + count]
        return float(part.mean()) if len(part) == count else None


def constant(steps: int) -> Vector:
    """One learning rate."""
    return np.ones(steps)


def cosine(steps: int) -> Vector:
    """Linear warm-up over a twentieth, then a half cosine to nothing."""
    up = round(_WARMUP * steps)
    rise = (np.arange(up) + 1) / (up + 1)
    return np.concatenate([rise, 1.0 - _arc(steps - up + 1)[:-1]])


def one_cycle(steps: int) -> Vector:
    """`keras_lrfinder.OneCycle` with its defaults."""
    if steps < 2:
        return np.ones(steps)
    end = steps - 1
    top = min(round(0.3 * end), end - 1)
    first, last = 1 / 25, 1 / 25 / 10_000
    rise = first + (1.0 - first) * _arc(top + 1)
    fall = last + (1.0 - last) * (1.0 - _arc(end - top + 1))
    return np.concatenate([rise[:top], fall])


def triangular(steps: int) -> Vector:
    """`keras_lrfinder.Triangular`, base a fourth, two whole cycles."""
    size = max(steps // 4, 1)
    x = np.abs(np.arange(steps) / size % 2 - 1)
    return 0.25 + 0.75 * (1 - x)


# From a schedule's name to the shares of its peak, by step.
SHARES: dict[str, Callable[[int], Vector]] = {
    "constant": constant,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "triangular": triangular,
}


def _arc(length: int) -> Vector:
    """Cosine from 0 to 1 in `length` steps, both ends included."""
    return np.sin(np.linspace(0.0, np.pi / 2, length)) ** 2


@dataclasses.dataclass(frozen=True, eq=False)
class Levels:
    """What runs of one length reached, by rising learning rate."""

    x: Vector  # log10 of the learning rates
    held: Vector  # held-out loss, else training loss, at most that before
    before: float  # the same before the first step
    moved: NDArray[np.bool_]  # whether training loss fell by more than noise
    learnt: NDArray[np.bool_]  # whether it fell at all
    blown: NDArray[np.bool_]  # whether it rose by more, was not finite or died
    finite: NDArray[np.bool_]
    checked: bool  # whether there is a held-out loss
    # The share, 0 to 1, of what the best run learnt of batches that it trained
    # on which the held-out loss did not follow.
    memorised: float
    steps: int
    schedule: str

    @property
    def loss(self) -> str:
        """Which loss `held` is, in words."""
        return "held-out loss" if self.checked else "training loss"

    @property
    def best(self) -> int:
        """The index of the run that ended lowest."""
        return int(np.argmin(self.held))

    @property
    def fall(self) -> float:
        """By how much the best of them lowered the loss."""
        return self.before - float(self.held.min())

    @property
    def top(self) -> float:
        """log10 of the lowest LR at which training blew up, or infinity."""
        return float(self.x[self.blown].min()) if self.blown.any() else math.inf


def reached(
    seen: Landmarks, runs: Sequence[Run], untrained: Run = Run(0.0, 0)
) -> Levels:
    """Returns what runs of one length reached, at least one of them."""
    runs = sorted(runs, key=lambda run: run.lr)
    blew_up = np.array([bool(run.blew_up) for run in runs])
    tails, ends = (
        np.where(blew_up, np.nan, np.array(losses, dtype=np.float64))
        for losses in zip(*((run.tail, run.held_out_loss) for run in runs))
    )
    rise = max(3.0 * seen.noise, 0.1 * seen.scale)
    unsure = seen.noise / math.sqrt(max(runs[0].steps // 4, 1))
    fall = max(2.0 * unsure, _MOVED * seen.scale)
    # What is not finite learnt nothing.
    capped = np.fmin(tails, seen.first)
    held, before = capped, seen.first
    fresh = untrained.held_out_loss
    checked = fresh is not None and bool(np.all(blew_up | np.isfinite(ends)))
    if checked and fresh is not None:
        held, before = np.fmin(ends, fresh), fresh
    moved = capped < seen.first - fall
    # It learns nothing where a lower one did: as units that have died.
    died = ~moved & np.maximum.accumulate(moved)
    return Levels(
        x=np.log10([run.lr for run in runs]),
        held=held,
        before=before,
        moved=moved,
        learnt=capped < seen.first,
        blown=died | ~(tails <= seen.first + rise),
        finite=~blew_up,
        checked=checked,
        memorised=_memorised(runs[int(np.argmin(capped))], untrained),
        steps=runs[0].steps,
        schedule=runs[0].schedule,
    )


def _memorised(run: Run, untrained: Run) -> float:
    """Returns the share of a run's fall that held-out batches lack."""
    before, after = untrained.again_loss, run.again_loss
    fresh, held_out = untrained.held_out_loss, run.held_out_loss
    if before is None or after is None or fresh is None or held_out is None:
        return 0.0
    if run.blew_up or not before - after > 2.0 * _MOVED * abs(before):
        return 0.0
    return float(np.clip(1.0 - (fresh - held_out) / (before - after), 0.0, 1.0))
