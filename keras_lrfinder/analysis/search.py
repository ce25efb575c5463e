"""A longer search for the learning rate: a ramp, and then the better half.

Probes of 60 steps say what is good for 60 steps. With more to spend, several
learning rates half a decade apart are tried round what the ramp suggests, the
best of them for longer, and held-out loss decides (successive halving:
Jamieson and Talwalkar 2016, arXiv 1502.07943). Pure; the caller trains:

```
plan, trials = ladder(budget, ramp=100), []
while todo := next_trials(plan, centre, trials, before):
    # Each of `todo` is (lr, until): from the restored state to step `until`,
    # all on the same batches. Then one `Trial` for each.
    trials += [Trial(lr, until, tail, held_out), ...]
found = reading(plan, centre, trials, before)
decades = answer(kind, plan.name, centre, found)
```

A trial is judged by `held_out + tail / 2`, each at most the loss `before`
training. The constants were fitted by `benchmarks/outcome/fit.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.default_rule import default_lr
from keras_lrfinder.analysis.landmarks import Landmarks

# What lies so far behind the best, in shares of the fall, weighs 1/e.
_TAU = 0.05
_TAIL_WEIGHT = 0.5


@dataclasses.dataclass(frozen=True)
class Ladder:
    """How many steps are spent on which learning rates.

    Attributes:
        name: Names the constants that belong to it.
        spacing: Float, decades between neighbouring learning rates.
        rungs: Pairs of integers: how many learning rates are tried, and for
            how many steps.
    """

    name: str
    spacing: float
    rungs: tuple[tuple[int, int], ...]

    @property
    def steps(self) -> int:
        """The most training steps that it takes."""
        return sum(count * until for count, until in self.rungs)

    @property
    def lengths(self) -> list[int]:
        """The steps of each trial, in the order in which they are run."""
        return [until for count, until in self.rungs for _ in range(count)]


LADDERS = (
    Ladder("1200", 0.5, ((6, 80), (2, 240))),
    Ladder("2400", 0.5, ((6, 160), (3, 400))),
)


def ladder(budget: int, ramp: int) -> Ladder | None:
    """Returns the longest ladder that `budget` steps allow after a ramp.

    Args:
        budget: Integer, training steps in all.
        ramp: Integer, those of the ramp.

    Returns:
        `Ladder`, or None where there is room for probes at most.
    """
    fitting = [plan for plan in LADDERS if ramp + plan.steps <= budget]
    return fitting[-1] if fitting else None


@dataclasses.dataclass(frozen=True)
class Constants:
    """What was fitted, for a constant learning rate and 500 steps.

    Attributes:
        centre: By kind of optimizer: decades on the default rule's answer.
        reading: By ladder and kind: weight of the trials against the centre,
            and an offset in decades.
        reach: By ladder: half the range in decades, where sure and where not.
    """

    centre: dict[str, float]
    reading: dict[str, dict[str, tuple[float, float]]]
    reach: dict[str, tuple[float, float]]


CONSTANTS = Constants(
    centre={
        "sgd": 0.35,
        "momentum": 0.4,
        "adam": 0.45,
        "lion": 0.4,
        "muon": 0.4,
        "adafactor": 0.6,
    },
    reading={
        "1200": {
            "sgd": (0.6, -0.2),
            "momentum": (0.7, -0.25),
            "adam": (0.6, -0.3),
            "lion": (0.4, -0.45),
            "muon": (0.4, -0.4),
            "adafactor": (0.5, -0.3),
        },
        "2400": {
            "sgd": (0.7, -0.15),
            "momentum": (0.8, -0.15),
            "adam": (0.7, -0.25),
            "lion": (0.5, -0.35),
            "muon": (0.4, -0.3),
            "adafactor": (0.6, -0.2),
        },
    },
    reach={
        "1200": (0.68, 0.72),
        "2400": (0.68, 0.74),
    },
)


@dataclasses.dataclass(frozen=True)
class Trial:
    """What training at one learning rate had reached by step `until`.

    Attributes:
        lr: Float > 0.
        until: Integer, steps since the restored state.
        tail: Float, mean training loss of the last quarter of them.
        held_out: Float, loss in inference mode on samples not trained on.
    """

    lr: float
    until: int
    tail: float
    held_out: float


def centre_of(
    curve: Curve,
    seen: Landmarks,
    kind: str,
    constants: Constants = CONSTANTS,
) -> float:
    """Returns log10 of the learning rate round which to search."""
    return math.log10(default_lr(curve, seen)) + constants.centre[kind]


def next_trials(
    plan: Ladder, centre: float, trials: Sequence[Trial], before: float
) -> list[tuple[float, int]]:
    """Returns what to run next, as (lr, until); none: the search is over.

    Args:
        plan: The ladder.
        centre: Float, log10 of the LR that the ramp suggests.
        trials: All so far, whole rungs only.
        before: Float, held-out loss before training.
    """
    done = _rungs_done(trials)
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
    rung it is the centre.
    """
    done = _rungs_done(trials)
    if not done:
        return centre
    last = _rung(plan, trials, done - 1)
    scores = np.array([_score(t, before) for t in last])
    most = before + _TAIL_WEIGHT * before
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
    constants: Constants = CONSTANTS,
) -> float:
    """Returns log10 of the LR for 500 steps at one learning rate.

    Args:
        kind: As `schedule_factors.kind_of` says.
        name: The ladder's.
        centre: Float, log10 of the ramp's LR.
        found: What `reading` returned.
        constants: What was fitted.
    """
    weight, offset = constants.reading[name][kind]
    return weight * found + (1.0 - weight) * centre + offset


def _rungs_done(trials: Sequence[Trial]) -> int:
    return len({t.until for t in trials})


def _rung(plan: Ladder, trials: Sequence[Trial], which: int) -> list[Trial]:
    until = plan.rungs[which][1]
    return [t for t in trials if t.until == until]


def _score(trial: Trial, before: float) -> float:
    held, tail = (
        min(v, before) if math.isfinite(v) else before
        for v in (trial.held_out, trial.tail)
    )
    return held + _TAIL_WEIGHT * tail
