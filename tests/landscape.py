"""Training, made up: what ramps and runs give is a formula of their LR."""

import math

import numpy as np

from keras_lrfinder import RangeTest

# What nothing learnt has for a loss.
START = 2.3


def usual(x):
    """A fall from 2.3 to 0.5 around 10^-2.5, unstable beyond 10^-0.3."""
    return 2.3 - 1.8 / (1 + np.exp(-3 * (x + 2.5))) + np.exp(4 * (x + 0.3))


def ramp(
    loss=usual,
    noise=0.0,
    seed=0,
    start=1e-7,
    end=10.0,
    steps=100,
    optimizer="adam",
    **settings,
):
    """The curve of a range test on a loss that is a function of log10(LR)."""
    rng = np.random.default_rng(seed)
    test = RangeTest(start, end, steps, optimizer=optimizer, **settings)
    while test.record(loss(np.log10(test.lr)) + noise * rng.normal()):
        pass
    return test.curve


def flat(**settings):
    """A ramp that shows noise, and no fall."""
    return ramp(lambda x: START, noise=0.02, **settings)


def trainer(best=-2.5, whole=None, *, memorised=0.0, blows=math.inf, made=None):
    """Returns a `train` whose runs end in a bowl over log10 of their LR.

    Short runs end lowest at `best`, those of more than 60 steps at `whole`.
    Of what is learnt held-out losses lack the share `memorised`. From `blows`
    on, a log10 of LR, runs blow up. The list `made` gets every run.
    """
    place = {60: best}

    def train(run):
        if made is not None:
            made.append(run)
        if run.steps == 0:
            return [START] * (run.held_out + run.again)
        x = math.log10(run.lr)
        middle = place.get(run.steps, best if whole is None else whole)
        end = min(0.4 + 0.5 * (x - middle) ** 2, START)
        losses = np.linspace(START, end, run.steps).tolist()
        if x >= blows:
            losses[-1] = math.nan
        again = START - (START - end) / max(1.0 - memorised, 1e-3)
        return [*losses, *[end] * run.held_out, *[again] * run.again]

    return train
