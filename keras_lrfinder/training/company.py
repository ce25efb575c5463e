"""Other callbacks of the same fit: which would do harm, and how."""

from __future__ import annotations

import os
from typing import Any

import keras

from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training.keras_internals import is_overridden

_BATCH_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)


def harm(callback: Any, *, after: bool = True) -> str:
    """Returns what `callback` would break in a range test, or `""`.

    Args:
        callback: A callback, of Keras or another library.
        after: Whether its hooks run after those of the range test.
    """
    for name, explain in _HARMS.items():
        kind = getattr(keras.callbacks, name, None)
        if kind is not None and isinstance(callback, kind):
            return explain(callback, after)
    for kind in type(callback).__mro__:
        is_theirs = kind.__module__.partition(".")[0] in _PACKAGES
        if is_theirs and kind.__name__ in _SAVERS:
            return _SAVERS[kind.__name__]
    return ""


def harmless(callbacks: Any, verbose: int) -> list[Any]:
    """Returns the callbacks that may run in `lr_find`, and says which not.

    Args:
        callbacks: What `fit` takes.
        verbose: 0 says nothing.

    Raises:
        TypeError: They are no callbacks, or in a `CallbackList`.
    """
    if callbacks is None:
        return []
    if isinstance(callbacks, keras.callbacks.CallbackList):
        raise TypeError(
            "`callbacks` must be a list of callbacks. Received: a CallbackList"
        )
    given = keras.tree.flatten(callbacks)
    for callback in given:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                "`callbacks` must be Keras callbacks. "
                f"Received: callbacks={callbacks!r}"
            )
    kept = [c for c in given if not (harm(c) or _writes(c) or _steers(c))]
    left_out = [type(c).__name__ for c in given if c not in kept]
    if left_out and verbose:
        print(f"lr_find leaves out {', '.join(left_out)}")
    return kept


def check_other_callbacks(finder: Any, kind: type) -> None:
    """Raises where another callback of the same fit would do harm.

    To be called from a hook that Keras calls before the first
    `on_train_begin`: some callbacks change the model there already.

    Args:
        finder: The callback that asks.
        kind: The class of which a fit may have only one.

    Raises:
        ValueError: Names the callback, the harm and the way out.
    """
    shared = internals.callback_list(finder)
    if shared is None:
        return
    internals.wait_for_batch_hooks(shared)
    callbacks = list(shared.callbacks)
    places = [i for i, c in enumerate(callbacks) if c is finder]
    if len(places) > 1:
        raise ValueError(
            f"`callbacks` must have a {type(finder).__name__} once only. "
            f"Received: the same one {_times(len(places))}"
        )
    position = places[0]
    for index, other in enumerate(callbacks):
        if isinstance(other, kind) and other is not finder:
            reason = "two range tests cannot share a fit: run them in turn"
        else:
            reason = harm(other, after=index > position)
        if reason:
            raise ValueError(
                f"{type(other).__name__} cannot be used in the same fit as "
                f"{type(finder).__name__}: {reason}. (`lr_find` leaves such "
                "callbacks out by itself.)"
            )


def _times(count: int) -> str:
    return "twice" if count == 2 else f"{count} times"


def _sets_learning_rate(callback: Any) -> bool:
    return isinstance(
        callback,
        (
            keras.callbacks.LearningRateScheduler,
            keras.callbacks.ReduceLROnPlateau,
        ),
    )


def _steers(callback: Any) -> bool:
    stops = isinstance(callback, keras.callbacks.EarlyStopping)
    # A range test within a range test: `LRFinder`.
    tests = type(callback).__module__.startswith("keras_lrfinder.")
    return stops or tests or _sets_learning_rate(callback)


def rate_setters(finder: Any) -> str:
    """Returns who may have set the learning rate between two epochs."""
    shared = internals.callback_list(finder)
    found = [
        type(other).__name__
        for other in (shared.callbacks if shared else ())
        if _sets_learning_rate(other)
    ]
    return " and ".join(dict.fromkeys(found)) or "another callback"


def _writes(callback: Any) -> bool:
    names = ("CSVLogger", "RemoteMonitor", "TensorBoard", *_CHECKPOINTS)
    kinds = [getattr(keras.callbacks, name, ()) for name in names]
    return isinstance(callback, tuple(kind for kind in kinds if kind))


def may_be_overruled(finder: Any) -> bool:
    """Returns whether a callback may set the learning rate between two steps.

    It can do so in the hooks of a batch, which Keras's own ones use for other
    things. What happens between two epochs is made good at the next start.

    Args:
        finder: The callback that asks, as for `check_other_callbacks`.
    """
    shared = internals.callback_list(finder)
    if shared is None:
        return True
    return any(
        is_overridden(other, _BATCH_HOOKS)
        and (
            not type(other).__module__.startswith("keras.")
            or isinstance(other, keras.callbacks.LambdaCallback)
        )
        for other in shared.callbacks
        if other is not finder
    )


def _early_stopping(callback: Any, after: bool) -> str:
    if callback.restore_best_weights and after:
        return (
            "its `restore_best_weights` would overwrite the restored weights "
            "at the end; put it before the range test in the list, or leave "
            "it out"
        )
    return ""


def _checkpoint(callback: Any, after: bool) -> str:
    return (
        "it would overwrite your file with weights of the range test; leave "
        "it out"
    )


def _backup(callback: Any, after: bool) -> str:
    return (
        "it would load weights into the model in the middle of the test and "
        "delete your backup; leave it out"
    )


def _csv_logger(callback: Any, after: bool) -> str:
    filename = os.fspath(callback.filename)
    full = os.path.exists(filename) and os.path.getsize(filename) > 0
    if full and not callback.append:
        return (
            f"it would empty the log {filename!r}; give it another file, or "
            "`append=True`"
        )
    return ""


def _swap_ema(callback: Any, after: bool) -> str:
    if getattr(callback, "swap_on_epoch", False):
        return (
            "its `swap_on_epoch` would exchange the weights that the test is "
            "about to restore; leave it out"
        )
    return ""


def _terminate_on_nan(callback: Any, after: bool) -> str:
    if getattr(callback, "raise_error", False):
        return (
            "its `raise_error` would end the fit before the model can be put "
            "back; a range test ends in NaN quite often. Leave it out"
        )
    return ""


_TUNER = (
    "it would report and save the range test as a trial; call `lr_find` in "
    "`HyperModel.fit` before the trial's own `model.fit`"
)
_TRACKER = (
    "it would save weights of the range test as a model of yours; leave it out"
)
# By class and package, as these need not be installed.
_SAVERS = {
    "SaveBestEpoch": _TUNER,
    "TunerCallback": _TUNER,
    "KerasPruningCallback": _TUNER,
    "TFKerasPruningCallback": _TUNER,
    "ReportCheckpointCallback": _TUNER,
    "WandbCallback": _TRACKER,
    "WandbModelCheckpoint": _TRACKER,
    "MlflowModelCheckpointCallback": _TRACKER,
    "DVCLiveCallback": _TRACKER,
}
_PACKAGES = {"keras_tuner", "kerastuner", "optuna", "optuna_integration"}
_PACKAGES |= {"ray", "wandb", "mlflow", "dvclive"}
_CHECKPOINTS = ("ModelCheckpoint", "OrbaxCheckpoint", "BackupAndRestore")
_HARMS = {
    "EarlyStopping": _early_stopping,
    "ModelCheckpoint": _checkpoint,
    "OrbaxCheckpoint": _checkpoint,
    "BackupAndRestore": _backup,
    "CSVLogger": _csv_logger,
    "SwapEMAWeights": _swap_ema,
    "TerminateOnNaN": _terminate_on_nan,
}
