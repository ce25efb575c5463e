"""From a curve to a learning rate: one small function per rule.

A rule is a plain function `Curve -> lr`. `suggest` runs one and says how
sure its answer is and why; where there is no honest answer it says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.analysis.confidence import Confidence
from keras_lrfinder.analysis.confidence import confidence_in
from keras_lrfinder.analysis.confidence import refusal
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.default_rule import default_lr
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS
from keras_lrfinder.analysis.schedule_factors import check_training
from keras_lrfinder.analysis.schedule_factors import kind_of
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.smoothing import ema
from keras_lrfinder.analysis.smoothing import ema_span
from keras_lrfinder.arguments import check_type

Rule = Callable[[Curve], "float | None"]

# Rules agree within so many decades.
_AGREE = 0.5
_BASE_FACTOR = 4.0


class Bounds(NamedTuple):
    """Both ends of a triangular cycle.

    Attributes:
        base_lr: Float, the lower end.
        max_lr: Float, the upper end.
    """

    base_lr: float
    max_lr: float


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Which learning rate to train with, how sure that is, and why.

    Where there is a learning rate, it is a float as well, for whatever takes
    one: `keras.optimizers.Adam(suggestion)`, `f"{suggestion:.3g}"`.

    Attributes:
        lr: Float > 0, or None where the curve gives no honest answer.
        low: Float, lower end of the range that holds the best learning rate
            (in nine of ten cells of the benchmarks and more; not all within
            it are good), or None.
        high: Float, upper end of that range, or None.
        confidence: `"high"`, `"low"` or `"none"` (no learning rate). High: a
            clear fall, a rise after it, enough samples, an optimizer that was
            measured; and, where there were probes, held-out samples on which
            what they learnt holds.
        rule: String, the rule that was used.
        reason: String, what was seen, and what to do when there is no
            learning rate.
        kind: String, the optimizer's kind, by which `lr_for` goes.
        schedule: String, the schedule that `lr` is for, whose peak it is.
        total_steps: Integer, the length of training in steps that `lr` is
            for, or None: a middle one, 1,000.
        few: Float, by how many decades an epoch of the data is shorter than
            100 steps, by which `lr_for` goes, too.

    Example:
    >>> s = Suggestion(0.003, 0.0006, 0.03, "high", "default", "seen …")
    >>> float(s), f"{s:.1e}", 2 * s
    (0.003, '3.0e-03', 0.006)
    >>> f"{s.lr_for('one_cycle', 2000):.1e}"
    '9.0e-03'
    """

    lr: float | None
    low: float | None
    high: float | None
    confidence: str
    rule: str
    reason: str
    kind: str = dataclasses.field(default="adam", repr=False)
    schedule: str = dataclasses.field(default="constant", repr=False)
    total_steps: int | None = dataclasses.field(default=None, repr=False)
    few: float = dataclasses.field(default=0.0, repr=False)

    @classmethod
    def refused(cls, rule: str, reason: str) -> Suggestion:
        """Returns the suggestion that has no learning rate, and says why."""
        return cls(None, None, None, "none", rule, reason)

    def __new__(cls, lr: float | None = None, *_: Any, **__: Any) -> Suggestion:
        """Makes it a float, for whatever takes a number, where it is one."""
        if lr is None:
            return super().__new__(cls)
        return float.__new__(_Number, lr)

    def __float__(self) -> float:
        if self.lr is None:
            raise ValueError(f"no learning rate to suggest: {self.reason}")
        return self.lr

    def __format__(self, spec: str) -> str:
        return format(float(self), spec) if spec else str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Suggestion, dataclasses.astuple(self)

    def lr_for(
        self, schedule: str = "constant", total_steps: int | None = None
    ) -> float:
        """Returns the learning rate for another training than `lr` is for.

        By how much schedule and length move the best learning rate was
        measured for each kind of optimizer, over 500, 2,000 and 8,000 steps
        (`benchmarks/outcome`): in between it follows log(steps), beyond them
        it is held. Where an epoch has few batches, length moves it more. The
        scatter between tasks is as large as the factors. For
        schedules it is never above `high`.

        Args:
            schedule: `"constant"`, `"cosine"` (after a short warm-up),
                `"one_cycle"` or `"triangular"`: for these its peak.
            total_steps: Integer >= 1, the length of the training in steps.
                None: the one that `lr` is for.

        Raises:
            ValueError: There is no learning rate, with the reason; or there
                is no such schedule.

        Example:
            ```python
            OneCycle(suggestion.lr_for("one_cycle", 2000), 2000)
            ```
        """
        lr = float(self)
        check_training(schedule, total_steps)
        now = self.total_steps or MIDDLE_STEPS
        decades = shift(self.kind, schedule, total_steps or now, self.few)
        decades -= shift(self.kind, self.schedule, now, self.few)
        moved = float(lr * 10.0**decades)
        if schedule == "constant" or self.high is None:
            return moved
        return min(moved, max(self.high, lr))

    def for_training(
        self, schedule: str, total_steps: int | None
    ) -> Suggestion:
        """Returns the suggestion whose `lr` is for such a training.

        Args:
            schedule: As for `lr_for`.
            total_steps: As for `lr_for`.
        """
        check_training(schedule, total_steps)
        if self.lr is None:
            return dataclasses.replace(
                self, schedule=schedule, total_steps=total_steps
            )
        lr = self.lr_for(schedule, total_steps)
        by = lr / self.lr
        length = f"{total_steps:,}" if total_steps else f"{MIDDLE_STEPS:,}"
        return dataclasses.replace(
            self,
            lr=lr,
            low=None if self.low is None else self.low * by,
            high=None if self.high is None else self.high * by,
            reason=f"{self.reason}; {by:.2g} times that of "
            f"{self.schedule} training, for {length} steps of {schedule}",
            schedule=schedule,
            total_steps=total_steps,
        )

    @property
    def constant_lr(self) -> float:
        """For training with one learning rate.

        This and its like raise a `ValueError` with the reason where there
        is no learning rate.
        """
        return self.lr_for("constant")

    @property
    def one_cycle_max_lr(self) -> float:
        """For `OneCycle`, its peak: `lr_for("one_cycle")`.

        The mean of a one-cycle path is half its peak. Smith (2015, arXiv
        1506.01186, section 3.3) says that the best single learning rate is
        usually within a factor of two of the largest that converges, and
        that one is the peak of the cycle (Smith and Topin 2017, arXiv
        1708.07120); measured, the factor is 2.5 to 3.7.
        """
        return self.lr_for("one_cycle")

    @property
    def triangular_bounds(self) -> Bounds:
        """For `Triangular`, its `base_lr` and `max_lr`.

        `max_lr` is `lr_for("triangular")`; `base_lr` is a fourth of it
        (Smith 2015, arXiv 1506.01186, section 3.3: a third or a fourth).
        """
        max_lr = self.lr_for("triangular")
        return Bounds(max_lr / _BASE_FACTOR, max_lr)

    def __str__(self) -> str:
        if self.lr is None:
            return f"no learning rate: {self.reason}"
        return (
            f"lr={self.lr:.2e} ({self.low:.1e} .. {self.high:.1e}, "
            f"{self.confidence} confidence): {self.reason}"
        )

    def _repr_html_(self) -> str:
        from keras_lrfinder.drawing.notebook import html_card

        rows = [("confidence", self.confidence), ("why", self.reason)]
        if self.lr is None:
            return html_card("No learning rate", rows)
        rows.insert(0, ("range", f"{self.low:.1e} .. {self.high:.1e}"))
        return html_card(f"Learning rate: {self.lr:.2e}", rows)


class _Number(Suggestion, float):
    """A suggestion with a learning rate: a float, too."""

    __hash__ = float.__hash__


_Number.__name__ = _Number.__qualname__ = "Suggestion"


def default(curve: Curve) -> float:
    """Returns a learning rate well below the edge of stability.

    How far below depends on the optimizer, on the noise, and on how many
    steps an epoch has: see `keras_lrfinder.analysis.default_rule`.
    """
    seen = landmarks(curve)
    if seen is None:
        raise ValueError("a curve without a finite loss has no landmarks")
    return default_lr(curve, seen)


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

    In the spirit of the rule of ESRI and fastai, there the longest decreasing
    subsequence. Here a descent leads from a highest loss so far to the lowest
    one before it is exceeded; the longest, in log(LR), is taken of those that
    are at least a quarter as deep as the deepest: noise makes shallow ones.
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
    answer. The threshold is relative to the steepest slope, and the window
    to the number of points, so that the answer has no scale of its own.
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


def suggest(curve: Curve, rule: str | Rule = "default") -> Suggestion:
    """Returns the learning rate to train with, or an honest refusal.

    Args:
        curve: What a range test measured.
        rule: A name in `RULES`, or a function `Curve -> lr`, None from which
            means that it found no learning rate.

    Returns:
        `Suggestion`, whose `lr` is None where the curve has too few points,
        never fell, or diverged at once.

    Raises:
        TypeError: `curve` is no `Curve`, `rule` neither name nor function.
        ValueError: No rule has that name.
    """
    check_type("curve", curve, Curve, "a Curve")
    name, function = _rule(rule)
    seen = landmarks(curve)
    refused = refusal(curve, seen)
    if refused or seen is None:
        return Suggestion.refused(name, refused)
    # Not by `default`, which would look for the landmarks again.
    own = default_lr(curve, seen)
    lr = own if function is default else _answer(name, function, curve)
    if lr is None:
        return Suggestion.refused(name, f"the rule {name} found none")
    if not (math.isfinite(lr) and lr > 0):
        return Suggestion.refused(name, f"the rule {name} answered {lr}")
    lr = min(max(lr, float(curve.lrs[0])), float(curve.lrs[-1]))
    said = confidence_in(curve, seen, lr)
    if function is not default:
        said = _doubted(said, confidence_in(curve, seen, own), lr, own)
    kind, _ = kind_of(curve.optimizer, curve.hyperparameters.get("momentum"))
    return Suggestion(
        lr,
        said.low,
        said.high,
        said.level,
        name,
        said.reason,
        kind,
        few=few_batches(curve),
    )


class RuleTable(dict[str, Suggestion]):
    """Rule to suggestion, shown as a table."""

    def __str__(self) -> str:
        from keras_lrfinder.drawing.table import text_table

        return text_table(self._cells())

    def _repr_html_(self) -> str:
        from keras_lrfinder.drawing.table import html_table

        return html_table(self._cells())

    def _cells(self) -> list[list[str]]:
        rows = [
            [
                name,
                "none" if found.lr is None else f"{found.lr:.2e}",
                found.confidence,
                found.reason,
            ]
            for name, found in self.items()
        ]
        return [["rule", "LR", "confidence", "why"], *rows]


def compare_rules(
    curve: Curve, rules: Iterable[str | Rule] | None = None
) -> RuleTable:
    """Returns what several rules suggest for one curve, as one table.

    Args:
        curve: What a range test measured.
        rules: Names in `RULES` or functions; None: all in `RULES`.

    Returns:
        Dictionary from the rule's name to its `Suggestion`, which prints as a
        table.

    Raises:
        TypeError, ValueError: As `suggest`.

    Example:
        ```python
        print(compare_rules(finder.curve))
        ```
    """
    found = [suggest(curve, r) for r in (RULES if rules is None else rules)]
    return RuleTable({each.rule: each for each in found})


def check_rule(rule: object) -> None:
    """Raises where `suggest` would not take `rule`."""
    _rule(rule)


def _answer(name: str, function: Rule, curve: Curve) -> float | None:
    answer = function(curve)
    try:
        return None if answer is None else float(answer)
    except (TypeError, ValueError):
        raise TypeError(
            "`rule` must return a learning rate, one number. Received: "
            f"{answer!r} from rule={name}"
        ) from None


def _doubted(
    said: Confidence, own: Confidence, lr: float, own_lr: float
) -> Confidence:
    """Returns what is to be said of a rule, given what the default's is.

    Where the two agree, the range is the default's, which was measured.
    """
    if abs(math.log10(lr / own_lr)) <= _AGREE:
        return dataclasses.replace(own, reason=said.reason)
    doubt = f"; but the default rule says {own_lr:.1e}"
    return dataclasses.replace(said, level="low", reason=said.reason + doubt)


def _rule(rule: object) -> tuple[str, Rule]:
    if callable(rule):
        return getattr(rule, "__name__", "custom"), rule
    if not isinstance(rule, str):
        raise TypeError(
            "`rule` must be a name or a function Curve -> lr. "
            f"Received: {rule=}"
        )
    if rule not in RULES:
        raise ValueError(
            f"`rule` must be one of {', '.join(sorted(RULES))}, or a "
            f"function Curve -> lr. Received: {rule=}"
        )
    return rule, RULES[rule]


def _finite(
    curve: Curve,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    keep = np.isfinite(curve.losses)
    smoothed = ema(curve.losses[keep], ema_span(curve.steps))
    return curve.lrs[keep], smoothed


def _slopes(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns LRs and `ds / d(log lr)` there, up to the lowest loss.

    By central differences of the smoothed loss `s`.
    """
    lrs, smoothed = _finite(curve)
    until = max(int(np.argmin(smoothed)) + 1, 2)
    return lrs, np.gradient(smoothed[:until], np.log(lrs[:until]))
