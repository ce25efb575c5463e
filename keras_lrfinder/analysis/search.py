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
is not that of the training that follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probe_levels import TOO_LITTLE
from keras_lrfinder.analysis.probe_levels import Levels
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probe_levels import blown_everywhere
from keras_lrfinder.analysis.probe_levels import in_words
from keras_lrfinder.analysis.probes import MOST_PROBES
from keras_lrfinder.analysis.probes import READINGS
from keras_lrfinder.analysis.probes import UNCHECKED
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.probes import Reading
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.suggestions import Suggestion

TRIALS, TRIAL_STEPS = 3, 240
# Decades between neighbouring trials.
SPACING = 0.75
# The steps of each run after the ramp, probes and trials, if all are run.
LENGTHS = (PROBE_STEPS,) * MOST_PROBES + (TRIAL_STEPS,) * TRIALS
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
        "adam": -0.1,
        "lion": -0.15,
        "muon": -0.2,
        "adafactor": -0.15,
    },
    caution=0.9,
    reach=0.68,
)


class Search:
    """Probes from what a ramp suggests, then trials; the caller trains.

    Args:
        curve: The ramp.
        suggestion: What `suggest(curve)` said; it may be without a learning
            rate, as a search can find what a ramp cannot.
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
        self._climb = Climb(curve, suggestion, constants=readings)
        self._few = few_batches(curve)
        self._first, self._constants = suggestion, constants
        self._trials: list[Probe] = []

    @property
    def is_possible(self) -> bool:
        """Whether the ramp says where to probe."""
        return self._climb.is_possible

    @property
    def probes(self) -> list[Probe]:
        """All runs so far."""
        return [*self._climb.probes, *self._trials]

    @property
    def centre(self) -> float:
        """log10 of the learning rate for 500 steps that probes answered."""
        return min(self._climb.answer, self._climb.levels.most)

    @property
    def levels(self) -> Levels | None:
        """What the trials reached; None: there were none."""
        return self._climb.reached(self._trials) if self._trials else None

    def next_runs(self) -> list[tuple[float, int]]:
        """Returns (lr, steps) of the runs that follow; none: it is over."""
        probes = self._climb.next_runs()
        if probes or self._trials or not self.is_possible:
            return probes
        if self._climb.levels.blown.all():
            return []
        places = [i - (TRIALS - 1) / 2 for i in range(TRIALS)]
        lrs = [10.0 ** (self.centre + SPACING * place) for place in places]
        return [(lr, TRIAL_STEPS) for lr in lrs]

    def add(self, probe: Probe, steps: int) -> None:
        """Takes what a run of `steps` steps, or fewer if it blew up, gave."""
        if steps == TRIAL_STEPS:
            self._trials.append(probe)
        else:
            self._climb.add(probe)

    def suggestion(
        self, unchecked: str = "there were no held-out samples"
    ) -> Suggestion:
        """Returns the suggestion that ramp, probes and trials support.

        Args:
            unchecked: String, why there are no held-out losses, if so.
        """
        said, levels = self._climb.suggestion(unchecked), self.levels
        if levels is None:
            return said
        if levels.blown.all():
            return blown_everywhere(self._first, levels, TRIAL_STEPS)
        if levels.tell and (said.lr is not None or levels.outvote):
            return self._found(said, levels, unchecked)
        told = in_words(levels, unchecked, TRIAL_STEPS)
        if levels.tell:
            told = TOO_LITTLE
        reason = f"{said.reason.rstrip('.')}. {_at(levels)}: {told}"
        return _bounded(dataclasses.replace(said, reason=reason), levels)

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
        reason = said.reason.rstrip(".")
        if said.lr is None:
            reason = "neither ramp nor probes gave an answer"
        return Suggestion(
            10.0**decades,
            10.0 ** (decades - wide),
            10.0 ** min(decades + wide, levels.top, before.top),
            "high" if sure else "low",
            said.rule,
            f"{reason}. {_at(levels)}: {told}",
            self._climb.kind,
            few=self._few,
        )


def _bounded(said: Suggestion, levels: Levels) -> Suggestion:
    """Returns what probes said, below what blew up later, and not sure."""
    if said.lr is None or said.low is None or said.high is None:
        return said
    lr = min(said.lr, 10.0**levels.most)
    return dataclasses.replace(
        said,
        lr=lr,
        low=said.low * lr / said.lr,
        high=min(said.high, 10.0**levels.top),
        confidence="low",
    )


def _at(levels: Levels) -> str:
    return f"{TRIAL_STEPS} steps at {levels.at}"
