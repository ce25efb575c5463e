"""The claim of this folder: a range test changes nothing that comes after."""

import keras
import numpy as np

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find

STEPS = 24


def everything(model):
    """All variables of a model, of the optimizers it holds, and its metrics."""
    held = [model.optimizer, *vars(model).values()]
    optimizers = {
        id(o): o for o in held if isinstance(o, keras.optimizers.Optimizer)
    }
    variables = [*model.variables]
    for optimizer in optimizers.values():
        variables += optimizer.variables
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


def same_as_untested(build, data, way="lr_find", **fit):
    """Asserts that a fit after a range test is bit for bit the one without.

    Args:
        build: Function that returns a fresh, compiled model.
        data: Function that returns the positional arguments of `fit`.
        way: `"lr_find"`, or `"callback"` in a fit of its own.
        **fit: More arguments of `fit`.

    Returns:
        The finished `LRFinder`.
    """
    histories, states = [], []
    for tested in (False, True):
        keras.utils.set_random_seed(3)
        model = build()
        model.fit(*data(), epochs=1, verbose=0, **fit)
        before = everything(model)
        if tested and way == "lr_find":
            finder = lr_find(model, *data(), steps=STEPS, verbose=0, **fit)
        elif tested:
            finder = LRFinder(steps=STEPS, verbose=0)
            model.fit(*data(), epochs=9, verbose=0, callbacks=[finder], **fit)
        for a, b in zip(before, everything(model), strict=True):
            np.testing.assert_array_equal(a, b)
        done = model.fit(*data(), epochs=2, verbose=0, **fit)
        histories.append(done.history)
        states.append(everything(model))
    assert histories[0] == histories[1]
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(finder.curve) >= STEPS // 2
    return finder
