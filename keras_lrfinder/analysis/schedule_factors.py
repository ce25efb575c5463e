"""By how much schedule and length move the best learning rate.

Measured against a constant learning rate for 500 steps, in decades, by kind
of optimizer; between lengths they follow log(steps), beyond them they stay.
That is for data of which an epoch has 100 batches and more. With fewer, a long
training is many epochs, and what memorises less is lower:

```
decades = factor(kind, schedule, steps)
          - 1.2 * max(0, 2 - log10(epoch)) * log10(steps / 1000)
```

The table was fitted by `benchmarks/outcome/fit.py`, the 1.2 by `epochs.py`
beside it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_lrfinder.arguments import integer

SCHEDULES = ("constant", "cosine", "one_cycle", "triangular")
KINDS = ("sgd", "momentum", "adam", "lion", "muon", "adafactor")
# What a suggestion is for where nobody says how long the training is.
MIDDLE_STEPS = 1000
# Decades for each decade of length and each by which an epoch is short.
_MANY_EPOCHS = 1.2
# Triangular was not measured at the last: it does not move beyond 2,000.
_LENGTHS = (500, 2000, 8000)

Factors = dict[str, dict[str, float]]

# FACTORS[kind]["one_cycle 2000"]: decades. "constant 500" is zero.
FACTORS: Factors = {
    "sgd": {
        "constant 2000": 0.0,
        "one_cycle 500": 0.38,
        "cosine 500": 0.4,
        "triangular 500": 0.3,
        "one_cycle 2000": 0.3,
        "cosine 2000": 0.3,
        "constant 8000": -0.4,
        "one_cycle 8000": 0.08,
        "cosine 8000": 0.08,
        "triangular 2000": 0.25,
    },
    "momentum": {
        "constant 2000": -0.05,
        "one_cycle 500": 0.43,
        "cosine 500": 0.43,
        "triangular 500": 0.3,
        "one_cycle 2000": 0.23,
        "cosine 2000": 0.28,
        "constant 8000": -0.43,
        "one_cycle 8000": 0.05,
        "cosine 8000": 0.03,
        "triangular 2000": 0.15,
    },
    "adam": {
        "constant 2000": -0.25,
        "one_cycle 500": 0.53,
        "cosine 500": 0.58,
        "triangular 500": 0.35,
        "one_cycle 2000": 0.35,
        "cosine 2000": 0.35,
        "constant 8000": -0.55,
        "one_cycle 8000": 0.2,
        "cosine 8000": 0.23,
        "triangular 2000": 0.15,
    },
    "lion": {
        "constant 2000": -0.3,
        "one_cycle 500": 0.38,
        "cosine 500": 0.43,
        "triangular 500": 0.25,
        "one_cycle 2000": 0.1,
        "cosine 2000": 0.03,
        "constant 8000": -0.58,
        "one_cycle 8000": -0.08,
        "cosine 8000": -0.1,
        "triangular 2000": 0.0,
    },
    "muon": {
        "constant 2000": -0.3,
        "one_cycle 500": 0.45,
        "cosine 500": 0.48,
        "triangular 500": 0.28,
        "one_cycle 2000": 0.28,
        "cosine 2000": 0.28,
        "constant 8000": -0.7,
        "one_cycle 8000": 0.08,
        "cosine 8000": 0.1,
        "triangular 2000": 0.03,
    },
    "adafactor": {
        "constant 2000": -0.15,
        "one_cycle 500": 0.48,
        "cosine 500": 0.45,
        "triangular 500": 0.18,
        "one_cycle 2000": 0.25,
        "cosine 2000": 0.2,
        "constant 8000": -0.4,
        "one_cycle 8000": 0.05,
        "cosine 8000": 0.08,
        "triangular 2000": -0.1,
    },
}


def kind_of(optimizer: str, momentum: Any = 0.0) -> tuple[str, bool]:
    """Returns the kind, and whether this very optimizer was measured.

    Args:
        optimizer: Its class's name; any other than the measured ones counts
            as one of Adam's kin.
        momentum: SGD's momentum: from 0.5 on it counts as momentum.
    """
    name = optimizer.lower()
    if name == "sgd":
        moving = isinstance(momentum, (int, float)) and momentum >= 0.5
        return ("momentum" if moving else "sgd"), True
    if name in ("lion", "muon", "adafactor"):
        return name, True
    return "adam", name in ("adam", "adamw", "rmsprop")


def check_training(schedule: object, total_steps: object) -> None:
    """Raises where these do not say what training follows."""
    if schedule not in SCHEDULES:
        raise ValueError(
            f"`schedule` must be one of {', '.join(SCHEDULES)}. "
            f"Received: {schedule=}"
        )
    if total_steps is not None:
        integer("total_steps", total_steps, 1)


def shift(
    kind: str,
    schedule: str,
    steps: int,
    few: float = 0.0,
    factors: Factors | None = None,
) -> float:
    """Returns log10 of the factor on the LR of 500 constant steps.

    Args:
        kind: String, one of `KINDS`.
        schedule: String, one of `SCHEDULES`.
        steps: Integer, length of the training in steps.
        few: Float, by how many decades an epoch is shorter than 100 steps.
        factors: Other constants.
    """
    table = (FACTORS if factors is None else factors)[kind]
    table = {"constant 500": 0.0, **table}
    known = [n for n in _LENGTHS if f"{schedule} {n}" in table]
    values = [table[f"{schedule} {n}"] for n in known]
    # What was not measured is not extrapolated.
    counted = min(max(steps, _LENGTHS[0]), _LENGTHS[-1])
    factor = float(np.interp(math.log(counted), np.log(known), values))
    return factor - _MANY_EPOCHS * few * math.log10(counted / MIDDLE_STEPS)
