"""Other callbacks of the same fit: which would do harm, and how."""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras

from keras_lrfinder.training import keras_internals as internals

_BATCH_HOOKS = (
    "on_batch_begin",
    "on_batch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
)
_SETTERS = ("LearningRateScheduler", "ReduceLROnPlateau")
# What steers a training, writes or sends has no place in `lr_find`.
_LEFT_OUT = (
    *_SETTERS,
    "CSVLogger",
    "EarlyStopping",
    "RemoteMonitor",
    "TensorBoard",
)
_FILE = (
    "it would overwrite your file with weights of the range test; leave it out"
)
_TUNER = (
    "it would report and save the range test as a trial; call `lr_find` in "
    "`HyperModel.fit` before the trial's own `model.fit`"
)
_TRACKER = (
    "it would save weights of the range test as a model of yours; leave it out"
)
# Of Keras's: what each would do, and when: whether its hooks run after ours
# may matter.
_HARMS: dict[str, tuple[str, Callable[[Any, bool], bool]]] = {
    "EarlyStopping": (
        "its `restore_best_weights` would overwrite the restored weights at "
        "the end; put it before the range test in the list, or leave it out",
        lambda callback, after: after and callback.restore_best_weights,
    ),
    "ModelCheckpoint": (_FILE, lambda callback, after: True),
    "OrbaxCheckpoint": (_FILE, lambda callback, after: True),
    "BackupAndRestore": (
        "it would load weights into the model in the middle of the test and "
        "delete your backup; leave it out",
        lambda callback, after: True,
    ),
    "CSVLogger": (
        "it would empty your log; give it another file, or `append=True`",
        lambda callback, after: (
            not callback.append
            and os.path.exists(callback.filename)
            and os.path.getsize(callback.filename) > 0
        ),
    ),
    "SwapEMAWeights": (
        "its `swap_on_epoch` would exchange the weights that the test is "
        "about to restore; leave it out",
        lambda callback, after: callback.swap_on_epoch,
    ),
    "TerminateOnNaN": (
        "its `raise_error` would end the fit before the model can be put "
        "back; a range test ends in NaN quite often. Leave it out",
        lambda callback, after: getattr(callback, "raise_error", False),
    ),
}
# Of others, which need not be installed: by package and class.
_PACKAGES = {"keras_tuner", "kerastuner", "optuna", "optuna_integration"}
_PACKAGES |= {"ray", "wandb", "mlflow", "dvclive"}
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


def harm(callback: Any, *, after: bool = True) -> str:
    """Returns what a callback, after the range test, would break, or `""`."""
    for name, (why, does) in _HARMS.items():
        if _is_a(callback, [name]):
            return why if does(callback, after) else ""
    for kind in type(callback).__mro__:
        is_theirs = kind.__module__.partition(".")[0] in _PACKAGES
        if is_theirs and kind.__name__ in _SAVERS:
            return _SAVERS[kind.__name__]
    return ""


def harmless(callbacks: Any, verbose: int) -> list[Any]:
    """Returns the callbacks that may run in `lr_find`, and says which not."""
    given = [] if callbacks is None else keras.tree.flatten(callbacks)
    if not all(isinstance(one, keras.callbacks.Callback) for one in given):
        raise TypeError(
            f"`callbacks` must be Keras callbacks. Received: {callbacks=}"
        )
    kept = [
        one
        for one in given
        # A range test within a range test: `LRFinder`.
        if not type(one).__module__.startswith("keras_lrfinder.")
        and not (harm(one) or _is_a(one, _LEFT_OUT))
    ]
    left_out = [type(one).__name__ for one in given if one not in kept]
    if left_out and verbose:
        print(f"lr_find leaves out {', '.join(left_out)}")
    return kept


def check_other_callbacks(finder: Any, kind: type) -> None:
    """Raises where another one would do harm, or is a `kind` as well."""
    # Before the first `on_train_begin`: some change the model there already.
    shared = internals.callback_list(finder)
    if shared is None:
        return
    internals.wait_for_batch_hooks(shared)
    callbacks = list(shared.callbacks)
    places = [i for i, one in enumerate(callbacks) if one is finder]
    if len(places) > 1:
        raise ValueError(
            f"`callbacks` must have a {type(finder).__name__} once only. "
            f"Received: the same one {len(places)} times"
        )
    for index, other in enumerate(callbacks):
        if isinstance(other, kind) and other is not finder:
            reason = "two range tests cannot share a fit: run them in turn"
        else:
            reason = harm(other, after=index > places[0])
        if reason:
            raise ValueError(
                f"{type(other).__name__} cannot be used in the same fit as "
                f"{type(finder).__name__}: {reason}. (`lr_find` leaves such "
                "callbacks out by itself.)"
            )


def rate_setters(finder: Any) -> str:
    """Returns who may have set the learning rate between two epochs."""
    shared = getattr(internals.callback_list(finder), "callbacks", ())
    found = [type(one).__name__ for one in shared if _is_a(one, _SETTERS)]
    return " and ".join(dict.fromkeys(found)) or "another callback"


def may_be_overruled(finder: Any) -> bool:
    """Returns whether another may set the learning rate between two steps."""
    # In the hooks of a batch, which Keras's own ones use for other things.
    # What happens between two epochs is made good at the next start.
    shared = internals.callback_list(finder)
    if shared is None:
        return True
    return any(
        internals.is_overridden(other, _BATCH_HOOKS)
        and (
            not type(other).__module__.startswith("keras.")
            or _is_a(other, ["LambdaCallback"])
        )
        for other in shared.callbacks
        if other is not finder
    )


def _is_a(callback: Any, names: Iterable[str]) -> bool:
    """Returns whether it is one of these of Keras, as far as that has them."""
    kinds = (getattr(keras.callbacks, name, ()) for name in names)
    return isinstance(callback, tuple(kinds))
