"""What a search says: from its trials to a suggestion."""

from __future__ import annotations

import dataclasses
import math

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.probe_levels import Levels
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probe_levels import blown_everywhere
from keras_lrfinder.analysis.probe_levels import can_probe
from keras_lrfinder.analysis.probe_levels import hardly_fell
from keras_lrfinder.analysis.probe_levels import meaning
from keras_lrfinder.analysis.probe_levels import nothing_learnt
from keras_lrfinder.analysis.probe_levels import of_ramp
from keras_lrfinder.analysis.probe_levels import reached
from keras_lrfinder.analysis.probe_levels import without_news
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS
from keras_lrfinder.analysis.schedule_factors import kind_of
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.search import CONSTANTS
from keras_lrfinder.analysis.search import Ladder
from keras_lrfinder.analysis.search import Trial
from keras_lrfinder.analysis.search import answer
from keras_lrfinder.analysis.search import at_end
from keras_lrfinder.analysis.search import centre_of
from keras_lrfinder.analysis.search import next_trials
from keras_lrfinder.analysis.search import reading
from keras_lrfinder.analysis.suggestions import Suggestion

# Ramp and trials agree within so many decades.
_AGREE = 0.6


class Search:
    """A search round what a ramp found; the caller trains.

    Args:
        curve: The ramp.
        suggestion: What `suggest(curve)` said; it may be without a learning
            rate, as a search can find what a ramp cannot.
        plan: The ladder.

    Attributes:
        probes: List of all `Probe` so far.
    """

    def __init__(
        self, curve: Curve, suggestion: Suggestion, plan: Ladder
    ) -> None:
        self.probes: list[Probe] = []
        self._suggestion, self._plan = suggestion, plan
        self._seen = landmarks(curve)
        self._kind, _ = kind_of(
            curve.optimizer, curve.hyperparameters.get("momentum")
        )
        self._few = few_batches(curve)
        self._trials: list[Trial] = []
        self._centre = self._before = math.nan
        if self.is_possible:
            assert self._seen is not None
            self._centre = centre_of(curve, self._seen, self._kind)
            self._before = self._seen.first

    @property
    def is_possible(self) -> bool:
        """Whether the ramp says where to search."""
        return can_probe(self._seen)

    def next_runs(self) -> list[tuple[float, int]]:
        """Returns (lr, steps) of each run of the next rung; none: it is over.

        All runs start from the restored state and see the same batches.
        """
        if not self.is_possible:
            return []
        return next_trials(self._plan, self._centre, self._trials, self._before)

    def add(self, probe: Probe, steps: int) -> None:
        """Takes what a run of `steps` steps, or fewer if it blew up, gave."""
        if not self.probes and probe.held_out_before is not None:
            self._before = float(probe.held_out_before)
        self.probes.append(probe)
        loss, tail = probe.final_loss, probe.tail
        if math.isnan(loss):
            loss = tail = math.inf
        self._trials.append(Trial(probe.lr, steps, tail, loss))

    def suggestion(self, unchecked: str) -> Suggestion:
        """Returns the suggestion that ramp and search support together.

        Args:
            unchecked: String, why there are no held-out losses, if so.
        """
        first, seen = self._suggestion, self._seen
        if seen is None or not self.probes:
            return first
        levels = reached(seen, self.probes)
        if levels.blown.all() and first.lr is not None:
            return blown_everywhere(first, levels)
        doubtful = first.lr is None and not levels.outvote
        if doubtful or not levels.tell:
            return self._without_news(levels, hardly_fell(seen), unchecked)
        return self._found(levels, unchecked)

    def _without_news(
        self, levels: Levels, flat: bool, unchecked: str
    ) -> Suggestion:
        first, steps = self._suggestion, self._plan.rungs[0][1]
        if first.lr is not None and flat and not levels.learnt.any():
            return nothing_learnt(first, steps)
        said = without_news(first, self._runs(), levels, unchecked, steps)
        if first.lr is None:
            return said
        return dataclasses.replace(said, confidence="low")

    def _found(self, levels: Levels, unchecked: str) -> Suggestion:
        first, plan = self._suggestion, self._plan
        given = (plan, self._centre, self._trials, self._before)
        found = reading(*given)
        decades = answer(self._kind, plan.name, self._centre, found)
        decades += shift(self._kind, "constant", MIDDLE_STEPS)
        decades = min(decades, levels.most)
        end = at_end(plan, self._trials, self._before)
        agree = abs(found - self._centre) <= _AGREE and not end
        sure = agree and levels.convince and first.confidence == "high"
        wide = CONSTANTS.reach[plan.name][0 if sure else 1]
        told = meaning(levels, unchecked, plan.rungs[-1][1])
        if end:
            told += "; the best of them is at an end, so it may lie beyond"
        return Suggestion(
            float(10.0**decades),
            float(10.0 ** (decades - wide)),
            float(10.0 ** (decades + wide)),
            "high" if sure else "low",
            first.rule,
            f"{of_ramp(first)}. {self._runs()}: {told}",
            self._kind,
            few=self._few,
        )

    def _runs(self) -> str:
        lrs = [t.lr for t in self._trials]
        (count, steps), *longer = self._plan.rungs
        text = (
            f"{count} learning rates from {min(lrs):.1e} to {max(lrs):.1e} "
            f"for {steps} steps"
        )
        return text + "".join(f", the best {n} for {s}" for n, s in longer)
