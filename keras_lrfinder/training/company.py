"""Other callbacks of the same fit: which would do harm, and how."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras

from keras_lrfinder.training import keras_internals as internals

_BATCH_HOOKS = {"on_batch_begin", "on_batch_end"}
_BATCH_HOOKS |= {"on_train_batch_begin", "on_train_batch_end"}
_SETTERS = {"LearningRateScheduler", "ReduceLROnPlateau"}
# What steers a training, writes or sends has no place in `lr_find`.
_LEFT_OUT = {"CSVLogger", "EarlyStopping", "RemoteMonitor", "TensorBoard"}
_LEFT_OUT |= _SETTERS
_FILE = "it would overwrite your file with weights of the test"
# Of Keras's: what each would do.
_HARMS = {
    "ModelCheckpoint": _FILE,
    "OrbaxCheckpoint": _FILE,
    "BackupAndRestore": "it would load weights, and delete your backup",
    "CSVLogger": "it would empty your log; or set another file, `append=True`",
    "SwapEMAWeights": "its `swap_on_epoch` would exchange what is put back",
    "TerminateOnNaN": "its `raise_error` would end the fit before all is back",
    "EarlyStopping": (
        "its `restore_best_weights` would overwrite what is put back; or put "
        "it before the range test in the list"
    ),
}
# Some do so in some cases only: it may matter that their hooks run after ours.
_ONLY_WHERE: dict[str, Callable[[Any, bool], bool]] = {
    "CSVLogger": lambda one, after: (
        not one.append
        and os.path.exists(one.filename)
        and os.path.getsize(one.filename) > 0
    ),
    "SwapEMAWeights": lambda one, after: one.swap_on_epoch,
    "TerminateOnNaN": lambda one, after: getattr(one, "raise_error", False),
    "EarlyStopping": lambda one, after: after and one.restore_best_weights,
}
# Of others, which need not be installed: by package and class.
_PACKAGES = {"keras_tuner", "kerastuner", "optuna", "optuna_integration"}
_PACKAGES |= {"ray", "wandb", "mlflow", "dvclive"}
_TUNERS = {"SaveBestEpoch", "TunerCallback", "ReportCheckpointCallback"}
_TUNERS |= {"KerasPruningCallback", "TFKerasPruningCallback"}
_TRACKERS = {"WandbCallback", "WandbModelCheckpoint", "DVCLiveCallback"}
_TRACKERS |= {"MlflowModelCheckpointCallback"}


def harm(callback: Any, *, after: bool = True) -> str:
    """Returns what a callback, after the range test, would break, or `""`."""
    for name, why in _HARMS.items():
        if _is_a(callback, [name]):
            does = _ONLY_WHERE.get(name)
            return why if does is None or does(callback, after) else ""
    kinds = type(callback).__mro__
    theirs = [k for k in kinds if k.__module__.split(".")[0] in _PACKAGES]
    names = {kind.__name__ for kind in theirs}
    if names & _TUNERS:
        return (
            "it would report and save the range test as a trial; call "
            "`lr_find` in `HyperModel.fit` before the trial's own `model.fit`"
        )
    if names & _TRACKERS:
        return "it would save weights of the test as a model"
    return ""


def harmless(callbacks: Any, verbose: int) -> list[Any]:
    """Returns the callbacks that may run in `lr_find`, and says which not."""
    given = [] if callbacks is None else keras.tree.flatten(callbacks)
    if not all(isinstance(one, keras.callbacks.Callback) for one in given):
        raise TypeError(
            f"`callbacks` must be Keras callbacks. Received: {callbacks=}"
        )
    left_out = [
        one
        for one in given
        # A range test within a range test: `LRFinder`.
        if type(one).__module__.startswith("keras_lrfinder.")
        or _is_a(one, _LEFT_OUT)
        or harm(one)
    ]
    if left_out and verbose:
        names = ", ".join(type(one).__name__ for one in left_out)
        print(f"lr_find leaves out {names}")
    return [one for one in given if one not in left_out]


def check_other_callbacks(finder: Any, kind: type) -> None:
    """Raises where another one would do harm, or is a `kind` as well."""
    # Before the first `on_train_begin`: some change the model there already.
    internals.wait_for_batch_hooks(internals.callback_list(finder))
    callbacks = _all_callbacks(finder)
    places = [i for i, one in enumerate(callbacks) if one is finder]
    if len(places) > 1:
        raise ValueError(
            f"`callbacks` must have a {type(finder).__name__} once only. "
            f"Received: the same one {len(places)} times"
        )
    for index, other in enumerate(callbacks):
        reason = harm(other, after=index > places[0])
        if isinstance(other, kind) and other is not finder:
            reason = "two range tests cannot share a fit: run them in turn"
        if reason:
            raise ValueError(
                f"{type(other).__name__} cannot be used in the same fit as "
                f"{type(finder).__name__}; leave it out, as `lr_find` does by "
                f"itself: {reason}"
            )


def rate_setters(finder: Any) -> str:
    """Returns who may have set the learning rate between two epochs."""
    setters = [c for c in _all_callbacks(finder) if _is_a(c, _SETTERS)]
    names = dict.fromkeys(type(each).__name__ for each in setters)
    return " and ".join(names) or "another callback"


def may_be_overruled(finder: Any) -> bool:
    """Returns whether another may set the learning rate between two steps."""
    # In the hooks of a batch, which Keras's own ones use for other things.
    # What happens between two epochs is made good at the next start.
    callbacks = _all_callbacks(finder)
    return not callbacks or any(
        internals.is_overridden(other, _BATCH_HOOKS)
        and (
            not type(other).__module__.startswith("keras.")
            or _is_a(other, ["LambdaCallback"])
        )
        for other in callbacks
        if other is not finder
    )


def _all_callbacks(finder: Any) -> list[Any]:
    """Returns those of the running fit, none where nobody knows them."""
    return list(getattr(internals.callback_list(finder), "callbacks", ()))


def _is_a(callback: Any, names: Iterable[str]) -> bool:
    """Returns whether it is one of these of Keras, as far as that has them."""
    kinds = tuple(getattr(keras.callbacks, name, ()) for name in names)
    return isinstance(callback, kinds)
