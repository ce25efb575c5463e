"""Short runs at fixed learning rates that check what a ramp suggested.

A ramp shows where training becomes unstable. It cannot show what a learning
rate does when it is kept, nor tell learning from memorising: both take runs
at one learning rate. A `Climb` says which, and what they mean. It is pure;
the caller trains:

```
climb = Climb(curve, suggestion)
while runs := climb.next_runs():
    for run in runs:
        # From the restored state, on the same batches each time: at each of
        # `run.lrs`, ended early by a loss that is not finite.
        climb.add(Probe(run.lr, losses, held_out, held_out_before, source))
suggestion = climb.suggestion()
```

The first probe runs at what the default rule says, the next ones climb:
higher while that is better, lower once it is not. What they like and what
they memorised (`probe_levels.py`) is right for the length of a probe. So, in
decades, for 500 steps at one learning rate, with `ramp` for what the ramp
suggested:

```
answer = trust * liked + (1 - trust) * ramp + offset
         - caution * min(1, 2 * memorised) - few * max(0, 2 - log10(epoch))
```

(for batches of more than 32 `liked` and `ramp` are raised alike, see
`default_rule.large_batches`).

The constants were fitted by `benchmarks/outcome/probing.py`, on both
benchmarks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from keras_lrfinder.analysis.confidence import interval
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.default_rule import default_lr
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.default_rule import large_batches
from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probe_levels import STEP
from keras_lrfinder.analysis.probe_levels import Levels
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probe_levels import blown_everywhere
from keras_lrfinder.analysis.probe_levels import can_probe
from keras_lrfinder.analysis.probe_levels import hardly_fell
from keras_lrfinder.analysis.probe_levels import in_words
from keras_lrfinder.analysis.probe_levels import nothing_learnt
from keras_lrfinder.analysis.probe_levels import of_ramp
from keras_lrfinder.analysis.probe_levels import reached
from keras_lrfinder.analysis.probe_levels import without_news
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS
from keras_lrfinder.analysis.schedule_factors import kind_of
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.suggestions import Suggestion

MOST_PROBES = 3
# Decades below and above the answer within which the best learning rate lies
# after 95 of 100 tests that are sure, in both benchmarks.
_BELOW, _ABOVE = 0.7, 1.0
# Without held-out samples, what probes learn of samples that they meet more
# than once may all be memorised: they move the ramp's answer by this part.
UNCHECKED = 0.25
# Ramp and probes agree within so many decades.
_AGREE = 1.0


@dataclasses.dataclass(frozen=True)
class Reading:
    """How probes are read for one kind of optimizer.

    Attributes:
        trust: Float in 0..1, the weight of the probes against the ramp.
        offset: Float, decades to go up.
        caution: Float, decades to go down where half or more is memorised.
        few: Float, decades to go down for an epoch of 10 instead of 100
            steps.
    """

    trust: float
    offset: float
    caution: float
    few: float

    def answer(self, levels: Levels, ramp: float, few: float) -> float:
        """Returns log10 of the learning rate for 500 steps.

        Args:
            levels: What the probes reached.
            ramp: Float, log10 of what the ramp suggested.
            few: Float, what `few_batches` says.
        """
        decades = self.trust * levels.liked + (1.0 - self.trust) * ramp
        decades -= self.caution * min(1.0, 2.0 * levels.memorised)
        return decades + self.offset - self.few * few


READINGS = {
    "sgd": Reading(0.5, -0.05, 0.15, 0.3),
    "momentum": Reading(0.5, -0.1, 0.15, 0.3),
    "adam": Reading(0.4, -0.1, 0.15, 0.3),
    "lion": Reading(0.4, -0.25, 0.15, 0.3),
    "muon": Reading(0.2, -0.05, 0.15, 0.3),
    "adafactor": Reading(0.1, 0.0, 0.15, 0.3),
}


class Climb:
    """Probes from what a ramp suggests; the caller trains.

    Args:
        curve: The ramp that was run.
        suggestion: What `suggest(curve)` said. Where it has no learning
            rate, probes may find one all the same.
        most: Integer, how many probes there may be.
        constants: How they are read, by kind of optimizer.

    Attributes:
        probes: List of all `Probe` so far.
    """

    def __init__(
        self,
        curve: Curve,
        suggestion: Suggestion,
        most: int = MOST_PROBES,
        constants: Mapping[str, Reading] = READINGS,
    ) -> None:
        self.probes: list[Probe] = []
        self._curve, self._first, self._most = curve, suggestion, most
        self._constants = constants
        self._seen = landmarks(curve)
        momentum = curve.hyperparameters.get("momentum")
        self.kind, _ = kind_of(curve.optimizer, momentum)

    @property
    def is_possible(self) -> bool:
        """Whether the ramp says where to probe."""
        return can_probe(self._seen)

    @property
    def levels(self) -> Levels:
        """What the probes reached, of which there are some."""
        return self.reached(self.probes)

    def reached(self, probes: Sequence[Probe]) -> Levels:
        """Returns what any probes reached after this ramp."""
        assert self._seen is not None
        return reached(self._seen, probes)

    @property
    def answer(self) -> float:
        """log10 of the learning rate for 500 steps, if there is one."""
        ramp, levels, curve = self._ramp, self.levels, self._curve
        if not levels.tell:
            return ramp
        reading = self._constants[self.kind]
        decades = reading.answer(levels, ramp, few_batches(curve))
        decades += reading.trust * large_batches(curve)
        if not levels.checked and self.repeats(PROBE_STEPS):
            decades = ramp + UNCHECKED * (decades - ramp)
        return decades

    def repeats(self, steps: int) -> bool:
        """Returns whether so many steps meet samples more than once.

        Of data that are read once, like a generator, only what the ramp took
        is there for them.
        """
        return steps > (self._curve.steps_per_epoch or len(self._curve))

    @property
    def _ramp(self) -> float:
        assert self._seen is not None
        lr = self._first.lr or default_lr(self._curve, self._seen)
        return math.log10(lr)

    def next_runs(self) -> list[Run]:
        """Returns the next probe's run; none: enough is known."""
        if not self.is_possible or len(self.probes) >= self._most:
            return []
        decades = self._next(self.levels) if self.probes else self._ramp
        return [] if decades is None else [Run(10.0**decades, PROBE_STEPS)]

    def _next(self, levels: Levels) -> float | None:
        x, best = levels.x, int(np.argmin(levels.held))
        if not levels.moved.any() and not levels.blown.any():
            # Too low by far: nothing is learnt there that could be compared.
            last = math.log10(self._curve.end_lr)
            higher = min(float(x[-1]) + 2.0 * STEP, last)
            return higher if higher > x[-1] else None
        if len(x) == 1 and levels.blown[0]:
            return float(x[0]) - STEP
        if best == len(x) - 1:
            return float(x[-1]) + STEP
        if best == 0:
            return float(x[0]) - STEP
        return float(x[best - 1] + x[best]) / 2.0

    def add(self, probe: Probe) -> None:
        """Takes what a run gave; of one that blew up what there was."""
        self.probes.append(probe)

    def suggestion(
        self, unchecked: str = "there were no held-out samples"
    ) -> Suggestion:
        """Returns the suggestion that ramp and probes support together.

        Args:
            unchecked: String, why there are no held-out losses, if there are
                none.

        Returns:
            `Suggestion`: that of the ramp itself where there were no probes.
            Its `lr` is None where every probe blew up, or where neither ramp
            nor probes found anything to learn. Without held-out losses it is
            never sure.
        """
        first, seen = self._first, self._seen
        if seen is None or not self.probes:
            return first
        levels = self.levels
        if first.lr is None and not levels.outvote:
            return without_news(first, levels, unchecked)
        if levels.blown.all():
            return blown_everywhere(first, levels)
        if hardly_fell(seen) and not levels.learnt.any():
            return nothing_learnt(first, PROBE_STEPS)
        return self._found(seen, levels, unchecked)

    def _found(
        self, seen: Landmarks, levels: Levels, unchecked: str
    ) -> Suggestion:
        first, decades, sure = self._first, self.answer, False
        if levels.tell:
            decades += shift(self.kind, "constant", MIDDLE_STEPS)
            agree = abs(levels.liked - self._ramp) <= _AGREE
            sure = levels.convince and agree and first.confidence == "high"
        decades = min(decades, levels.most)
        low, high = 10.0 ** (decades - _BELOW), 10.0 ** (decades + _ABOVE)
        if not levels.tell:
            low, high = interval(10.0**decades, seen, sure)
        told = in_words(levels, unchecked, PROBE_STEPS)
        return dataclasses.replace(
            first,
            lr=10.0**decades,
            low=low,
            high=min(high, 10.0**levels.top),
            confidence="high" if sure else "low",
            reason=f"{of_ramp(first)}. Probes at {levels.at}: {told}",
            kind=self.kind,
            few=few_batches(self._curve),
        )
