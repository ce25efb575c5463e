"""By how much schedule and length move the best learning rate.

Measured against a constant learning rate for 500 steps, in decades, by kind
of optimizer; between lengths they follow log(steps), beyond them they stay.
The table was fitted by `benchmarks/outcome/fit.py`.
"""

from __future__ import annotations

import math
from typing import Any

from keras_lrfinder.arguments import integer

SCHEDULES = ("constant", "cosine", "one_cycle", "triangular")
KINDS = ("sgd", "momentum", "adam", "lion", "muon", "adafactor")
# What a suggestion is for where nobody says how long the training is.
MIDDLE_STEPS = 1000
# Triangular was measured at one length only: there it does not move.
_LENGTHS = (500, 2000)

Factors = dict[str, dict[str, float]]

# FACTORS[kind]["one_cycle 2000"]: decades. "constant 500" is zero.
FACTORS: Factors = {
    "sgd": {
        "constant 2000": -0.05,
        "one_cycle 500": 0.5,
        "cosine 500": 0.5,
        "triangular 500": 0.45,
        "one_cycle 2000": 0.25,
        "cosine 2000": 0.25,
    },
    "momentum": {
        "constant 2000": -0.15,
        "one_cycle 500": 0.45,
        "cosine 500": 0.45,
        "triangular 500": 0.3,
        "one_cycle 2000": 0.2,
        "cosine 2000": 0.15,
    },
    "adam": {
        "constant 2000": -0.1,
        "one_cycle 500": 0.5,
        "cosine 500": 0.55,
        "triangular 500": 0.4,
        "one_cycle 2000": 0.25,
        "cosine 2000": 0.25,
    },
    "lion": {
        "constant 2000": -0.5,
        "one_cycle 500": 0.45,
        "cosine 500": 0.5,
        "triangular 500": 0.3,
        "one_cycle 2000": -0.2,
        "cosine 2000": -0.2,
    },
    "muon": {
        "constant 2000": -0.4,
        "one_cycle 500": 0.35,
        "cosine 500": 0.35,
        "triangular 500": 0.2,
        "one_cycle 2000": 0.1,
        "cosine 2000": 0.1,
    },
    "adafactor": {
        "constant 2000": 0.0,
        "one_cycle 500": 0.55,
        "cosine 500": 0.5,
        "triangular 500": 0.3,
        "one_cycle 2000": 0.25,
        "cosine 2000": 0.25,
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
    kind: str, schedule: str, steps: int, factors: Factors | None = None
) -> float:
    """Returns log10 of the factor on the LR of 500 constant steps.

    Args:
        kind: String, one of `KINDS`.
        schedule: String, one of `SCHEDULES`.
        steps: Integer, length of the training in steps.
        factors: Other constants.
    """
    table = (FACTORS if factors is None else factors)[kind]
    known = [n for n in _LENGTHS if f"{schedule} {n}" in table]
    if schedule == "constant":
        known = list(_LENGTHS)
    values = [table.get(f"{schedule} {n}", 0.0) for n in known]
    if len(known) == 1:
        return values[0]
    first, last = (math.log10(n) for n in known)
    share = (math.log10(max(steps, 1)) - first) / (last - first)
    # What was not measured is not extrapolated.
    share = min(max(share, 0.0), 1.0)
    return values[0] + share * (values[1] - values[0])
