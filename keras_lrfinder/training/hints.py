"""What a user may have meant: other tools' names, and what was forgotten."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

from keras_lrfinder.training.data_rows import Rows
from keras_lrfinder.training.keras_internals import is_overridden

# What other learning rate finders, and papers, call it.
_ELSEWHERE = {
    "min_lr": "start_lr",
    "lr_min": "start_lr",
    "init_value": "start_lr",
    "max_lr": "end_lr",
    "lr_max": "end_lr",
    "final_value": "end_lr",
    "num_iter": "steps",
    "num_it": "steps",
    "num_training": "steps",
    "n_iter": "steps",
    "iterations": "steps",
    "num_steps": "steps",
    "mode": "ramp",
    "step_mode": "ramp",
    "early_stop_threshold": "stop_factor",
    "stop_div": "stop_factor",
    "diverge_th": "stop_factor",
    "suggest_funcs": "rule",
    "metric": "monitor",
    "loss_name": "monitor",
    "val_loader": "validation",
    "train_loader": "x",
    "dataset": "x",
    "data": "x",
    "labels": "y",
    "targets": "y",
    "show_plot": "plot_dir",
    "save_dir": "plot_dir",
}
_NOT_HERE = {
    "learning_rate": "the test finds it: start_lr and end_lr bound it",
    "lr": "the test finds it: start_lr and end_lr bound it",
    "batchsize": "batch_size",
    "val_data": "validation_data, or validation",
}
_FITTING = ("fit", "train_step", "compute_loss")


def meant(name: str, known: Iterable[str]) -> str:
    """Returns a hint for a name that nobody knows, or an empty string.

    Example:
    >>> meant("num_iter", ["steps"])
    ' (did you mean steps?)'
    >>> meant("stpes", ["steps"])
    ' (did you mean steps?)'
    """
    close = difflib.get_close_matches(name, list(known), 1, 0.75)
    found = _ELSEWHERE.get(name) or _NOT_HERE.get(name) or "".join(close)
    if not found:
        return ""
    return f" ({found})" if " " in found else f" (did you mean {found}?)"


def arguments_of(function: Any) -> set[str]:
    """Returns the names of a function's arguments, but `self` and `**`."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind != p.VAR_KEYWORD} - {"self"}


def takes_anything(function: Any) -> bool:
    """Returns whether a function has a `**`, so its arguments say nothing."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.kind == p.VAR_KEYWORD for p in parameters)


def check_known(unknown: dict[str, Any], owner: type) -> None:
    """Raises a `TypeError` for arguments that a class does not have."""
    if unknown:
        known = arguments_of(owner.__init__)  # type: ignore[misc]
        named = ", ".join(name + meant(name, known) for name in unknown)
        raise TypeError(f"{owner.__name__}() has no argument {named}")


def check_monitor(monitor: str) -> None:
    """Raises where a loss is named that is logged once an epoch only."""
    if monitor.startswith("val_"):
        raise ValueError(
            "`monitor` must be logged after each batch; for the loss on a "
            "validation sample after each batch give `validation=(x, y)`. "
            f"Received: monitor={monitor!r}"
        )


def check_targets(model: Any, x: Any, y: Any) -> None:
    """Raises where a loss has been compiled that wants a forgotten `y`."""
    if y is not None or is_overridden(model, _FITTING):
        return
    loss = getattr(model, "loss", None)
    if loss is not None and Rows.of((x, None, None)):
        raise ValueError(
            f"`y` must be given, as the model is compiled with loss={loss!r}. "
            "Received: y=None"
        )
