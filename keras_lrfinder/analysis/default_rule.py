"""The default rule: so far below the edge of stability, by optimizer.

```
log10(lr) = offset + slope * edge - few * max(0, 2 - log10(epoch)) - rough
rough     = roughness * log10(noise / loss + 0.01)
```

`edge` is log10 of the learning rate at which training becomes unstable
(`landmarks`), `epoch` the number of steps of an epoch where the curve knows
it: with little data, the same hundreds of steps are many epochs, and what
would be a good learning rate for more data memorises instead. Noise asks for
a smaller learning rate than the ramp, which is short, can show.

The constants were fitted by `benchmarks/quality/fit.py`; the slopes below
one say that part of what is known about a good learning rate is known
before the test. Whatever they say, the answer keeps a distance from the edge.
"""

from __future__ import annotations

import dataclasses
import math

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.analysis.landmarks import landmarks

__all__ = ["CALIBRATION", "Calibration", "Constants", "calibrated", "kind_of"]

_SMALL_EPOCH = 2.0
# Lion's step has the size of the learning rate whatever the gradient: in the
# benchmark 2.5 times less than for Adam is best.
_LION = 0.4


@dataclasses.dataclass(frozen=True)
class Constants:
    """The rule's constants for one kind of optimizer.

    Attributes:
        offset, slope, few, roughness: As in the formula.
        margin: Float, decades that the answer at least stays below the edge.
    """

    offset: float
    slope: float
    few: float
    roughness: float
    margin: float


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The constants for plain SGD, for momentum 0.9, and for the others."""

    sgd: Constants = Constants(-1.97, 0.55, 0.47, 0.85, 0.5)
    momentum: Constants = Constants(-2.8, 0.55, 0.47, 0.85, 1.1)
    adaptive: Constants = Constants(-2.32, 0.27, 0.47, 0.0, 1.0)


CALIBRATION = Calibration()


def kind_of(curve: Curve) -> tuple[str, float]:
    """Returns `"sgd"` or `"adaptive"`, and how much momentum there is.

    The second is `log10(1 / (1 - momentum))`, by which momentum lengthens a
    step: 0 without, 1 with 0.9. An optimizer without a name counts as
    adaptive: a learning rate too low costs less than one too high.
    """
    if curve.optimizer.lower() != "sgd":
        return "adaptive", 0.0
    momentum = curve.hyperparameters.get("momentum", 0.0)
    try:
        momentum = min(max(float(momentum), 0.0), 0.999)
    except (TypeError, ValueError):
        momentum = 0.0
    return "sgd", math.log10(1.0 / (1.0 - momentum))


def constants_of(
    curve: Curve, calibration: Calibration = CALIBRATION
) -> Constants:
    """Returns the constants for a curve's optimizer.

    Between plain SGD and momentum 0.9 they follow the length of a step.
    """
    kind, momentum = kind_of(curve)
    if kind == "adaptive":
        found = calibration.adaptive
        if curve.optimizer.lower() == "lion":
            found = dataclasses.replace(found, offset=found.offset - _LION)
        return found
    none, full = (
        dataclasses.astuple(c) for c in (calibration.sgd, calibration.momentum)
    )
    share = min(momentum, 1.5)
    return Constants(*(a + share * (b - a) for a, b in zip(none, full)))


def few_batches(curve: Curve) -> float:
    """Returns by how many decades an epoch is shorter than 100 steps."""
    steps = getattr(curve, "steps_per_epoch", None)
    if not steps or steps < 1:
        return 0.0
    return max(0.0, _SMALL_EPOCH - math.log10(steps))


def calibrated(
    curve: Curve,
    calibration: Calibration = CALIBRATION,
    seen: Landmarks | None = None,
) -> float:
    """Returns the learning rate of the default rule.

    Args:
        curve: A range test with at least one finite loss.
        calibration: The constants.
        seen: The curve's landmarks, where they are known already.
    """
    seen = seen or landmarks(curve)
    if seen is None:
        raise ValueError("a curve without a finite loss has no landmarks")
    c = constants_of(curve, calibration)
    decades = (
        c.offset
        + c.slope * seen.edge
        - c.few * few_batches(curve)
        - c.roughness * seen.roughness
    )
    return float(10.0 ** min(decades, seen.edge - c.margin))
