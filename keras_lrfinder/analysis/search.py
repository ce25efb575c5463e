"""What follows a ramp: short runs, then whole trainings, then one answer.

`search` says which learning rate to run next and what all runs mean. It is
pure: behind `train`, which makes a run, may stand Keras, a loop of one's own or
a recording.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from keras_lrfinder import arguments
from keras_lrfinder.analysis import landmarks as marks
from keras_lrfinder.analysis import posterior as posteriors
from keras_lrfinder.analysis import suggestions
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.posterior import PROBE_STEPS
from keras_lrfinder.analysis.posterior import Answer
from keras_lrfinder.analysis.runs import Levels
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.runs import reached
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import in_steps

Train = Callable[[Run], Sequence[float]]

# Decades between neighbouring probes, and trainings; nearer than the least
# nothing more is to be seen.
_STEP, _TRAINING_STEP, _LEAST = 0.75, 0.5, 0.3
# What gains less than this share of the fall is no reason to climb on.
_GAIN = 0.2
# The held-out loss, of at least so many samples, must fall by at least this
# share of itself for an answer to be sure, ...
_ENOUGH_SAMPLES, _ENOUGH_FALL = 50, 0.02
# ... and by this one to outvote a ramp: random labels take off a tenth, as what
# is random is unlearnt. By less than this share of the fall runs do not differ.
_VISIBLE_FALL, _LEAST_SPREAD = 0.12, 0.05
# Memorising below this share is not worth a word; from this one on, what runs
# tell is not sure.
_NOTABLE, _MOSTLY = 0.1, 0.5
_NOT_STILL = "the weights do not stand still at a learning rate of 0"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The training that follows, and what may be run before it.

    Attributes:
        schedule: String, that of the training, as for `Suggestion.lr_for`.
        total_steps: Integer, its length; None: not known, 1,000 is taken.
        probes: Integer, the most short runs.
        trainings: Integer, the most whole trainings: 0, or 2 to 5.
        held_out: Integer, on how many batches that no run trains on to judge.
        again: Integer, on how many that a run has trained on.
        epoch: Integer, after how many steps a run meets batches again; None:
            `curve.steps_per_epoch`.
        unchecked: String, why nothing is held out.
    """

    schedule: str = "constant"
    total_steps: int | None = None
    probes: int = 3
    trainings: int = 0
    held_out: int = 0
    again: int = 0
    epoch: int | None = None
    unchecked: str = ""

    def __post_init__(self) -> None:
        suggestions.check_training(self.schedule, self.total_steps)
        for name in ("probes", "held_out", "again"):
            arguments.integer(name, getattr(self, name), 0)
        # One training alone says nothing that can be compared.
        if arguments.integer("trainings", self.trainings):
            arguments.integer("trainings", self.trainings, 2, 5)
        if self.epoch is not None:
            arguments.integer("epoch", self.epoch, 1)
        arguments.text("unchecked", self.unchecked)

    @property
    def steps(self) -> int:
        """The length of the training, or what is taken for it."""
        return self.total_steps or posteriors.MIDDLE_STEPS


def can_search(curve: Curve) -> bool:
    """Returns whether a ramp says where to run anything."""
    return marks.is_enough(curve, marks.landmarks(curve))


def search(
    curve: Curve,
    train: Train,
    plan: Plan = Plan(),
    *,
    constants: posteriors.Constants = posteriors.CONSTANTS,
) -> tuple[tuple[Run, ...], Suggestion]:
    """Runs what is planned; returns the runs and what all of it supports.

    Args:
        curve: What a range test measured.
        train: Makes a run from the restored state, on the same batches each
            time, and returns the losses of `run.lrs`, each before its update.
            Fewer where it ended early, NaN where it blew up; only those of
            `run.steps` where the weights cannot stand still after them.
        plan: What follows, and what may be run.
        constants: The fitted numbers of the posterior.

    Example:
        ```python
        runs, suggestion = search(test.curve, train, Plan("cosine", 2000))
        ```
    """
    arguments.check_type("curve", curve, Curve, "a Curve")
    arguments.check_type("plan", plan, Plan, "a Plan")
    asked, seen = (plan.schedule, plan.total_steps), marks.landmarks(curve)
    if seen is None or not marks.is_enough(curve, seen):
        why = marks.refusal(curve, seen)
        return (), Suggestion.refused("default", why, asked)
    untrained = Run(0.0, 0, held_out=plan.held_out, again=plan.again)
    if plan.held_out and (plan.probes or plan.trainings):
        untrained = untrained.ended(train(untrained))
        if untrained.held_out_loss is None:
            plan = dataclasses.replace(
                plan, held_out=0, again=0, unchecked=_NOT_STILL
            )
    traits = posteriors.traits_of(curve, seen)
    it = _Search(curve, seen, traits, plan, train, constants, untrained)
    it.run()
    runs, words = (*it.probes, *it.trainings), list(map(_in_words, it.groups))
    if why := it.refusal(words):
        return runs, Suggestion.refused("default", why, asked)
    found, doubts = it.posterior(), it.doubts()
    words.insert(0, suggestions.ramp_in_words(curve, seen))
    return runs, suggestions.told(found, traits, asked, words, doubts)


@dataclasses.dataclass(frozen=True)
class _Search:
    """The runs of one search, and what they mean."""

    curve: Curve
    seen: marks.Landmarks
    traits: posteriors.Traits
    plan: Plan
    train: Train
    constants: posteriors.Constants
    untrained: Run
    probes: list[Run] = dataclasses.field(default_factory=list)
    trainings: list[Run] = dataclasses.field(default_factory=list)

    def run(self) -> None:
        """Makes the runs: each is placed by what those before it gave."""
        plan, probes = self.plan, self.probes
        last = math.log10(self.curve.end_lr)
        x: float | None = self._alone("constant", posteriors.BASE_STEPS).x
        while x is not None and len(probes) < plan.probes:
            self._make(probes, 10.0**x, PROBE_STEPS)
            x = next_probe(self._reached(probes), last)
        if probes and self._reached(probes).blown.all():
            return
        x = self.posterior().x
        while x is not None and len(self.trainings) < plan.trainings:
            self._make(self.trainings, 10.0**x, plan.steps, plan.schedule)
            x = next_training(*self.groups[::-1])

    def _make(
        self, runs: list[Run], lr: float, steps: int, schedule: str = "constant"
    ) -> None:
        run = Run(lr, steps, schedule, self.plan.held_out, self.plan.again)
        runs.append(run.ended(self.train(run)))

    def _reached(self, runs: list[Run]) -> Levels:
        return reached(self.seen, runs, self.untrained)

    @property
    def groups(self) -> list[Levels]:
        """What probes, and trainings, reached."""
        return [self._reached(g) for g in (self.probes, self.trainings) if g]

    def _alone(self, schedule: str, steps: int) -> Answer:
        """Returns what the ramp says of a training."""
        return posteriors.posterior(
            self.traits, schedule, steps, constants=self.constants
        )

    def posterior(self) -> Answer:
        """Returns what ramp and runs say of the training that follows."""
        return posteriors.posterior(
            self.traits,
            self.plan.schedule,
            self.plan.steps,
            self._reached(self.probes) if self.probes else None,
            self._reached(self.trainings) if self.trainings else None,
            self._epoch,
            self.constants,
        )

    @property
    def _epoch(self) -> int:
        curve = self.curve
        return self.plan.epoch or curve.steps_per_epoch or curve.steps

    @property
    def _samples(self) -> int:
        """How many there are to judge by; enough where that is not known."""
        size, settings = self.curve.batch_size, self.curve.hyperparameters
        # A step has several batches, and one to judge by has one of them.
        batches = settings.get("gradient_accumulation_steps") or 1
        held_out = self.plan.held_out
        return size // batches * held_out if size else _ENOUGH_SAMPLES

    def refusal(self, words: list[str]) -> str:
        """Returns why there is no learning rate, or an empty string."""
        groups, seen = self.groups, self.seen
        learnt = any(levels.learnt.any() for levels in groups)
        why = marks.refusal(self.curve, seen)
        if why and not any(map(self._outvote, groups)):
            little = "What the runs learnt is too little to judge by."
            return " ".join([why, *words, *[little][: int(learnt)]])
        if groups and groups[-1].blown.all():
            why = "Check the scale of inputs and targets, or clip gradients."
            return f"{words[-1]} {why}"
        if seen.fall < 0.01 and groups and not learnt:
            return (
                "The loss fell by less than 1 % in the ramp, and runs at one "
                "learning rate did not lower it either. Check that inputs and "
                "targets belong together."
            )
        return ""

    def _outvote(self, levels: Levels) -> bool:
        """Returns whether to believe runs where a ramp showed nothing."""
        # Neither noise, nor random labels, nor what happens at any learning
        # rate, as the first step of Ftrl from zero.
        return (
            levels.checked
            and bool(levels.learnt.any())
            and levels.fall >= _VISIBLE_FALL * abs(levels.before)
            and float(np.ptp(levels.held)) >= _LEAST_SPREAD * levels.fall
            and levels.memorised < _MOSTLY
            and self._samples >= _ENOUGH_SAMPLES
        )

    def doubts(self) -> list[str]:
        """Returns what keeps the answer from being sure, in words."""
        found, doubts, groups = self.posterior(), [], self.groups
        if not (self.trainings and self._outvote(groups[-1])):
            doubts = self._doubts_of_ramp(found)
        if groups:
            doubts += self._doubts_of(groups[-1])
        if self.trainings:
            doubts += _doubts_of_trainings(found, groups)
        return doubts

    def _doubts_of_ramp(self, found: Answer) -> list[str]:
        doubts = suggestions.ramp_doubts(self.curve, self.seen)
        if marks.refusal(self.curve, self.seen):
            return [*doubts, "the ramp alone gives no answer"]
        alone = self._alone(self.plan.schedule, self.plan.steps)
        liked = found.x
        if self.trainings:
            liked = float(self.groups[-1].x[self.groups[-1].best])
        if not alone.low <= liked <= alone.high:
            doubts.append(f"the ramp alone gives {10.0**alone.x:.1e}")
        return doubts

    def _doubts_of(self, levels: Levels) -> list[str]:
        """Returns what runs leave open, in words."""
        doubts, steps = [], in_steps(levels.steps)
        share = levels.fall / (abs(levels.before) or 1.0)
        if not levels.fall > 0.0:
            return [f"{steps} did not lower the {levels.loss}"]
        if levels.checked and self._samples < _ENOUGH_SAMPLES:
            few = (
                "sample is little" if self._samples == 1 else "samples are few"
            )
            doubts.append(f"{self._samples} held-out {few}")
        if not levels.checked and levels.steps > self._epoch:
            why = self.plan.unchecked or "nothing was held out"
            doubts.append(f"what was learnt may be memorised ({why})")
        if share < _ENOUGH_FALL:
            doubts.append(f"{steps} took {share:.1%} off the {levels.loss}")
        if levels.memorised >= _MOSTLY:
            doubts.append("most of what was learnt is memorised")
        return doubts


def _in_words(levels: Levels) -> str:
    """Returns what runs of one length gave."""
    rates = [f"{10.0**x:.1e}" for x in levels.x]
    at = " and ".join([", ".join(rates[:-1]), rates[-1]][len(rates) == 1 :])
    path = "at"
    if levels.schedule != "constant":
        path = f"of {levels.schedule} up to"
    said = f"{in_steps(levels.steps)} {path} {at}"
    if levels.blown.all():
        rose = "made the training loss rise"
        return f"{said} {rose if levels.finite.any() else 'blew up'}."
    before, least = f"{levels.before:.3g}", f"{levels.held.min():.3g}"
    if levels.fall > 0.0:
        said += f" took the {levels.loss} from {before} to {least}"
        said += f", at {rates[levels.best]}." if len(rates) > 1 else "."
    else:
        said += f" did not lower the {levels.loss} of {before}."
    for what, where in (
        ("The training loss did not fall", levels.blown & levels.finite),
        ("Training blew up", ~levels.finite),
    ):
        if where.any():
            said += f" {what} at {10.0 ** levels.x[where].min():.1e}."
    if levels.memorised >= _NOTABLE:
        said += f" Of what was learnt, {levels.memorised:.0%} is memorised."
    return said


def _doubts_of_trainings(found: Answer, groups: list[Levels]) -> list[str]:
    doubts, levels = [], groups[-1]
    if found.x > levels.x[-1] + _TRAINING_STEP / 2.0:
        doubts.append("nothing as high was tried")
    if found.x < levels.x[0] - _TRAINING_STEP / 2.0:
        doubts.append("nothing as low was tried")
    if _in_vain(*groups[::-1]):
        steps = in_steps(groups[0].steps)
        doubts.append(f"{steps} ended lower than any training: stop early")
    return doubts


def next_probe(levels: Levels, last: float) -> float | None:
    """Returns log10 of the LR to probe next, if any: the better way."""
    x, best, held = levels.x, levels.best, levels.held
    if not levels.moved.any() and not levels.blown.any():
        # Too low by far: nothing is learnt there that could be compared.
        higher = min(float(x[-1]) + 2.0 * _STEP, last)
        return higher if higher > x[-1] else None
    if len(x) == 1 and levels.blown[0]:
        return float(x[0]) - _STEP
    # Where training collapses at once, any higher one ends about as low.
    if best == 1 and len(x) == 2 and held[0] - held[1] < _GAIN * levels.fall:
        return float(x[0]) - _STEP
    if best == len(x) - 1:
        return float(x[-1]) + _STEP
    if best == 0:
        return float(x[0]) - _STEP
    return float(x[best - 1] + x[best]) / 2.0


def next_training(levels: Levels, short: Levels | None = None) -> float | None:
    """Returns log10 of the learning rate to train with next, if any.

    Not higher where short runs ended lower, as all of it memorises.
    """
    x, best, last = levels.x, levels.best, len(levels.x) - 1
    learnt = levels.held[0] < levels.before
    if best == 0 and (last or not learnt or _in_vain(levels, short)):
        return float(x[0]) - _TRAINING_STEP
    if best == last:
        return float(x[last]) + _TRAINING_STEP
    below, above = x[best] - x[best - 1], x[best + 1] - x[best]
    if max(below, above) < _LEAST:
        return None
    upward = levels.held[best + 1] < levels.held[best - 1]
    if not math.isclose(below, above):
        upward = above > below
    return float(x[best] + above / 2.0 if upward else x[best] - below / 2.0)


def _in_vain(levels: Levels, short: Levels | None = None) -> bool:
    """Returns whether shorter runs ended clearly lower than trainings."""
    if short is None or short.steps > levels.steps:
        return False
    return short.fall > (1.0 + _LEAST_SPREAD) * levels.fall
