"""The global random state: Python's, NumPy's, Keras's and the backend's."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training.keras_internals import global_seed_generator
from keras_lrfinder.training.keras_internals import restore_tensorflow_seeds
from keras_lrfinder.training.keras_internals import tensorflow_seeds
from keras_lrfinder.training.variables import host_copy


class RandomState:
    """The state of every global random generator that a fit may draw from.

    Taken when made. `restore` puts it back, as often as wanted.
    """

    def __init__(self) -> None:
        self._states = _current()

    def restore(self) -> None:
        """Puts every generator back to where it was."""
        python, numpy, of_keras, torch, tensorflow = self._states.values()
        random.setstate(python)
        np.random.set_state(numpy)
        _restore_keras_generator(of_keras)
        _restore_torch(torch)
        restore_tensorflow_seeds(tensorflow)

    def differences(self) -> list[str]:
        """Returns which of them are elsewhere now."""
        now = _current()
        return [
            name
            for name, state in self._states.items()
            if state is not None and _bits(now[name]) != _bits(state)
        ]


def _current() -> dict[str, Any]:
    return {
        "the random state of Python": random.getstate(),
        "the random state of NumPy": np.random.get_state(),
        "the random state of Keras": _keras_generator_state(),
        "the random state of PyTorch": _torch_state(),
        "the random state of TensorFlow": tensorflow_seeds(),
    }


def _keras_generator_state() -> Any:
    generator = global_seed_generator()
    return None if generator is None else host_copy(generator.state)


def _restore_keras_generator(value: Any) -> None:
    generator = global_seed_generator()
    if generator is None:
        return
    if value is None:
        # Made during the test. It stays, as a traced function may use it,
        # and gets the seed that it would get if it were made now.
        python = random.getstate()
        value = host_copy(keras.random.SeedGenerator().state)
        random.setstate(python)
    generator.state.assign(value)


def _torch_state() -> Any:
    if keras.backend.backend() != "torch":
        return None
    import torch

    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda


def _restore_torch(state: Any) -> None:
    if state is None:
        return
    import torch

    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])


def _bits(state: Any) -> Any:
    if isinstance(state, (tuple, list)):
        return [_bits(part) for part in state]
    return state.tobytes() if hasattr(state, "tobytes") else _plain(state)


def _plain(state: Any) -> Any:
    return state.tolist() if hasattr(state, "tolist") else state
