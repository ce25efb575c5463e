"""A model on loan: copied, swept, tried out, and given back as it came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training.jax_state import JaxState
from keras_lrfinder.training.learning_rate import SweptRate
from keras_lrfinder.training.optimizers import all_optimizers
from keras_lrfinder.training.optimizers import is_built
from keras_lrfinder.training.optimizers import named_optimizers
from keras_lrfinder.training.own_functions import OwnFunctions
from keras_lrfinder.training.own_functions import forget_functions
from keras_lrfinder.training.snapshot import Snapshot
from keras_lrfinder.training.train_function import TrainFunction

Progress = Callable[[float, float, bool], None]

# By the model's id, as long as a loan lasts for several runs.
_LENT: dict[int, Loan] = {}


def loan_of(model: Any) -> Loan | None:
    """Returns the loan that a model is on by now, for one run more."""
    return _LENT.get(id(model))


class Loan:
    """Snapshot, learning rate and train function of a model: one lifetime.

    As a context manager it lasts for several runs, which find it by
    `loan_of`; a run that finds none makes its own.

    Args:
        model: The compiled Keras model.
        optimizer: Which of its optimizers to sweep, as the user named it.
        restore: Whether weights and all else come back at the end. The
            learning rate, or schedule object, does in any case.
        before: `Snapshot` of the model, where there is one already.

    Attributes:
        optimizers: List of the optimizers that are swept.
        rate: `SweptRate`.
        train_function: `TrainFunction`.
        jax_state: `JaxState` of the running fit, or None.
        validation_loss: Function of the model that returns the loss to
            record instead of the logged one, or None.
        progress: Function that is told the learning rate and the loss of
            each step, and whether it was the last, or None.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        *,
        restore: bool = True,
        before: Snapshot | None = None,
    ) -> None:
        self._model = model
        self._restore = restore
        self._before: Snapshot | None = before or Snapshot(model)
        self._draws = OwnFunctions(model).draw
        self.optimizers = named_optimizers(model, optimizer)
        self.rate = SweptRate(self.optimizers)
        self.train_function = TrainFunction(model)
        self.jax_state: JaxState | None = None
        self.validation_loss: Callable[[Any], float] | None = None
        self.progress: Progress | None = None
        self._per_call: int | None = None
        self._is_open = False

    def __enter__(self) -> Loan:
        self._begin()
        _LENT[id(self._model)] = self
        if self._draws:
            forget_functions(self._model)
        return self

    def _begin(self) -> None:
        # Not when made: what is refused before the first step draws nothing.
        if self._before is not None:
            self._before.begin()

    def __exit__(self, *error: Any) -> None:
        self.close()

    def one_step_per_call(self) -> None:
        """Has Keras call the hooks after every step, before `fit` begins."""
        per_call = getattr(self._model, "steps_per_execution", 1)
        if per_call is not None and per_call > 1:
            self._per_call = per_call
            self._model.steps_per_execution = 1
            self.train_function.leave_to_keras()

    def open(self, model: Any) -> None:
        """Makes the learning rate assignable, in the first `on_train_begin`.

        Args:
            model: The model, from `Callback.model`.
        """
        if self._is_open:
            return
        self._is_open = True
        self._begin()
        if loan_of(model) is self and self._restore:
            self._prepare_to_rewind(model)
        if self.rate.hold(model) or self._draws:
            self.train_function.renew()
        if keras.backend.backend() == "jax":
            self._enter_state(model)

    def keep(self) -> None:
        """Forgets the copy, where the weights are to stay."""
        if not self._restore and self._before is not None:
            self._before.give_up()
            self._before = None

    def rewind(self) -> None:
        """Goes back to before the first step, without building anew."""
        if self._before is not None:
            self._before.rewind()

    def close(self) -> None:
        """Gives everything back. Calling it again changes nothing."""
        if loan_of(self._model) is self:
            del _LENT[id(self._model)]
        self.train_function.give_back()
        if self._before is not None:
            self._before.restore()
        self.rate.release()
        if self._per_call is not None:
            self._model.steps_per_execution = self._per_call
        self._before = self._per_call = self.jax_state = None

    def _enter_state(self, model: Any) -> None:
        state = JaxState(model)
        if all(map(state.reaches, self.rate.variables)):
            self.jax_state = state
            self.rate.assign_by(state.assigner)
            state.edit_in(self.train_function)

    def _prepare_to_rewind(self, model: Any) -> None:
        """Copies what is built for the first step, before it is trained."""
        # Elsewhere Keras has built all that there is to build by now.
        if keras.backend.backend() != "tensorflow" or is_built(model):
            self._build_and_copy()
        else:
            self.train_function.before_first_step(self._build_late)

    def _build_late(self, iterator: Any) -> None:
        # TensorFlow's fit builds such a model only while it traces the first
        # step, after every hook that a callback has.
        self._model(internals.inputs_of(iterator))
        self._build_and_copy()

    def _build_and_copy(self) -> None:
        optimizers = all_optimizers(self._model)
        for optimizer in optimizers:
            if optimizer.built:
                continue
            if len(optimizers) == 1:
                # Keras would do it within the first step, out of sight.
                optimizer.build(self._model.trainable_variables)
            else:
                # Which weights are this one's only its first step tells.
                internals.after_build(optimizer, self._extend)
        self._extend()

    def _extend(self) -> None:
        if self._before is not None:
            self._before.extend()
