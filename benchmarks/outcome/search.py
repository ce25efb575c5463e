"""A search for the learning rate: a ramp, and then successive halving.

Pure; the caller trains:

```
before = ...                    # held-out loss of the restored state
centre = ramp_centre(curve, CONSTANTS.ramp[kind])
plan, trials = ladder(budget), []
while todo := next_trials(plan, centre, trials, before):
    # Each of `todo` is (lr, until): from the restored state, or from where
    # that learning rate's trial stopped, on to step `until`; all trials see
    # the same batches. Then one `Trial` per (lr, until).
    trials += [Trial(lr, until, tail, held_out), ...]
x = reading(plan, centre, trials, before)
decades = answer(kind, plan.name, centre, x, schedule, total_steps)
```

`tail` is the mean training loss of the last quarter (at least ten) of the
steps, `held_out` the loss in inference mode on samples kept out of the
batches. A trial is judged by `held_out + tail / 2`, each at most `before`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from benchmarks.outcome.schedule_factors import FACTORS
from benchmarks.outcome.schedule_factors import Factors
from benchmarks.outcome.schedule_factors import shift
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.landmarks import landmarks

__all__ = [
    "CONSTANTS",
    "LADDERS",
    "Constants",
    "Ladder",
    "Trial",
    "answer",
    "at_end",
    "ladder",
    "next_trials",
    "ramp_centre",
    "reading",
    "steps_of",
]

# What lies so far behind the best, in shares of the fall, weighs 1/e.
_TAU = 0.05
_TAIL_WEIGHT = 0.5


@dataclasses.dataclass(frozen=True)
class Ladder:
    """How many steps are spent on which learning rates.

    Attributes:
        name: Names the constants that belong to it.
        ramp: Steps of the ramp.
        spacing: Decades between neighbouring learning rates.
        rungs: Pairs: how many learning rates go on, until which step.
    """

    name: str
    ramp: int
    spacing: float
    rungs: tuple[tuple[int, int], ...]


LADDERS = (
    Ladder("ramp", 100, 0.0, ()),
    Ladder("300", 60, 0.5, ((4, 40), (2, 80))),
    Ladder("1200", 100, 0.5, ((5, 80), (3, 240), (2, 320))),
    Ladder("grid", 100, 0.25, ((10, 500),)),
)


def steps_of(plan: Ladder) -> int:
    """Returns the most training steps that a ladder takes, ramp included."""
    total, done = plan.ramp, 0
    for count, until in plan.rungs:
        total, done = total + count * (until - done), until
    return total


def ladder(budget: int) -> Ladder:
    """Returns the longest ladder within `budget` steps, at least the ramp."""
    fitting = [plan for plan in LADDERS if steps_of(plan) <= budget]
    return fitting[-1] if fitting else LADDERS[0]


@dataclasses.dataclass(frozen=True)
class Constants:
    """What was fitted.

    Attributes:
        ramp: By kind: slope, middle and offset of the ramp's rule.
        reading: By ladder and kind: weight of the trials against the ramp,
            and an offset in decades.
        factors: As in `schedule_factors`.
        reach: By ladder: half the interval in decades, where confident and
            where not.
    """

    ramp: dict[str, tuple[float, float, float]]
    reading: dict[str, dict[str, tuple[float, float]]]
    factors: Factors
    reach: dict[str, tuple[float, float]]


CONSTANTS = Constants(
    ramp={
        "sgd": (0.625, -0.019, -0.75),
        "momentum": (0.625, -0.272, -1.6),
        "adam": (0.5, -0.531, -2.0),
        "lion": (0.5, -1.023, -2.75),
        "muon": (0.5, -0.263, -2.2),
        "adafactor": (0.75, 0.806, -0.95),
    },
    reading={
        "ramp": {
            "sgd": (1.0, 0.05),
            "momentum": (1.0, 0.0),
            "adam": (1.0, 0.05),
            "lion": (1.0, 0.0),
            "muon": (1.0, 0.05),
            "adafactor": (1.0, -0.05),
        },
        "300": {
            "sgd": (0.6, -0.1),
            "momentum": (0.8, -0.3),
            "adam": (0.6, -0.3),
            "lion": (0.3, -0.2),
            "muon": (0.5, -0.3),
            "adafactor": (0.6, -0.35),
        },
        "1200": {
            "sgd": (0.8, -0.05),
            "momentum": (0.9, -0.15),
            "adam": (0.7, -0.1),
            "lion": (0.6, -0.2),
            "muon": (0.5, -0.15),
            "adafactor": (0.6, -0.15),
        },
        "grid": {
            "sgd": (1.0, 0.05),
            "momentum": (1.0, -0.1),
            "adam": (1.0, -0.1),
            "lion": (1.0, -0.15),
            "muon": (1.0, -0.2),
            "adafactor": (0.7, -0.1),
        },
    },
    factors=FACTORS,
    reach={
        "ramp": (1.04, 0.89),
        "300": (0.93, 0.88),
        "1200": (0.7, 0.8),
        "grid": (0.69, 0.79),
    },
)


@dataclasses.dataclass(frozen=True)
class Trial:
    """What training at one learning rate had reached by step `until`.

    Attributes:
        lr: Float > 0.
        until: Steps since the restored state.
        tail: Mean training loss of the last quarter, at least ten, of them.
        held_out: Loss in inference mode on samples not trained on.
    """

    lr: float
    until: int
    tail: float
    held_out: float


def ramp_centre(curve: Curve, constants: tuple[float, float, float]) -> float:
    """Returns log10 of the LR that a ramp suggests for 500 constant steps.

    The ramp's landmark is half-way, in decades, between the lowest loss and
    the edge of stability: it does not hang on either alone.
    """
    seen = landmarks(curve)
    if seen is None:
        raise ValueError("a curve without a finite loss has no landmarks")
    slope, middle, offset = constants
    return slope * ((seen.edge + seen.bottom) / 2.0 - middle) + offset


def next_trials(
    plan: Ladder, centre: float, trials: Sequence[Trial], before: float
) -> list[tuple[float, int]]:
    """Returns what to run next, as (lr, until); none: the search is over.

    Args:
        plan: The ladder.
        centre: log10 of the LR that the ramp suggests.
        trials: All so far, whole rungs only.
        before: Held-out loss before training.
    """
    done = len({t.until for t in trials})
    if done == len(plan.rungs):
        return []
    count, until = plan.rungs[done]
    if not done:
        places = (np.arange(count) - (count - 1) / 2.0) * plan.spacing
        return [(float(10.0 ** (centre + d)), until) for d in places]
    last = _rung(plan, trials, done - 1)
    ranked = sorted(last, key=lambda t: _score(t, before))
    return sorted((t.lr, until) for t in ranked[:count])


def reading(
    plan: Ladder, centre: float, trials: Sequence[Trial], before: float
) -> float:
    """Returns log10 of the LR that the last whole rung likes best.

    An average that counts what is nearly as good nearly as much. Without a
    rung, or where nothing was learnt, it is the centre.
    """
    done = len({t.until for t in trials})
    if not done:
        return centre
    last = _rung(plan, trials, done - 1)
    scores = np.array([_score(t, before) for t in last])
    most = before * (1.0 + _TAIL_WEIGHT)
    fall = max(most - scores.min(), 1e-9)
    weights = np.exp(-(scores - scores.min()) / fall / _TAU)
    return float(weights @ np.log10([t.lr for t in last]) / weights.sum())


def at_end(plan: Ladder, trials: Sequence[Trial], before: float) -> bool:
    """Returns whether the first rung's best lies at an end of it."""
    if not trials:
        return False
    first = sorted(_rung(plan, trials, 0), key=lambda t: t.lr)
    best = min(range(len(first)), key=lambda i: _score(first[i], before))
    return best in (0, len(first) - 1)


def answer(
    kind: str,
    name: str,
    centre: float,
    found: float,
    schedule: str,
    steps: int,
    constants: Constants = CONSTANTS,
) -> float:
    """Returns log10 of the LR, for a schedule its peak, to train with.

    Args:
        kind: As `schedule_factors.kind_of` says.
        name: The ladder's.
        centre: log10 of the ramp's LR.
        found: What `reading` returned.
        schedule: String, that of the training that follows.
        steps: Integer, its length.
        constants: What was fitted.
    """
    weight, offset = constants.reading[name][kind]
    decades = weight * found + (1.0 - weight) * centre + offset
    return decades + shift(kind, schedule, steps, constants.factors)


def _rung(plan: Ladder, trials: Sequence[Trial], which: int) -> list[Trial]:
    until = plan.rungs[which][1]
    return [t for t in trials if t.until == until]


def _score(trial: Trial, before: float) -> float:
    held, tail = (
        min(v, before) if math.isfinite(v) else before
        for v in (trial.held_out, trial.tail)
    )
    return held + _TAIL_WEIGHT * tail
