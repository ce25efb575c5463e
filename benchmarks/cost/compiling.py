"""Counts what a backend traces and compiles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

__all__ = ["PassThrough", "count_compiling"]

_JAX_COMPILES = "/jax/core/compile/backend_compile_duration"
_compiled_by_jax: list[str] = []


class PassThrough(keras.layers.Layer):
    """Hands on its input, and counts how often Python calls it.

    TensorFlow and JAX call a layer in Python only when they trace. PyTorch
    does at every step, and compiles nothing unless asked to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def call(self, inputs: Any) -> Any:
        """Returns `inputs`."""
        self.calls += 1
        return inputs


@contextlib.contextmanager
def count_compiling(layer: PassThrough) -> Iterator[dict[str, int | None]]:
    """Context manager whose mapping tells, at the end, what was done inside.

    `traces`: how often a step was traced; None on PyTorch, which does not.
    `compilations`: how many programs JAX compiled, of any kind, also the
    small ones behind single operations; None elsewhere.
    """
    backend = keras.backend.backend()
    if backend == "jax" and not _compiled_by_jax:
        _listen()
    counts: dict[str, int | None] = {}
    calls, compiled = layer.calls, len(_compiled_by_jax)
    yield counts
    traced = layer.calls - calls
    counts["traces"] = None if backend == "torch" else traced
    counts["compilations"] = (
        len(_compiled_by_jax) - compiled if backend == "jax" else None
    )


def _listen() -> None:
    import jax

    def listener(event: str, seconds: float, **kwargs: Any) -> None:
        if event == _JAX_COMPILES:
            _compiled_by_jax.append(event)

    _compiled_by_jax.append("listening")
    jax.monitoring.register_event_duration_secs_listener(listener)
