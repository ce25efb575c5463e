"""What follows probes where more steps may be spent: the common part.

A `LongerRuns` asks for a climb's probes first (`probes.py`), then for longer
runs, and says what all of them mean. It is pure; the caller trains:

```
while asked := longer.next_runs():
    for run in asked:
        # From the restored state, on the same batches each time: at each of
        # `run.lrs`, ended early by a loss that is not finite.
        longer.add(Probe(run.lr, losses, held_out, held_out_before, source))
suggestion = longer.suggestion()
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.probe_levels import TOO_LITTLE
from keras_lrfinder.analysis.probe_levels import Levels
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probe_levels import blown_everywhere
from keras_lrfinder.analysis.probe_levels import in_words
from keras_lrfinder.analysis.probes import READINGS
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.probes import Reading
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.suggestions import Suggestion


class LongerRuns:
    """Probes, then longer runs. A subclass says which, and reads them.

    Args:
        curve: The ramp.
        suggestion: What `suggest(curve)` said; it may be without a learning
            rate, as longer runs can find what a ramp cannot.
        steps: Integer, the length of a longer run.
        readings: How probes are read, by kind of optimizer.
    """

    def __init__(
        self,
        curve: Curve,
        suggestion: Suggestion,
        steps: int,
        readings: Mapping[str, Reading] = READINGS,
    ) -> None:
        self._climb = Climb(curve, suggestion, constants=readings)
        self._few = few_batches(curve)
        self._first, self._steps = suggestion, steps
        self._longer: list[Probe] = []
        self._has_begun = False

    @property
    def is_possible(self) -> bool:
        """Whether the ramp says where to probe."""
        return self._climb.is_possible

    @property
    def probes(self) -> list[Probe]:
        """All runs so far."""
        return [*self._climb.probes, *self._longer]

    @property
    def centre(self) -> float:
        """log10 of the learning rate for 500 steps that probes answered."""
        return min(self._climb.answer, self._climb.levels.most)

    @property
    def levels(self) -> Levels | None:
        """What the longer runs reached; None: there were none."""
        return self._climb.reached(self._longer) if self._longer else None

    def next_runs(self) -> list[Run]:
        """Returns the runs that follow; none: it is over."""
        if not self._has_begun:
            probes = self._climb.next_runs()
            if probes or not self.is_possible:
                return probes
            if self._climb.levels.blown.all():
                return []
            self._has_begun = True
        return self._following()

    def add(self, probe: Probe) -> None:
        """Takes what a run gave; of one that blew up what there was."""
        if self._has_begun:
            self._longer.append(probe)
        else:
            self._climb.add(probe)

    def suggestion(
        self, unchecked: str = "there were no held-out samples"
    ) -> Suggestion:
        """Returns the suggestion that all runs support.

        Args:
            unchecked: String, why there are no held-out losses, if so.
        """
        said, levels = self._climb.suggestion(unchecked), self.levels
        if levels is None:
            return said
        if levels.blown.all():
            return blown_everywhere(self._first, levels, self._steps)
        if levels.tell and (said.lr is not None or levels.outvote):
            return self._found(said, levels, unchecked)
        told = in_words(levels, unchecked, self._steps)
        if levels.tell:
            told = TOO_LITTLE
        reason = f"{said.reason.rstrip('.')}. {self._at(levels)}: {told}"
        most, top = levels.most - self._moved, levels.top - self._moved
        return _bounded(dataclasses.replace(said, reason=reason), most, top)

    @property
    def _moved(self) -> float:
        """Decades from 500 steps at one learning rate to a longer run."""
        return 0.0

    def _following(self) -> list[Run]:
        """Returns the longer runs that follow."""
        raise NotImplementedError

    def _found(
        self, said: Suggestion, levels: Levels, unchecked: str
    ) -> Suggestion:
        """Returns the suggestion where the longer runs tell something."""
        raise NotImplementedError

    def _at(self, levels: Levels) -> str:
        """Returns what was run, in words."""
        return f"{self._steps:,} steps at {levels.at}"

    def _before(self, said: Suggestion) -> str:
        """Returns what was said before, in words that go on."""
        if said.lr is None:
            return "neither ramp nor probes gave an answer"
        return said.reason.rstrip(".")


def _bounded(said: Suggestion, most: float, top: float) -> Suggestion:
    """Returns what probes said, below what blew up later, and not sure.

    Args:
        said: What they said.
        most: Float, log10 of the highest learning rate that is safe.
        top: Float, log10 of the lowest one that blew up.
    """
    if said.lr is None or said.low is None or said.high is None:
        return said
    lr = min(said.lr, 10.0**most)
    return dataclasses.replace(
        said,
        lr=lr,
        low=said.low * lr / said.lr,
        high=min(said.high, 10.0**top),
        confidence="low",
    )
