"""Where the best learning rate is: one posterior for ramp and runs.

Unknown is `x`, log10 of the best learning rate of *the training that follows*,
with schedule `s` and length `T`, its peak if there is a schedule. What a ramp
says of it is the prior, what runs of any length say is evidence. With the
numbers of `constants.json` in capitals, `mean(x)` for `sum(p * x)` and all
logarithms of steps and learning rates to the base of ten,

```
length(n)   = n, or 1000 * (n / 1000) ** max(0, 1 - few) where n < 1000
moved(s, n) = HEIGHT[s] + SLOPE * log(length(n) / 500)
              - FEW_LENGTH * few * max(0, log(length(n) / 1000))
prior       = min(OFFSET + EDGE * edge - FEW * few - ROUGH * rough + large,
                  edge - MARGIN) + moved(s, T)
p(x)        ~ normal(x; prior, SIGMA)
              * exp(-WEIGHT * lost(x; trainings))
              * blurred(exp(-WEIGHT * lost(x - by; probes) / sqrt(fall)), TAU)
by          = moved(s, T) - moved(constant, 60; few = 0)
answer      = min(mean(x), safe)
low, high   = answer -+ 2 * sqrt(LEAST_SPREAD ** 2 + (SPREAD * sd(x)) ** 2)
```

- `edge`: log10 of the learning rate at which training becomes unstable
  (`landmarks.py`). `few`: decades by which an epoch is shorter than 100 steps.
  `rough`: log10 of noise against loss. `large`: an eighth of a decade for each
  decade of batch size beyond 32.
- With few data a shorter training memorises, too, so that its length counts for
  less. `n` is held within 60 and 8,000.
- SLOPE is CONSTANT or SCHEDULED, where `length(n)` is at most 500 SHORTER. What
  depends on the optimizer is looked up by its name, else by its next of kin;
  SGD's OFFSET and MARGIN go by its momentum, from none to 0.9 and beyond.
- `lost`: by how much a group of runs ended above the lowest of them, in natural
  logarithms of the held-out loss and no more than one; linear between the runs,
  flat beyond. `fall`: the same from before the first step to the lowest.
  By how much short runs are moved is known to TAU decades only, so what they
  say is blurred by that; whole trainings are moved by nothing.
- Runs without held-out losses that meet batches twice weigh a fourth.
- `safe`: half a decade below what blew up, and no higher than the highest run.
  What a schedule only touches may still be the best, so `high` goes up to what
  blew up, and for probes by `moved(s, T)` beyond, if positive.

`p` stands on a grid of 101 points round the prior, 0.06 decades apart. The
constants are fitted by `benchmarks/quality`, all by one objective.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.analysis.runs import Levels

Vector = NDArray[np.float64]
Constants = Mapping[str, Any]

CONSTANTS: Constants = json.loads(
    Path(__file__).parents[1].joinpath("constants.json").read_text("utf-8")
)
# The optimizers of the benchmark; whatever else there is takes Adam's numbers.
MEASURED = ("sgd", "adam", "adamw", "rmsprop", "lion", "muon", "adafactor")
# What is said of a training of no known length is for a middle one.
PROBE_STEPS, BASE_STEPS, MIDDLE_STEPS, _LONGEST = 60, 500, 1000, 8000
GRID = np.arange(-50, 51) * 0.06
# Decades: so far below what blew up is safe.
_SAFE = 0.5
# Beyond e times the lowest loss it does not matter by how much. A smaller fall
# counts as this one.
_ALL_LOST, _LEAST_FALL = 1.0, 0.02
# What is learnt of batches met more than once may all be memorised.
_UNCHECKED = 0.25
# An epoch of 100 steps, a usual batch, a large one (logarithms).
_SMALL_EPOCH, _BATCH, _LARGEST, _LARGER = 2.0, 32, math.log10(16.0), 0.125


@dataclasses.dataclass(frozen=True)
class Traits:
    """What is known before any run; most as in the formula."""

    kind: str  # the optimizer's name; "momentum" for SGD with a half or more
    # Of SGD, log10 of how much its momentum lengthens a step: 1 for 0.9; no
    # more than 1.5.
    momentum: float
    edge: float
    rough: float
    few: float
    large: float


def traits_of(curve: Curve, seen: Landmarks) -> Traits:
    """Returns what a ramp, whose landmarks are `seen`, says."""
    kind, momentum = curve.optimizer.lower(), 0.0
    if kind == "sgd":
        momentum = _momentum(curve.hyperparameters)
        kind = "momentum" if momentum >= 0.5 else "sgd"
    # A step of a large batch counts for more, by its square root: a short
    # epoch of such is not few data. And it has less of the noise that a whole
    # training suffers from; up to 512 that was measured.
    size = max(curve.batch_size or _BATCH, _BATCH)
    larger = math.log10(size / _BATCH)
    epoch = math.log10(max(curve.steps_per_epoch or math.inf, 1))
    return Traits(
        kind,
        min(-math.log10(1.0 - momentum), 1.5),
        seen.edge,
        seen.roughness,
        max(_SMALL_EPOCH - epoch - larger / 2.0, 0.0),
        _LARGER * min(larger, _LARGEST),
    )


def moved(
    kind: str,
    few: float,
    schedule: str,
    steps: int,
    constants: Constants = CONSTANTS,
) -> float:
    """Returns the decades from 500 constant steps to a training."""
    length, c = _length(few, steps), constants
    slope = "constant" if schedule == "constant" else "scheduled"
    slope = slope if length > BASE_STEPS else "shorter"
    decades = float(c["height"].get(schedule, 0.0))
    decades += _of(c[slope], kind) * math.log10(length / BASE_STEPS)
    more = max(math.log10(length / MIDDLE_STEPS), 0.0)
    return decades - float(c["few_length"]) * few * more


def prior(
    traits: Traits, schedule: str, steps: int, constants: Constants = CONSTANTS
) -> tuple[float, float]:
    """Returns mean and standard deviation of what the ramp says."""
    c, kind = constants, traits.kind
    decades = (
        _between(c["offset"], traits)
        + _of(c["edge"], kind) * traits.edge
        - _of(c["few"], kind) * traits.few
        - _of(c["rough"], kind) * traits.rough
        + traits.large
    )
    decades = min(decades, traits.edge - _between(c["margin"], traits))
    decades += moved(kind, traits.few, schedule, steps, constants)
    return decades, _of(c["sigma"], kind)


class Answer(NamedTuple):
    """What a posterior says: log10 of learning rates."""

    x: float  # to train with
    low: float  # the ends of what holds the best one in 95 of 100 tests
    high: float


def posterior(
    traits: Traits,
    schedule: str,
    steps: int,
    probes: Levels | None = None,
    trainings: Levels | None = None,
    epoch: int | None = None,
    constants: Constants = CONSTANTS,
) -> Answer:
    """Returns what ramp and runs say; after `epoch` steps batches repeat."""
    c = constants
    mean, sigma = prior(traits, schedule, steps, c)
    log_p, safe, most = -0.5 * (GRID / sigma) ** 2, math.inf, math.inf
    by = moved(traits.kind, traits.few, schedule, steps, c)
    higher = max(by, 0.0)
    by -= moved(traits.kind, 0.0, "constant", PROBE_STEPS, c)
    if probes is not None:
        weight = -c["weight"] * _share(probes, epoch)
        weight /= math.sqrt(max(_fall(probes), _LEAST_FALL))
        told = weight * lost(probes, mean + GRID - by)
        log_p = log_p + _blurred(told, c["tau"])
        most = probes.top + higher
        safe = probes.top - _SAFE
    if trainings is not None:
        weight = -c["weight"] * _share(trainings, epoch)
        log_p = log_p + weight * lost(trainings, mean + GRID)
        safe = min(safe, trainings.top - _SAFE)
        most = min(most, trainings.top)
    made = [runs for runs in (probes, trainings) if runs is not None]
    highest = max((float(runs.x.max()) for runs in made), default=math.inf)
    p = np.exp(log_p - log_p.max())
    p, x = p / p.sum(), mean + GRID
    mean = float(p @ x)
    sd = math.sqrt(float(p @ (x - mean) ** 2))
    wide = 2.0 * math.hypot(c["least_spread"], c["spread"] * sd)
    found = min(mean, safe, highest)
    return Answer(found, found - wide, max(min(found + wide, most), found))


def lost(runs: Levels, x: NDArray[Any]) -> Vector:
    """Returns by how much runs at `x` end above the lowest, in logarithms.

    Of losses that may be negative, of one plus the share of the fall.
    """
    at, kept = np.unique(runs.x, return_index=True)
    held, least = runs.held[kept], float(runs.held.min())
    if least > 0.0:
        above = np.log(held / least)
    else:
        above = np.log1p((held - least) / max(runs.before - least, 1e-12))
    return np.asarray(np.interp(x, at, np.minimum(above, _ALL_LOST)))


def _momentum(hyperparameters: Mapping[str, Any]) -> float:
    momentum = hyperparameters.get("momentum")
    if not isinstance(momentum, (int, float)):
        return 0.0
    return min(max(float(momentum), 0.0), 0.999)


def _length(few: float, steps: int) -> float:
    """Returns a length, as far as measured; nearer a middle one for few."""
    measured = min(max(steps, PROBE_STEPS), _LONGEST)
    shorter = min(measured / MIDDLE_STEPS, 1.0)
    return float(measured / shorter * shorter ** max(1.0 - few, 0.0))


def _of(table: float | Mapping[str, float], kind: str) -> float:
    """Returns a constant: an optimizer's own, else that of its next of kin."""
    if not isinstance(table, Mapping):
        return float(table)
    kin = {"sgd": ("sgd",), "momentum": ("momentum", "sgd")}
    for name in kin.get(kind, (kind, "adam", "adaptive")):
        if name in table:
            return float(table[name])
    return 0.0


def _between(table: Mapping[str, float], traits: Traits) -> float:
    """Returns a constant that goes by how much momentum SGD has."""
    if traits.kind not in ("sgd", "momentum"):
        return _of(table, traits.kind)
    none, usual = _of(table, "sgd"), _of(table, "momentum")
    return none + traits.momentum * (usual - none)


def _fall(runs: Levels) -> float:
    least = float(runs.held.min())
    return math.log(runs.before / least) if least > 0.0 else math.log(2.0)


def _share(runs: Levels, epoch: int | None) -> float:
    """Returns how much of what they say counts."""
    repeats = epoch is not None and runs.steps > epoch
    return _UNCHECKED if repeats and not runs.checked else 1.0


def _blurred(log_p: NDArray[Any], tau: float) -> Vector:
    """Returns a log likelihood, where it lies known to `tau` decades only."""
    share = np.exp(-0.5 * ((GRID[:, None] - GRID) / tau) ** 2)
    like = np.exp(log_p - log_p.max()) @ (share / share.sum(0))
    return np.asarray(np.log(np.maximum(like, 1e-300)))
