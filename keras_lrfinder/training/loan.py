"""A model on loan: swept, tried out, rewound, and given back as it came."""

from __future__ import annotations

from typing import Any

import keras

from keras_lrfinder.training.jax_loop import JaxLoop
from keras_lrfinder.training.learning_rate import SweptRate
from keras_lrfinder.training.snapshot import ModelState

__all__ = ["Session"]


class Session:
    """Holds a model's learning rate and its state, over one run or several.

    Args:
        model: The Keras model, from `Callback.model` inside a fit.
        optimizers: The optimizers to sweep.
    """

    def __init__(self, model: Any, optimizers: list[Any]) -> None:
        self.rate = SweptRate(model, optimizers)
        self.state: ModelState | None = None
        self.loop: JaxLoop | None = None
        self.is_open = False

    def open(self, model: Any, *, built: bool) -> None:
        """Copies the state, and makes the learning rate assignable.

        Args:
            model: The model, as above.
            built: Whether its weights exist. If not, `copy` is to be called
                as soon as they do.
        """
        if built:
            self.copy(model)
        self.rate.hold()
        if keras.backend.backend() == "jax":
            self._enter_loop(model)
        self.is_open = True

    def _enter_loop(self, model: Any) -> None:
        loop = JaxLoop(model)
        if all(map(loop.reaches, self.rate.variables)):
            self.loop = loop
            self.rate.assign_by(loop.assigner)
        else:
            loop.remove()

    def copy(self, model: Any) -> None:
        """Copies the state, to come back to."""
        self.state = ModelState(model)

    def rewind(self) -> None:
        """Puts the state back and keeps the learning rate assignable."""
        if self.state is not None:
            self.state.restore(rates=False)

    def close(self, *, restore: bool = True) -> None:
        """Gives everything back. Calling it again changes nothing.

        Args:
            restore: Whether the weights and all else come back as well; the
                learning rate, or schedule object, does in any case.
        """
        if self.loop is not None:
            self.loop.remove()
            self.loop = None
        if restore:
            self.rewind()
        # Last: a deferred model was copied when its learning rate was
        # already that of the ramp.
        self.rate.release()
        self.state = None
        self.is_open = False
