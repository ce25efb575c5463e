"""How much more length moves the best learning rate where epochs are short.

Run: `python -m benchmarks.outcome.epochs`. On the seen cells of which an epoch
has fewer than 100 batches: the mean excess loss of ramp and probes over all
trainings if length counted by so many decades more, for each decade of length
and each by which an epoch is short (`schedule_factors`), round 1,000 steps.
Below it the same by family.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from benchmarks.outcome import fit
from benchmarks.outcome import score
from benchmarks.outcome.recording import load
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS

TRIED = (0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1)


def excess(some: Sequence[fit.Case], more: float) -> float:
    """Mean excess loss over the trainings, each counting alike."""
    constants = fit.read()
    lost: dict[str, list[float]] = {str(t): [] for t in fit.TARGETS}
    for case in some:
        said = score.suggested(case.cell, case.seed, "probes", True)
        if said.lr is None:
            continue
        factors = constants[case.cell.family].factors
        for target in case.excess:
            move = fit.moved(case.kind, target, 0.0, factors)
            move -= more * case.few * math.log10(target.steps / MIDDLE_STEPS)
            at = case.at(target, np.array([math.log10(said.lr) + move]))
            lost[str(target)].append(float(at[0]))
    return float(np.exp(np.mean([np.mean(v) for v in lost.values() if v])))


def main() -> None:
    """Print a line for all, and one for each family."""
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    cases = [c for c in fit.cases(load(unseen=False)) if c.few]
    print("| cells | tests | " + " | ".join(f"{m:g}" for m in TRIED) + " |")
    print("| --- | ---: |" + " ---: |" * len(TRIED))
    for family in ("all", *sorted({c.cell.family for c in cases})):
        some = [c for c in cases if family in ("all", c.cell.family)]
        means = " | ".join(f"x{excess(some, m):.3f}" for m in TRIED)
        print(f"| {family} | {len(some)} | {means} |")


if __name__ == "__main__":
    main()
