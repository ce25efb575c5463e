"""The default rule: so far below the edge of stability, by optimizer.

```
log10(lr) = offset + slope * edge - few * max(0, 2 - log10(epoch)) - rough
            + raised + log10(batch / 32) / 8
rough     = roughness * log10(noise / loss + 0.01)
```

`edge` is log10 of the learning rate at which training becomes unstable
(`landmarks.py`), `epoch` the number of steps of an epoch where the curve knows
it (more for batches larger than 32, see `few_batches`): with little data, the
same hundreds of steps are many epochs, and what would be a good learning rate
for more data memorises instead. Noise asks for a smaller learning rate than the
ramp, which is short, can show; the gradients of a large batch have less of it.

The constants were fitted by `benchmarks/quality/fit.py`; the slopes below
one say that part of what is known about a good learning rate is known
before the test. That fit hardly charges a learning rate that is merely slow, so
by the loss that users end with it leans low: `raised`, by kind of optimizer and
less where data are few, is what `benchmarks/outcome/probing.py` adds. Whatever
they say, the answer keeps a distance from the edge.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import Generic
from typing import TypeVar

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.analysis.schedule_factors import kind_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

_SMALL_EPOCH = 2.0
# Where the law of large batches begins.
_BATCH = 32
# Up to 512 samples: nothing larger was measured.
_LARGEST = 512
_LARGER = 0.125


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
class Raised:
    """By how much the rule is raised.

    Attributes:
        kinds: Decades by kind of optimizer.
        few: Float, decades less for an epoch of 10 instead of 100 steps.
    """

    kinds: Mapping[str, float]
    few: float

    def of(self, curve: Curve) -> float:
        """Returns the decades; of SGD by its momentum, between both."""
        if curve.optimizer.lower() == "sgd":
            both = self.kinds["sgd"], self.kinds["momentum"]
            decades = _by_momentum(curve, *both, longest=1.0)
        else:
            decades = self.kinds[kind_of(curve.optimizer)[0]]
        return decades - self.few * few_batches(curve)


@dataclasses.dataclass(frozen=True)
class ByOptimizer(Generic[T]):
    """Constants for plain SGD, for momentum 0.9, and for the others."""

    sgd: T
    momentum: T
    adaptive: T

    def of(self, curve: Curve, longest: float) -> T:
        """Returns the constants for a curve's optimizer.

        Between plain SGD and momentum 0.9, and beyond, they follow the
        logarithm of how much momentum lengthens a step. An optimizer
        without a name counts as adaptive: a learning rate too low costs
        less than one too high.

        Args:
            curve: Knows the optimizer and its momentum.
            longest: Float, where to stop beyond 0.9, which is at 1.
        """
        if curve.optimizer.lower() != "sgd":
            return self.adaptive
        none, full = map(dataclasses.astuple, (self.sgd, self.momentum))
        between = (_by_momentum(curve, *v, longest) for v in zip(none, full))
        return type(self.sgd)(*between)


DEFAULT_RULE = ByOptimizer(
    sgd=Constants(-1.97, 0.55, 0.47, 0.85, 0.5),
    momentum=Constants(-2.8, 0.55, 0.47, 0.85, 1.1),
    adaptive=Constants(-2.32, 0.27, 0.47, 0.0, 1.0),
)
RAISED = Raised(
    {
        "sgd": 0.2,
        "momentum": 0.2,
        "adam": 0.25,
        "lion": -0.15,
        "muon": 0.25,
        "adafactor": 0.55,
    },
    few=0.15,
)


def _by_momentum(
    curve: Curve, none: float, full: float, longest: float
) -> float:
    """Returns what lies between plain SGD's and that of momentum 0.9."""
    share = min(_lengthening(curve.hyperparameters), longest)
    return none + share * (full - none)


def _lengthening(hyperparameters: Mapping[str, Any]) -> float:
    """Returns `log10(1 / (1 - momentum))`: 0 without, 1 with 0.9."""
    try:
        momentum = float(hyperparameters.get("momentum", 0.0))
    except (TypeError, ValueError):
        return 0.0
    return math.log10(1.0 / (1.0 - min(max(momentum, 0.0), 0.999)))


def few_batches(curve: Curve) -> float:
    """Returns by how many decades an epoch is shorter than 100 steps.

    A step of a large batch counts for more, by its square root: such an epoch
    is short, and the data are not few (`benchmarks/outcome/batch_sizes.py`).
    """
    steps = curve.steps_per_epoch
    if not steps or steps < 1:
        return 0.0
    larger = max((curve.batch_size or _BATCH) / _BATCH, 1.0)
    counted = steps * math.sqrt(larger)
    return max(0.0, _SMALL_EPOCH - math.log10(counted))


def large_batches(curve: Curve) -> float:
    """Returns by how many decades batches of more than 32 raise the best LR.

    A whole training suffers from noise that a ramp, or a probe, is too short
    to show: less of it where batches are large
    (`benchmarks/outcome/batches.py`).
    """
    size = min(max(curve.batch_size or _BATCH, _BATCH), _LARGEST)
    return _LARGER * math.log10(size / _BATCH)


def default_lr(
    curve: Curve,
    seen: Landmarks,
    constants: ByOptimizer[Constants] = DEFAULT_RULE,
    raised: Raised = RAISED,
) -> float:
    """Returns the learning rate of the default rule.

    Args:
        curve: A range test.
        seen: Its landmarks.
        constants: The constants.
        raised: By how much it is raised.
    """
    c = constants.of(curve, longest=1.5)
    decades = (
        c.offset
        + c.slope * seen.edge
        - c.few * few_batches(curve)
        - c.roughness * seen.roughness
        + raised.of(curve)
        + large_batches(curve)
    )
    return float(10.0 ** min(decades, seen.edge - c.margin))
