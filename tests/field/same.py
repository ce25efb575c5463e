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
    for layer in getattr(model, "layers", []):
        if isinstance(layer, keras.layers.TorchModuleWrapper):
            # Its buffers are no variables of Keras's.
            variables += layer.module.state_dict().values()
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


def at_once(model, data, **fit):
    """A range test by `lr_find`."""
    return lr_find(model, *data(), steps=STEPS, verbose=0, **fit)


def ramp_alone(model, data, **fit):
    """The same without probes, which cost most of its time."""
    return at_once(model, data, probe=False, **fit)


def in_a_fit(model, data, **fit):
    """A range test by the callback, in a fit of its own."""
    finder = LRFinder(steps=STEPS, verbose=0)
    model.fit(*data(), epochs=9, verbose=0, callbacks=[finder], **fit)
    return finder


def same_as_untested(build, data, ways=(at_once, in_a_fit), **fit):
    """Asserts that a fit after range tests is bit for bit the one without.

    Args:
        build: Function that returns a fresh, compiled model.
        data: Function that returns the positional arguments of `fit`.
        ways: The range tests, one after the other on the same model.
        **fit: More arguments of `fit`.

    Returns:
        The finished `LRFinder` of each way.
    """
    ends, finders = [], []
    for tests in ((), ways):
        keras.utils.set_random_seed(3)
        model = build()
        model.fit(*data(), epochs=1, verbose=0, **fit)
        before = everything(model)
        for test in tests:
            finders.append(test(model, data, **fit))
            assert_same(before, everything(model))
        done = model.fit(*data(), epochs=2, verbose=0, **fit)
        ends.append((done.history, everything(model)))
    (history, plain), (history_after, tested) = ends
    assert history_after == history
    assert_same(plain, tested)
    assert all(len(finder.curve) >= STEPS // 2 for finder in finders)
    return finders


def assert_same(these, those):
    """Asserts that two lists of arrays are the same, bit for bit."""
    for a, b in zip(these, those, strict=True):
        np.testing.assert_array_equal(a, b)
