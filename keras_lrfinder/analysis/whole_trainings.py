"""The training that follows, tried: whole, at several learning rates.

Where the budget has room for it the very training is made two to five times,
with its schedule and to its end, each time from the restored state; the
held-out loss that it ends with is what a user wants to be low. The first one
takes what the probes say of such a training, the others climb: half a decade
higher while that ends lower, or lower, then in between. With `x` for log10 of
a learning rate, its peak if there is a schedule, and `centre` for what the
probes said, the answer is where

```
lost(x) + 0.2 * (x - centre)**2
```

is lowest: `lost` is by how much the held-out loss ended above the lowest one,
in logarithms and no more than one, and linear between trainings. So where the
loss hardly depends on the learning rate, which of a few trainings ended lowest
is chance, and what is known from others counts; where it does, the trainings
do. The 0.2 (0.1 to 0.5 end alike) and the half decade were chosen on the seen
families of `benchmarks/outcome`; nothing else was.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.longer_runs import LongerRuns
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probe_levels import Levels
from keras_lrfinder.analysis.probes import READINGS
from keras_lrfinder.analysis.probes import UNCHECKED
from keras_lrfinder.analysis.probes import Reading
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.schedule_factors import FACTORS
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS
from keras_lrfinder.analysis.schedule_factors import Factors
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.suggestions import Suggestion

Vector = NDArray[np.float64]

# One alone says nothing that can be compared.
FEWEST, MOST = 2, 5
# Decades between neighbouring trainings; nearer than the least nothing more
# is to be seen.
_SPACING, _LEAST = 0.5, 0.3
_PRIOR = 0.2
# Beyond e times the lowest loss it does not matter by how much.
_ALL_LOST = 1.0
# Decades below and above the answer within which the best learning rate lies
# in 95 of 100 trainings of the seen families: of answers that are sure, and of
# others.
_SURE, _UNSURE = 0.65, 0.75


class WholeTrainings(LongerRuns):
    """Probes, then the training that follows, a few times; the caller trains.

    Args:
        curve: The ramp.
        suggestion: What `suggest(curve)` said.
        schedule: String, the schedule of that training.
        total_steps: Integer, its length in steps; None: a middle one.
        most: Integer, how many trainings there may be.
        readings: How probes are read, by kind of optimizer.
        factors: What schedule and length do, from which the first starts.
    """

    def __init__(
        self,
        curve: Curve,
        suggestion: Suggestion,
        schedule: str = "constant",
        total_steps: int | None = None,
        most: int = MOST,
        readings: Mapping[str, Reading] = READINGS,
        factors: Factors = FACTORS,
    ) -> None:
        steps = total_steps or MIDDLE_STEPS
        super().__init__(curve, suggestion, steps, readings)
        self._schedule, self._total_steps = schedule, total_steps
        self._most, self._factors = most, factors

    @property
    def _moved(self) -> float:
        training = self._schedule, self._steps
        return shift(self._climb.kind, *training, self._few, self._factors)

    @property
    def _start(self) -> float:
        return self.centre + self._moved

    def _following(self) -> list[Run]:
        if len(self._longer) >= self._most:
            return []
        levels = self.levels
        decades = self._start if levels is None else _next(levels)
        if decades is None:
            return []
        return [Run(10.0**decades, self._steps, self._schedule)]

    def _found(
        self, said: Suggestion, levels: Levels, unchecked: str
    ) -> Suggestion:
        decades = _lowest(levels, self._start)
        if not levels.checked and self._climb.repeats(self._steps):
            decades = self._start + UNCHECKED * (decades - self._start)
        decades = min(decades, levels.most)
        best = int(np.argmin(levels.held))
        # A loss that falls little may only unlearn what was random.
        learnt = said.confidence == "high" or levels.outvote
        inside = 0 < best < len(levels.x) - 1
        sure = inside and learnt and levels.convince and levels.matter
        in_vain = self._are_in_vain(levels)
        sure = sure and not in_vain
        wide = _SURE if sure else _UNSURE
        loss = f"loss on {levels.source}"
        if not levels.checked:
            loss = f"training loss ({unchecked})"
        return Suggestion(
            10.0**decades,
            10.0 ** (decades - wide),
            10.0 ** min(decades + wide, levels.top),
            "high" if sure else "low",
            said.rule,
            f"{self._before(said)}. {self._at(levels)}: lowest {loss} at "
            f"{10.0 ** levels.x[best]:.1e}{in_vain}",
            self._climb.kind,
            self._schedule,
            self._total_steps,
            self._few,
        )

    def _are_in_vain(self, levels: Levels) -> str:
        """Returns that a short probe ended lower, if one did."""
        least = float(self._climb.levels.held.min())
        if self._steps < PROBE_STEPS or levels.held.min() <= least:
            return ""
        return f", but a probe of {PROBE_STEPS} steps ended lower: stop early"

    def _at(self, levels: Levels) -> str:
        what = f"{self._steps:,} steps ({self._schedule})"
        return f"Whole trainings of {what} at {levels.at}"


def _next(levels: Levels) -> float | None:
    """Returns log10 of the learning rate to train with next, if any."""
    x, best = levels.x, int(np.argmin(levels.held))
    last = len(x) - 1
    if best == 0 and (last or not levels.gained[0]):
        return float(x[0]) - _SPACING
    if best == last:
        return float(x[last]) + _SPACING
    below, above = x[best] - x[best - 1], x[best + 1] - x[best]
    if max(below, above) < _LEAST:
        return None
    upward = levels.held[best + 1] < levels.held[best - 1]
    if not np.isclose(below, above):
        upward = above > below
    return float(x[best] + above / 2.0 if upward else x[best] - below / 2.0)


def _lowest(levels: Levels, centre: float) -> float:
    """Returns where loss and distance together are lowest."""
    x, kept = np.unique(levels.x, return_index=True)
    lost = _lost(levels)[kept]
    slopes = np.diff(lost) / np.diff(x)
    # On each stretch the sum is a parabola; its vertex may be beyond an end.
    vertices = np.clip(centre - slopes / (2.0 * _PRIOR), x[:-1], x[1:])
    places = np.concatenate([x, vertices])
    total = np.interp(places, x, lost) + _PRIOR * (places - centre) ** 2
    return float(places[np.argmin(total)])


def _lost(levels: Levels) -> Vector:
    """By how much each ended above the lowest, in logarithms of the loss.

    Of losses that may be negative, of one plus the share of the fall.
    """
    held, least = levels.held, float(levels.held.min())
    if least > 0.0:
        lost = np.log(held / least)
    else:
        lost = np.log1p((held - least) / (levels.before - least))
    return np.minimum(lost, _ALL_LOST)
