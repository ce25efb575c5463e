"""A longer search for the learning rate: longer runs round what probes say.

Probes of 60 steps say what is good for 60 steps. With more to spend, a few
learning rates round their answer are tried for longer, all from the restored
state and on the same batches. What these trials like is read as it is of
probes (`probe_levels.py`), in decades, for 500 steps at one learning rate:

```
answer = trust * liked + (1 - trust) * centre + offset
         - caution * min(1, 2 * memorised)
```

with `centre` for what ramp and probes answered: trials show what is memorised
after more steps than probes have. The constants were fitted by
`benchmarks/outcome/fit.py`. More trials, longer ones, and those of them that
go on from round to round (successive halving) end no better there: what is
left is that the best learning rate for held-out loss after a few hundred steps
is not that of the training that follows. What ends better is that training
itself (`whole_trainings.py`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.longer_runs import LongerRuns
from keras_lrfinder.analysis.probe_levels import Levels
from keras_lrfinder.analysis.probe_levels import in_words
from keras_lrfinder.analysis.probes import READINGS
from keras_lrfinder.analysis.probes import UNCHECKED
from keras_lrfinder.analysis.probes import Reading
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.suggestions import Suggestion

TRIALS, TRIAL_STEPS = 3, 240
# Decades between neighbouring trials.
SPACING = 0.75
# Probes and trials agree within so many decades.
_AGREE = 0.6


@dataclasses.dataclass(frozen=True)
class Constants:
    """How trials are read.

    Attributes:
        trust: Float in 0..1, their weight against the probes.
        offset: By kind of optimizer: decades to go up.
        caution: Float, decades to go down where half or more is memorised.
        reach: Float, half the range in decades.
    """

    trust: float
    offset: Mapping[str, float]
    caution: float
    reach: float


CONSTANTS = Constants(
    trust=0.3,
    offset={
        "sgd": -0.1,
        "momentum": -0.05,
        "adam": -0.15,
        "lion": -0.2,
        "muon": -0.25,
        "adafactor": -0.15,
    },
    caution=0.75,
    reach=0.66,
)


class Search(LongerRuns):
    """Probes from what a ramp suggests, then trials; the caller trains.

    Args:
        curve: The ramp.
        suggestion: What `suggest(curve)` said.
        readings: How probes are read, by kind of optimizer.
        constants: How trials are read.
    """

    def __init__(
        self,
        curve: Curve,
        suggestion: Suggestion,
        readings: Mapping[str, Reading] = READINGS,
        constants: Constants = CONSTANTS,
    ) -> None:
        super().__init__(curve, suggestion, TRIAL_STEPS, readings)
        self._constants = constants

    def _following(self) -> list[Run]:
        if self._longer:
            return []
        places = [i - (TRIALS - 1) / 2 for i in range(TRIALS)]
        lrs = [10.0 ** (self.centre + SPACING * place) for place in places]
        return [Run(lr, TRIAL_STEPS) for lr in lrs]

    def _answer(self, levels: Levels) -> float:
        used = self._constants
        move = used.trust * (levels.liked - self.centre)
        move += used.offset[self._climb.kind]
        move -= used.caution * min(1.0, 2.0 * levels.memorised)
        if not levels.checked and self._climb.repeats(TRIAL_STEPS):
            move *= UNCHECKED
        return self.centre + move

    def _found(
        self, said: Suggestion, levels: Levels, unchecked: str
    ) -> Suggestion:
        decades = self._answer(levels)
        decades += shift(self._climb.kind, "constant", MIDDLE_STEPS)
        before = self._climb.levels
        decades = min(decades, levels.most, before.most)
        agree = abs(levels.liked - self.centre) <= _AGREE
        sure = agree and levels.convince and said.confidence == "high"
        wide = self._constants.reach
        told = in_words(levels, unchecked, TRIAL_STEPS)
        return Suggestion(
            10.0**decades,
            10.0 ** (decades - wide),
            10.0 ** min(decades + wide, levels.top, before.top),
            "high" if sure else "low",
            said.rule,
            f"{self._before(said)}. {self._at(levels)}: {told}",
            self._climb.kind,
            few=self._few,
        )
