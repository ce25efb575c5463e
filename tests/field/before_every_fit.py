"""A pytest plugin: a range test before every `Model.fit` of a test run.

```
cd tests; pytest -p field.before_every_fit --fits-to=a.jsonl SUITE
cd tests; pytest -p field.before_every_fit --fits-to=b.jsonl --range-tests SUITE
```

Each run writes a line for every fit: its test, its history, and a digest of all
variables after it. Both files must be the same, whatever the suite does.
"""

import functools
import hashlib
import inspect
import json

import keras
import numpy as np

from keras_lrfinder import lr_find

STEPS = 12
# Of `fit`, and not of a range test: how long it is, and what it prints.
LEFT_OUT = ("self", "x", "y", "epochs", "initial_epoch", "verbose")


def digest(model):
    """What all variables of a model and of its optimizer are, in short."""
    variables = [*model.variables, *model.optimizer.variables]
    found = hashlib.sha256()
    for variable in variables:
        value = np.asarray(keras.ops.convert_to_numpy(variable))
        found.update(f"{value.dtype} {value.shape} ".encode())
        found.update(value.tobytes())
    return found.hexdigest()


class BeforeEveryFit:
    """What is done before and after a fit, and in which test."""

    def __init__(self, path, tested):
        self.path, self.tested = path, tested
        self.busy, self.name = False, ""

    def pytest_runtest_setup(self, item):
        """Remembers which test it is."""
        self.name = item.name

    def wrap(self, fit):
        """Returns what stands in for `Model.fit`."""
        signature = inspect.signature(fit)

        @functools.wraps(fit)
        def fit_after_range_test(*args, **kwargs):
            if self.busy:
                return fit(*args, **kwargs)
            self.busy = True
            try:
                return self.both(fit, signature, args, kwargs)
            finally:
                self.busy = False

        return fit_after_range_test

    def both(self, fit, signature, args, kwargs):
        """Range test, and fit."""
        model, given = args[0], signature.bind(*args, **kwargs).arguments
        x, y = given.get("x"), given.get("y")
        # A generator gives its batches once.
        if self.tested and not inspect.isgenerator(x):
            settings = {k: v for k, v in given.items() if k not in LEFT_OUT}
            lr_find(model, x, y, steps=STEPS, verbose=0, **settings)
        done = fit(*args, **kwargs)
        self.write(test=self.name, history=done.history, state=digest(model))
        return done

    def write(self, **line):
        """Appends a line."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, default=float) + "\n")


def pytest_addoption(parser):
    """Where the lines go, and whether to test at all."""
    parser.addoption("--fits-to", required=True)
    parser.addoption("--range-tests", action="store_true")


def pytest_configure(config):
    """Puts it in the place of `Model.fit`, for this process."""
    chosen = config.getoption("--fits-to"), config.getoption("--range-tests")
    plugin = BeforeEveryFit(*chosen)
    owner = next(c for c in keras.Model.__mro__ if "fit" in vars(c))
    owner.fit = plugin.wrap(owner.fit)
    config.pluginmanager.register(plugin)
