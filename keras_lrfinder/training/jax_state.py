"""Writing into the state of a running fit on JAX, without a full sync."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_lrfinder.training.keras_internals import jax_state_places
from keras_lrfinder.training.train_function import TrainFunction
from keras_lrfinder.training.variables import host_copy


class JaxState:
    """Sets single variables of the training state just before each step.

    On JAX a running fit keeps the state to itself. `Callback.model` copies
    all of it into the model's variables and has the loop read all of them
    again, 3 µs per variable and step, for the sake of one number. So the few
    numbers are changed in the state that a step is called with. A NumPy
    scalar has the type of what it replaces, so nothing is traced or compiled
    again (neither now nor in later fits).

    Args:
        model: The Keras model, in `on_train_begin`.
    """

    def __init__(self, model: Any) -> None:
        self._places = jax_state_places(model)
        self._edits: dict[tuple[int, int], Any] = {}
        self._running = False

    def reaches(self, variable: Any) -> bool:
        """Returns whether the variable is part of the training state."""
        return id(variable) in self._places

    def edit_in(self, train_function: TrainFunction) -> None:
        """Has every step see what `assigner` and `keep` have set."""
        train_function.before_each_step(self._edited)

    def assigner(self, variable: Any) -> Callable[[float], None]:
        """Returns a function that assigns a number to a scalar variable.

        The number goes into every step from then on.
        """
        place = self._places[id(variable)]
        dtype = host_copy(variable).dtype

        def assign(number: float) -> None:
            self._edits[place] = dtype.type(number)
            if not self._running:
                # No step since: whoever reads the variable is to find it.
                variable.assign(number)
            self._running = False

        return assign

    def keep(self, variables: list[Any]) -> None:
        """Gives the variables the value that they have now in every step."""
        for variable in variables:
            self._edits[self._places[id(variable)]] = host_copy(variable)

    def _edited(self, state: Any, iterator: Any) -> tuple[Any, Any]:
        self._running = True
        parts = [list(part) for part in state]
        for (part, index), value in self._edits.items():
            parts[part][index] = value
        return tuple(parts), iterator
