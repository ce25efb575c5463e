"""The functions that a model has had compiled before a test."""

from __future__ import annotations

from typing import Any

import keras

from keras_lrfinder.training.backend_internals import compiled_functions
from keras_lrfinder.training.backend_internals import draws_by_itself
from keras_lrfinder.training.backend_internals import times_traced

FUNCTIONS = ("train_function", "test_function", "predict_function")


class OwnFunctions:
    """What a model has had compiled, and how often it was traced by now.

    Args:
        model: The Keras model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._traced = [(f, times_traced(f)) for f in compiled_functions(model)]

    @property
    def draw(self) -> bool:
        """Whether they hold random ops with a state, of TensorFlow's own."""
        return any(draws_by_itself(function) for function, _ in self._traced)

    def set_aside(self) -> None:
        """Has others compiled until the model's attributes are put back.

        Only where the state of their random ops would move on.
        """
        if self.draw:
            forget_functions(self._model)

    def forget_new_traces(self) -> None:
        """Forgets traces made since: they have what held then built in."""
        for function, count in self._traced:
            if times_traced(function) <= count:
                continue
            if keras.backend.backend() == "jax":
                function.clear_cache()
            else:
                forget_functions(self._model)


def forget_functions(model: Any) -> None:
    """Has Keras make and compile a model's functions anew when it needs them.

    Past Keras's own `__setattr__`, which need not know.
    """
    for name in FUNCTIONS:
        vars(model)[name] = None
