"""What probes reached, and what that says in words.

A probe is a short run at one learning rate. Several of them, by rising
learning rate, are the `Levels` that a climb (`probes.py`) and the longer search
read. Two things are read off them:

- `liked`: log10 of the learning rate that ends with the lowest held-out loss,
  by the parabola through the best probe and its neighbours.
- `memorised`: the share, 0 to 1, of the best probe's fall on samples that it
  trained on which held-out samples did not follow, both judged as in
  inference. A whole training memorises more than a probe.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.analysis.suggestions import Suggestion

PROBE_STEPS = 60
# Decades between neighbouring probes.
STEP = 0.75
# Where the best probe is the lowest, or the highest, what is liked is so many
# decades beyond: by trial on both benchmarks.
_BELOW, _ABOVE = 0.2, 0.4
# By less than this share of the best fall, probes do not differ.
_LEAST_SPREAD = 0.05
# Fewer finite losses of a ramp say nothing about where to probe.
_FEWEST_POINTS = 8
# Memorising below this share is not worth a word; from this one on, what
# probes tell is not sure.
_NOTABLE, _MOSTLY = 0.1, 0.5
# What falls by less than this share of the loss has not moved.
_MOVED = 0.01
# The held-out loss, of at least so many samples, must fall by at least this
# share of itself for an answer to be sure.
_ENOUGH_SAMPLES, _ENOUGH_FALL = 50, 0.02
# And by this share, to outvote a ramp: random labels take off a tenth, as what
# is random at the start is unlearnt.
_VISIBLE_FALL = 0.15
TOO_LITTLE = "what they learnt is too little to judge by"


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """A run at one learning rate, or with a schedule, from the restored state.

    Attributes:
        lr: Float > 0, the learning rate of every step; of a schedule the
            peak.
        losses: Array of shape `(n,)`, the loss of each step's batch before
            its update. A run that ended early has fewer.
        held_out: Float or None, the mean loss after the last step on
            samples that the probe did not train on: the user's validation
            data, else training samples kept out of the probes' batches (a
            fifth, at most 256). NaN or infinite where the run blew up, None
            where there are no such samples.
        held_out_before: Float or None, the same before the first step.
        source: String, what the held-out samples are: `"validation data"`,
            `"reserved samples"` or `""`.
        samples: Integer or None, how many held-out samples there are.
        trained: Float or None, as `held_out`, on about as many samples that
            the probe did train on. None where it meets none of them twice,
            which cannot be memorised, or where it is not known.
        trained_before: Float or None, the same before the first step.
        schedule: String, whether the learning rate stayed: `"constant"`.
    """

    lr: float
    losses: NDArray[np.float64]
    held_out: float | None = None
    held_out_before: float | None = None
    source: str = ""
    samples: int | None = None
    trained: float | None = None
    trained_before: float | None = None
    schedule: str = "constant"

    @property
    def tail(self) -> float:
        """The mean training loss of the last quarter of the steps."""
        losses = np.asarray(self.losses, dtype=np.float64)
        return float(losses[-max(len(losses) // 4, 1) :].mean())

    @property
    def final_loss(self) -> float:
        """The loss that was reached, on held-out samples where there are any.

        NaN where the run blew up.
        """
        if not len(self.losses) or not math.isfinite(self.losses[-1]):
            return math.nan
        loss = self.tail if self.held_out is None else float(self.held_out)
        return loss if math.isfinite(loss) else math.nan


def can_probe(seen: Landmarks | None) -> bool:
    """Returns whether a ramp says where to probe."""
    return seen is not None and seen.points >= _FEWEST_POINTS


def hardly_fell(seen: Landmarks) -> bool:
    """Returns whether the ramp's loss fell by less than 1 %."""
    return bool(seen.first - seen.lowest < 0.01 * seen.scale)


@dataclasses.dataclass(frozen=True, eq=False)
class Levels:
    """What the probes reached, by rising learning rate.

    Attributes:
        x: log10 of the learning rates.
        held: Held-out loss (training loss where there is none), at most
            that before.
        before: Held-out loss before the first step.
        learnt: Whether the probe's loss fell at all.
        moved: Whether it fell by more than noise explains.
        blown: Whether it rose by more than noise, or was not finite.
        gained: Whether the held-out loss fell at all.
        memorised: The share of the best fall that held-out loss lacks.
        checked: Whether there is a held-out loss.
        source: What the held-out samples are.
        samples: How many, or None.
    """

    x: NDArray[np.float64]
    held: NDArray[np.float64]
    before: float
    learnt: NDArray[np.bool_]
    moved: NDArray[np.bool_]
    blown: NDArray[np.bool_]
    gained: NDArray[np.bool_]
    memorised: float
    checked: bool
    source: str
    samples: int | None

    @property
    def tell(self) -> bool:
        """Whether `liked` and `memorised` mean anything."""
        return bool(self.learnt.any() and self.gained.any())

    @property
    def outvote(self) -> bool:
        """Whether they are to be believed where a ramp showed nothing.

        Neither noise is, nor random labels, nor what happens at any learning
        rate, as the first step of Ftrl from zero.
        """
        fell = self._fall >= _VISIBLE_FALL * abs(self.before)
        return self.tell and self.convince and self.matter and fell

    @property
    def convince(self) -> bool:
        """Whether held-out samples show that something was learnt."""
        enough = self.samples is None or self.samples >= _ENOUGH_SAMPLES
        fell = self._fall >= _ENOUGH_FALL * abs(self.before)
        return self.checked and enough and fell and self.memorised < _MOSTLY

    @property
    def matter(self) -> bool:
        """Whether the held-out loss depends on the learning rate."""
        return bool(np.ptp(self.held) >= _LEAST_SPREAD * self._fall)

    @property
    def _fall(self) -> float:
        return self.before - float(self.held.min())

    @property
    def liked(self) -> float:
        """The log10(LR) that ends lowest, between probes too."""
        x, kept = np.unique(np.round(self.x, 6), return_index=True)
        held = self.held[kept]
        best, last = int(np.argmin(held)), len(x) - 1
        if last == 0:
            return float(x[0])
        if best == 0:
            return float(x[0]) - _BELOW
        if best == last:
            return float(x[last]) + _ABOVE
        before, after = np.diff(x[best - 1 : best + 2])
        falls, rises = np.diff(held[best - 1 : best + 2])
        falls, rises = falls / before, rises / after
        # Between the middles of both gaps: where the slope passes zero.
        share = -falls / (rises - falls)
        return float(x[best] + ((before + after) * share - before) / 2.0)

    @property
    def at(self) -> str:
        """The learning rates in words."""
        return ", ".join(f"{10.0**x:.1e}" for x in self.x)

    @property
    def top(self) -> float:
        """log10 of the lowest LR at which training blew up, or infinity."""
        return float(self.x[self.blown].min()) if self.blown.any() else math.inf

    @property
    def most(self) -> float:
        """log10 of the highest LR that is safely below it."""
        return self.top - STEP / 2.0


def reached(seen: Landmarks, probes: Sequence[Probe]) -> Levels:
    """Returns what the probes reached, at least one of them.

    Args:
        seen: The landmarks of the ramp, which say what is noise.
        probes: In any order.
    """
    probes = sorted(probes, key=lambda p: p.lr)
    train = np.array([p.tail for p in probes])
    checked = all(
        p.held_out is not None and p.held_out_before is not None for p in probes
    )
    rise = max(3.0 * seen.noise, 0.1 * seen.scale)
    unsure = seen.noise / math.sqrt(PROBE_STEPS // 4)
    fall = max(2.0 * unsure, _MOVED * seen.scale)
    capped = np.array([_capped(t, seen.first) for t in train])
    if checked:
        held = [_capped(p.held_out, p.held_out_before) for p in probes]
        before = np.array([p.held_out_before for p in probes])
    else:
        held, before = capped.tolist(), np.full(len(probes), seen.first)
    return Levels(
        x=np.log10([p.lr for p in probes]),
        held=np.array(held),
        before=float(np.median(before)),
        learnt=capped < seen.first,
        moved=capped < seen.first - fall,
        blown=~(train <= seen.first + rise),
        gained=np.array(held) < before,
        memorised=_memorised(probes[int(np.argmin(capped))]),
        checked=checked,
        source=probes[0].source,
        samples=probes[0].samples,
    )


def _memorised(probe: Probe) -> float:
    """Returns the share of a probe's fall that held-out samples lack."""
    falls = []
    for after, before in (
        (probe.trained, probe.trained_before),
        (probe.held_out, probe.held_out_before),
    ):
        if before is None:
            return 0.0
        falls.append(before - _capped(after, before))
    trained, held_out = falls
    if not trained > 2.0 * _MOVED * abs(probe.trained_before or 0.0):
        return 0.0
    return float(np.clip(1.0 - held_out / trained, 0.0, 1.0))


def _capped(loss: float | None, most: float | None) -> float:
    assert most is not None
    if loss is None or not math.isfinite(loss):
        return float(most)
    return min(float(loss), float(most))


def meaning(levels: Levels, unchecked: str, steps: int = PROBE_STEPS) -> str:
    """Returns what probes of `steps` steps say, in words."""
    if not levels.learnt.any():
        return f"{steps} steps did not lower the loss, so they say nothing"
    if not levels.checked:
        return (
            "whether what they learnt holds elsewhere could not be checked: "
            f"{unchecked}"
        )
    if not levels.gained.any():
        return (
            f"the loss on {levels.source} did not improve in {steps} "
            "steps, so they say nothing"
        )
    if levels.memorised < _NOTABLE:
        return f"what they learnt holds on {levels.source}"
    return (
        f"{levels.memorised:.0%} of what the best of them learnt does not "
        f"hold on {levels.source}: memorised, so lower is better"
    )


def in_words(levels: Levels, unchecked: str, steps: int) -> str:
    """Returns `meaning`, and where training blew up."""
    told = meaning(levels, unchecked, steps)
    if levels.blown.any():
        return f"training blew up at {10.0**levels.top:.1e}; {told}"
    return told


def of_ramp(first: Suggestion) -> str:
    """Returns what the ramp said, in words that go on."""
    reason = first.reason.rstrip(".")
    if first.lr is None:
        return f"the ramp alone gave no answer ({reason})"
    return reason


def without_news(
    first: Suggestion, levels: Levels, unchecked: str
) -> Suggestion:
    """Returns what the ramp said, and that probes add nothing to it.

    Args:
        first: What the ramp said.
        levels: What the probes reached.
        unchecked: String, why there are no held-out losses, if so.
    """
    told = meaning(levels, unchecked)
    if levels.tell:
        told = TOO_LITTLE
    reason = f"{first.reason.rstrip('.')}. Probes at {levels.at}: {told}"
    return dataclasses.replace(first, reason=reason)


def nothing_learnt(first: Suggestion, steps: int) -> Suggestion:
    """Returns the refusal where `steps` steps lowered nothing either."""
    return Suggestion.refused(
        first.rule,
        f"the loss fell by less than 1 % in the test, and {steps} steps at "
        "one learning rate did not lower it either: check that inputs and "
        "targets belong together",
    )


def blown_everywhere(
    first: Suggestion, levels: Levels, steps: int = PROBE_STEPS
) -> Suggestion:
    """Returns the refusal where runs blew up at every learning rate."""
    return Suggestion.refused(
        first.rule,
        f"{steps} steps blew up at every learning rate tried, down to "
        f"{10.0 ** levels.x[0]:.1e}: test lower ones, and check the scale of "
        "inputs and targets",
    )
