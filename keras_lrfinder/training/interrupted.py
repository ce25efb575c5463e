"""A model whose range test was cut off by an exception or Ctrl-C.

Keras calls no hook then, so the model stays as the last step left it. While a
test runs, the methods of the model that would use such weights are guarded, and
those that would change what is put back later: called from outside of that
fit, they put the model back first, and say so.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable
from typing import Any

_GUARDED = (
    "fit",
    "train_on_batch",
    "evaluate",
    "test_on_batch",
    "predict",
    "predict_on_batch",
    "compile",
    "set_weights",
    "load_weights",
    "save",
    "save_weights",
    "export",
)


class _Guard:
    """Stands before a method of a model, as an attribute of its own."""

    def __init__(
        self, model: Any, name: str, restore: Callable[[], None]
    ) -> None:
        self._model = model
        self._name = name
        self.restore = restore
        self._thread = threading.current_thread()

    @property
    def is_within(self) -> bool:
        """Whether the fit that was guarded still runs."""
        if threading.current_thread() is not self._thread:
            # Its stack is not ours; somebody evaluates beside the fit.
            return self._thread.is_alive()
        return _is_fitting(self._model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        restore_interrupted(self._model)
        method = getattr(type(self._model), self._name)
        return method(self._model, *args, **kwargs)


def guard(model: Any, restore: Callable[[], None]) -> None:
    """Guards a model until `release`, or until its attributes come back.

    Args:
        model: The Keras model, in a `fit`.
        restore: Function that puts it back.
    """
    if not _is_fitting(model):
        # A loop of the user's own calls the hooks, and `train_on_batch`.
        return
    for name in _GUARDED:
        if name not in vars(model) and hasattr(model, name):
            # Past Keras's `__setattr__`, which would track it.
            vars(model)[name] = _Guard(model, name, restore)


def release(model: Any) -> None:
    """Takes the guards away. Calling it again changes nothing."""
    for name in _GUARDED:
        if isinstance(vars(model).get(name), _Guard):
            del vars(model)[name]


def restore_interrupted(model: Any) -> None:
    """Puts a model back whose range test was interrupted, and says so."""
    found = vars(model).get("fit")
    if not isinstance(found, _Guard) or found.is_within:
        return
    release(model)
    found.restore()
    release(model)
    warnings.warn(
        "the range test before was interrupted, so the model still had the "
        "weights of its last step; it is put back as it was before the test, "
        "and what was set on its optimizer since is undone",
        UserWarning,
        stacklevel=3,
    )


def _is_fitting(model: Any) -> bool:
    """Returns whether a `fit` of the model has called us, however deep."""
    frame = inspect.currentframe()
    while frame is not None:
        if (
            frame.f_code.co_name == "fit"
            and frame.f_locals.get("self") is model
        ):
            return True
        frame = frame.f_back
    return False
