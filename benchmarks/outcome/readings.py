"""How ramps and probes are read, as `probing.py` fitted it. Needs no JAX."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.default_rule import DEFAULT_RULE
from keras_lrfinder.analysis.default_rule import RAISED
from keras_lrfinder.analysis.default_rule import ByOptimizer
from keras_lrfinder.analysis.default_rule import Constants
from keras_lrfinder.analysis.default_rule import Raised
from keras_lrfinder.analysis.default_rule import default_lr
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.probes import READINGS
from keras_lrfinder.analysis.probes import Reading
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest

CONSTANTS = Path(__file__).with_name("probing.json")
# Unseen families whose kin in `benchmarks/quality` have another name.
KIN = {"denoising": "reconstruction", "vision": "image"}
RULES = Path(__file__).parents[1] / "quality" / "constants.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """How ramps and probes are read; if nothing is given, as the package does.

    Attributes:
        raised: By how much the default rule is raised.
        readings: How probes are read.
        rule: The constants of the default rule.
    """

    raised: Raised = RAISED
    readings: Mapping[str, Reading] = dataclasses.field(
        default_factory=lambda: READINGS
    )
    rule: ByOptimizer[Constants] = DEFAULT_RULE

    def suggested(self, curve: Curve) -> Suggestion:
        """What the default rule says of a ramp."""

        def default(curve: Curve) -> float | None:
            seen = landmarks(curve)
            assert seen is not None
            return default_lr(curve, seen, self.rule, self.raised)

        return suggest(curve, default)


SHIPPED = Known()


@functools.cache
def read() -> dict[str, Known]:
    """What `main` of `probing.py` wrote."""
    stored = json.loads(CONSTANTS.read_text())
    return {
        family: Known(
            Raised(**found["raised"]),
            {k: Reading(*values) for k, values in found["readings"].items()},
            rule_without(family),
        )
        for family, found in stored.items()
    }


@functools.cache
def rule_without(family: str) -> ByOptimizer[Constants]:
    """The default rule's constants that never saw the family."""
    stored = json.loads(RULES.read_text())
    found = stored.get(family, stored[""])
    return ByOptimizer(**{k: Constants(**v) for k, v in found.items()})


def left_out(family: str) -> Known:
    """What was fitted without the family: rule, raise and readings."""
    return read().get(KIN.get(family, family), read()[""])
