"""The one owner of a model's train function while it is not the model's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_lrfinder.training.keras_internals import renewed_train_function


class TrainFunction:
    """Replaces what Keras calls for each step, and gives it back once.

    Keras looks `model.train_function` up for every step. It is the model's
    own until one of `renew`, `before_first_step` and `before_each_step` is
    called, and again after `give_back`. Holders of the same model nest, and
    may end in any order: a function traced before is right again when what
    it was traced with is back, and needs no second trace.

    Args:
        model: The Keras model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._found: Any = None
        self._inner: Any = None
        self._prepare: Callable[..., None] | None = None
        self._edit: Callable[..., tuple[Any, ...]] | None = None
        self._left_to_keras = False
        self._holds = False
        self.calls = 0

    @property
    def is_installed(self) -> bool:
        """Whether Keras is to call this object, which counts its `calls`."""
        return self._model.train_function is self

    def leave_to_keras(self) -> None:
        """Has the next `fit` make a function of its own."""
        self._hold()
        self._left_to_keras = True
        self._model.train_function = None

    def renew(self) -> None:
        """Has Keras trace the step anew, with what has changed since."""
        self._hold()
        self._inner = renewed_train_function(self._model)
        self._install()

    def before_first_step(self, prepare: Callable[..., None]) -> None:
        """Has `prepare` called once, with what the first step is called."""
        self._hold()
        self._prepare = prepare
        self._install()

    def before_each_step(self, edit: Callable[..., tuple[Any, ...]]) -> None:
        """Has every step called with what `edit` returns for its arguments."""
        self._hold()
        self._edit = edit
        self._install()

    def __call__(self, *args: Any) -> Any:
        """Keras calls this for each step."""
        self.calls += 1
        prepare, self._prepare = self._prepare, None
        if prepare is not None:
            prepare(*args)
        if self._edit is not None:
            args = self._edit(*args)
        if self._inner is None:
            # `train_on_batch` on a model that has never made one.
            self._inner = renewed_train_function(self._model)
            self._model.train_function = self
        return self._inner(*args)

    def give_back(self) -> None:
        """Puts back what was found. Calling it again changes nothing."""
        if not self._holds:
            return
        self._holds = False
        above = self._model.train_function
        if above is self or self._left_to_keras:
            self._model.train_function = self._found
        while isinstance(above, TrainFunction):
            above._forget(self)
            above = above._found
        # Else the user has compiled the model anew: the new one is theirs.
        self._prepare = self._edit = None
        self._left_to_keras = False

    def _hold(self) -> None:
        if not self._holds:
            self._holds = True
            self._found = self._inner = self._model.train_function

    def _install(self) -> None:
        current = self._model.train_function
        if self._left_to_keras and current is not self:
            self._inner = current
        self._model.train_function = self

    def _forget(self, beneath: TrainFunction) -> None:
        """Leaves out a holder beneath, which ends before this one."""
        if self._inner is beneath:
            self._inner = beneath._found
        if self._found is beneath:
            self._found = beneath._found


def forget_train_function(model: Any) -> None:
    """Has the next `fit` trace its step anew, for good."""
    model.train_function = None
