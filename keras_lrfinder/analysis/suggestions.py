"""From a curve to a learning rate, how sure that is, and why.

A rule is a plain function `Curve -> lr`. The default one is the posterior of
`posterior.py` without any run. Where there is no honest answer, the suggestion
has none, and says why and what to do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Iterable

import numpy as np

from keras_lrfinder import arguments
from keras_lrfinder.analysis import curve as curves
from keras_lrfinder.analysis import landmarks as marks
from keras_lrfinder.analysis import posterior as posteriors
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.posterior import MIDDLE_STEPS
from keras_lrfinder.analysis.posterior import Answer
from keras_lrfinder.analysis.runs import SHARES
from keras_lrfinder.analysis.runs import Vector

Rule = Callable[[Curve], "float | None"]
Training = tuple[str, "int | None"]

# Rules agree within so many decades.
_AGREE = 0.5
# How near the last learning rate the lowest loss must lie, in decades, to be
# called still falling.
_AT_END = 0.35
# Logits made of probabilities, by softmax, let no larger share be learnt.
_BOUNDED = 0.6
# Memorised in no time, what is learnt of fewer samples looks the same.
_ENOUGH_SAMPLES = 250


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Which learning rate to train with, how sure that is, and why.

    Attributes:
        lr: Float > 0, or None where there is no honest answer.
        low, high: Floats, both ends of the range that holds the best learning
            rate in 95 of 100 such tests (not all in it are good), or None.
        confidence: `"high"` where nothing speaks against it, `"low"` where
            something does, which `reason` names, `"none"` without an answer.
        rule: String, the rule that was used.
        reason: String, what was seen, what that gives, each doubt, and what
            to do.
        schedule: String, that of the training that `lr` is for, its peak.
        total_steps: Integer, the length of that training; None: a middle one,
            1,000 steps.
        kind, few: As in `posterior.Traits`, for `lr_for`.

    Example:
    >>> s = Suggestion(0.003, 0.0006, 0.03, "high", "default", "Seen.")
    >>> float(s), f"{s:.1e}"
    (0.003, '3.0e-03')
    >>> print(s)
    3.0e-03 (6.0e-04 to 3.0e-02, high confidence). Seen.
    """

    lr: float | None
    low: float | None
    high: float | None
    confidence: str
    rule: str
    reason: str
    schedule: str = "constant"
    total_steps: int | None = None
    kind: str = dataclasses.field(default="", repr=False)
    few: float = dataclasses.field(default=0.0, repr=False)

    @classmethod
    def refused(
        cls, rule: str, reason: str, training: Training = ("constant", None)
    ) -> Suggestion:
        """Returns the suggestion that has no learning rate, and says why."""
        return cls(None, None, None, "none", rule, reason, *training)

    def __float__(self) -> float:
        if self.lr is None:
            raise ValueError(f"There is no learning rate. {self.reason}")
        return self.lr

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else str(self)

    def __str__(self) -> str:
        if self.lr is None:
            return f"No learning rate. {self.reason}"
        return (
            f"{self.lr:.1e} ({self.low:.1e} to {self.high:.1e}, "
            f"{self.confidence} confidence). {self.reason}"
        )

    def lr_for(
        self, schedule: str = "constant", total_steps: int | None = None
    ) -> float:
        """Returns the learning rate for another training than `lr` is for.

        How schedule and length move the best one was measured over 500 to
        8,000 steps; the scatter between tasks is as large.

        Args:
            schedule: `"constant"`, `"cosine"` (after a short warm-up),
                `"one_cycle"` or `"triangular"`: for these its peak.
            total_steps: Integer >= 1, the length of the training in steps.
                None: the one that `lr` is for.

        Raises:
            ValueError: There is no learning rate, with the reason.
        """
        lr = float(self)
        check_training(schedule, total_steps)
        now = self.total_steps or MIDDLE_STEPS
        about, then = (self.kind, self.few), total_steps or now
        decades = posteriors.moved(*about, schedule, then)
        decades -= posteriors.moved(*about, self.schedule, now)
        return float(lr * 10.0**decades)


def told(
    found: Answer,
    traits: posteriors.Traits,
    training: Training,
    seen: list[str],
    doubts: list[str],
    rule: str = "default",
) -> Suggestion:
    """Returns what was found, with what was seen and what speaks against it."""
    lr, low, high = (float(10.0**x) for x in found)
    schedule, total_steps = training
    length = in_steps(total_steps or MIDDLE_STEPS)
    if total_steps is None:
        length += ", as no length was said"
    path = f"the peak of {schedule} over"
    if schedule == "constant":
        path = "kept constant for"
    words, level = [*seen, f"That gives {lr:.1e}, {path} {length}."], "high"
    if doubts:
        words.append(f"Confidence is low: {'; '.join(doubts)}.")
        level = "low"
    said = lr, low, high, level, rule, " ".join(words), *training
    return Suggestion(*said, traits.kind, traits.few)


def in_steps(steps: int) -> str:
    """Returns a length in words."""
    return "1 step" if steps == 1 else f"{steps:,} steps"


def check_training(schedule: object, total_steps: object) -> None:
    """Raises where these do not say what training follows."""
    arguments.one_of("schedule", schedule, SHARES)
    if total_steps is not None:
        arguments.integer("total_steps", total_steps, 1)


def ramp_in_words(curve: Curve, seen: marks.Landmarks) -> str:
    """Returns what was seen on a ramp, as a sentence."""
    lowest = curve.best_loss  # the one that is told elsewhere, too
    fall = f"The smoothed loss fell from {seen.first:.3g} to {lowest:.3g}"
    if not seen.fell:
        fall = "The loss did not fall by more than its noise"
    if seen.rose:
        return (
            f"{fall}, and training became unstable near {10.0**seen.edge:.1e}."
        )
    if not seen.fell:
        return f"{fall} up to {curve.lrs[-1]:.1e}."
    if seen.bottom > math.log10(curve.lrs[-1]) - _AT_END:
        return f"{fall}, and was still falling at {curve.lrs[-1]:.1e}."
    return f"{fall} near {10.0**seen.bottom:.1e}, and never rose again."


def ramp_doubts(curve: Curve, seen: marks.Landmarks) -> list[str]:
    """Returns what keeps the answer of a ramp from being sure, in words."""
    doubts, name = [], curve.optimizer.lower()
    if not seen.rose:
        why, remedy = "training never became unstable", "raise `end_lr`"
        if curve.lrs[-1] >= marks.HIGH and seen.fall < _BOUNDED:
            remedy = "check that the loss fits the last layer (`from_logits`)"
        if curve.stop_reason in curves.CUT_SHORT:
            why, remedy = curve.ending, "let it end, with fewer `steps`"
        doubts.append(f"{why}, so this is a lower bound: {remedy}")
    if seen.rose and not seen.fell:
        doubts.append("only where training becomes unstable is known")
    elif seen.fell and seen.fall < marks.ENOUGH_FALL:
        share = (seen.first - curve.best_loss) / seen.scale
        doubts.append(f"a fall by {share:.1%} is little to judge by")
    if not name:
        doubts.append("the optimizer is not known: name it")
    elif name not in posteriors.MEASURED:
        doubts.append(f"{name} was never measured, and is taken for Adam")
    if seen.fell and seen.lowest < 0.0:
        doubts.append("how far a negative loss can fall is not known")
    if curve.batch_size and curve.steps_per_epoch:
        samples = curve.steps_per_epoch * curve.batch_size
        if samples < _ENOUGH_SAMPLES:
            # The last batch may have fewer: nobody knows how many in all.
            steps, size = in_steps(curve.steps_per_epoch), curve.batch_size
            of = "1 sample" if size == 1 else f"{size} samples"
            doubts.append(f"an epoch of {steps} of {of} is little to judge by")
    if seen.sudden:
        doubts.append(
            "a loss that was not finite came without a rise before it: look "
            "for NaN in the data"
        )
    return doubts


def default(curve: Curve) -> float:
    """Returns the middle of what a ramp says: see `posterior.py`."""
    return float(suggest(curve))


def minimum(curve: Curve) -> float:
    """Returns a tenth of the learning rate of the lowest smoothed loss.

    Gugger (2018): one order of magnitude below the minimum.
    """
    lrs, smoothed = _finite(curve)
    return float(lrs[np.argmin(smoothed)]) / 10.0


def steepest(curve: Curve) -> float:
    """Returns the learning rate where the smoothed loss falls fastest.

    The slope is that over log(LR), left of the minimum.
    """
    lrs, slope = _slopes(curve)
    return float(lrs[np.argmin(slope)])


def valley(curve: Curve) -> float:
    """Returns the middle of the longest descent of the smoothed loss.

    In the spirit of ESRI's and fastai's rule, there the longest decreasing
    subsequence. Here a descent leads from a highest loss so far to the lowest
    one before it is exceeded, and is a quarter as deep as the deepest or more:
    noise makes shallow ones.
    """
    lrs, smoothed = _finite(curve)
    # Where the loss is higher than ever before, a new descent begins.
    top = np.maximum.accumulate(smoothed)
    begins = np.flatnonzero(np.diff(top, prepend=-np.inf) > 0.0)
    descents = []
    for begin, end in zip(begins, [*begins[1:], len(lrs)]):
        bottom = begin + int(np.argmin(smoothed[begin:end]))
        fall = smoothed[begin : bottom + 1] - smoothed[bottom]
        # The last point still at the top: noise crosses any level early.
        first = begin + int(np.flatnonzero(fall >= 0.9 * fall[0])[-1])
        descents.append((fall[0], lrs[bottom] / lrs[first], first, bottom))
    deep = max(descents)[0] / 4.0
    _, _, first, bottom = max(
        (d for d in descents if d[0] >= deep), key=lambda d: d[1]
    )
    return float(math.sqrt(lrs[first] * lrs[bottom]))


def slide(curve: Curve) -> float:
    """Returns the learning rate left of where the slope starts to change.

    In the spirit of Novetta's rule: a window slides from the right end to
    the left while the slopes at its two ends differ; its left end is the
    answer. Threshold and window are relative: the answer has no scale.
    """
    lrs, slope = _slopes(curve)
    window = max(1, len(slope) // 7)
    threshold = 0.2 * float(np.abs(slope).max())
    right = len(slope) - 1
    while right > window and (
        abs(slope[right] - slope[right - window]) > threshold
    ):
        right -= 1
    return float(lrs[max(right - window, 0)])


RULES: dict[str, Rule] = {
    "default": default,
    "minimum": minimum,
    "steepest": steepest,
    "valley": valley,
    "slide": slide,
}


def suggest(
    curve: Curve,
    rule: str | Rule = "default",
    *,
    schedule: str = "constant",
    total_steps: int | None = None,
) -> Suggestion:
    """Returns the learning rate to train with, or an honest refusal.

    Args:
        curve: What a range test measured.
        rule: A name in `RULES`, or a function `Curve -> lr`, None from which
            means that it found no learning rate.
        schedule: String, the schedule of the training that follows, as for
            `Suggestion.lr_for`.
        total_steps: Integer, its length in steps; None: not known.

    Returns:
        `Suggestion`, whose `lr` is None where the curve has too few points,
        never fell, or diverged at once.
    """
    arguments.check_type("curve", curve, Curve, "a Curve")
    check_training(schedule, total_steps)
    name, function = check_rule(rule)
    training, seen = (schedule, total_steps), marks.landmarks(curve)
    refused = marks.refusal(curve, seen)
    if refused or seen is None:
        return Suggestion.refused(name, refused, training)
    traits = posteriors.traits_of(curve, seen)
    found = posteriors.posterior(traits, schedule, total_steps or MIDDLE_STEPS)
    words, doubts = [ramp_in_words(curve, seen)], ramp_doubts(curve, seen)
    own = told(found, traits, training, words, doubts)
    if function is default:
        return own
    lr = function(curve)
    if lr is not None:
        lr = arguments.number("answer of the rule", lr, finite=False)
    if lr is None or not (math.isfinite(lr) and lr > 0):
        why = f"The rule {name} found {'none' if lr is None else lr}."
        return Suggestion.refused(name, why, training)
    lr = min(max(lr, float(curve.lrs[0])), float(curve.lrs[-1]))
    # Rules are for a learning rate that stays, as long as is usual.
    about = traits.kind, traits.few
    x = math.log10(lr) - posteriors.moved(*about, "constant", MIDDLE_STEPS)
    x += posteriors.moved(*about, schedule, total_steps or MIDDLE_STEPS)
    if abs(x - found.x) > _AGREE:
        doubts.append(f"the default rule says {own.lr:.1e}")
    found = Answer(x, min(found.low, x), max(found.high, x))
    return told(found, traits, training, words, doubts, name)


class RuleTable(dict[str, Suggestion]):
    """Rule to suggestion, printed as a line for each."""

    def __str__(self) -> str:
        wide = max(map(len, self), default=0)
        return "\n".join(f"{name:<{wide}}  {s}" for name, s in self.items())


def compare_rules(
    curve: Curve, rules: Iterable[str | Rule] | None = None
) -> RuleTable:
    """Returns what several rules suggest for one curve, by their names.

    Args:
        curve: What a range test measured.
        rules: Names in `RULES` or functions; None: all in `RULES`.
    """
    found = [suggest(curve, r) for r in (RULES if rules is None else rules)]
    return RuleTable({each.rule: each for each in found})


def check_rule(rule: object) -> tuple[str, Rule]:
    """Returns a rule's name and function; raises where there is none."""
    if callable(rule):
        return getattr(rule, "__name__", "custom"), rule
    name = arguments.one_of("rule", rule, RULES)
    return name, RULES[name]


def _finite(curve: Curve) -> tuple[Vector, Vector]:
    keep = np.isfinite(curve.losses)
    smoothed = curves.ema(curve.losses[keep], curves.ema_span(curve.steps))
    return curve.lrs[keep], smoothed


def _slopes(curve: Curve) -> tuple[Vector, Vector]:
    """Returns LRs and `ds / d(log lr)` there, up to the lowest loss.

    By central differences of the smoothed loss `s`.
    """
    lrs, smoothed = _finite(curve)
    until = max(int(np.argmin(smoothed)) + 1, 2)
    return lrs, np.gradient(smoothed[:until], np.log(lrs[:until]))
