"""What follows a ramp: short runs, then whole trainings, then one answer.

`search` says which learning rate to run next and what all runs mean. It is
pure: `train` makes a run, from the restored state and on the same batches
each time, and returns its losses. Keras, a loop of one's own or a recording
may stand behind it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Sequence

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.landmarks import FEWEST_POINTS
from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.analysis.landmarks import cut_short
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.landmarks import refusal
from keras_lrfinder.analysis.posterior import BASE_STEPS
from keras_lrfinder.analysis.posterior import CONSTANTS
from keras_lrfinder.analysis.posterior import MIDDLE_STEPS
from keras_lrfinder.analysis.posterior import PROBE_STEPS
from keras_lrfinder.analysis.posterior import Constants
from keras_lrfinder.analysis.posterior import Posterior
from keras_lrfinder.analysis.posterior import Traits
from keras_lrfinder.analysis.posterior import posterior
from keras_lrfinder.analysis.posterior import traits_of
from keras_lrfinder.analysis.runs import Levels
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.runs import reached
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import check_training
from keras_lrfinder.analysis.suggestions import in_steps
from keras_lrfinder.analysis.suggestions import ramp_doubts
from keras_lrfinder.analysis.suggestions import ramp_in_words
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.analysis.suggestions import told
from keras_lrfinder.analysis.suggestions import too_few
from keras_lrfinder.arguments import check_type
from keras_lrfinder.arguments import integer
from keras_lrfinder.arguments import text

__all__ = ["MIDDLE_STEPS", "PROBE_STEPS", "Plan", "can_search", "search"]

Train = Callable[[Run], Sequence[float]]

# One training alone says nothing that can be compared.
FEWEST_TRAININGS, MOST_TRAININGS = 2, 5
# Decades between neighbouring probes, and trainings; nearer than the least
# nothing more is to be seen.
_STEP, _TRAINING_STEP, _LEAST = 0.75, 0.5, 0.3
# The held-out loss, of at least so many samples, must fall by at least this
# share of itself for an answer to be sure, ...
_ENOUGH_SAMPLES, _ENOUGH_FALL = 50, 0.02
# ... and by this one, with runs that differ by a share of that fall, to outvote
# a ramp: random labels take off a tenth, as what is random is unlearnt, and
# some first steps do at any learning rate.
_VISIBLE_FALL, _LEAST_SPREAD = 0.15, 0.05
# Memorising below this share is not worth a word; from this one on, what runs
# tell is not sure.
_NOTABLE, _MOSTLY = 0.1, 0.5
# Where so much of what is probable lies beyond all trainings, it is not sure.
_BEYOND = 0.5


@dataclasses.dataclass(frozen=True)
class Plan:
    """The training that follows, and what may be run before it.

    Attributes:
        schedule: String, the schedule of that training, as for
            `Suggestion.lr_for`.
        total_steps: Integer, its length; None: not known, 1,000 is taken.
        probes: Integer, the most short runs.
        trainings: Integer, the most whole trainings: 0, or 2 to 5.
        held_out: Integer, how many batches there are that no run trains on.
        again: Integer, on how many of those that it has trained on a run is
            judged, too.
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
        check_training(self.schedule, self.total_steps)
        for name in ("probes", "held_out", "again"):
            integer(name, getattr(self, name), 0)
        if integer("trainings", self.trainings):
            least, most = FEWEST_TRAININGS, MOST_TRAININGS
            integer("trainings", self.trainings, least, most)
        if self.epoch is not None:
            integer("epoch", self.epoch, 1)
        text("unchecked", self.unchecked)

    @property
    def steps(self) -> int:
        """The length of the training, or what is taken for it."""
        return self.total_steps or MIDDLE_STEPS


def can_search(curve: Curve) -> bool:
    """Returns whether a ramp says where to run anything."""
    seen = landmarks(curve)
    enough = seen is not None and seen.points >= FEWEST_POINTS
    return enough and not (seen is None or cut_short(curve, seen))


def search(
    curve: Curve,
    train: Train,
    plan: Plan = Plan(),
    *,
    constants: Constants = CONSTANTS,
) -> tuple[tuple[Run, ...], Suggestion]:
    """Runs what is planned; returns the runs and what all of it supports.

    Args:
        curve: What a range test measured.
        train: Makes a run from the restored state, on the same batches each
            time, and returns the losses of `run.lrs`, each before its update.
            Fewer where it ended early, NaN where it blew up; only those of
            `run.steps` where nothing is held out.
        plan: What follows, and what may be run.
        constants: The fitted numbers of the posterior.

    Example:
        ```python
        runs, suggestion = search(test.curve, train, Plan("cosine", 2000))
        ```
    """
    check_type("curve", curve, Curve, "a Curve")
    check_type("plan", plan, Plan, "a Plan")
    asked = plan.schedule, plan.total_steps
    seen = landmarks(curve)
    if seen is None or not can_search(curve):
        return (), suggest(curve, schedule=asked[0], total_steps=asked[1])
    it = _Search(curve, seen, plan, train, constants)
    it.run()
    why = it.refusal()
    if why:
        return it.runs, Suggestion.refused("default", why, asked)
    found = it.posterior()
    words = [ramp_in_words(curve, seen), *it.words()]
    return it.runs, told(found, it.traits, asked, words, it.doubts(found))


class _Search:
    """The runs of one search, and what they mean."""

    def __init__(
        self,
        curve: Curve,
        seen: Landmarks,
        plan: Plan,
        train: Train,
        constants: Constants,
    ) -> None:
        self._curve, self._seen, self._plan = curve, seen, plan
        self._train, self._constants = train, constants
        self.traits: Traits = traits_of(curve, seen)
        self._epoch = plan.epoch or curve.steps_per_epoch or len(curve)
        self._untrained: Run | None = None
        self._probes: list[Run] = []
        self._trainings: list[Run] = []

    @property
    def runs(self) -> tuple[Run, ...]:
        return (*self._probes, *self._trainings)

    def run(self) -> None:
        """Makes the runs: each is placed by what those before it gave."""
        plan = self._plan
        if plan.held_out and (plan.probes or plan.trainings):
            self._untrained = self._made(0.0, 0, "constant")
        last, c = math.log10(self._curve.end_lr), self._constants
        ramp = posterior(self.traits, "constant", BASE_STEPS, constants=c)
        x: float | None = ramp.answer
        while x is not None and len(self._probes) < plan.probes:
            self._probes.append(self._made(10.0**x, PROBE_STEPS, "constant"))
            x = next_probe(self._reached(self._probes), last)
        if self._probes and self._reached(self._probes).blown.all():
            return
        x = self.posterior().answer
        while x is not None and len(self._trainings) < plan.trainings:
            made = self._made(10.0**x, plan.steps, plan.schedule)
            self._trainings.append(made)
            x = next_training(*self._groups()[::-1])

    def _made(self, lr: float, steps: int, schedule: str) -> Run:
        plan = self._plan
        run = Run(lr, steps, schedule, plan.held_out, plan.again)
        return run.ended(self._train(run))

    def _reached(self, runs: list[Run]) -> Levels:
        return reached(self._seen, runs, self._untrained)

    def posterior(self) -> Posterior:
        """Returns what ramp and runs say of the training that follows."""
        probes, trainings = self._probes, self._trainings
        return posterior(
            self.traits,
            self._plan.schedule,
            self._plan.steps,
            self._reached(probes) if probes else None,
            self._reached(trainings) if trainings else None,
            self._epoch,
            self._constants,
        )

    def _groups(self) -> list[Levels]:
        """Returns what probes, and trainings, reached."""
        return [self._reached(g) for g in (self._probes, self._trainings) if g]

    def refusal(self) -> str:
        """Returns why there is no learning rate, or an empty string."""
        groups = self._groups()
        why = refusal(self._curve, self._seen)
        if why and not any(map(self._outvote, groups)):
            words = [why, *self.words()]
            if any(g.learnt.any() for g in groups):
                words.append("What the runs learnt is too little to judge by.")
            return " ".join(words)
        if groups and groups[-1].blown.all():
            levels = groups[-1]
            return (
                f"Training blew up within {in_steps(levels.steps)} at "
                "every learning rate tried, down to "
                f"{10.0 ** levels.x[0]:.1e}. Lower `start_lr`, and check the "
                "scale of inputs and targets."
            )
        seen = self._seen
        hardly_fell = seen.first - seen.lowest < 0.01 * seen.scale
        if hardly_fell and groups and not any(g.learnt.any() for g in groups):
            return (
                "The loss fell by less than 1 % in the ramp, and runs at one "
                "learning rate did not lower it either. Check that inputs and "
                "targets belong together."
            )
        return ""

    def words(self) -> list[str]:
        """Returns what the runs gave, in sentences."""
        return [_in_words(levels) for levels in self._groups()]

    def doubts(self, found: Posterior) -> list[str]:
        """Returns what keeps the answer from being sure, in words."""
        doubts, groups = [], self._groups()
        if not (self._trainings and self._outvote(groups[-1])):
            doubts = self._doubts_of_ramp(found)
        if groups:
            doubts += self._doubts_of(groups[-1])
        if self._trainings:
            doubts += _doubts_of_trainings(found, groups)
        return doubts

    def _doubts_of_ramp(self, found: Posterior) -> list[str]:
        doubts = ramp_doubts(self._curve, self._seen)
        if refusal(self._curve, self._seen):
            return [*doubts, "the ramp alone gives no answer"]
        plan = self._plan
        alone = posterior(
            self.traits, plan.schedule, plan.steps, constants=self._constants
        )
        low, high = alone.range
        if not low <= found.answer <= high:
            doubts.append(f"the ramp alone gives {10.0**alone.answer:.1e}")
        return doubts

    def _doubts_of(self, levels: Levels) -> list[str]:
        """Returns what runs leave open, in words."""
        doubts, samples = [], self._samples
        steps = in_steps(levels.steps)
        if not levels.fall > 0.0:
            return [f"{steps} did not lower the {levels.loss}"]
        if levels.checked and samples is not None and samples < _ENOUGH_SAMPLES:
            doubts.append(too_few(samples, "held-out sample"))
        if not levels.checked and levels.steps > self._epoch:
            why = self._plan.unchecked or "nothing was held out"
            doubts.append(
                f"what was learnt may be memorised: not checked, as {why}"
            )
        if levels.fall < _ENOUGH_FALL * abs(levels.before):
            share = levels.fall / abs(levels.before)
            doubts.append(
                f"{steps} lowered the {levels.loss} by {share:.1%} only"
            )
        if levels.memorised >= _MOSTLY:
            doubts.append("most of what was learnt is memorised")
        return doubts

    @property
    def _samples(self) -> int | None:
        size = self._curve.batch_size
        return None if size is None else size * self._plan.held_out

    def _outvote(self, levels: Levels) -> bool:
        """Returns whether to believe runs where a ramp showed nothing.

        Neither noise is, nor random labels, nor what happens at any learning
        rate, as the first step of Ftrl from zero.
        """
        spread = float(levels.held.max() - levels.held.min())
        return (
            levels.checked
            and bool(levels.learnt.any())
            and levels.fall >= _VISIBLE_FALL * abs(levels.before)
            and spread >= _LEAST_SPREAD * levels.fall
            and levels.memorised < _MOSTLY
            and (self._samples or _ENOUGH_SAMPLES) >= _ENOUGH_SAMPLES
        )


def _in_words(levels: Levels) -> str:
    """Returns what runs of one length gave."""
    rates = [f"{10.0**x:.1e}" for x in levels.x]
    at = " and ".join([", ".join(rates[:-1]), rates[-1]][len(rates) == 1 :])
    path = f"at {at}"
    if levels.schedule != "constant":
        path = f"of {levels.schedule} up to {at}"
    said = f"{in_steps(levels.steps)} {path}"
    if not levels.fall > 0.0:
        said += f" did not lower the {levels.loss} of {levels.before:.3g}."
    else:
        said += (
            f" took the {levels.loss} from {levels.before:.3g} to "
            f"{levels.held.min():.3g}"
        )
        said += f", at {rates[levels.best]}." if len(rates) > 1 else "."
    if levels.blown.any():
        said += f" Training blew up at {10.0**levels.top:.1e}."
    if levels.memorised >= _NOTABLE:
        share = f"{levels.memorised:.0%}"
        said += f" {share} of what the best of them learnt is memorised."
    return said


def _doubts_of_trainings(found: Posterior, groups: list[Levels]) -> list[str]:
    doubts, levels = [], groups[-1]
    last = len(levels.x) - 1
    if levels.best == last and found.above(levels.x[last]) > _BEYOND:
        doubts.append("a higher one may be better, and was not tried")
    if levels.best == 0 and found.above(levels.x[0]) < 1.0 - _BEYOND:
        doubts.append("a lower one may be better, and was not tried")
    if len(groups) == 2 and _in_vain(levels, groups[0]):
        doubts.append(
            f"{in_steps(groups[0].steps)} ended lower than any whole training: "
            "stop early"
        )
    return doubts


def next_probe(levels: Levels, last: float) -> float | None:
    """Returns log10 of the learning rate to probe next, if any.

    Higher while that is better, lower once it is not, then in between.
    """
    x, best = levels.x, levels.best
    if not levels.moved.any() and not levels.blown.any():
        # Too low by far: nothing is learnt there that could be compared.
        higher = min(float(x[-1]) + 2.0 * _STEP, last)
        return higher if higher > x[-1] else None
    if len(x) == 1 and levels.blown[0]:
        return float(x[0]) - _STEP
    if best == len(x) - 1:
        return float(x[-1]) + _STEP
    if best == 0:
        return float(x[0]) - _STEP
    return float(x[best - 1] + x[best]) / 2.0


def next_training(levels: Levels, short: Levels | None = None) -> float | None:
    """Returns log10 of the learning rate to train with next, if any.

    As for probes, until they are near each other; but not higher where short
    runs ended lower, as all of it memorises.
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


def _in_vain(levels: Levels, short: Levels | None) -> bool:
    """Returns whether shorter runs ended lower than trainings."""
    if short is None or short.steps > levels.steps:
        return False
    return bool(short.held.min() < levels.held.min())
