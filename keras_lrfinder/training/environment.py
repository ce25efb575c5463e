"""Where a run takes place: versions, processes, devices, folders."""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
from typing import Any

import keras

from keras_lrfinder.training.learning_rate import kind_of
from keras_lrfinder.training.learning_rate import leaf_optimizers
from keras_lrfinder.version import __version__


def is_chief() -> bool:
    """Returns whether this is the one process that writes and speaks."""
    backend = keras.backend.backend()
    if backend == "jax":
        return bool(sys.modules["jax"].process_index() == 0)
    if backend == "torch":
        group = sys.modules["torch"].distributed
        if group.is_available() and group.is_initialized():
            return bool(group.get_rank() == 0)
    return True


def run_facts(
    model: Any, optimizers: list[Any], monitor: str
) -> dict[str, Any]:
    """Returns what a later reader of the curve needs to know of the run."""
    leaves = [
        leaf for optimizer in optimizers for leaf in leaf_optimizers(optimizer)
    ]
    backend = keras.backend.backend()
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "optimizer": kind_of(optimizers),
        "hyperparameters": _plain_settings(leaves[0]),
        "monitor": monitor,
        "environment": {
            "date": now.isoformat(timespec="seconds"),
            "keras_lrfinder": __version__,
            "keras": keras.__version__,
            "backend": backend,
            backend: str(getattr(sys.modules.get(backend), "__version__", "")),
            "model": str(model.name),
        },
    }


def _plain_settings(optimizer: Any) -> dict[str, Any]:
    # Not `get_config`: it fails for a schedule that cannot be serialised.
    return {
        name: value
        for name, value in vars(optimizer).items()
        if not name.startswith("_")
        and name not in ("name", "built")
        and isinstance(value, (bool, int, float, str))
    }


def check_strategy(model: Any) -> None:
    """Raises a `ValueError` where Keras's own `fit` cannot run."""
    strategy = type(getattr(model, "distribute_strategy", None)).__name__
    if "MultiWorker" in strategy or "CollectiveAllReduce" in strategy:
        raise ValueError(
            f"{strategy} is not supported: Keras 3's own `fit` fails under "
            "it. Run the range test on one worker, under MirroredStrategy "
            "or none."
        )


def directory_path(
    name: str, directory: str | os.PathLike[str] | None
) -> str | None:
    """Returns an argument that is the path of a directory, or None."""
    if directory is None:
        return None
    if not isinstance(directory, (str, os.PathLike)):
        raise TypeError(
            f"`{name}` must be the path of a directory, or None. "
            f"Received: {name}={directory!r}"
        )
    return os.path.expanduser(os.fspath(directory))


def check_writable(name: str, directory: str) -> None:
    """Makes a directory; raises where it cannot be written."""
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ValueError(
            f"`{name}` must be a directory that can be written. "
            f"Received: {name}={directory!r} ({error})"
        ) from error
